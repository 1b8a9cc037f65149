//! The probability that a try fails, from what was seen and what is assumed before.

use serde::{Deserialize, Serialize};

/// What is assumed before anything was seen, as tries that failed and that worked: one of twenty fails, and
/// two real tries weigh as much as the assumption.
const PRIOR_FAILED: f64 = 0.1;
const PRIOR_WORKED: f64 = 1.9;
/// Each further try leaves this part of the earlier ones: about the last twenty count.
const KEPT_PER_TRY: f64 = 0.95;
/// Of a failure so little is left that nothing is made of it any more.
const FORGOTTEN: f64 = 0.05;
/// A place that fails more often than three times of four is not waited for longer.
const MOST_TRIES: f64 = 4.0;

/// Tries and their outcomes, the older ones counted less: a Beta-binomial model with exponential forgetting
/// (West and Harrison 1997, *Bayesian Forecasting and Dynamic Models*, section 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Tries {
    worked: f64,
    failed: f64,
}

impl Tries {
    /// Takes one outcome.
    pub(crate) fn learn(&mut self, failed: bool) {
        self.age(KEPT_PER_TRY);
        if failed {
            self.failed += 1.0;
        } else {
            self.worked += 1.0;
        }
    }

    /// Leaves a part of what was seen, 0 to 1.
    pub(crate) fn age(&mut self, part: f64) {
        self.worked *= part;
        self.failed *= part;
    }

    /// Tries that still count.
    pub(crate) fn count(&self) -> f64 {
        self.worked + self.failed
    }

    /// Of those, failures.
    pub(crate) fn failures(&self) -> f64 {
        self.failed
    }

    /// Whether a failure is remembered; until then nothing is decided otherwise than without learning.
    pub(crate) fn tells(&self) -> bool {
        self.failed >= FORGOTTEN
    }

    /// The mean probability that the next one fails.
    pub(crate) fn fails(&self) -> f64 {
        let failed = self.failed + PRIOR_FAILED;
        failed / (failed + self.worked + PRIOR_WORKED)
    }

    /// The probability of failing that it is at least, with this certainty, 0 to 1.
    pub(crate) fn fails_at_least(&self, certainty: f64) -> f64 {
        beta_quantile(1.0 - certainty, self.failed + PRIOR_FAILED, self.worked + PRIOR_WORKED)
    }

    /// The probability of failing that it is at most, with this certainty, 0 to 1.
    pub(crate) fn fails_at_most(&self, certainty: f64) -> f64 {
        beta_quantile(certainty, self.failed + PRIOR_FAILED, self.worked + PRIOR_WORKED)
    }

    /// Tries until one works, expected: 1 to 4, and 1 where no failure is remembered.
    pub(crate) fn expected(&self) -> f64 {
        if !self.tells() {
            return 1.0;
        }
        (1.0 / (1.0 - self.fails())).clamp(1.0, MOST_TRIES)
    }

    /// How many must be tried so that at least `wanted` work with probability `sure`, at most twice as many.
    pub(crate) fn tries_for(&self, wanted: u32, sure: f64) -> u32 {
        if wanted == 0 || !self.tells() {
            return wanted;
        }
        let most = wanted.saturating_mul(2);
        (wanted..most).find(|tries| self.at_least(*tries, wanted) >= sure).unwrap_or(most)
    }

    /// The probability that at least `wanted` of `tries` work: a binomial tail at the mean.
    fn at_least(&self, tries: u32, wanted: u32) -> f64 {
        let fails = self.fails();
        let works = 1.0 - fails;
        // From all of them down; each term from the one before.
        let mut term = libm::pow(works, f64::from(tries));
        let mut sum = 0.0;
        for failed in 0..=tries.saturating_sub(wanted) {
            sum += term;
            term *= f64::from(tries - failed) / f64::from(failed + 1) * fails / works;
        }
        sum
    }
}

/// The value below which a Beta(a, b) variable falls with probability `level`, by bisection.
fn beta_quantile(level: f64, a: f64, b: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if beta_below(middle, a, b) < level { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// The regularised incomplete beta function, by its continued fraction (DLMF 8.17.22) evaluated as Lentz
/// (1976) does.
fn beta_below(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - beta_below(1.0 - x, b, a);
    }
    let front = libm::exp(
        libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b)
            + a * libm::log(x)
            + b * libm::log1p(-x),
    ) / a;
    let apart = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let mut d = 1.0 / apart(1.0 - (a + b) * x / (a + 1.0));
    let mut c = 1.0;
    let mut fraction = d;
    for m in 1..200 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        for term in [even, odd] {
            d = 1.0 / apart(1.0 + term * d);
            c = apart(1.0 + term / c);
            fraction *= c * d;
        }
        if (c * d - 1.0).abs() < 1e-12 {
            break;
        }
    }
    (front * fraction).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(outcomes: &[bool]) -> Tries {
        let mut tries = Tries::default();
        outcomes.iter().for_each(|failed| tries.learn(*failed));
        tries
    }

    #[test]
    fn quantiles_are_those_of_tables() {
        // Beta(1, 1) is uniform; Beta(2, 3) below 0.5: 11/16; the median of Beta(0.5, 0.5) is 1/2.
        assert!((beta_quantile(0.25, 1.0, 1.0) - 0.25).abs() < 1e-9);
        assert!((beta_below(0.5, 2.0, 3.0) - 11.0 / 16.0).abs() < 1e-12);
        assert!((beta_quantile(0.5, 0.5, 0.5) - 0.5).abs() < 1e-9);
        assert!((beta_below(0.9, 20.0, 2.0) - 0.3647).abs() < 1e-3);
    }

    #[test]
    fn nothing_seen_and_nothing_failed_change_nothing() {
        for tries in [Tries::default(), seen(&[false; 50])] {
            assert_eq!((tries.expected(), tries.tries_for(3, 0.99)), (1.0, 3));
        }
    }

    #[test]
    fn a_place_that_fails_two_of_five_is_asked_for_more_and_for_longer() {
        let tries = seen(&[false, true, false, true, false].repeat(8));
        assert!((0.35..0.45).contains(&tries.fails()), "{tries:?}");
        assert!((1.5..1.8).contains(&tries.expected()), "{tries:?}");
        assert!(tries.fails_at_least(0.9) < 0.4 && tries.fails_at_most(0.9) > 0.4);
        // At 0.6 each: of two tries at least one works with 0.84, of three with 0.936.
        assert_eq!((tries.tries_for(1, 0.8), tries.tries_for(1, 0.99)), (2, 2), "twice at most");
        assert!((tries.at_least(2, 1) - (1.0 - tries.fails() * tries.fails())).abs() < 1e-12);
    }

    #[test]
    fn what_failed_always_is_not_waited_for_without_end_and_is_forgotten() {
        let mut tries = seen(&[true; 100]);
        assert_eq!(tries.expected(), MOST_TRIES);
        assert!(tries.count() < 20.1, "bounded: {tries:?}");
        tries.age(0.002);
        assert_eq!(tries.expected(), 1.0);
    }
}
