//! How long the provider needs from one tier to the next: the 90th percentile of what was seen.

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
}

impl LeadTimes {
    /// Of a place in which no step was seen.
    pub(crate) const NONE: Self = Self { steps: Vec::new() };

    /// Takes one sample.
    pub(crate) fn learn(&mut self, from: Tier, to: Tier, took_ms: u64) {
        if took_ms > LONGEST_MS || from == to {
            return;
        }
        let at =
            self.steps.iter().position(|s| s.from == from && s.to == to).unwrap_or_else(|| {
                self.steps.push(Step { from, to, took_ms: VecDeque::new() });
                self.steps.len() - 1
            });
        let samples = &mut self.steps[at].took_ms;
        if samples.len() == SAMPLES {
            samples.pop_front();
        }
        samples.push_back(took_ms);
    }

    /// The time to allow for a step; steps never seen whole are the sum of their parts.
    pub(crate) fn ms(&self, from: Tier, to: Tier) -> u64 {
        self.seen(from, to).unwrap_or_else(|| self.by_parts(from, to)).max(LEAST_MS)
    }

    fn seen(&self, from: Tier, to: Tier) -> Option<u64> {
        let step = self.steps.iter().find(|s| s.from == from && s.to == to)?;
        let mut sorted: Vec<u64> = step.took_ms.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get((sorted.len() * 9).div_ceil(10).saturating_sub(1)).copied()
    }

    fn by_parts(&self, from: Tier, to: Tier) -> u64 {
        if from == Tier::Draining {
            return self.seen(Tier::Full, to).unwrap_or_else(|| prior_ms(Tier::Full));
        }
        let path = [Tier::Cold, Tier::Shadow, Tier::Warm, Tier::Full, Tier::Serving];
        path.windows(2)
            .filter(|step| from <= step[0] && step[1] <= to)
            .map(|step| self.seen(step[0], step[1]).unwrap_or_else(|| prior_ms(step[0])))
            .fold(0, u64::saturating_add)
    }
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
    fn absurd_samples_are_ignored() {
        let mut leads = LeadTimes::default();
        leads.learn(Tier::Cold, Tier::Shadow, u64::MAX);
        assert_eq!(leads.ms(Tier::Cold, Tier::Shadow), 2_000);
    }
}
