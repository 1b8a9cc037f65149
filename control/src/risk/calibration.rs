//! From evidence to a probability, corrected by what became of earlier ones.
//!
//! The correction is Platt's (1999), an intercept and a slope on the log-odds, followed online by
//! stochastic gradient of the log score. Both stay within fixed bounds and fade back, so that no
//! run of outcomes, true or made up, can turn evidence into its opposite.

use serde::{Deserialize, Serialize};

use super::robust::ramp;

/// Bounds of the intercept, in log-odds: odds change by a factor of e^1.5 = 4.5 at most.
const MOST_INTERCEPT: f64 = 1.5;
/// Bounds of the slope.
const LEAST_SLOPE: f64 = 0.8;
const MOST_SLOPE: f64 = 1.25;
/// Step of the intercept per outcome; that of the slope is a tenth per unit of log-odds.
const STEP: f64 = 0.02;
/// Part of the correction that is forgotten per outcome.
const FADE: f64 = 0.0005;
/// A smaller probability says that nothing speaks for a failure, and what becomes of it teaches nothing
/// about what speaks for one: the many instances that go on as always must not drown out the few of
/// which something was said. What is left out depends on the evidence only, before any correction, and so
/// on no outcome, neither this one nor earlier ones: that would bias what is learned.
const LEAST: f64 = 0.05;
/// Log-odds beyond which nothing is said for certain.
const MOST_LOG_ODDS: f64 = 4.6;

/// The correction of one service's log-odds at one horizon, in bounds that no outcomes leave.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    intercept: f64,
    slope: f64,
}

impl Default for Calibration {
    fn default() -> Self {
        Self { intercept: 0.0, slope: 1.0 }
    }
}

impl Calibration {
    /// The probability of a failure, 0.01 to 0.99, for uncorrected log-odds.
    #[must_use]
    pub fn probability(&self, log_odds: f64) -> f64 {
        let log_odds = if log_odds.is_finite() { log_odds } else { 0.0 };
        let corrected = self.intercept + self.slope * log_odds;
        let bounded = corrected.clamp(-MOST_LOG_ODDS, MOST_LOG_ODDS);
        1.0 / (1.0 + libm::exp(-bounded))
    }

    /// Takes one outcome; `weight`, 0 to 1, says how much it tells.
    pub fn learn(&mut self, log_odds: f64, failed: bool, weight: f64) {
        if !log_odds.is_finite() {
            return;
        }
        if Self::default().probability(log_odds) < LEAST {
            return;
        }
        let predicted = self.probability(log_odds);
        let surprise = f64::from(u8::from(failed)) - predicted;
        let step = STEP * ramp(weight, 0.0, 1.0) * surprise;
        self.intercept =
            ((1.0 - FADE) * self.intercept + step).clamp(-MOST_INTERCEPT, MOST_INTERCEPT);
        let slope = 1.0 + (1.0 - FADE) * (self.slope - 1.0) + 0.1 * step * log_odds;
        self.slope = slope.clamp(LEAST_SLOPE, MOST_SLOPE);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::risk::evidence::{BASE_LOG_ODDS, CLEAR, RAISE};

    #[test]
    fn predictions_that_never_come_true_lose_weight_within_bounds() {
        let mut calibration = Calibration::default();
        let before = calibration.probability(1.0);
        (0..10_000).for_each(|_| calibration.learn(1.0, false, 1.0));
        assert!(calibration.probability(1.0) < 0.5 * before);
        // Two full pieces of evidence are heard all the same.
        assert!(calibration.probability(6.0) > 0.9);
        (0..10_000).for_each(|_| calibration.learn(1.0, true, 1.0));
        assert!(calibration.probability(1.0) > before);
    }

    #[test]
    fn what_is_calibrated_stays_so() {
        let mut calibration = Calibration::default();
        for nth in 0..10_000_u32 {
            calibration.learn(0.0, nth % 2 == 0, 1.0);
        }
        assert!((calibration.probability(0.0) - 0.5).abs() < 0.05, "{calibration:?}");
    }

    #[test]
    fn earlier_outcomes_do_not_decide_what_is_learned_from() {
        let mut calibration = Calibration::default();
        (0..10_000).for_each(|_| calibration.learn(-2.0, false, 1.0));
        assert!(calibration.probability(-2.0) < LEAST, "{calibration:?}");
        let before = calibration;
        calibration.learn(-2.0, true, 1.0);
        assert!(calibration.probability(-2.0) > before.probability(-2.0), "{calibration:?}");
    }

    proptest! {
        /// Without evidence nothing is ever raised, whatever outcomes it was taught.
        #[test]
        fn no_outcomes_make_an_alarm_of_nothing(
            outcomes in prop::collection::vec((any::<f64>(), any::<bool>(), any::<f64>()), 0..300),
        ) {
            let mut calibration = Calibration::default();
            for (log_odds, failed, weight) in outcomes {
                (0..50).for_each(|_| calibration.learn(log_odds, failed, weight));
            }
            let probability = calibration.probability(BASE_LOG_ODDS);
            prop_assert!(probability < CLEAR && CLEAR < RAISE, "{calibration:?}");
            prop_assert!((0.0..=1.0).contains(&calibration.probability(f64::NAN)));
        }
    }
}
