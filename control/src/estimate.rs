//! A positive quantity known with an uncertainty, as a distribution over the cells of a grid of its
//! logarithm.

use serde::{Deserialize, Serialize};

const CELLS: usize = 80;
/// Width of a cell.
const STEP: f64 = 0.04;
/// Part of the cells that is below what the grid is centred on.
const BELOW: f64 = 0.4;
/// Ends of an interval of 95 %, of one standard deviation either way, and the median between.
const QUANTILES: [f64; 5] = [0.025, 0.16, 0.5, 0.84, 0.975];

/// Growth of the variance of what was taken to begin with, per second.
const DRIFT_VARIANCE_PER_S: f64 = 0.0002;
/// What was taken to begin with never gets so vague that it says nothing.
const MAX_VARIANCE: f64 = 0.49;

/// Seconds after which a measurement counts for 1/e of what it did.
const MEMORY_S: f64 = 120.0;
/// With a smaller relative standard error an estimate is used as such, up to the larger one it stays so:
/// what is decided would else change with every second measurement.
const IDENTIFIED: f64 = 0.25;
const STILL_IDENTIFIED: f64 = 0.32;
/// With a larger one it says no more than what is excluded.
const VAGUE: f64 = 0.4;
/// Most that all measurements together say against a cell: so few that agree are heard over many that
/// do not, once the quantity has changed.
const MOST_MISFIT: f32 = 8.0;
/// Most that one of them says: one in twenty is taken to be of something else.
const MOST_OF_ONE: f64 = 3.0;
/// Degrees of freedom of Student's distribution, as which measurements are taken to scatter: far
/// strays are part of the trade and say little.
const STRAY: f64 = 10.0;
/// The same of what the quantity was taken to be, at which the density is a square: a beginning at a
/// thousandth of the truth must not count as knowledge.
const PRIOR_FREEDOM: f64 = 3.0;
/// Beyond a limit by more of its errors than these all is equally unlikely.
const MOST_DEVIATIONS: f64 = 6.0;

/// A positive quantity: what it was taken to be, and what measurements say since.
///
/// Most measurements only exclude small values. So the excluded stays on record, cell by cell, and is
/// not refitted into mean and variance: that would forget what was excluded, cut it off again with
/// the next measurement, and climb for ever. Likewise time brings back what was taken to begin with
/// rather than widening what is believed in both directions: log-likelihoods fade, the prior stays
/// (stabilised forgetting: Kulhavy and Zarrop 1993, "On a general concept of forgetting",
/// International Journal of Control 58(4)).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Estimate {
    /// The logarithm as it was taken to be, and its variance.
    ln: f64,
    variance: f64,
    /// The logarithm is at most this, give or take an error.
    #[serde(default)]
    ceiling: Option<(f64, f64)>,
    #[serde(default)]
    told: Option<Told>,
    #[serde(default)]
    identified: bool,
}

/// What measurements say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Told {
    /// Lower edge of the first cell.
    low: f64,
    /// What speaks against each cell: minus its log-likelihood, relative to the likeliest.
    misfits: Vec<f32>,
    /// Quantiles of the logarithm by all that is known.
    quantiles: [f64; QUANTILES.len()],
}

impl Estimate {
    /// What it is taken to be before any measurement, with the relative standard error.
    pub(crate) fn new(value: f64, error: f64) -> Self {
        Self {
            ln: ln(value),
            variance: error * error,
            ceiling: None,
            told: None,
            identified: error < IDENTIFIED,
        }
    }

    /// A measurement, with its relative standard error.
    pub(crate) fn update(&mut self, value: f64, error: f64) {
        let ln = ln(value);
        let told = self.told();
        if !(told.low + 3.0 * STEP..told.low + STEP * (CELLS - 3) as f64).contains(&ln) {
            told.centre_on(ln);
        }
        told.add(|low, high| {
            let residual = (ln - ln.clamp(low, high)) / error;
            0.5 * residual * residual
        });
        self.conclude();
    }

