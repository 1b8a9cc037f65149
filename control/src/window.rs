//! A few seconds of one instance's meters, pooled.

use serde::{Deserialize, Serialize};

use crate::Meters;

const SHORTEST_MS: u64 = 1_000;
const LONGEST_MS: u64 = 3_000;
/// Answers that make a window worth closing early.
const ENOUGH: u64 = 200;
/// Answers below which an instance counts as idle, from which nothing is learned.
const LEAST: u64 = 20;

/// Idle time that divides what came before it from what comes after: at loads that tell anything
/// chance alone hardly ever makes such a gap.
const IDLE_MS: u64 = 1_000;

/// Share of answers over the objective that is no tail any more: they wait.
const LATE: f64 = 0.3;

/// A mean latency beyond these, a nanosecond and about twelve days, is a broken measurement.
const SHORTEST_LATENCY_MS: f64 = 1e-6;
const LONGEST_LATENCY_MS: f64 = 1e9;

/// Sums over the ticks of one window.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Window {
    elapsed_ms: u64,
    /// Of those, the last ones in which nothing was asked and nothing answered.
    #[serde(default)]
    idle_ms: u64,
    /// It may end this much earlier, with as many answers fewer.
    head_start_ms: u64,
    requests: u64,
    count: u64,
    failed: u64,
    /// Of those, the ones that timed out.
    #[serde(default)]
    timeouts: u64,
    over_objective: u64,
    sum_ms: f64,
    /// Sum over ticks of count times squared tick mean, for the spread of the tick means.
    squares: f64,
    batches: u32,
    /// Sums over ticks, weighted by count.
    p50_ms: f64,
    p90_ms: f64,
    in_flight_first: Option<u64>,
    in_flight_last: u64,
}

impl Window {
    /// An empty window that ends `head_start_ms` earlier than others.
    pub(crate) fn with_head_start(head_start_ms: u64) -> Self {
        Self { head_start_ms, ..Self::default() }
    }

