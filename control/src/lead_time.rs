//! How long the provider needs from one tier to the next: the 90th percentile of what was seen.
//!
//! A step that failed after a while would have needed longer: what was seen of it is censored, and counts as
//! in the estimate of Kaplan and Meier (1958), "Nonparametric estimation from incomplete observations".

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::Tier;

/// Samples kept per step.
const SAMPLES: usize = 32;
/// No step is taken to be faster: the order goes out in one tick and its effect is seen in a later.
const LEAST_MS: u64 = 200;
/// A sample above this says that something was broken, not how long the step takes.
const LONGEST_MS: u64 = 3_600_000;

/// Lead times of every kind of step seen so far.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct LeadTimes {
    /// At most one entry per pair of tiers.
    steps: Vec<Step>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Step {
    from: Tier,
    to: Tier,
    /// The newest samples, oldest first.
    took_ms: VecDeque<u64>,
    /// Of steps that failed the times after which they did, the newest, oldest first.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    failed_after_ms: VecDeque<u64>,
}

impl LeadTimes {
    /// Of a place in which no step was seen.
    pub(crate) const NONE: Self = Self { steps: Vec::new() };

    /// Takes one sample.
    pub(crate) fn learn(&mut self, from: Tier, to: Tier, took_ms: u64) {
        if took_ms > LONGEST_MS || from == to {
            return;
        }
        let step = self.step(from, to);
        if step.took_ms.len() == SAMPLES {
            // Failures are not remembered for longer than the steps that were done among them.
            step.failed_after_ms.pop_front();
        }
        push(&mut step.took_ms, took_ms);
    }

    /// A step failed after so long: it would have taken longer.
    pub(crate) fn learn_failed(&mut self, from: Tier, to: Tier, after_ms: u64) {
        if after_ms > LONGEST_MS || from == to {
            return;
        }
        push(&mut self.step(from, to).failed_after_ms, after_ms);
    }

    /// Forgets the steps that failed.
    pub(crate) fn forget_failed(&mut self) {
        self.steps.iter_mut().for_each(|step| step.failed_after_ms.clear());
        self.steps.retain(|step| !step.took_ms.is_empty());
    }

    fn step(&mut self, from: Tier, to: Tier) -> &mut Step {
        let found = self.steps.iter().position(|s| s.from == from && s.to == to);
        let at = found.unwrap_or_else(|| {
            let (took_ms, failed_after_ms) = (VecDeque::new(), VecDeque::new());
            self.steps.push(Step { from, to, took_ms, failed_after_ms });
            self.steps.len() - 1
        });
        &mut self.steps[at]
    }

    /// The time to allow for a step; steps never seen whole are the sum of their parts.
    pub(crate) fn ms(&self, from: Tier, to: Tier) -> u64 {
        let waited_ms = |from, to| self.only_waited_ms(from, to);
        let seen = |from, to| {
            let waited = || waited_ms(from, to).map(|ms| ms.max(prior_ms(from)));
            self.percentile(from, to, 9).or_else(waited)
        };
        let whole = self.percentile(from, to, 9);
        let ms = whole.unwrap_or_else(|| by_parts(seen, from, to));
        ms.max(waited_ms(from, to).unwrap_or(0)).max(LEAST_MS)
    }

    /// The same of steps that were done only: after that an order that had no effect is given again.
    pub(crate) fn done_ms(&self, from: Tier, to: Tier) -> u64 {
        let seen = |from, to| self.find(from, to).and_then(|step| sorted_at(&step.took_ms, 9));
        seen(from, to).unwrap_or_else(|| by_parts(seen, from, to)).max(LEAST_MS)
    }

    /// So many tenths of the steps need no longer; none where none was done.
    pub(crate) fn percentile(&self, from: Tier, to: Tier, tenths: usize) -> Option<u64> {
        let step = self.find(from, to)?;
        if step.failed_after_ms.is_empty() || step.took_ms.is_empty() {
            return sorted_at(&step.took_ms, tenths);
        }
        Some(step.survivors_at(tenths))
    }

    /// Where every step failed nothing but how long they were waited for is known.
    fn only_waited_ms(&self, from: Tier, to: Tier) -> Option<u64> {
        let step = self.find(from, to).filter(|step| step.took_ms.is_empty())?;
        step.failed_after_ms.iter().copied().max()
    }

    fn find(&self, from: Tier, to: Tier) -> Option<&Step> {
        self.steps.iter().find(|s| s.from == from && s.to == to)
    }
}

