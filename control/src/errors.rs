//! Instances that fail more than their peers and the objective are given less.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fleet::{Known, Member};
use crate::{InstanceId, Meters};

/// Time constant of what is remembered.
const MEMORY_MS: f64 = 5_000.0;
/// Remembered requests and failures below which nothing is said.
const LEAST_REQUESTS: f64 = 30.0;
const LEAST_FAILED: f64 = 5.0;
/// Standard deviations of chance beyond which an instance is given less, and below which it is
/// given all again.
const SIGNIFICANT: f64 = 3.0;
const FORGIVEN: f64 = 1.5;
/// An excess of a tenth halves what an instance is given.
const PENALTY: f64 = 10.0;
/// What is left at least, so that a recovery can be seen.
const FLOOR: f64 = 0.1;
/// Smaller relative changes of what is left are noise.
const DEAD_BAND: f64 = 0.15;

/// Requests and failures of one instance, fading, and what follows from them.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Errors {
    requests: f64,
    failed: f64,
    /// Part of its capacity that it is given, 0.1 to 1.
    trust: f64,
}

/// What failures make of an instance in this tick.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trust {
    /// Part of its capacity that it is given, 0.1 to 1.
    pub(crate) part: f64,
    /// Share of its requests that failed lately, and of those that are allowed.
    pub(crate) failed: f64,
    pub(crate) allowed: f64,
}

impl Default for Trust {
    fn default() -> Self {
        Self { part: 1.0, failed: 0.0, allowed: 0.0 }
    }
}

impl Default for Errors {
    fn default() -> Self {
        Self { requests: 0.0, failed: 0.0, trust: 1.0 }
    }
}

impl Errors {
    /// Takes the counts of one tick.
    pub(crate) fn observe(&mut self, meters: &Meters, elapsed_ms: u64) {
        let keep = libm::exp(-(elapsed_ms as f64) / MEMORY_MS);
        self.requests = self.requests * keep + meters.requests as f64;
        self.failed = self.failed * keep + meters.failed() as f64;
    }

    /// Share that failed; none when too little was asked of it. One that is given little is known
    /// from little.
    fn share(&self) -> Option<f64> {
        let least = if self.trust < 1.0 { LEAST_REQUESTS * FLOOR } else { LEAST_REQUESTS };
        (self.requests >= least).then(|| (self.failed / self.requests).min(1.0))
    }

    /// What it is given when `allowed` is the share of requests that may fail, known from
    /// `peer_requests`. The penalty grows with the excess, as in gRPC's weighted round robin (gRFC
    /// A58); significance is that of the difference of two binomial shares.
    fn judge(&mut self, share: f64, allowed: f64, peer_requests: f64) {
        let excess = share - allowed;
        let per_request = allowed * (1.0 - allowed);
        let chance = (per_request * (1.0 / self.requests + 1.0 / peer_requests.max(1.0))).sqrt();
        let penalised = self.trust < 1.0;
        let bound = if penalised { FORGIVEN } else { SIGNIFICANT };
        if excess <= bound * chance || (!penalised && self.failed < LEAST_FAILED) {
            self.trust = 1.0;
            return;
        }
        let trust = (1.0 / (1.0 + PENALTY * excess)).max(FLOOR);
        if (trust - self.trust).abs() > DEAD_BAND * self.trust {
            self.trust = trust;
        }
    }
}

/// Judges all that take requests, each against the objective and the median of the others. When
/// all fail alike nobody is given less: it would only move the failures.
pub(crate) fn judge(
    members: &mut [Member<'_>],
    known: &mut BTreeMap<InstanceId, Known>,
    objective: f64,
) {
    let objective = if objective.is_finite() { objective.clamp(0.0, 1.0) } else { 0.0 };
    let mut shares: Vec<(f64, InstanceId)> = members
        .iter()
        .filter(|m| m.able)
        .filter_map(|m| Some((known.get(&m.id())?.errors.share()?, m.id())))
        .collect();
    let requests = |id| known.get(&id).map_or(0.0, |k| k.errors.requests);
    let all_requests: f64 = shares.iter().map(|(_, id)| requests(*id)).sum();
    shares.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    for (at, (share, id)) in shares.iter().enumerate() {
        let (Some(peers), Some(known)) = (median_without(&shares, at), known.get_mut(id)) else {
            continue;
        };
        let allowed = peers.max(objective);
        let others = shares.len().saturating_sub(1).max(1) as f64;
        let peer_requests = (all_requests - known.errors.requests) / others;
        known.errors.judge(*share, allowed, peer_requests);
        if let Some(member) = members.iter_mut().find(|m| m.id() == *id) {
            member.trust = Trust { part: known.errors.trust, failed: *share, allowed };
        }
    }
}

/// Median of all shares but one; none when there is no other.
fn median_without(sorted: &[(f64, InstanceId)], without: usize) -> Option<f64> {
    let others = sorted.len().checked_sub(1).filter(|n| *n > 0)?;
    let other = |at: usize| sorted[at + usize::from(at >= without)].0;
    Some((other((others - 1) / 2) + other(others / 2)) / 2.0)
}
