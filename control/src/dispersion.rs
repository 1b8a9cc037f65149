//! How much the arrivals of neighbouring ticks differ, next to those of a Poisson process.

use serde::{Deserialize, Serialize};

/// Time constant of the estimate.
const MEMORY_MS: f64 = 30_000.0;
/// Traffic can be this much burstier than chance and still be noise; beyond, it is demand.
const MOST: f64 = 6.0;
/// No tick counts for more: a step of demand is no noise.
const MOST_OF_A_TICK: f64 = 25.0;

/// Variance of arrivals relative to their number.
///
/// Estimated from squared differences of neighbouring ticks (von Neumann 1941), which a trend
/// hardly touches.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Dispersion {
    /// 1 for chance arrivals, more for bursts; between 1 and 6.
    pub(crate) ratio: f64,
    estimate: f64,
    /// Arrivals and length of the tick before.
    last: Option<(f64, f64)>,
}

impl Default for Dispersion {
    fn default() -> Self {
        Self { ratio: 1.0, estimate: 1.0, last: None }
    }
}

impl Dispersion {
    /// Takes the arrivals of one tick of `interval_ms`.
    pub(crate) fn observe(&mut self, arrivals: f64, interval_ms: f64) {
        let last = self.last.replace((arrivals, interval_ms));
        let Some((before, _)) = last.filter(|(_, ms)| (ms - interval_ms).abs() < 1.0) else {
            return;
        };
        let sum = before + arrivals;
        if sum < 1.0 {
            return;
        }
        let difference = arrivals - before;
        let sample = (difference * difference / sum).min(MOST_OF_A_TICK);
        let gain = 1.0 - libm::exp(-interval_ms / MEMORY_MS);
        self.estimate += gain * (sample - self.estimate);
        self.ratio = self.estimate.clamp(1.0, MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_widen_it_and_a_step_hardly_does() {
        let mut bursts = Dispersion::default();
        for tick in 0..600 {
            bursts.observe(if tick % 2 == 0 { 5.0 } else { 25.0 }, 100.0);
        }
        assert!(bursts.ratio > 5.0, "{}", bursts.ratio);
        let mut step = Dispersion::default();
        step.observe(10.0, 100.0);
        step.observe(100.0, 100.0);
        assert!(step.ratio < 1.1, "{}", step.ratio);
    }
}
