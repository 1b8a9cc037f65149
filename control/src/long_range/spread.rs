//! How far around its median what is told is taken to spread: as it was told, moved by what came.

use serde::{Deserialize, Serialize};

use crate::QuantileSpec;
use crate::demand::DemandHorizon;

/// Step of a bound per truth, in usual errors: an hour of truths on one side, of which most wait at
/// once, moves it by about one.
const STEP: f64 = 0.03;
/// Bounds are moved by at most so many usual errors.
const MOST: f64 = 6.0;
/// Truths that the usual error remembers.
const MEMORY: u64 = 300;

/// Online conformal quantile tracking (Angelopoulos, Candès and Tibshirani 2023, "Conformal PID
/// Control for Time Series Prediction", arXiv 2307.16895; the P part) of both outer quantiles, in
/// units of the usual error of the median:
///
/// ```text
/// bound = told bound + offset x usual error
/// offset <- offset + step (level - [truth <= bound])
/// ```
///
/// A model that is fitted every few minutes finds its spread in the errors of weeks; today's are
/// larger where demand is wilder than it was. The median is left as it was told: a lie is not to be
/// mended until it sounds true, but to be found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Spread {
    truths: u64,
    error_rps: f64,
    lower: f64,
    upper: f64,
}

impl Spread {
    /// The point with its bounds moved, in order, not below zero.
    pub(super) fn around(&self, told: DemandHorizon) -> DemandHorizon {
        let moved = |rps: f64, offset: f64| (rps + offset * self.error_rps).max(0.0);
        DemandHorizon {
            lower_rps: moved(told.lower_rps, self.lower).min(told.median_rps),
            upper_rps: moved(told.upper_rps, self.upper).max(told.median_rps),
            ..told
        }
    }

    /// Takes what came of what was said.
    pub(super) fn learn(&mut self, said: &DemandHorizon, truth_rps: f64, at: &QuantileSpec) {
        // Silence that was expected says nothing about bounds, which end at zero.
        if truth_rps <= 0.0 && said.median_rps <= 0.0 {
            return;
        }
        self.truths = self.truths.saturating_add(1);
        let rate = 1.0 / self.truths.min(MEMORY) as f64;
        self.error_rps += rate * ((truth_rps - said.median_rps).abs() - self.error_rps);
        let step = |offset: &mut f64, bound_rps: f64, level: f64| {
            let below = f64::from(u8::from(truth_rps <= bound_rps));
            *offset = (*offset + STEP * (level - below)).clamp(-MOST, MOST);
        };
        step(&mut self.lower, said.lower_rps, at.commit);
        step(&mut self.upper, said.upper_rps, at.prepare);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: QuantileSpec = QuantileSpec { prepare: 0.95, warm: 0.5, commit: 0.1 };

    fn told(lower_rps: f64, median_rps: f64, upper_rps: f64) -> DemandHorizon {
        DemandHorizon { horizon_ms: 60_000, lower_rps, median_rps, upper_rps }
    }

    /// Numbers between -1 and 1 that repeat after 1,000.
    fn noise(n: u64) -> f64 {
        (n * 7_919 % 1_000) as f64 / 500.0 - 1.0
    }

    #[test]
    fn bounds_come_to_hold_what_they_promise() {
        // Told far too narrow, and far too wide.
        for width_rps in [1.0, 50.0] {
            let told = told(100.0 - width_rps, 100.0, 100.0 + width_rps);
            let (mut spread, mut below_lower, mut below_upper) = (Spread::default(), 0, 0);
            for n in 0..20_000 {
                let (said, truth_rps) = (spread.around(told), 100.0 + 20.0 * noise(n));
                if n >= 10_000 {
                    below_lower += u32::from(truth_rps <= said.lower_rps);
                    below_upper += u32::from(truth_rps <= said.upper_rps);
                }
                spread.learn(&said, truth_rps, &LEVELS);
            }
            assert!((900..1_100).contains(&below_lower), "{width_rps}: {below_lower}");
            assert!((9_400..9_600).contains(&below_upper), "{width_rps}: {below_upper}");
        }
    }

    #[test]
    fn bounds_stay_in_order_and_in_reach_whatever_comes() {
        let told = told(90.0, 100.0, 110.0);
        for truth_rps in [0.0, 1e9] {
            let mut spread = Spread::default();
            (0..100_000).for_each(|_| spread.learn(&spread.around(told), truth_rps, &LEVELS));
            let said = spread.around(told);
            assert!(said.lower_rps >= 0.0 && said.lower_rps <= said.median_rps, "{said:?}");
            assert!(said.upper_rps >= said.median_rps, "{said:?}");
            assert!(said.upper_rps <= 110.0 + MOST * (truth_rps - 100.0).abs(), "{said:?}");
        }
    }

    #[test]
    fn nothing_is_learned_from_silence_that_was_expected() {
        let mut spread = Spread::default();
        spread.learn(&told(0.0, 0.0, 1.0), 0.0, &LEVELS);
        assert_eq!(spread, Spread::default());
    }
}
