//! One forecast out of many: weights that follow the experts' recent losses.

use serde::{Deserialize, Serialize};

use crate::check::{self, Checked};
use crate::math::exp_neg;

/// Learning rate, per unit of the bounded loss.
const ETA: f64 = 2.0;
/// Share of the weight that is handed out evenly at each truth.
const SHARE: f64 = 0.01;
/// Share of the weight that follows the next shorter horizon at each truth.
const HINT: f64 = 0.04;
/// Errors of this many scales and above are equally bad.
const WORST_SCALES: f64 = 4.0;
/// The scale is at least this much of the experts' mean error.
const USUAL_SHARE: f64 = 0.25;

/// Exponentially weighted experts with fixed share (Vovk 1990, "Aggregating Strategies"; Herbster
/// & Warmuth 1998, "Tracking the Best Expert", Machine Learning 32), `n` experts:
///
/// ```text
/// s      = max(scale, mean_j |error_j| / 4)
/// loss_i = min(1, (error_i / 4 s)^2)
/// v_i    = w_i exp(-eta loss_i) / sum_j w_j exp(-eta loss_j)
/// w_i    = (1 - a) ((1 - b) v_i + b q_i) + a / n
/// ```
///
/// - The bounded loss keeps one freak truth from deciding. Where all err far beyond the scale, as
///   when a ramp begins after a quiet hour, the mean error keeps the better apart from the worse.
/// - `q` are the weights of the next shorter horizon (the shortest has none, `b = 0`). A change of
///   regime shows at a short horizon first, since its truths come sooner; sharing towards it
///   lets the longer ones hear of it early. Least squares, the last expert, is another model at
///   each horizon and keeps its own weight.
/// - `a` is also the discount: no weight falls so low that it takes long to come back.
/// - `eta` is lower where many predictions wait at once, whose truths err together, and for
///   predictions that a jump of the level made wrong, since no one could know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hedge {
    weights: Vec<f64>,
    eta: f64,
}

impl Hedge {
    pub(crate) fn new(experts: usize, pace: f64) -> Self {
        Self { weights: vec![1.0 / experts as f64; experts], eta: ETA * pace }
    }

    /// The weighted mean of the experts' predictions.
    pub(crate) fn mix(&self, predictions: &[f64]) -> f64 {
        self.weights.iter().zip(predictions).map(|(weight, prediction)| weight * prediction).sum()
    }

    /// Weighted variance of the predictions around their mean: how much the experts disagree.
    pub(crate) fn spread(&self, predictions: &[f64], mean: f64) -> f64 {
        let departures = self.weights.iter().zip(predictions);
        departures
            .map(|(weight, prediction)| weight * (prediction - mean) * (prediction - mean))
            .sum()
    }

    pub(crate) fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// Learns from a truth; `scale` is the size of an ordinary error and positive, `trust`, from 0
    /// to 1, how much this truth says about the experts.
    pub(crate) fn learn(
        &mut self,
        predictions: &[f32],
        truth: f64,
        scale: f64,
        trust: f64,
        shorter: Option<&Hedge>,
    ) {
        let eta = self.eta * trust;
        let errors = predictions.iter().map(|prediction| (f64::from(*prediction) - truth).abs());
        let usual = errors.sum::<f64>() / predictions.len() as f64;
        let worst = WORST_SCALES * scale.max(USUAL_SHARE * usual);
        let mut total = 0.0;
        for (weight, prediction) in self.weights.iter_mut().zip(predictions) {
            let error = (f64::from(*prediction) - truth) / worst;
            *weight *= exp_neg(eta * (error * error).min(1.0));
            total += *weight;
        }
        // The total is never near zero: losses are at most 1, so it shrinks by at most exp(-ETA).
        self.weights.iter_mut().for_each(|weight| *weight /= total);
        self.share(shorter);
    }

    /// Moves towards what a shorter horizon has learned: all there is before the first truth.
    pub(crate) fn follow(&mut self, shorter: &Hedge) {
        self.share(Some(shorter));
    }

    fn share(&mut self, shorter: Option<&Hedge>) {
        let last = self.weights.len() - 1;
        let uniform = SHARE / self.weights.len() as f64;
        let own = self.weights[last];
        for (index, weight) in self.weights.iter_mut().enumerate() {
            let hinted = match shorter {
                Some(shorter) if index < last => {
                    let rest = (1.0 - own) / (1.0 - shorter.weights[last]);
                    (1.0 - HINT) * *weight + HINT * rest * shorter.weights[index]
                }
                _ => *weight,
            };
            *weight = (1.0 - SHARE) * hinted + uniform;
        }
    }
}

impl Hedge {
    pub(crate) fn check(&self, experts: usize) -> Checked {
        check::same("weights.len", &self.weights.len(), &experts)?;
        let least = 0.5 * SHARE / experts as f64;
        check::all_within("weights", &self.weights, least, 1.0)?;
        check::within("the sum of weights", self.weights.iter().sum(), 0.999, 1.001)?;
        check::within("eta", self.eta, 0.0, ETA)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_best_expert_and_changes_its_mind() {
        let mut hedge = Hedge::new(3, 1.0);
        (0..100).for_each(|_| hedge.learn(&[10.0, 14.0, 7.0], 10.0, 1.0, 1.0, None));
        assert!(hedge.weights()[0] > 0.9, "{:?}", hedge.weights());
        (0..20).for_each(|_| hedge.learn(&[10.0, 14.0, 7.0], 14.0, 1.0, 1.0, None));
        assert!(hedge.weights()[1] > 0.9, "{:?}", hedge.weights());
        assert!((hedge.weights().iter().sum::<f64>() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_longer_horizon_hears_of_a_change_from_the_shorter_one() {
        let (mut shorter, mut longer) = (Hedge::new(3, 1.0), Hedge::new(3, 1.0));
        (0..50).for_each(|_| shorter.learn(&[10.0, 14.0, 14.0], 10.0, 1.0, 1.0, None));
        (0..50).for_each(|_| longer.learn(&[10.0; 3], 10.0, 1.0, 1.0, Some(&shorter)));
        assert!(longer.weights()[0] > 0.5, "{:?}", longer.weights());
        assert!((longer.weights()[2] - 1.0 / 3.0).abs() < 1e-6, "least squares keeps its own");
    }

    #[test]
    fn no_loss_however_large_loses_an_expert_or_the_sum() {
        let mut hedge = Hedge::new(2, 1.0);
        (0..1_000).for_each(|_| hedge.learn(&[1e9, 0.0], 0.0, 1e-9, 1.0, None));
        assert!(hedge.weights()[0] >= SHARE / 4.0);
        assert!((hedge.mix(&[1.0, 1.0]) - 1.0).abs() < 1e-9);
    }
}
