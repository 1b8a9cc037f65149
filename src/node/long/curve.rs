//! A fitted curve, and what the controller is told of it.

use foreshadow_control::{QuantileSpec, Told};
use serde::Serialize;

use super::score::LeadScore;

/// Quantile levels of every curve, besides those that the service's decisions use.
const LEVELS: [f64; 7] = [0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95];
/// Expected demand of one service, span by span.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Curve {
    /// When it was fitted, Unix time.
    pub(crate) fitted_at_ms: u64,
    /// History it was fitted to: from when on, and spans of it in which something was observed.
    pub(crate) history_from_ms: u64,
    /// Spans with a value.
    pub(crate) history_spans: usize,
    /// Periods given or found.
    pub(crate) seasons_ms: Vec<u64>,
    /// Start of the first span, Unix time.
    pub(crate) start_ms: u64,
    /// Length of each span.
    pub(crate) step_ms: u64,
    /// Quantile levels.
    pub(crate) levels: Vec<f64>,
    /// Requests per second by span, then level; announced events counted in.
    pub(crate) quantiles: Vec<Vec<f64>>,
    /// Expected requests per second by span.
    pub(crate) mean: Vec<f64>,
    /// How curves before it did, by distance.
    pub(crate) score: Vec<LeadScore>,
    /// What repeated events did to demand.
    pub(crate) lifts: Vec<LearnedLift>,
    /// What the controller is told of it.
    #[serde(skip)]
    pub(super) told: Told,
}

/// What a kind of event did to demand, over its repeats.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct LearnedLift {
    /// The events' common name.
    pub(crate) name: String,
    /// Demand with it relative to without.
    pub(crate) lift: f64,
    /// Events it was learned from.
    pub(crate) repeats: usize,
}

impl LearnedLift {
    /// What is expected of the next one: the announcement counts as one repeat.
    #[expect(clippy::cast_precision_loss, reason = "repeats are few")]
    pub(super) fn blended(&self, announced: f64) -> f64 {
        let repeats = self.repeats as f64;
        let learned = if self.lift.is_finite() { self.lift } else { announced };
        (announced + repeats * learned) / (1.0 + repeats)
    }
}

/// The levels that a service's curves are made at.
pub(super) fn levels(quantiles: &QuantileSpec) -> Vec<f64> {
    let mut levels = LEVELS.to_vec();
    levels.extend([quantiles.commit, quantiles.warm, quantiles.prepare]);
    levels.sort_unstable_by(f64::total_cmp);
    levels.dedup();
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_outweigh_the_announcement() {
        let learned = |lift, repeats| LearnedLift { name: "sale".to_owned(), lift, repeats };
        assert_eq!(learned(2.0, 0).blended(5.0), 5.0);
        assert_eq!(learned(2.0, 2).blended(5.0), 3.0);
        assert_eq!(learned(f64::NAN, 9).blended(5.0), 5.0);
    }

    #[test]
    fn curves_are_made_at_the_levels_that_decisions_ask_for() {
        let quantiles = QuantileSpec { prepare: 0.97, warm: 0.5, commit: 0.2 };
        let levels = levels(&quantiles);
        assert!(levels.is_sorted() && levels.contains(&0.97) && levels.contains(&0.2));
    }
}