    /// Takes the meters of one tick. After idle time a window begins anew with the next request:
    /// counted in, it would make what the instance has carried since look like less.
    pub(crate) fn add(&mut self, meters: &Meters, elapsed_ms: u64) {
        if meters.requests == 0 && meters.latency.count == 0 && meters.in_flight == 0 {
            self.idle_ms = self.idle_ms.saturating_add(elapsed_ms);
        } else if self.idle_ms == self.elapsed_ms || self.idle_ms >= IDLE_MS {
            // Idle means that nothing was in flight.
            let in_flight_first = if self.idle_ms > 0 { Some(0) } else { self.in_flight_first };
            *self = Self { in_flight_first, ..Self::with_head_start(self.head_start_ms) };
        } else {
            self.idle_ms = 0;
        }
        self.elapsed_ms = self.elapsed_ms.saturating_add(elapsed_ms);
        let latency = &meters.latency;
        self.requests = self.requests.saturating_add(meters.requests);
        self.in_flight_first.get_or_insert(meters.in_flight);
        self.timeouts = self.timeouts.saturating_add(meters.timeouts);
        self.failed = self.failed.saturating_add(meters.failed());
        let count = latency.count as f64;
        let mean_ms = latency.sum_ms / count;
        if latency.count == 0 || !(SHORTEST_LATENCY_MS..=LONGEST_LATENCY_MS).contains(&mean_ms) {
            return;
        }
        self.count = self.count.saturating_add(latency.count);
        self.over_objective = self.over_objective.saturating_add(latency.over_objective);
        self.sum_ms += latency.sum_ms;
        self.squares += count * mean_ms * mean_ms;
        self.batches = self.batches.saturating_add(1);
        let believable = 0.0..=LONGEST_LATENCY_MS;
        if believable.contains(&latency.p50_ms) && believable.contains(&latency.p90_ms) {
            self.p50_ms += count * latency.p50_ms;
            self.p90_ms += count * latency.p90_ms;
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        let aged_ms = self.elapsed_ms.saturating_add(self.head_start_ms);
        let spared = (ENOUGH - LEAST).saturating_mul(self.head_start_ms) / SHORTEST_MS;
        aged_ms >= LONGEST_MS
            || (aged_ms >= SHORTEST_MS && self.count.saturating_add(spared) >= ENOUGH)
    }

    /// Empties it and returns what was in it; `in_flight` is the gauge at its end.
    pub(crate) fn take(&mut self, in_flight: u64) -> Self {
        let mut full = std::mem::take(self);
        full.in_flight_last = in_flight;
        self.in_flight_first = Some(in_flight);
        full
    }

    /// Whether enough was answered, and mostly well, to learn from it.
    pub(crate) fn is_telling(&self) -> bool {
        self.count >= LEAST && self.failed.saturating_mul(10) <= self.requests && self.sum_ms > 0.0
    }

    pub(crate) fn count(&self) -> f64 {
        self.count as f64
    }

    pub(crate) fn elapsed_s(&self) -> f64 {
        self.elapsed_ms as f64 / 1_000.0
    }

    /// Answers per second.
    pub(crate) fn rps(&self) -> f64 {
        self.count() / self.elapsed_s().max(0.001)
    }

    pub(crate) fn mean_ms(&self) -> f64 {
        self.sum_ms / self.count().max(1.0)
    }

    /// Whether clearly more than `1 - quantile` of the answers were over the objective.
    pub(crate) fn misses(&self, quantile: f64) -> bool {
        let allowed = (1.0 - quantile).clamp(0.0, 1.0);
        let chance = 3.0 * (allowed / self.count().max(1.0)).sqrt();
        self.over_objective as f64 > (2.0 * allowed + chance) * self.count()
    }

    /// Whether requests come in faster than they are answered, or wait for several answers' time.
    /// As many as are in flight differ by chance, and when all answers take a little longer.
    pub(crate) fn is_piling_up(&self) -> bool {
        let growth = self.in_flight_last.saturating_sub(self.in_flight_first.unwrap_or(0));
        let chance = 3.0 * (self.in_flight_last as f64).sqrt();
        growth as f64 > 0.03 * self.count() + chance || self.is_late()
    }

    fn is_late(&self) -> bool {
        self.over_objective as f64 > LATE * self.count()
    }

    /// Whether so many failed that nothing can be learned, as they do when too much is asked: they
    /// time out, or are refused while the others wait.
    pub(crate) fn is_overwhelmed(&self) -> bool {
        let many = self.failed.saturating_mul(10) > self.requests && self.requests >= LEAST;
        let timed_out = self.timeouts.saturating_mul(10) > self.requests;
        many && (timed_out || (self.count >= LEAST && self.is_late()))
    }

    /// Variance of one latency over the squared mean, from the spread of the tick means: it holds
    /// what neighbours in a queue share, which the spread of single latencies would hide.
    pub(crate) fn noise(&self) -> f64 {
        let mean = self.mean_ms();
        if self.batches < 3 || mean <= 0.0 {
            return 1.0;
        }
        let variance = (self.squares - self.count() * mean * mean) / f64::from(self.batches - 1);
        (variance / (mean * mean)).clamp(0.0, 100.0)
    }

    /// Squared coefficient of variation, from median and 90th percentile as of a lognormal.
    pub(crate) fn scv(&self) -> Option<f64> {
        if self.p50_ms <= 0.0 || self.p90_ms < self.p50_ms {
            return None;
        }
        // 1.2816 is the 90th percentile of the standard normal distribution.
        let sigma = libm::log(self.p90_ms / self.p50_ms) / 1.2816;
        Some(libm::expm1(sigma * sigma).min(4.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LatencySummary;

    #[test]
    fn latencies_too_small_to_be_squared_are_left_out() {
        let mut window = Window::default();
        for sum_ms in [1e-200, f64::MIN_POSITIVE, 0.0] {
            let latency = LatencySummary { count: 30, sum_ms, ..LatencySummary::default() };
            window.add(&Meters { latency, ..Meters::default() }, 100);
        }
        let full = window.take(0);
        assert!(!full.is_telling());
        assert!(full.noise().is_finite());
    }

    #[test]
    fn idle_time_is_not_part_of_a_window() {
        let busy = Meters {
            requests: 10,
            latency: LatencySummary { count: 10, sum_ms: 200.0, ..LatencySummary::default() },
            ..Meters::default()
        };
        let ticks = |window: &mut Window, ticks: u32, meters: &Meters| {
            (0..ticks).for_each(|_| window.add(meters, 100));
        };
        // Before the first request, and after a single one, as an operator's own first look is.
        for first in [Meters::default(), Meters { requests: 1, ..Meters::default() }] {
            let mut window = Window::default();
            ticks(&mut window, 1, &first);
            ticks(&mut window, 15, &Meters::default());
            ticks(&mut window, 10, &busy);
            assert!((window.take(0).rps() - 100.0).abs() < 1e-9);
        }
        // Requests that are being worked on are not idle time.
        let mut window = Window::default();
        ticks(&mut window, 15, &Meters { in_flight: 3, ..Meters::default() });
        ticks(&mut window, 10, &busy);
        assert!((window.take(0).rps() - 40.0).abs() < 1e-9);
    }

    #[test]
    fn what_was_in_flight_before_idle_time_hides_nothing_that_piles_up_after_it() {
        let mut window = Window::default();
        window.take(50);
        (0..15).for_each(|_| window.add(&Meters::default(), 100));
        let latency = LatencySummary { count: 10, sum_ms: 200.0, ..LatencySummary::default() };
        let busy = Meters { requests: 16, latency, in_flight: 6, ..Meters::default() };
        (0..10).for_each(|_| window.add(&busy, 100));
        assert!(window.take(60).is_piling_up());
        // Without idle time it is what was there at the end of the last window that counts.
        (0..10).for_each(|_| window.add(&busy, 100));
        assert!(!window.take(70).is_piling_up());
    }
}