impl Step {
    /// The product-limit estimate: the first time by which so many tenths are done, or the longest of all
    /// where that is never reached.
    fn survivors_at(&self, tenths: usize) -> u64 {
        let done = self.took_ms.iter().map(|ms| (*ms, true));
        let mut all: Vec<(u64, bool)> =
            done.chain(self.failed_after_ms.iter().map(|ms| (*ms, false))).collect();
        // Of equal times those that were done come first: the others would have taken longer.
        all.sort_unstable_by_key(|(ms, done)| (*ms, !*done));
        let left = 1.0 - tenths as f64 / 10.0;
        let mut surviving = 1.0;
        for (nth, (ms, done)) in all.iter().enumerate() {
            if *done {
                surviving *= 1.0 - 1.0 / (all.len() - nth) as f64;
            }
            if surviving <= left + 1e-9 {
                return *ms;
            }
        }
        all.last().map_or(0, |(ms, _)| *ms)
    }
}

fn push(samples: &mut VecDeque<u64>, sample: u64) {
    if samples.len() == SAMPLES {
        samples.pop_front();
    }
    samples.push_back(sample);
}

fn sorted_at(samples: &VecDeque<u64>, tenths: usize) -> Option<u64> {
    let mut sorted: Vec<u64> = samples.iter().copied().collect();
    sorted.sort_unstable();
    sorted.get((sorted.len() * tenths).div_ceil(10).saturating_sub(1)).copied()
}

/// The sum of the parts of a step, as far as they were seen.
fn by_parts(seen: impl Fn(Tier, Tier) -> Option<u64>, from: Tier, to: Tier) -> u64 {
    if from == Tier::Draining {
        return seen(Tier::Full, to).unwrap_or_else(|| prior_ms(Tier::Full));
    }
    let path = [Tier::Cold, Tier::Shadow, Tier::Warm, Tier::Full, Tier::Serving];
    path.windows(2)
        .filter(|step| from <= step[0] && step[1] <= to)
        .map(|step| seen(step[0], step[1]).unwrap_or_else(|| prior_ms(step[0])))
        .fold(0, u64::saturating_add)
}

/// What a step out of a tier is taken to need until one was seen.
fn prior_ms(from: Tier) -> u64 {
    match from {
        Tier::Cold => 2_000,
        Tier::Shadow => 300,
        Tier::Warm | Tier::Full | Tier::Serving | Tier::Draining => 150,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priors_add_up_along_the_path() {
        let leads = LeadTimes::default();
        assert_eq!(leads.ms(Tier::Cold, Tier::Shadow), 2_000);
        assert_eq!(leads.ms(Tier::Warm, Tier::Serving), 300);
        assert_eq!(leads.ms(Tier::Shadow, Tier::Serving), 600);
        assert_eq!(leads.ms(Tier::Full, Tier::Serving), LEAST_MS);
    }

    #[test]
    fn the_ninetieth_percentile_of_the_newest_counts() {
        let mut leads = LeadTimes::default();
        for took_ms in 0..1_000 {
            leads.learn(Tier::Shadow, Tier::Warm, took_ms);
        }
        assert_eq!(leads.ms(Tier::Shadow, Tier::Warm), 996);
        assert_eq!(leads.ms(Tier::Shadow, Tier::Serving), 996 + 300);
    }

    #[test]
    fn steps_that_failed_would_have_taken_longer() {
        let mut leads = LeadTimes::default();
        let ms = |leads: &LeadTimes| leads.ms(Tier::Cold, Tier::Shadow);
        leads.learn_failed(Tier::Cold, Tier::Shadow, 5);
        assert_eq!(ms(&leads), 2_000, "no less than what is assumed");
        leads.learn_failed(Tier::Cold, Tier::Shadow, 60_000);
        assert_eq!(ms(&leads), 60_000, "none was done: at least as long as they were waited for");
        assert_eq!(leads.ms(Tier::Cold, Tier::Serving), 60_000 + 600, "as a part, too");
        for _ in 0..8 {
            leads.learn(Tier::Cold, Tier::Shadow, 1_000);
        }
        // One of ten was called off after a minute: nine tenths are done by the longest seen only.
        assert_eq!(ms(&leads), 60_000);
        for _ in 0..8 {
            leads.learn(Tier::Cold, Tier::Shadow, 1_000);
        }
        assert_eq!(ms(&leads), 1_000, "one of eighteen");
        assert_eq!(leads.done_ms(Tier::Cold, Tier::Shadow), 1_000);
        leads.forget_failed();
        assert_eq!(ms(&leads), 1_000);
    }

    #[test]
    fn without_failures_the_estimate_is_the_plain_percentile() {
        let mut leads = LeadTimes::default();
        for took_ms in [70, 10, 50, 30, 20, 90, 60] {
            leads.learn(Tier::Shadow, Tier::Warm, took_ms);
            let step = leads.find(Tier::Shadow, Tier::Warm).expect("one was seen");
            for tenths in [5, 9] {
                assert_eq!(Some(step.survivors_at(tenths)), sorted_at(&step.took_ms, tenths));
            }
        }
    }

    #[test]
    fn absurd_samples_are_ignored() {
        let mut leads = LeadTimes::default();
        leads.learn(Tier::Cold, Tier::Shadow, u64::MAX);
        assert_eq!(leads.ms(Tier::Cold, Tier::Shadow), 2_000);
    }
}
