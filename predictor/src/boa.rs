//! Online aggregation that settles on what is best in the long run.

use serde::{Deserialize, Serialize};

use crate::check::{self, Checked};
use crate::math::exp_neg;
use crate::touch::touch;

/// What regrets and their variances lose per truth: about two thousand truths are remembered.
const FADE: f32 = 1.0 / 2_000.0;
/// Share of the weight that is handed out evenly.
const SHARE: f32 = 0.005;
/// Largest learning rate, per unit of the largest regret.
const MAX_ETA: f64 = 0.5;
/// After this many truths weights change little with each, and are worked out anew only now and then.
const SETTLED_TRUTHS: u32 = 1_500;
const WEIGH_EVERY: u32 = 4;
/// An exponent this far behind has no weight beside the even share.
const NEGLIGIBLE: f64 = 20.0;
/// Nothing saves, or costs, more than this many ordinary errors at once.
const MOST_SAVED: f64 = 30.0;
/// Logarithm of the number of experts, about: it stands under a root.
const LOG_EXPERTS: f64 = 2.5;
/// Truths of this share of a horizon in a row err together: the targets of two predictions overlap,
/// or lie close, and the regime is the same.
const TOGETHER: f64 = 0.5;

/// Bernstein online aggregation (Wintenberger 2017, "Optimal learning with Bernstein online
/// aggregation", Machine Learning 106), with discounting and delay:
///
/// ```text
/// r_i   what following expert i instead of the mix would have saved, in ordinary errors
/// R_i <- (1 - f) R_i + r_i      V_i <- (1 - f) V_i, + (sum of r_i over a block)^2 at its end
/// eta_i = min(1 / (2 max r_i), sqrt(ln n / V_i))
/// w_i  = p_i eta_i exp(eta_i (R_i - eta_i V_i)), scaled to sum 1, a little shared evenly
/// ```
///
/// Each expert has its own rate, which falls as evidence gathers; `p` is what was believed before any.
/// Truths that wait at once may err together, so that many of them say no more than one: what would
/// make the variance of a sum of them is measured, by blocks of half of those waiting, rather than
/// assumed to be the worst (compare Flaspohler et al. 2021, "Online Learning with Optimism and Delay",
/// ICML, whose rates follow the sums of delayed regrets too).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Boa {
    records: Vec<Record>,
    /// Truths in a block, and how many of the current one have come.
    block: u32,
    in_block: u32,
    truths: u32,
}

/// What following one expert instead of the mix would have saved, in ordinary errors.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Record {
    weight: f32,
    /// The weight before any truth.
    start: f32,
    regret: f32,
    variance: f32,
    /// The regret of this block.
    together: f32,
    /// Largest of late.
    range: f32,
}

impl Boa {
    /// `start` are the weights before any truth, positive and summing to 1; `delay` predictions wait
    /// at once.
    pub(crate) fn new(start: &[f64], delay: f64) -> Self {
        let record = |weight: &f64| Record {
            weight: *weight as f32,
            start: *weight as f32,
            ..Record::default()
        };
        let block = (TOGETHER * delay).max(1.0) as u32;
        Self { records: start.iter().map(record).collect(), block, in_block: 0, truths: 0 }
    }

    pub(crate) fn weights(&self) -> impl Iterator<Item = f64> {
        self.records.iter().map(|record| f64::from(record.weight))
    }

    /// See [`touch`].
    pub(crate) fn touch(&self) {
        touch(&self.records, |record| record.weight);
    }

    /// Truths so far.
    pub(crate) fn truths(&self) -> u32 {
        self.truths
    }

    /// Heap memory, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.records)
    }

    /// Learns from a truth what each expert would have saved, in ordinary errors: [`slope_saved`] or
    /// [`loss_saved`] of the absolute error, or the like of another loss.
    pub(crate) fn learn(&mut self, saved: impl Iterator<Item = f64>) {
        self.in_block += 1;
        let block_ends = self.in_block >= self.block;
        for (record, saved) in self.records.iter_mut().zip(saved) {
            let saved = saved.clamp(-MOST_SAVED, MOST_SAVED) as f32;
            record.regret += saved - FADE * record.regret;
            record.variance -= FADE * record.variance;
            record.together += saved;
            if block_ends {
                record.variance += record.together * record.together;
                record.together = 0.0;
            }
            record.range = saved.abs().max(record.range * (1.0 - FADE)).max(1e-9);
        }
        if block_ends {
            self.in_block = 0;
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
            let together = f64::from(record.together);
            let variance = f64::from(record.variance);
            let eta = (LOG_EXPERTS / (variance + together * together).max(1e-18)).sqrt();
            let eta = eta.min(MAX_ETA / f64::from(record.range));
            record.weight = record.start * eta as f32;
            *exponent = eta * (f64::from(record.regret) - eta * variance);
            highest = highest.max(*exponent);
        }
        let mut total = 0.0;
        for (record, exponent) in self.records.iter_mut().zip(exponents) {
            let behind = highest - exponent;
            record.weight *= if behind < NEGLIGIBLE { exp_neg(behind) as f32 } else { 0.0 };
            total += record.weight;
        }
        let (scale, uniform) = ((1.0 - SHARE) / total, SHARE / self.records.len() as f32);
        let scaled = |record: &mut Record| record.weight = record.weight * scale + uniform;
        self.records.iter_mut().for_each(scaled);
    }
}

