//! Recursive least squares, one per horizon.

use serde::{Deserialize, Serialize};

use crate::check::{self, Checked};
use crate::touch::touch;

/// The trace of the covariance stays below this many times its start, whatever is forgotten.
const MAX_TRACE: f64 = 10.0;
/// Errors beyond this, in units of the level, pull no harder.
const CLIP: f64 = 1.0;
/// Nor do those beyond this many times the mean absolute error of late.
const CLIP_ERRORS: f64 = 4.0;
/// Truths that the mean absolute error remembers.
const ERROR_MEMORY: f64 = 100.0;
/// Predictions stay within this many times the level's scale of the level.
const REACH: f64 = 3.0;
/// Weights stay within this.
const MAX_WEIGHT: f64 = 1e3;

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
/// excites the features), errors are clipped (Huber's M-estimator), and a covariance that is no
/// longer positive starts anew.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Rls {
    weights: Vec<f64>,
    /// Row by row up to the diagonal: it is symmetric.
    covariance: Vec<f64>,
    /// Initial covariance per weight; its inverse is the ridge penalty.
    start: f64,
    forgetting: f64,
    /// Mean absolute error of late, in units of the scale; 0 before the first.
    error: f64,
}

impl Rls {
    /// For `features` features; truths fade over `memory` of them. `start` is what one of them says,
    /// beside the belief that weights are small.
    pub(crate) fn new(features: usize, memory: f64, start: f64) -> Self {
        Self {
            weights: vec![0.0; features],
            covariance: diagonal_of(start, features),
            start,
            forgetting: 1.0 - 1.0 / memory,
            error: 0.0,
        }
    }

    /// See [`touch`].
    pub(crate) fn touch(&self) {
        touch(&self.weights, |weight| *weight);
        touch(&self.covariance, |entry| *entry);
    }

    /// Heap memory, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.weights) + size_of_val(&*self.covariance)
    }

    /// The departure from the level, in units of the scale.
    pub(crate) fn predict(&self, features: &[f64]) -> f64 {
        dot(&self.weights, features).clamp(-REACH, REACH)
    }

    /// Learns that `features` led to the departure `target`; `trust`, from 0 to 1, is how much that
    /// says.
    pub(crate) fn learn(&mut self, features: &[f32], target: f64, trust: f64) {
        let count = self.weights.len();
        let (mut seen, mut projected) = ([0.0; MAX_FEATURES], [0.0; MAX_FEATURES]);
        let (seen, projected) = (&mut seen[..count], &mut projected[..count]);
        seen.iter_mut().zip(features).for_each(|(slot, feature)| *slot = f64::from(*feature));
        let mut trace = self.project(seen, projected);
        let denominator = self.forgetting + dot(projected, seen);
        if !(denominator.is_finite() && denominator >= self.forgetting) {
            self.covariance = diagonal_of(self.start, count);
            return;
        }
        let error = trust * self.clip(target - dot(&self.weights, seen));
        let shrink = 1.0 / denominator;
        for (weight, gain) in self.weights.iter_mut().zip(&*projected) {
            *weight = (*weight + shrink * gain * error).clamp(-MAX_WEIGHT, MAX_WEIGHT);
        }
        trace -= shrink * dot(projected, projected);
        let forget = trace < MAX_TRACE * self.start * count as f64 * self.forgetting;
        let growth = if forget { 1.0 / self.forgetting } else { 1.0 };
        let smallest = self.shrink(projected, shrink, growth);
        if !(trace.is_finite() && smallest > 0.0) {
            self.covariance = diagonal_of(self.start, count);
        }
    }

    /// Writes the product of covariance and `seen`; the trace.
    fn project(&self, seen: &[f64], projected: &mut [f64]) -> f64 {
        let (mut trace, mut rest) = (0.0, &self.covariance[..]);
        for (row, feature) in seen.iter().enumerate() {
            let (entries, below) = rest.split_at(row + 1);
            rest = below;
            let (left, diagonal) = (&entries[..row], entries[row]);
            trace += diagonal;
            projected[row] = dot(left, seen) + diagonal * feature;
            for (slot, entry) in projected.iter_mut().zip(left) {
                *slot += entry * feature;
            }
        }
        trace
    }

    /// Takes from the covariance what `projected` explains, then lets it grow; the smallest variance.
    fn shrink(&mut self, projected: &[f64], shrink: f64, growth: f64) -> f64 {
        let (mut smallest, mut rest) = (f64::INFINITY, &mut self.covariance[..]);
        for (row, own) in projected.iter().enumerate() {
            let (entries, below) = rest.split_at_mut(row + 1);
            rest = below;
            let share = own * shrink;
            for (entry, other) in entries.iter_mut().zip(projected) {
                *entry = (*entry - share * other) * growth;
            }
            smallest = smallest.min(entries[row]);
        }
        smallest
    }

    fn clip(&mut self, error: f64) -> f64 {
        let bound = if self.error > 0.0 { CLIP.min(CLIP_ERRORS * self.error) } else { CLIP };
        let clipped = error.clamp(-bound, bound);
        self.error += (clipped.abs() - self.error) / ERROR_MEMORY;
        // A series that was forecast perfectly may still change.
        self.error = self.error.max(1e-3);
        clipped
    }
}

/// Most features there can be.
pub(crate) const MAX_FEATURES: usize = 34;

fn diagonal_of(start: f64, features: usize) -> Vec<f64> {
    let mut covariance = vec![0.0; features * (features + 1) / 2];
    (0..features).for_each(|index| covariance[diagonal(index)] = start);
    covariance
}

fn diagonal(index: usize) -> usize {
    index * (index + 3) / 2
}

fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

impl Rls {
    pub(crate) fn check(&self, features: usize) -> Checked {
        check::same("weights.len", &self.weights.len(), &features)?;
        check::same("covariance.len", &self.covariance.len(), &(features * (features + 1) / 2))?;
        check::all_within("weights", &self.weights, -MAX_WEIGHT, MAX_WEIGHT)?;
        check::all_within("covariance", &self.covariance, -1e6, 1e6)?;
        check::within("start", self.start, 1e-3, 1e3)?;
        check::within("forgetting", self.forgetting, 0.5, 1.0)?;
        check::within("error", self.error, 0.0, CLIP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEATURES: usize = 7;

    /// A fixed sequence that looks random enough to excite every feature.
    fn features(step: u64) -> [f32; FEATURES] {
        let mut state = step.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        std::array::from_fn(|_| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).rotate_left(23);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        })
    }

    #[test]
    fn finds_the_weights_of_a_linear_law() {
        let law = [0.3, -0.5, 0.2, 0.0, 0.4, -0.1, 0.6];
        let mut rls = Rls::new(FEATURES, 300.0, 1.0);
        for step in 0..3_000 {
            let target = dot(&law, &features(step).map(f64::from));
            rls.learn(&features(step), target, 1.0);
        }
        for (found, truth) in rls.weights.iter().zip(law) {
            assert!((found - truth).abs() < 0.01, "{found} for {truth}");
        }
    }

    #[test]
    fn silence_does_not_wind_the_covariance_up() {
        let mut rls = Rls::new(FEATURES, 300.0, 1.0);
        (0..100_000).for_each(|_| rls.learn(&[0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 0.0, 1.0));
        let trace: f64 = (0..FEATURES).map(|index| rls.covariance[diagonal(index)]).sum();
        assert!(trace.is_finite() && trace <= MAX_TRACE * FEATURES as f64, "{trace}");
        assert_eq!(rls.predict(&[1.0; FEATURES]), 0.0);
    }
}
