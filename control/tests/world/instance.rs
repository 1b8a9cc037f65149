//! One instance: a queue in front of slots that are slow while it is cold.

use foreshadow_control::{
    Health, InstanceId, InstanceObservation, LatencySummary, Meters, MirrorSummary, PlaceName,
    ResourceSample, Role, Tier,
};

/// What became of the requests.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    pub(crate) slow: u64,
    pub(crate) failed: u64,
}

impl Outcome {
    pub(crate) fn bad(&self) -> u64 {
        self.slow + self.failed
    }
}

/// A client waits no longer.
const PATIENCE_MS: f64 = 2_000.0;

#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) role: Role,
    pub(crate) tier: Tier,
    /// Where it is going, when it arrives, when it set out.
    pub(crate) moving: Option<(Tier, u64, u64)>,
    pub(crate) reached_ms: u64,
    pub(crate) health: Health,
    pub(crate) mirror: Option<MirrorSummary>,
    pub(crate) resources: Option<ResourceSample>,
    pub(crate) zone: String,
    pub(crate) place: PlaceName,
    /// Multiplies service times.
    pub(crate) slowness: f64,
    /// Share of its requests that it fails, and how much of the next failure has come together.
    pub(crate) failing: (f64, f64),
    pub(crate) drained: bool,
    busy_until_ms: Vec<f64>,
    /// End and latency of requests being answered.
    pub(crate) pending: Vec<(f64, f64)>,
    meters: Meters,
}

impl Instance {
    pub(crate) fn new(role: Role, tier: Tier, slots: usize, now_ms: u64) -> Self {
        Self {
            role,
            tier,
            moving: None,
            reached_ms: now_ms,
            health: Health::Up,
            mirror: None,
            resources: None,
            zone: String::new(),
            place: PlaceName::default(),
            slowness: 1.0,
            failing: (0.0, 0.0),
            drained: false,
            busy_until_ms: vec![0.0; slots],
            pending: Vec::new(),
            meters: Meters::default(),
        }
    }

    /// Queues a request; true when its client gives up.
    pub(crate) fn take(&mut self, at: f64, service_ms: f64, warm_up_ms: f64) -> bool {
        self.meters.requests += 1;
        self.failing.1 += self.failing.0;
        if self.failing.1 >= 1.0 {
            self.failing.1 -= 1.0;
            self.meters.server_errors += 1;
            return true;
        }
        let served_ms = if self.role == Role::Shadow || self.reached_ms > 0 {
            at - self.reached_ms as f64
        } else {
            1e12
        };
        let cold = 1.0 + (1.0 - served_ms / warm_up_ms.max(1.0)).max(0.0);
        let slot = self
            .busy_until_ms
            .iter_mut()
            .min_by(|a, b| a.total_cmp(b))
            .expect("every instance has a slot");
        let begins = slot.max(at);
        if begins - at > PATIENCE_MS {
            self.meters.timeouts += 1;
            return true;
        }
        let ends = begins + service_ms * cold * self.slowness;
        *slot = ends;
        self.pending.push((ends, ends - at));
        false
    }

    pub(crate) fn seen(
        &mut self,
        id: InstanceId,
        now_ms: u64,
        objective_ms: f64,
        outcome: &mut Outcome,
    ) -> InstanceObservation {
        let mut latencies: Vec<f64> = Vec::new();
        self.pending.retain(|(ends, latency)| {
            let pending = *ends > now_ms as f64;
            if !pending {
                latencies.push(*latency);
            }
            pending
        });
        latencies.sort_by(f64::total_cmp);
        let over = latencies.iter().filter(|ms| **ms > objective_ms).count() as u64;
        outcome.slow += over;
        let quantile = |q: f64| {
            let last = latencies.len().saturating_sub(1);
            latencies.get((q * last as f64).round() as usize).copied().unwrap_or(0.0)
        };
        let mut meters = std::mem::take(&mut self.meters);
        meters.ok = latencies.len() as u64;
        meters.in_flight = self.pending.len() as u64;
        meters.latency = LatencySummary {
            count: latencies.len() as u64,
            sum_ms: latencies.iter().sum(),
            over_objective: over,
            p50_ms: quantile(0.5),
            p90_ms: quantile(0.9),
            p99_ms: quantile(0.99),
            max_ms: quantile(1.0),
        };
        InstanceObservation {
            moving_to: self.moving.map(|(tier, _, _)| tier),
            tier_age_ms: now_ms - self.reached_ms,
            health: self.health.clone(),
            meters,
            mirror: self.mirror,
            resources: self.resources,
            zone: self.zone.clone(),
            place: self.place.clone(),
            drained: self.drained,
            ..InstanceObservation::idle(id, self.role, self.tier)
        }
    }
}
