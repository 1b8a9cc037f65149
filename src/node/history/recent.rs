//! The last minutes tick by tick, in memory only.

use std::collections::{BTreeMap, VecDeque};

use foreshadow_control::ServiceName;
use serde::Serialize;

use crate::node::view::View;

/// Ticks remembered of each service: five minutes.
const TICKS: usize = 3_000;
/// Ticks remembered of all services together: some 50 MB.
const MOST_TICKS: usize = 1_000_000;

/// One tick of a service.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Tick {
    /// Unix time.
    pub(crate) at_ms: u64,
    /// Time it covers.
    pub(crate) interval_ms: u64,
    /// Requests that arrived.
    pub(crate) arrivals: u64,
    /// Of those, requests no instance could take.
    pub(crate) unserved: u64,
    /// Requests being answered.
    pub(crate) in_flight: u64,
    /// Slowest 99th percentile of any instance; 0 without answers.
    pub(crate) p99_ms: f64,
}

/// The last ticks of every service.
#[derive(Default)]
pub(super) struct Recent(BTreeMap<ServiceName, VecDeque<Tick>>);

impl Recent {
    pub(super) fn observe(&mut self, view: &View) {
        let observation = &view.observation;
        let kept = (MOST_TICKS / observation.services.len().max(1)).min(TICKS);
        self.0.retain(|name, _| observation.services.iter().any(|s| s.service == *name));
        for seen in &observation.services {
            let ticks = self.0.entry(seen.service.clone()).or_default();
            while ticks.len() >= kept.max(1) {
                ticks.pop_front();
            }
            let meters = || seen.instances.iter().map(|i| &i.meters);
            ticks.push_back(Tick {
                at_ms: view.now_ms,
                interval_ms: observation.interval_ms,
                arrivals: seen.arrivals,
                unserved: seen.unserved,
                in_flight: meters().map(|m| m.in_flight).sum(),
                p99_ms: meters().map(|m| m.latency.p99_ms).fold(0.0, f64::max),
            });
        }
    }

    pub(super) fn of(&self, service: &ServiceName) -> Vec<Tick> {
        self.0.get(service).into_iter().flatten().copied().collect()
    }
}
