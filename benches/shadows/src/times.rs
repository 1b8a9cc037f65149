//! Samples of time, summed up.

use std::time::Instant;

use serde::Serialize;

/// Milliseconds since `begun`.
pub(crate) fn milliseconds(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}

/// Order statistics of some times, in milliseconds, to a microsecond. A quantile is the least sample
/// that at least that share of all is not above, so that p99 of fewer than 100 is the largest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Times {
    pub(crate) samples: usize,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

impl Times {
    /// Nothing of nothing.
    pub(crate) fn of(mut samples_ms: Vec<f64>) -> Option<Self> {
        samples_ms.sort_by(f64::total_cmp);
        let samples = samples_ms.len();
        let at = |quantile: f64| {
            let rank = (quantile * samples as f64).ceil() as usize;
            samples_ms.get(rank.max(1) - 1).map(|ms| (ms * 1e3).round() / 1e3)
        };
        Some(Self { samples, p50_ms: at(0.5)?, p99_ms: at(0.99)?, max_ms: at(1.0)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        assert_eq!(Times::of(Vec::new()), None);
        let times = Times::of((1..=200).rev().map(f64::from).collect());
        let expected = Times { samples: 200, p50_ms: 100.0, p99_ms: 198.0, max_ms: 200.0 };
        assert_eq!(times, Some(expected));
        let one = Times { samples: 1, p50_ms: 0.001, p99_ms: 0.001, max_ms: 0.001 };
        assert_eq!(Times::of(vec![0.0012]), Some(one));
    }
}