    /// A measurement of something that depends on the quantity and falls with it:
    /// `expected(value)` should have been `measured`, give or take `error`; the quantity is above
    /// `least`. A cell fits as well as the best of its values: where `expected` is steep, all that
    /// was measured would else fall between two values.
    pub(crate) fn update_through(
        &mut self,
        measured: f64,
        error: f64,
        least: f64,
        expected: impl Fn(f64) -> f64,
    ) {
        let least = ln(least);
        let told = self.told();
        let mut at_low = expected(libm::exp(told.low));
        told.add(|_, high| {
            let at_high = expected(libm::exp(high));
            let nearest = measured.max(at_low.min(at_high)).min(at_low.max(at_high));
            at_low = at_high;
            let residual = (nearest - measured) / error;
            let misfit = f64::midpoint(STRAY, 1.0) * libm::log1p(residual * residual / STRAY);
            if high > least { misfit.min(MOST_OF_ONE) } else { MOST_OF_ONE }
        });
        self.conclude();
    }

    /// It is at most `limit`, with a relative standard error. Replaces what was said so before.
    pub(crate) fn bound(&mut self, limit: f64, error: f64) {
        self.ceiling = Some((ln(limit), error));
        self.told();
        self.conclude();
    }

    /// Time passes.
    pub(crate) fn age(&mut self, elapsed_s: f64) {
        self.variance =
            (self.variance + DRIFT_VARIANCE_PER_S * elapsed_s).min(MAX_VARIANCE.max(self.variance));
        if let Some(told) = &mut self.told {
            told.fade(libm::exp(-elapsed_s / MEMORY_S));
            self.conclude();
        }
    }

    /// The quantity is now `factor` of what it was, give or take the relative `error`.
    pub(crate) fn scale(&mut self, factor: f64, error: f64) {
        let by = libm::log(factor);
        let variance = self.error() * self.error();
        self.ln += by;
        self.variance = (self.variance + error * error).min(MAX_VARIANCE.max(self.variance));
        self.ceiling = None;
        if let Some(told) = &mut self.told {
            told.low += by;
            told.fade(variance / (variance + error * error));
            self.conclude();
        }
    }

    fn quantile(&self, at: usize) -> f64 {
        let deviations = [-2.0, -1.0, 0.0, 1.0, 2.0];
        match &self.told {
            Some(told) => told.quantiles[at],
            None => self.ln + deviations[at] * self.variance.sqrt(),
        }
    }

    /// The median.
    pub(crate) fn value(&self) -> f64 {
        libm::exp(self.quantile(2))
    }

    /// Standard error of the logarithm.
    pub(crate) fn error(&self) -> f64 {
        f64::midpoint(self.quantile(3), -self.quantile(1))
    }

    /// Whether it is known well enough to be used as it is.
    pub(crate) fn is_identified(&self) -> bool {
        self.identified
    }

    /// How much of what is decided may rest on it, from 0, where it only says what is excluded, to 1.
    pub(crate) fn known_part(&self) -> f64 {
        ((VAGUE - self.error()) / (VAGUE - IDENTIFIED)).clamp(0.0, 1.0)
    }

    /// Lower end of the 95 % interval, what is wrong with all measurements counted in.
    pub(crate) fn lower(&self, systematic: f64) -> f64 {
        let own = self.quantile(2) - self.quantile(0);
        libm::exp(self.quantile(2) - libm::hypot(own, 2.0 * systematic))
    }

    /// Upper end of the 95 % interval, likewise.
    pub(crate) fn upper(&self, systematic: f64) -> f64 {
        let own = self.quantile(4) - self.quantile(2);
        libm::exp(self.quantile(2) + libm::hypot(own, 2.0 * systematic))
    }

    fn told(&mut self) -> &mut Told {
        let ln = self.ln;
        self.told.get_or_insert_with(|| Told {
            low: ln - BELOW * STEP * CELLS as f64,
            misfits: vec![0.0; CELLS],
            quantiles: [ln; QUANTILES.len()],
        })
    }

