//! By how much an instance's latency wavers for reasons that its own load does not have.

use serde::{Deserialize, Serialize};

/// Taken until windows tell: a machine with other guests wavers by a twelfth and more.
const PRIOR_VARIANCE: f64 = 0.0064;
/// Windows that the prior counts for.
const PRIOR_WINDOWS: f64 = 3.0;
/// Windows that are remembered.
const MEMORY_WINDOWS: f64 = 60.0;
/// No window counts for more: one that is several times slower says that something happened.
const MOST_OF_A_WINDOW: f64 = 0.5;

/// Variance of the logarithm of window means at low load, beyond the chance of a finite sample:
/// pauses, neighbours on the machine, cold caches. What wavers so at unchanged load is no sign of
/// a full queue when the load is a little higher.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Waver {
    excess: f64,
    windows: f64,
}

impl Waver {
    /// Takes a window at low load: the logarithm of its mean latency relative to the usual one,
    /// and the variance that chance alone gives it.
    pub(crate) fn observe(&mut self, deviation: f64, chance_variance: f64) {
        let keep = 1.0 - 1.0 / MEMORY_WINDOWS;
        let excess = deviation * deviation - chance_variance;
        self.excess = keep * self.excess + excess.clamp(-MOST_OF_A_WINDOW, MOST_OF_A_WINDOW);
        self.windows = keep * self.windows + 1.0;
    }

    /// Whether windows have told more than the prior did.
    pub(crate) fn is_known(&self) -> bool {
        self.windows > 2.0 * PRIOR_WINDOWS
    }

    pub(crate) fn variance(&self) -> f64 {
        let sum = PRIOR_WINDOWS * PRIOR_VARIANCE + self.excess;
        (sum / (PRIOR_WINDOWS + self.windows)).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wavers_is_told_from_what_is_calm() {
        let (mut calm, mut wavering) = (Waver::default(), Waver::default());
        for window in 0..30 {
            let sign = if window % 2 == 0 { 1.0 } else { -1.0 };
            calm.observe(sign * 0.03, 0.001);
            wavering.observe(sign * 0.3, 0.001);
        }
        assert!(calm.variance().sqrt() < 0.06, "{}", calm.variance());
        assert!((0.22..0.32).contains(&wavering.variance().sqrt()), "{}", wavering.variance());
    }
}
