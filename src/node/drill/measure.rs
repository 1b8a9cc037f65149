//! Counting requests over the parts and seconds of a drill.

use std::collections::BTreeMap;

use foreshadow_control::{InstanceId, ServiceName};
use foreshadow_proxy::ServiceTotals;
use hdrhistogram::Histogram;

use super::report::{Figures, Parts, Second, Stage};

/// The class of 5xx among [`foreshadow_proxy::CLASSES`].
const SERVER_ERRORS: usize = 4;
/// Seconds that are kept: those of the longest drill.
const MOST_SECONDS: usize = 1_300;

/// What was counted since the node started.
#[derive(Clone)]
struct Counted {
    at_ms: u64,
    requests: u64,
    server_errors: u64,
    /// Attempts that failed, and requests that no backend could take.
    lost: u64,
    retried: u64,
    latency_us: Histogram<u64>,
}

impl Counted {
    fn since(&self, before: &Self) -> Figures {
        let less = |of: fn(&Self) -> u64| of(self).saturating_sub(of(before));
        let retried = less(|c| c.retried);
        // An answer that breaks off was begun well: only the attempt tells of it. One that was tried
        // again counts by what came of that.
        let broken = less(|c| c.lost).saturating_sub(retried);
        let mut latency_us = self.latency_us.clone();
        // Both grow only, so nothing can be taken that is not there.
        let quantile = match latency_us.subtract(&before.latency_us) {
            Ok(()) if !latency_us.is_empty() => {
                [0.5, 0.99].map(|q| latency_us.value_at_quantile(q) as f64 / 1e3)
            }
            _ => [0.0; 2],
        };
        let [p50_ms, p99_ms] = quantile;
        Figures {
            seconds: self.at_ms.saturating_sub(before.at_ms) as f64 / 1e3,
            requests: less(|c| c.requests),
            failed: less(|c| c.server_errors).max(broken),
            retried,
            p50_ms,
            p99_ms,
        }
    }
}

/// Sums over instances, those included that are gone by now.
pub(super) struct Meter {
    service: ServiceName,
    known: BTreeMap<InstanceId, (u64, u64)>,
    first: Counted,
    fault: Option<Counted>,
    over: Option<Counted>,
    last: Counted,
    second: Counted,
    seconds: Vec<(u64, Figures)>,
}

impl Meter {
    /// One that begins to count now; nothing when the service has had no table yet.
    pub(super) fn start(
        service: &ServiceName,
        totals: &[ServiceTotals],
        at_ms: u64,
    ) -> Option<Self> {
        let mut known = BTreeMap::new();
        let first = counted(service, totals, &mut known, at_ms)?;
        Some(Self {
            service: service.clone(),
            known,
            fault: None,
            over: None,
            last: first.clone(),
            second: first.clone(),
            first,
            seconds: Vec::new(),
        })
    }

    /// Takes what is counted now.
    pub(super) fn take(&mut self, totals: &[ServiceTotals], at_ms: u64) {
        let Some(now) = counted(&self.service, totals, &mut self.known, at_ms) else { return };
        if at_ms.saturating_sub(self.second.at_ms) >= 1_000 {
            self.end_second(&now);
        }
        self.last = now;
    }

    fn end_second(&mut self, now: &Counted) {
        if self.seconds.len() < MOST_SECONDS && now.at_ms > self.second.at_ms {
            self.seconds.push((self.second.at_ms, now.since(&self.second)));
        }
        self.second = now.clone();
    }

    /// The next part of the drill begins; so does a second.
    pub(super) fn enter(&mut self, stage: Stage) {
        let now = self.last.clone();
        self.end_second(&now);
        match stage {
            Stage::Before => {}
            Stage::Fault => self.fault = Some(now),
            Stage::Settling | Stage::Done => {
                self.over.get_or_insert(now);
            }
        }
    }

    /// Requests that failed since the fault.
    pub(super) fn failed(&self) -> u64 {
        self.fault.as_ref().map_or(0, |fault| self.last.since(fault).failed)
    }

    /// Figures by part and second.
    pub(super) fn figures(&self) -> (Parts, Vec<Second>) {
        let (last, fault_ms) = (&self.last, self.fault.as_ref().map_or(u64::MAX, |f| f.at_ms));
        let mut parts = Parts {
            before: self.fault.as_ref().unwrap_or(last).since(&self.first),
            ..Parts::default()
        };
        if let Some(fault) = &self.fault {
            parts.during = self.over.as_ref().unwrap_or(last).since(fault);
        }
        if let Some(over) = &self.over {
            parts.after = last.since(over);
        }
        let zero_ms = if fault_ms == u64::MAX { last.at_ms } else { fault_ms };
        let from = |at_ms: u64| at_ms.cast_signed().saturating_sub(zero_ms.cast_signed());
        let second =
            |(at_ms, figures): &(u64, Figures)| Second { from_ms: from(*at_ms), figures: *figures };
        (parts, self.seconds.iter().map(second).collect())
    }
}

fn counted(
    service: &ServiceName,
    totals: &[ServiceTotals],
    known: &mut BTreeMap<InstanceId, (u64, u64)>,
    at_ms: u64,
) -> Option<Counted> {
    let of = totals.iter().find(|totals| totals.service == *service)?;
    for instance in &of.instances {
        let meters = &instance.meters;
        known.insert(instance.instance, (meters.failed(), meters.retries));
    }
    let (failed, retried) = known.values().fold((0, 0), |(f, r), (fs, rs)| (f + fs, r + rs));
    Some(Counted {
        at_ms,
        requests: of.arrivals,
        server_errors: of.responses.backend[SERVER_ERRORS] + of.responses.proxy[SERVER_ERRORS],
        lost: failed + of.unserved,
        retried,
        latency_us: of.latency_us.clone(),
    })
}