    /// Density of a logarithm by what is known besides measurements: what it was taken to be, and what
    /// it is at most.
    fn prior(&self, ln: f64) -> f64 {
        let surprise = 1.0 + (ln - self.ln) * (ln - self.ln) / (self.variance * PRIOR_FREEDOM);
        let beyond = self.ceiling.map_or(0.0, |(most, error)| (ln - most).max(0.0) / error);
        let beyond = beyond.min(MOST_DEVIATIONS);
        let within = if beyond > 0.0 { libm::exp(-0.5 * beyond * beyond) } else { 1.0 };
        within / (surprise * surprise)
    }

    fn conclude(&mut self) {
        let Some(mut told) = self.told.take() else { return };
        told.conclude(|ln| self.prior(ln));
        self.told = Some(told);
        let most = if self.identified { STILL_IDENTIFIED } else { IDENTIFIED };
        self.identified = self.error() < most;
    }
}

impl Told {
    /// Adds what a measurement says against the values between two logarithms, for each cell.
    fn add(&mut self, mut misfit: impl FnMut(f64, f64) -> f64) {
        let mut edge = self.low;
        for told in &mut self.misfits {
            let high = edge + STEP;
            *told += misfit(edge, high) as f32;
            edge = high;
        }
        let least = self.misfits.iter().copied().fold(f32::INFINITY, f32::min);
        self.misfits.iter_mut().for_each(|told| *told = (*told - least).min(MOST_MISFIT));
    }

    fn fade(&mut self, keep: f64) {
        self.misfits.iter_mut().for_each(|told| *told *= keep as f32);
    }

    /// Moves the grid; beyond its ends all is taken to be like there.
    fn centre_on(&mut self, ln: f64) {
        let by = ((ln - self.low) / STEP - BELOW * CELLS as f64).round();
        if by == 0.0 || !by.is_finite() {
            return;
        }
        self.low += by * STEP;
        let last = self.misfits.len().saturating_sub(1);
        let from = |cell: usize| (cell as f64 + by).clamp(0.0, last as f64) as usize;
        if by > 0.0 {
            (0..=last).for_each(|cell| self.misfits[cell] = self.misfits[from(cell)]);
        } else {
            (0..=last).rev().for_each(|cell| self.misfits[cell] = self.misfits[from(cell)]);
        }
    }

    /// Multiplies with the prior and sums up.
    fn conclude(&mut self, prior: impl Fn(f64) -> f64) {
        let mut masses = [0.0_f64; CELLS];
        for (cell, (mass, misfit)) in masses.iter_mut().zip(&self.misfits).enumerate() {
            let middle = self.low + STEP * (cell as f64 + 0.5);
            *mass = prior(middle) * libm::exp(-f64::from(*misfit));
        }
        let total: f64 = masses.iter().sum();
        let (mut at, mut below) = (0, 0.0);
        for (cell, mass) in masses.into_iter().enumerate() {
            while at < QUANTILES.len() && mass > 0.0 && below + mass >= QUANTILES[at] * total {
                let part = (QUANTILES[at] * total - below) / mass;
                self.quantiles[at] = self.low + STEP * (cell as f64 + part);
                at += 1;
            }
            below += mass;
        }
        let median = self.quantiles[2];
        if !(0.3..0.5).contains(&((median - self.low) / (STEP * CELLS as f64))) {
            self.centre_on(median);
        }
    }
}

