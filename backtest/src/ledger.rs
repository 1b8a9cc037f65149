//! What a run came to: violations, hours, cost, and a timeline for charts.

use foreshadow_control::Tier;

use crate::fleet::{Fleet, Served};
use crate::outcome::{Activations, HorizonOutcome, Outcome, TimelinePoint};
use crate::{Policy, Setup, Trace};

/// Adds up, tick by tick.
pub(crate) struct Ledger<'a> {
    trace: &'a Trace,
    setup: &'a Setup,
    outcome: Outcome,
    violated_ticks: u64,
    counted_ticks: u64,
    /// Instances times ticks, and the same weighted by price.
    instance_ticks: u64,
    price_ticks: f64,
    violated: f64,
    ticks_per_point: usize,
}

impl<'a> Ledger<'a> {
    pub(crate) fn new(trace: &'a Trace, setup: &'a Setup) -> Self {
        Self {
            trace,
            setup,
            outcome: Outcome::default(),
            violated_ticks: 0,
            counted_ticks: 0,
            instance_ticks: 0,
            price_ticks: 0.0,
            violated: 0.0,
            ticks_per_point: trace.ticks().div_ceil(setup.timeline_points.max(1)).max(1),
        }
    }

    pub(crate) fn add(&mut self, tick: usize, arrivals: u64, served: &Served, fleet: &Fleet) {
        let counts = counts(self.trace, self.setup, tick);
        let over = served.violated > self.setup.allowed_share * arrivals as f64;
        self.draw(tick, arrivals, served, over && counts);
        if !counts {
            return;
        }
        self.counted_ticks += 1;
        self.outcome.requests += arrivals;
        self.violated += served.violated;
        if over && arrivals > 0 {
            self.violated_ticks += 1;
            self.blame(arrivals, fleet);
        }
        self.instance_ticks += fleet.instances.len() as u64;
        self.outcome.most_instances = self.outcome.most_instances.max(fleet.len());
        let price = |tier, to| self.setup.prices.of(tier, to);
        self.price_ticks += fleet
            .instances
            .iter()
            .map(|i| price(i.tier, i.moving.map(|(to, _, _)| to)))
            .sum::<f64>();
    }

    /// Adds a violated tick to what was missing in it.
    fn blame(&mut self, arrivals: u64, fleet: &Fleet) {
        let tick_s = self.trace.tick_ms as f64 / 1_000.0;
        let enough = |instances: usize| {
            instances as f64 * self.setup.capacity_rps * tick_s >= arrivals as f64
        };
        let ready = fleet.instances.iter().filter(|i| i.tier != Tier::Cold).count();
        let ordered = fleet.instances.len();
        let by = &mut self.outcome.violation_by;
        let part = match (enough(ready), enough(ordered)) {
            (true, _) => &mut by.waking_s,
            (false, true) => &mut by.starting_s,
            (false, false) => &mut by.unordered_s,
        };
        *part += tick_s;
    }

    fn draw(&mut self, tick: usize, arrivals: u64, served: &Served, over: bool) {
        if tick.is_multiple_of(self.ticks_per_point) {
            self.outcome.timeline.push(TimelinePoint {
                at_ms: self.trace.start_ms + tick as u64 * self.trace.tick_ms,
                demand_rps: 0.0,
                capacity_rps: f64::MAX,
                violated: 0,
            });
        }
        let Some(point) = self.outcome.timeline.last_mut() else { return };
        let rps = arrivals as f64 * 1_000.0 / self.trace.tick_ms as f64;
        point.demand_rps = point.demand_rps.max(rps);
        point.capacity_rps = point.capacity_rps.min(served.capacity_rps);
        point.violated += u32::from(over);
    }

    pub(crate) fn close(
        self,
        policy: &Policy,
        activations: Activations,
        forecast: Vec<HorizonOutcome>,
    ) -> Outcome {
        let tick_s = self.trace.tick_ms as f64 / 1_000.0;
        let hours = tick_s / 3_600.0;
        Outcome {
            policy: policy.to_string(),
            scored_s: self.counted_ticks as f64 * tick_s,
            violation_s: self.violated_ticks as f64 * tick_s,
            violated_requests: self.violated,
            violated_share: self.violated / (self.outcome.requests.max(1)) as f64,
            instance_hours: self.instance_ticks as f64 * hours,
            cost: self.price_ticks * hours,
            activations,
            forecast,
            ..self.outcome
        }
    }
}

/// Whether a tick counts: not while policies learn, nor in a gap of the data.
pub(crate) fn counts(trace: &Trace, setup: &Setup, tick: usize) -> bool {
    tick as u64 * trace.tick_ms >= setup.learn_ms && !trace.is_gap(tick)
}
