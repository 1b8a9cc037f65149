//! Recursive least squares, one per horizon.

use serde::{Deserialize, Serialize};

use crate::check::{self, Checked};

/// Length of the feature vector.
pub(crate) const FEATURES: usize = 7;

/// Memory, in truths: about three hundred.
const FORGETTING: f64 = 1.0 - 1.0 / 300.0;
/// Initial covariance per weight; its inverse is the ridge penalty.
const START: f64 = 1.0;
/// The trace of the covariance stays below this, whatever is forgotten.
const MAX_TRACE: f64 = 10.0 * START * FEATURES as f64;
/// Errors beyond this, in units of the level, pull no harder.
const CLIP: f64 = 1.0;
/// Predictions stay within this many times the level's scale of the level.
const REACH: f64 = 3.0;

/// Direct multi-step linear regression by recursive least squares with exponential forgetting
/// (Ljung & Söderström 1983, "Theory and Practice of Recursive Identification", section 2.6.3;
/// Haykin, "Adaptive Filter Theory", chapter on RLS):
///
/// ```text
/// k = P x / (lambda + x' P x)     w <- w + k (y - w' x)     P <- (P - k x' P) / lambda
/// ```
///
/// `y` is the departure of the truth from the level when it was predicted, in units of the scale
/// then, so weights carry over from small series to large ones. Safeguards: the division by
/// lambda is left out while it would lift the trace over a bound (no wind-up when nothing
/// excites the features), errors are clipped, and a covariance that is no longer positive starts
/// anew.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Rls {
    weights: [f64; FEATURES],
    covariance: [[f64; FEATURES]; FEATURES],
}

impl Rls {
    pub(crate) fn new() -> Self {
        Self { weights: [0.0; FEATURES], covariance: start() }
    }

    /// The departure from the level, in units of the scale.
    pub(crate) fn predict(&self, features: &[f64; FEATURES]) -> f64 {
        dot(&self.weights, features).clamp(-REACH, REACH)
    }

    /// Learns that `features` led to the departure `target`.
    pub(crate) fn learn(&mut self, features: &[f64; FEATURES], target: f64) {
        let projected = self.covariance.map(|row| dot(&row, features));
        let denominator = FORGETTING + dot(&projected, features);
        if !(denominator.is_finite() && denominator >= FORGETTING) {
            self.covariance = start();
            return;
        }
        let error = (target - dot(&self.weights, features)).clamp(-CLIP, CLIP);
        let shrink = 1.0 / denominator;
        let mut trace = 0.0;
        let mut smallest = f64::INFINITY;
        for (row, entries) in self.covariance.iter_mut().enumerate() {
            self.weights[row] =
                (self.weights[row] + shrink * projected[row] * error).clamp(-1e3, 1e3);
            for (column, entry) in entries.iter_mut().enumerate() {
                // Products in this order give both triangles the same rounding: it stays symmetric.
                *entry -= projected[row] * projected[column] * shrink;
            }
            trace += entries[row];
            smallest = smallest.min(entries[row]);
        }
        if !(trace.is_finite() && smallest > 0.0) {
            self.covariance = start();
        } else if trace < MAX_TRACE * FORGETTING {
            self.covariance.iter_mut().flatten().for_each(|entry| *entry /= FORGETTING);
        }
    }
}

fn start() -> [[f64; FEATURES]; FEATURES] {
    let mut covariance = [[0.0; FEATURES]; FEATURES];
    (0..FEATURES).for_each(|index| covariance[index][index] = START);
    covariance
}

fn dot(left: &[f64; FEATURES], right: &[f64; FEATURES]) -> f64 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

impl Rls {
    pub(crate) fn check(&self) -> Checked {
        check::all_within("weights", &self.weights, -1e3, 1e3)?;
        check::all_within("covariance", self.covariance.as_flattened(), -1e6, 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fixed sequence that looks random enough to excite every feature.
    fn features(step: u64) -> [f64; FEATURES] {
        let mut state = step.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        std::array::from_fn(|_| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).rotate_left(23);
            (state >> 40) as f64 / (1u64 << 24) as f64 - 0.5
        })
    }

    #[test]
    fn finds_the_weights_of_a_linear_law() {
        let law = [0.3, -0.5, 0.2, 0.0, 0.4, -0.1, 0.6];
        let mut rls = Rls::new();
        (0..500).for_each(|step| rls.learn(&features(step), dot(&law, &features(step))));
        for (found, truth) in rls.weights.iter().zip(law) {
            assert!((found - truth).abs() < 0.01, "{found} for {truth}");
        }
    }

    #[test]
    fn silence_does_not_wind_the_covariance_up() {
        let mut rls = Rls::new();
        (0..100_000).for_each(|_| rls.learn(&[0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 0.0));
        let trace: f64 = (0..FEATURES).map(|index| rls.covariance[index][index]).sum();
        assert!(trace.is_finite() && trace <= MAX_TRACE, "{trace}");
        assert_eq!(rls.predict(&[1.0; FEATURES]), 0.0);
    }
}