/// What `prediction` would have saved by the gradient of a loss at `mix`, whose slope there is
/// `per_unit`. Regret against the *gradient* makes weights tend to the best convex combination, not
/// only to the best expert.
pub(crate) fn slope_saved(mix: f64, prediction: f64, per_unit: f64) -> f64 {
    per_unit * (mix - prediction)
}

/// What `prediction` would have saved of the absolute error of `mix`, times `per_unit`. Regret against
/// the *loss* makes weights tend to the best expert.
pub(crate) fn loss_saved(mix: f64, prediction: f64, truth: f64, per_unit: f64) -> f64 {
    per_unit * ((mix - truth).abs() - (prediction - truth).abs())
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
            let Record { regret, variance, together, range, start, .. } = record;
            check::within("regret", f64::from(*regret), -1e6, 1e6)?;
            check::within("variance", f64::from(*variance), 0.0, 1e12)?;
            check::within("together", f64::from(*together), -1e6, 1e6)?;
            check::within("range", f64::from(*range), 0.0, MOST_SAVED)?;
            check::within("start", f64::from(*start), 1e-6, 1.0)?;
        }
        check::count("block", u64::from(self.block), 1, check::MOST_STEPS)?;
        check::count("in_block", u64::from(self.in_block), 0, u64::from(self.block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mix(boa: &Boa, predictions: &[f32]) -> f64 {
        boa.weights().zip(predictions).map(|(w, p)| w * f64::from(*p)).sum()
    }

    fn even(experts: usize) -> Vec<f64> {
        vec![1.0 / experts as f64; experts]
    }

    #[test]
    fn finds_the_combination_that_beats_every_expert() {
        // The truth lies a third of the way between two experts; a third one is useless.
        let mut boa = Boa::new(&even(3), 1.0);
        let mut last = 0.0;
        for step in 0..4_000_u32 {
            let truth = f64::from(step % 7);
            let predictions = [truth as f32 + 2.0, truth as f32 - 1.0, 50.0];
            let now = mix(&boa, &predictions);
            last = now - truth;
            let slope = absolute_slope(last, 0.0, 1.0);
            boa.learn(predictions.iter().map(|p| slope_saved(now, f64::from(*p), slope)));
        }
        assert!(last.abs() < 0.4, "{last} off with {boa:?}");
    }

    #[test]
    fn settles_on_the_best_expert_by_losses_sooner_where_truths_are_independent() {
        let truths_until_settled = |alike: u32| {
            let mut boa = Boa::new(&even(2), 64.0);
            (0..10_000_u32).position(|step| {
                // The better one is so by a little, and worse one time in three.
                let luck = if (step / alike).is_multiple_of(3) { -1.0 } else { 1.0 };
                boa.learn([luck, -luck].into_iter());
                boa.weights().next().is_some_and(|weight| weight > 0.9)
            })
        };
        let (alone, together) = (truths_until_settled(1), truths_until_settled(32));
        assert!(alone.zip(together).is_some_and(|(a, t)| 2 * a < t), "{alone:?} {together:?}");
    }

    #[test]
    fn weights_stay_a_distribution_whatever_comes() {
        let mut boa = Boa::new(&[0.2, 0.7, 0.1], 64.0);
        for predictions in [[0.0, 0.0, 0.0], [1e9, 0.0, 1e-30], [5.0, 5.0, 5.0]] {
            for truth in [0.0, 1e9, 3.0] {
                for _ in 0..500 {
                    let now = mix(&boa, &predictions);
                    let saved = |p: &f32| loss_saved(now, f64::from(*p), truth, 1e6);
                    boa.learn(predictions.iter().map(saved));
                }
                let sum: f64 = boa.weights().sum();
                assert!((sum - 1.0).abs() < 1e-6 && boa.weights().all(|w| w > 0.0));
            }
        }
    }
}
