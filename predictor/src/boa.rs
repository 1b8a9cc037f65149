//! Online aggregation that settles on what is best in the long run.

use serde::{Deserialize, Serialize};

use crate::check::{self, Checked};
use crate::math::exp_neg;

/// What regrets and their variances lose per truth: about two thousand truths are remembered.
const FADE: f32 = 1.0 / 2_000.0;
/// Share of the weight that is handed out evenly.
const SHARE: f64 = 0.005;
/// Largest learning rate, per unit of the largest regret.
const MAX_ETA: f64 = 0.5;
/// After this many truths weights change little with each, and are worked out anew only now and then.
const SETTLED_TRUTHS: u64 = 1_500;
const WEIGH_EVERY: u64 = 4;
/// An exponent this far behind has no weight beside the even share.
const NEGLIGIBLE: f64 = 20.0;
/// Nothing saves, or costs, more than this many ordinary errors at once.
const MOST_SAVED: f64 = 8.0;
/// Logarithm of the number of experts, about: it stands under a root.
const LOG_EXPERTS: f64 = 2.5;

/// Bernstein online aggregation (Wintenberger 2017, "Optimal learning with Bernstein online
/// aggregation", Machine Learning 106) of the gradient of the absolute loss, with discounting:
///
/// ```text
/// g   = slope of the loss at mix; of the absolute loss: sign(mix - truth)
/// r_i = g (mix - prediction_i) / ordinary error     what expert i would have saved
/// R_i <- (1 - f) R_i + r_i      V_i <- (1 - f) V_i + r_i^2
/// eta_i = min(1 / (2 max r_i), sqrt(ln n / (delay V_i)))
/// w_i  = eta_i exp(eta_i (R_i - eta_i V_i)), scaled to sum 1, a little shared evenly
/// ```
///
/// Regret against the *gradient* makes the weights tend to the best convex combination, not only to
/// the best expert. Each expert has its own rate, which falls as evidence gathers; `delay`, the
/// predictions waiting at once, keeps truths that err together from counting as many.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Boa {
    records: Vec<Record>,
    delay: f64,
    truths: u64,
}

/// What following one expert instead of the mix would have saved, in ordinary errors.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Record {
    weight: f64,
    regret: f32,
    variance: f32,
    /// Largest of late.
    range: f32,
}

impl Boa {
    pub(crate) fn new(experts: usize, delay: f64) -> Self {
        let even = Record { weight: 1.0 / experts as f64, ..Record::default() };
        Self { records: vec![even; experts], delay: delay.max(1.0), truths: 0 }
    }

    pub(crate) fn weights(&self) -> impl Iterator<Item = f64> {
        self.records.iter().map(|record| record.weight)
    }

    /// Heap memory, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.records)
    }

    /// Learns from a truth; `mix` is what these weights make of the predictions, `slope` the slope
    /// there of the loss, `scale` the size of an ordinary error and positive.
    pub(crate) fn learn(&mut self, predictions: &[f32], mix: f64, slope: f64, scale: f64) {
        let per_unit = slope / scale;
        for (record, prediction) in self.records.iter_mut().zip(predictions) {
            let saved = per_unit * (mix - f64::from(*prediction));
            let saved = saved.clamp(-MOST_SAVED, MOST_SAVED) as f32;
            record.regret += saved - FADE * record.regret;
            record.variance += saved * saved - FADE * record.variance;
            record.range = saved.abs().max(record.range * (1.0 - FADE)).max(1e-9);
        }
        self.truths = self.truths.saturating_add(1);
        if self.truths < SETTLED_TRUTHS || self.truths.is_multiple_of(WEIGH_EVERY) {
            self.weigh();
        }
    }

    fn weigh(&mut self) {
        let mut highest = f64::NEG_INFINITY;
        let mut exponents = [0.0; MAX_EXPERTS];
        for (record, exponent) in self.records.iter_mut().zip(&mut exponents) {
            let variance = f64::from(record.variance);
            let eta = (LOG_EXPERTS / (self.delay * variance).max(1e-18)).sqrt();
            let eta = eta.min(MAX_ETA / f64::from(record.range));
            record.weight = eta;
            *exponent = eta * (f64::from(record.regret) - eta * variance);
            highest = highest.max(*exponent);
        }
        let mut total = 0.0;
        for (record, exponent) in self.records.iter_mut().zip(exponents) {
            let behind = highest - exponent;
            record.weight *= if behind < NEGLIGIBLE { exp_neg(behind) } else { 0.0 };
            total += record.weight;
        }
        let (scale, uniform) = ((1.0 - SHARE) / total, SHARE / self.records.len() as f64);
        let scaled = |record: &mut Record| record.weight = record.weight * scale + uniform;
        self.records.iter_mut().for_each(scaled);
    }
}

/// Slope of the absolute error of `mix`, straight through zero within a quarter of `scale`.
pub(crate) fn absolute_slope(mix: f64, truth: f64, scale: f64) -> f64 {
    ((mix - truth) / (0.25 * scale)).clamp(-1.0, 1.0)
}

/// Most experts a series can have.
pub(crate) const MAX_EXPERTS: usize = 24;

impl Boa {
    pub(crate) fn check(&self, experts: usize) -> Checked {
        check::same("records.len", &self.records.len(), &experts)?;
        let weights: Vec<f64> = self.weights().collect();
        check::all_within("weights", &weights, 0.0, 1.0)?;
        check::within("the sum of weights", weights.iter().sum(), 0.999, 1.001)?;
        for record in &self.records {
            let Record { regret, variance, range, .. } = record;
            check::within("regret", f64::from(*regret), -1e6, 1e6)?;
            check::within("variance", f64::from(*variance), 0.0, 1e6)?;
            check::within("range", f64::from(*range), 0.0, MOST_SAVED)?;
        }
        check::within("delay", self.delay, 1.0, check::MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mix(boa: &Boa, predictions: &[f32]) -> f64 {
        boa.weights().zip(predictions).map(|(w, p)| w * f64::from(*p)).sum()
    }

    #[test]
    fn finds_the_combination_that_beats_every_expert() {
        // The truth lies a third of the way between two experts; a third one is useless.
        let mut boa = Boa::new(3, 1.0);
        let mut last = 0.0;
        for step in 0..4_000_u32 {
            let truth = f64::from(step % 7);
            let predictions = [truth as f32 + 2.0, truth as f32 - 1.0, 50.0];
            last = mix(&boa, &predictions) - truth;
            boa.learn(&predictions, truth + last, absolute_slope(last, 0.0, 1.0), 1.0);
        }
        assert!(last.abs() < 0.4, "{last} off with {boa:?}");
    }

    #[test]
    fn weights_stay_a_distribution_whatever_comes() {
        let mut boa = Boa::new(3, 64.0);
        for predictions in [[0.0, 0.0, 0.0], [1e9, 0.0, 1e-30], [5.0, 5.0, 5.0]] {
            for truth in [0.0, 1e9, 3.0] {
                (0..500).for_each(|_| {
                    boa.learn(&predictions, mix(&boa.clone(), &predictions), truth, 1e-6)
                });
                let sum: f64 = boa.weights().sum();
                assert!((sum - 1.0).abs() < 1e-9 && boa.weights().all(|w| w > 0.0));
            }
        }
    }
}
