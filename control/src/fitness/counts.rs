//! What requests and answers of a service say about copying them: counts of a tick, and decayed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{InstanceId, ServiceObservation};

/// What was counted weighs half as much after this long.
pub(super) const HALF_LIFE_S: u32 = 900;
/// What a second leaves of a count: 2 to the power of -1/900.
const KEPT_PER_S: f64 = 0.999_230_132_966_8;
/// A gap this long, 40 half-lives, leaves nothing.
const FORGOTTEN_S: u64 = 36_000;
/// What is left of so little is nothing: shares of it would be those of a request long ago.
const LEAST: f64 = 0.5;

/// Requests and answers of one tick by what matters to mirroring. All counts are deltas.
///
/// The first three count every request; the others only those `looked_at`, a share of the answered
/// ones that is drawn at random.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrafficCounts {
    /// Requests whose method is idempotent and not safe (RFC 9110, section 9.2.2): PUT, DELETE.
    #[serde(skip_serializing_if = "is_zero")]
    pub idempotent: u64,
    /// Requests whose method is neither: POST, PATCH and unknown ones.
    #[serde(skip_serializing_if = "is_zero")]
    pub other: u64,
    /// Safe requests (RFC 9110, section 9.2.1) that ask for another protocol.
    #[serde(skip_serializing_if = "is_zero")]
    pub upgrades: u64,
    /// Requests whose fields, and those of their answer, were looked at.
    #[serde(skip_serializing_if = "is_zero")]
    pub looked_at: u64,
    /// Of those, requests with a safe method that are not copied all the same: they have a body,
    /// or ask for a stream of events, which has no end to compare.
    #[serde(skip_serializing_if = "is_zero")]
    pub safe_uncopied: u64,
    /// Requests with a `Cookie`.
    #[serde(skip_serializing_if = "is_zero")]
    pub cookies: u64,
    /// Requests with an `Authorization`.
    #[serde(skip_serializing_if = "is_zero")]
    pub authorized: u64,
    /// Answers with a `Set-Cookie`.
    #[serde(skip_serializing_if = "is_zero")]
    pub set_cookies: u64,
    /// Requests that may belong to a session: their answer sets a cookie, or they carry one and
    /// no shared cache is told that it may give the answer to others.
    #[serde(skip_serializing_if = "is_zero")]
    pub sessions: u64,
    /// Answers that a shared cache may store (RFC 9111, section 3).
    #[serde(skip_serializing_if = "is_zero")]
    pub storable: u64,
    /// Answers with `Vary: *`: they depend on more than the request says.
    #[serde(skip_serializing_if = "is_zero")]
    pub vary_any: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip predicates take a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl TrafficCounts {
    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The same as sums in which the past counts less and less.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sums {
    pub(super) requests: f64,
    pub(super) idempotent: f64,
    pub(super) other: f64,
    pub(super) upgrades: f64,
    pub(super) looked_at: f64,
    pub(super) safe_uncopied: f64,
    pub(super) cookies: f64,
    pub(super) authorized: f64,
    pub(super) set_cookies: f64,
    pub(super) sessions: f64,
    pub(super) storable: f64,
    pub(super) vary_any: f64,
    pub(super) compared: f64,
    pub(super) agreed: f64,
}

impl Sums {
    fn each(&mut self) -> [&mut f64; 14] {
        [
            &mut self.requests,
            &mut self.idempotent,
            &mut self.other,
            &mut self.upgrades,
            &mut self.looked_at,
            &mut self.safe_uncopied,
            &mut self.cookies,
            &mut self.authorized,
            &mut self.set_cookies,
            &mut self.sessions,
            &mut self.storable,
            &mut self.vary_any,
            &mut self.compared,
            &mut self.agreed,
        ]
    }

    fn add(&mut self, arrivals: u64, traffic: &TrafficCounts, compared: u64, agreed: u64) {
        let new = [
            arrivals,
            traffic.idempotent,
            traffic.other,
            traffic.upgrades,
            traffic.looked_at,
            traffic.safe_uncopied,
            traffic.cookies,
            traffic.authorized,
            traffic.set_cookies,
            traffic.sessions,
            traffic.storable,
            traffic.vary_any,
            compared,
            agreed,
        ];
        for (sum, count) in self.each().into_iter().zip(new) {
            *sum += count as f64;
        }
    }

    fn decay(&mut self, seconds: u64) {
        let kept = if seconds >= FORGOTTEN_S { 0.0 } else { power(KEPT_PER_S, seconds) };
        for sum in self.each() {
            *sum *= kept;
        }
        if self.requests < LEAST {
            *self = Self { compared: self.compared, agreed: self.agreed, ..Self::default() };
        }
        if self.compared < LEAST {
            (self.compared, self.agreed) = (0.0, 0.0);
        }
    }
}

/// By squaring: the system's own differs in the last bit between machines, a replay must not.
fn power(mut base: f64, mut exponent: u64) -> f64 {
    let mut result = 1.0;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    result
}

/// What is remembered of one service's traffic; see [`Workload::assess`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Workload {
    pub(super) sums: Sums,
    /// Compared and agreed copies of each instance, as last seen.
    mirrored: BTreeMap<InstanceId, (u64, u64)>,
    /// Time that has not yet been let pass.
    pending_ms: u64,
}

impl Workload {
    /// Takes what was seen of the service in one tick that covers `elapsed_ms`.
    pub fn observe(&mut self, seen: &ServiceObservation, elapsed_ms: u64) {
        self.pending_ms = self.pending_ms.saturating_add(elapsed_ms);
        if self.pending_ms >= 1_000 {
            self.sums.decay(self.pending_ms / 1_000);
            self.pending_ms %= 1_000;
        }
        let (compared, agreed) = self.newly_mirrored(seen);
        self.sums.add(seen.arrivals, &seen.traffic, compared, agreed);
    }

    /// Copies compared since the last tick, and those of them that agreed.
    fn newly_mirrored(&mut self, seen: &ServiceObservation) -> (u64, u64) {
        self.mirrored.retain(|id, _| seen.instances.iter().any(|i| i.instance == *id));
        let (mut compared, mut agreed) = (0_u64, 0_u64);
        for instance in &seen.instances {
            let Some(mirror) = &instance.mirror else { continue };
            let now = (mirror.compared, mirror.agreed.min(mirror.compared));
            let before = self.mirrored.insert(instance.instance, now).unwrap_or_default();
            // Counts that shrank were begun anew.
            let before = if now.0 < before.0 { (0, 0) } else { before };
            compared = compared.saturating_add(now.0 - before.0);
            agreed = agreed.saturating_add(now.1.saturating_sub(before.1).min(now.0 - before.0));
        }
        (compared, agreed)
    }
}
