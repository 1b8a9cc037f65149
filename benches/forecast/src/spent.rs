//! Time of the processor, and how repeats of a measurement spread.

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// How repeats of one measurement spread, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spent {
    /// How often it was measured.
    pub repeats: usize,
    /// The fastest.
    pub least_ms: f64,
    /// The median.
    pub p50_ms: f64,
    /// Nine in ten are no slower.
    pub p90_ms: f64,
    /// All but one in a hundred are no slower.
    pub p99_ms: f64,
    /// The slowest.
    pub most_ms: f64,
}

impl Spent {
    /// Zeros where nothing was measured.
    pub fn of(repeats_ms: &[f64]) -> Self {
        let mut sorted = repeats_ms.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1) as f64;
        let at = |share: f64| sorted.get((share * last).round() as usize).copied().unwrap_or(0.0);
        Self {
            repeats: sorted.len(),
            least_ms: at(0.0),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            most_ms: at(1.0),
        }
    }
}

/// Processor time of this thread so far, so that other work of the machine is not counted.
pub fn thread_cpu_ms() -> f64 {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    spent.tv_sec as f64 * 1e3 + spent.tv_nsec as f64 * 1e-6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_read_off_the_sorted_repeats() {
        let repeats: Vec<f64> = (1..=101).rev().map(f64::from).collect();
        let spent = Spent::of(&repeats);
        assert_eq!((spent.repeats, spent.least_ms, spent.most_ms), (101, 1.0, 101.0));
        assert_eq!((spent.p50_ms, spent.p90_ms, spent.p99_ms), (51.0, 91.0, 100.0));
        assert_eq!(Spent::of(&[]), Spent::default());
    }
}
