//! Times to come that rules ask curves fitted to kept history about.

use super::ast::{Comparison, Condition, Rule, Scope, Until, When};
use super::metric::Metric;
use crate::Foreseen;

/// Up to here a series is forecast from what was just seen; beyond it, what a curve says comes first.
pub(super) const NEAR_MS: u64 = 600_000;
/// Beyond this nothing but a curve says anything: what was just seen says little of tomorrow.
pub(super) const FAR_MS: u64 = 3_600_000;
/// Most sights of one service: each is looked up in curves again and again. Whoever takes rules refuses
/// those that need more.
pub const MAX_SIGHTS: usize = 64;

/// A time ahead and a quantile of demand, 1 to 99, that a rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sight {
    /// How far ahead.
    pub ahead_ms: u64,
    /// The quantile, in hundredths.
    pub quantile: u8,
}

/// What `rules` ask curves about, each once; see [`MAX_SIGHTS`].
pub fn sights<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> Vec<Sight> {
    let mut found = Vec::new();
    for rule in rules {
        collect(&rule.condition, &mut found);
        if let Some(Until::Condition(condition)) = &rule.until {
            collect(condition, &mut found);
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn collect(condition: &Condition, found: &mut Vec<Sight>) {
    match condition {
        Condition::Or(parts) | Condition::And(parts) => {
            parts.iter().for_each(|part| collect(part, found));
        }
        Condition::Is(comparison) => found.extend(Sight::of(comparison)),
    }
}

impl Sight {
    /// What a comparison asks a curve about, if it does.
    pub(super) fn of(comparison: &Comparison) -> Option<Self> {
        let of_service = comparison.scope == Scope::Service;
        let of_demand = matches!(comparison.metric, Metric::Demand | Metric::Rps);
        let (When::At(ahead_ms) | When::Within(ahead_ms)) = comparison.when else { return None };
        let quantile = comparison.quantile.unwrap_or(50);
        (of_service && of_demand && ahead_ms > NEAR_MS).then_some(Self { ahead_ms, quantile })
    }

    /// What was foreseen of it, in numbers that can be calculated with.
    pub(super) fn find(self, foreseen: &[Foreseen]) -> Option<&Foreseen> {
        let found = foreseen.iter().find(|known| known.sight() == self)?;
        let all = [found.then_rps, found.least_rps, found.most_rps];
        all.iter().all(|rps| (0.0..=1e9).contains(rps)).then_some(found)
    }
}

impl Foreseen {
    pub(crate) fn sight(&self) -> Sight {
        Sight { ahead_ms: self.ahead_ms, quantile: self.quantile }
    }
}
