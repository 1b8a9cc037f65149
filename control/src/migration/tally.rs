//! Whether one instance does worse than another, by more than chance allows.

use serde::{Deserialize, Serialize};

use crate::Meters;

/// A difference is believed where chance makes one like it in fewer than one of a thousand looks: the
/// steps of a migration are looked at many times.
const SIGNIFICANCE: f64 = 0.001;
/// Fewer bad answers are never a reason.
const LEAST_BAD: u64 = 3;
/// Terms of a tail that are added up; what follows them is below any rounding.
const MOST_TERMS: u64 = 10_000;

/// What was counted of one or more instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) failed: u64,
    pub(super) answers: u64,
    pub(super) late: u64,
}

impl Tally {
    pub(super) fn add(&mut self, meters: &Meters) {
        self.requests = self.requests.saturating_add(meters.requests);
        self.failed = self.failed.saturating_add(meters.failed());
        self.answers = self.answers.saturating_add(meters.latency.count);
        let late = meters.latency.over_objective.min(meters.latency.count);
        self.late = self.late.saturating_add(late);
    }

    pub(super) fn and(&self, other: &Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            failed: self.failed.saturating_add(other.failed),
            answers: self.answers.saturating_add(other.answers),
            late: self.late.saturating_add(other.late),
        }
    }

    /// Requests that came to an end, well or not: one that failed may have been counted as one asked of
    /// it in an earlier tick.
    pub(super) fn ended(&self) -> u64 {
        self.requests.max(self.failed)
    }
}

/// Whether `bad` of `all` are more than the share that is allowed, and more than `reference`'s of as many,
/// both by more than chance: the exact binomial test, and Fisher's exact test (Fisher 1935, "The logic of
/// inductive inference", J. R. Stat. Soc. 98, 39-82), one-sided. Without any reference only the first.
pub(super) fn is_worse(bad: u64, all: u64, allowed: f64, reference: (u64, u64)) -> bool {
    let (other_bad, other_all) = reference;
    bad >= LEAST_BAD
        && binomial_tail(bad, all, allowed) < SIGNIFICANCE
        && (other_all == 0 || fisher_tail(bad, all, other_bad, other_all) < SIGNIFICANCE)
}

/// `ln(n over k)`.
fn ln_choose(n: f64, k: f64) -> f64 {
    libm::lgamma(n + 1.0) - libm::lgamma(k + 1.0) - libm::lgamma(n - k + 1.0)
}

/// Probability of at least `bad` in `all` trials that each are bad with probability `share`.
fn binomial_tail(bad: u64, all: u64, share: f64) -> f64 {
    let bad = bad.min(all);
    if bad == 0 || share >= 1.0 || share.is_nan() {
        return 1.0;
    }
    if share <= 0.0 {
        return 0.0;
    }
    let (n, k) = (all as f64, bad as f64);
    if k <= n * share {
        return 1.0;
    }
    let ln_first = ln_choose(n, k) + k * libm::log(share) + (n - k) * libm::log1p(-share);
    let odds = share / (1.0 - share);
    sum_from(bad, all, ln_first, |k| (n - k) / (k + 1.0) * odds)
}

/// Probability that at least `bad` of the bad ones of both are among `all`, if it makes no difference
/// where they are.
fn fisher_tail(bad: u64, all: u64, other_bad: u64, other_all: u64) -> f64 {
    let (bad, other_bad) = (bad.min(all), other_bad.min(other_all));
    let (n, m) = (all as f64, other_all as f64);
    let (k, both) = (bad as f64, (bad + other_bad) as f64);
    if bad == 0 || k * (n + m) <= both * n {
        return 1.0;
    }
    let ln_first = ln_choose(n, k) + ln_choose(m, both - k) - ln_choose(n + m, both);
    let last = all.min(bad + other_bad);
    sum_from(bad, last, ln_first, |k| (n - k) * (both - k) / ((k + 1.0) * (m - both + k + 1.0)))
}

/// Adds up terms from the first on, each the one before times `ratio`.
fn sum_from(first: u64, last: u64, ln_first: f64, ratio: impl Fn(f64) -> f64) -> f64 {
    let mut term = libm::exp(ln_first);
    let mut sum = 0.0;
    for k in (first..=last).take(MOST_TERMS as usize) {
        sum += term;
        if term <= sum * 1e-12 {
            break;
        }
        term *= ratio(k as f64);
    }
    sum.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_are_those_of_the_literature() {
        // Fisher's lady tasting tea: all four right, and three or more.
        assert!((fisher_tail(4, 4, 0, 4) - 1.0 / 70.0).abs() < 1e-9);
        assert!((fisher_tail(3, 4, 1, 4) - 17.0 / 70.0).abs() < 1e-9);
        // Ten tosses of a coin, eight heads or more: 56 of 1024.
        assert!((binomial_tail(8, 10, 0.5) - 56.0 / 1024.0).abs() < 1e-9);
    }

    #[test]
    fn what_all_do_alike_is_nobodys_fault_and_few_say_nothing() {
        assert!(!is_worse(50, 1_000, 0.001, (500, 10_000)));
        assert!(!is_worse(2, 2, 0.001, (0, 10_000)));
        assert!(!is_worse(3, 1_000, 0.01, (0, 10_000)), "within what is allowed");
        assert!(is_worse(5, 5, 0.001, (0, 1_000)));
        assert!(is_worse(20, 1_000, 0.001, (10, 10_000)));
        assert!(is_worse(9, 300, 0.0, (0, 0)), "without anybody to compare with");
    }

    #[test]
    fn absurd_counts_are_survived() {
        for (bad, all, share, reference) in [
            (u64::MAX, u64::MAX, 0.5, (u64::MAX / 2, u64::MAX / 2)),
            (10, 5, f64::NAN, (7, 3)),
            (10, 10, f64::INFINITY, (0, 1)),
        ] {
            is_worse(bad / 4, all / 4, share, (reference.0 / 4, reference.1 / 4));
            let tail = binomial_tail(bad, all, share);
            assert!((0.0..=1.0).contains(&tail) || tail.is_nan());
        }
    }
}