fn ln(value: f64) -> f64 {
    libm::log(value.clamp(1e-6, 1e15))
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_narrow_it_and_time_widens_it() {
        let mut estimate = Estimate::new(100.0, 0.5);
        for _ in 0..20 {
            estimate.update(200.0, 0.2);
        }
        assert!((estimate.value() - 200.0).abs() < 10.0);
        let width = estimate.upper(0.0) / estimate.lower(0.0);
        assert!(width < 1.3);
        estimate.age(60.0);
        assert!(estimate.upper(0.0) / estimate.lower(0.0) > width);
    }

    #[test]
    fn a_measurement_of_a_function_is_traced_back() {
        let mut estimate = Estimate::new(300.0, 0.7);
        for _ in 0..10 {
            estimate.update_through(0.5, 0.02, 100.0, |value| 100.0 / value);
        }
        assert!((estimate.value() - 200.0).abs() < 5.0, "{}", estimate.value());
        assert!(estimate.error() < 0.05);
    }

    #[test]
    fn one_stray_measurement_does_not_jump_into_a_steep_corner() {
        let steep = |value: f64| 1.0 + libm::pow(value / 100.0, -12.0) / (1.0 - 99.0 / value);
        let mut estimate = Estimate::new(250.0, 0.7);
        estimate.update_through(1.1, 0.05, 100.0, steep);
        assert!(estimate.value() > 150.0, "{}", estimate.value());
        assert!(estimate.error() > 0.25, "{}", estimate.error());
    }

    #[test]
    fn what_is_not_smaller_may_still_be_much_larger() {
        // A wait that begins at 90 only: its absence excludes what is below and nothing above.
        let wait = |value: f64| 1.0 + libm::pow(90.0 / value, 12.0);
        let mut estimate = Estimate::new(150.0, 0.7);
        for _ in 0..30 {
            estimate.update_through(1.0, 0.05, 80.0, wait);
        }
        assert!(estimate.lower(0.0) > 80.0, "{estimate:?}");
        assert!(estimate.upper(0.0) > 300.0, "{estimate:?}");
        // Half as much again is there to be seen: the wait it would not cause.
        for _ in 0..30 {
            estimate.update_through(wait(110.0), 0.02, 80.0, wait);
        }
        assert!((0.8..1.25).contains(&(estimate.upper(0.0) / 130.0)), "{estimate:?}");
    }

    #[test]
    fn the_same_exclusion_again_and_again_moves_nothing() {
        let wait = |value: f64| 1.0 + libm::pow(90.0 / value, 12.0);
        let mut estimate = Estimate::new(150.0, 0.7);
        let mut after = |windows: u32| {
            for _ in 0..windows {
                estimate.age(1.5);
                estimate.update_through(1.0, 0.05, 80.0, wait);
            }
            (estimate.value(), estimate.is_identified())
        };
        let (soon, later) = (after(20), after(2_000));
        assert!((later.0 / soon.0 - 1.0).abs() < 0.05, "{soon:?} {later:?}");
        assert!(!soon.1 && !later.1, "what is only bounded is not known: {soon:?} {later:?}");
    }

    #[test]
    fn what_was_told_fades_to_what_it_was_taken_to_be() {
        let mut estimate = Estimate::new(100.0, 0.5);
        (0..20).for_each(|_| estimate.update(200.0, 0.1));
        assert!(estimate.is_identified(), "{estimate:?}");
        (0..60).for_each(|_| estimate.age(60.0));
        assert!((estimate.value() / 100.0 - 1.0).abs() < 0.1, "{estimate:?}");
        assert!(!estimate.is_identified(), "{estimate:?}");
    }

    #[test]
    fn a_quantity_that_changed_is_found_however_far_away() {
        let mut estimate = Estimate::new(100.0, 0.5);
        for value in [100.0, 3.0, 40_000.0, 900.0] {
            for _ in 0..30 {
                estimate.age(1.5);
                estimate.update(value, 0.1);
            }
            assert!((estimate.value() / value - 1.0).abs() < 0.05, "{value}: {estimate:?}");
        }
    }

    #[test]
    fn a_limit_holds_from_above_and_pulls_no_further() {
        let mut estimate = Estimate::new(300.0, 0.7);
        (0..100).for_each(|_| estimate.bound(200.0, 0.1));
        assert!(estimate.upper(0.0) < 250.0 && estimate.value() > 100.0, "{estimate:?}");
        estimate.bound(1e-3, 0.1);
        assert!(estimate.value().is_finite() && estimate.upper(0.0).is_finite(), "{estimate:?}");
    }

    #[test]
    fn scaling_moves_it_at_once() {
        let mut estimate = Estimate::new(100.0, 0.05);
        estimate.scale(0.5, 0.2);
        assert!((estimate.value() - 50.0).abs() < 1e-9);
    }
}
