//! Meters of one instance over a second or more, as the values whose drift is watched.

use serde::{Deserialize, Serialize};

use crate::{KernelSample, Meters};

/// Requests a value is made of; with fewer the next period is added.
const ENOUGH: u64 = 10;
/// Periods added up at most.
const MOST_PERIODS: u32 = 5;
/// Time constants of the shares of failed requests: now, and lately.
const NOW_MS: f64 = 10_000.0;
const LATELY_MS: f64 = 60_000.0;

/// Counts since the last value.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Tally {
    periods: u32,
    elapsed_ms: u64,
    requests: u64,
    answered: u64,
    sum_ms: f64,
    retransmits: u64,
    /// Sum over ticks of requests in flight times the length of the tick.
    in_flight_ms: f64,
    /// Of this period only: requests, failed ones, and those that could not connect.
    failed: u64,
    unconnected: u64,
    asked: u64,
}

/// What drifts, larger being worse, each the logarithm of a ratio or time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Values {
    pub(super) latency: Option<f64>,
    pub(super) residence: Option<f64>,
    pub(super) unanswered: Option<f64>,
    pub(super) retransmits: Option<f64>,
}

impl Tally {
    pub(super) fn add(&mut self, meters: &Meters, kernel: Option<&KernelSample>, elapsed_ms: u64) {
        self.elapsed_ms = self.elapsed_ms.saturating_add(elapsed_ms);
        self.requests = self.requests.saturating_add(meters.requests);
        self.asked = self.asked.saturating_add(meters.requests);
        let latency = &meters.latency;
        if latency.count > 0 && (0.0..1e15).contains(&latency.sum_ms) {
            self.answered = self.answered.saturating_add(latency.count);
            self.sum_ms += latency.sum_ms;
        }
        self.in_flight_ms += meters.in_flight as f64 * elapsed_ms as f64;
        self.retransmits = self.retransmits.saturating_add(kernel.map_or(0, |k| k.retransmits));
        self.failed = self.failed.saturating_add(meters.failed());
        self.unconnected = self.unconnected.saturating_add(meters.connect_errors);
    }

    /// Ends a period; values once enough was asked for, or after five periods with anything.
    pub(super) fn close(&mut self, failures: &mut Failures, fading: Fading) -> Option<Values> {
        failures.add(self.asked, self.failed, self.unconnected, fading);
        (self.asked, self.failed, self.unconnected) = (0, 0, 0);
        self.periods += 1;
        if self.requests < ENOUGH && self.periods < MOST_PERIODS {
            return None;
        }
        let full = std::mem::take(self);
        if full.requests == 0 && full.in_flight_ms <= 0.0 {
            return None;
        }
        let (requests, answered) = (full.requests as f64, full.answered as f64);
        let elapsed_ms = full.elapsed_ms.max(1) as f64;
        let latency_ms = full.sum_ms / answered.max(1.0);
        // Time in the instance by Little's law: what hangs counts, though it is never answered.
        let residence_ms = (full.in_flight_ms + 0.5 * elapsed_ms) / (requests + 1.0);
        Some(Values {
            latency: (latency_ms > 1e-6).then(|| libm::log(latency_ms.min(f64::MAX))),
            residence: Some(libm::log(residence_ms.clamp(1e-6, f64::MAX))),
            unanswered: Some(libm::log((requests + 1.0) / (answered + 1.0))),
            retransmits: Some(libm::log((full.retransmits as f64 + 0.5) / (requests + 10.0))),
        })
    }
}

/// What a period leaves of earlier counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fading {
    now: f64,
    lately: f64,
}

impl Fading {
    pub(super) fn over(elapsed_ms: u64) -> Self {
        let passed_ms = elapsed_ms as f64;
        Self { now: libm::exp(-passed_ms / NOW_MS), lately: libm::exp(-passed_ms / LATELY_MS) }
    }
}

/// Requests and failures of one instance, fading.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Failures {
    pub(super) asked: f64,
    failed: f64,
    unconnected: f64,
    asked_lately: f64,
    failed_lately: f64,
}

impl Failures {
    fn add(&mut self, asked: u64, failed: u64, unconnected: u64, fading: Fading) {
        let Fading { now, lately } = fading;
        let (asked, failed) = (asked as f64, failed as f64);
        self.asked = self.asked * now + asked;
        self.failed = self.failed * now + failed;
        self.unconnected = self.unconnected * now + unconnected as f64;
        self.asked_lately = self.asked_lately * lately + asked;
        self.failed_lately = self.failed_lately * lately + failed;
    }

    pub(super) fn share(&self) -> f64 {
        share(self.failed, self.asked)
    }

    /// Where the share is heading: as far beyond what it is as it has come lately.
    pub(super) fn heading(&self) -> f64 {
        let now = self.share();
        (now + (now - share(self.failed_lately, self.asked_lately)).max(0.0)).min(1.0)
    }

    pub(super) fn unconnected_share(&self) -> f64 {
        share(self.unconnected, self.asked)
    }

    pub(super) fn failed(&self) -> f64 {
        self.failed
    }
}

fn share(part: f64, of: f64) -> f64 {
    if of > 0.0 { (part / of).clamp(0.0, 1.0) } else { 0.0 }
}
