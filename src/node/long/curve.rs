//! A fitted curve, and what the controller is told of it.

use foreshadow_control::{Foreseen, QuantileSpec, Sight, Told};
use foreshadow_predictor::long::Lift;
use serde::Serialize;

use super::categories::CategoryPart;
use super::heard::SignalPart;
use super::network::Part;
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
    /// What became of the network, where one is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) network: Option<Part>,
    /// Categories that it was fitted with: those of a young service.
    pub(crate) categories: Vec<CategoryPart>,
    /// Signals that were found to go with demand.
    pub(crate) signals: Vec<SignalPart>,
    /// What repeated events did to demand.
    pub(crate) lifts: Vec<LearnedLift>,
    /// What the controller is told of it.
    #[serde(skip)]
    pub(super) told: Told,
}

/// A curve is used for so long, or for so many of its spans if that is longer.
const STALE_MS: u64 = 3_600_000;
const STALE_SPANS: u64 = 4;
const HOUR_MS: u64 = 3_600_000;
/// Truths before a record counts, and the error relative to "as in the last span" that speaks against
/// a curve.
const MIN_SCORED: u64 = 12;
const MISLEADING: f64 = 1.25;

impl Curve {
    /// Whether it is too old to be used.
    pub(super) fn is_stale(&self, now_ms: u64) -> bool {
        let age_ms = now_ms.saturating_sub(self.fitted_at_ms);
        age_ms > STALE_MS.max(STALE_SPANS.saturating_mul(self.step_ms))
    }

    /// What it says of a time ahead; nothing where it does not reach so far or is too old, where the
    /// quantile lies beyond its levels, and where its record speaks against it.
    pub(super) fn foreseen(&self, sight: Sight, now_ms: u64) -> Option<Foreseen> {
        if self.is_stale(now_ms) || self.misleads(sight.ahead_ms) {
            return None;
        }
        let place = |at_ms: u64| {
            let since_ms = at_ms.checked_sub(self.start_ms)?;
            usize::try_from(since_ms / self.step_ms.max(1)).ok()
        };
        let (first, last) = (place(now_ms)?, place(now_ms.saturating_add(sight.ahead_ms))?);
        let level = f64::from(sight.quantile) / 100.0;
        let rows = self.quantiles.get(first..=last)?;
        let demand: Option<Vec<f64>> = rows.iter().map(|row| self.at(row, level)).collect();
        let demand = demand?;
        Some(Foreseen {
            ahead_ms: sight.ahead_ms,
            quantile: sight.quantile,
            then_rps: *demand.last()?,
            least_rps: demand.iter().copied().reduce(f64::min)?,
            most_rps: demand.iter().copied().reduce(f64::max)?,
        })
    }

    /// Between two levels on a straight line; nothing beyond the outermost.
    pub(super) fn at(&self, row: &[f64], level: f64) -> Option<f64> {
        let above = self.levels.iter().position(|known| *known >= level - 1e-9)?;
        let (high, high_rps) = (*self.levels.get(above)?, *row.get(above)?);
        if (high - level).abs() < 1e-9 {
            return Some(high_rps);
        }
        let below = above.checked_sub(1)?;
        let (low, low_rps) = (*self.levels.get(below)?, *row.get(below)?);
        Some(low_rps + (level - low) / (high - low) * (high_rps - low_rps))
    }

    /// By the record of the distance nearest to `ahead_ms`.
    pub(super) fn misleads(&self, ahead_ms: u64) -> bool {
        let nearest = self.score.iter().min_by_key(|score| score.lead_ms.abs_diff(ahead_ms));
        nearest.is_some_and(|score| {
            score.scored >= MIN_SCORED && score.mae_rps > MISLEADING * score.naive_mae_rps
        })
    }
}

/// What a kind of event did to demand, over its repeats.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct LearnedLift {
    /// The events' common name.
    pub(crate) name: String,
    /// Demand with it relative to without.
    pub(crate) lift: f64,
    /// The same at the hour of the week at which it is least, and most: as `lift` where it was not found to
    /// depend on that.
    pub(crate) least_lift: f64,
    pub(crate) most_lift: f64,
    /// Events it was learned from.
    pub(crate) repeats: usize,
    #[serde(skip)]
    pub(super) learned: Option<Lift>,
}

impl From<&Lift> for LearnedLift {
    fn from(lift: &Lift) -> Self {
        let (least_lift, most_lift) = lift.range();
        Self {
            name: lift.kind.clone(),
            lift: lift.ratio,
            least_lift,
            most_lift,
            repeats: lift.repeats,
            learned: Some(lift.clone()),
        }
    }
}

impl LearnedLift {
    /// What is expected of the next one at a moment of it: the announcement counts as one repeat.
    #[expect(clippy::cast_precision_loss, reason = "repeats are few")]
    pub(super) fn blended(&self, announced: f64, at_ms: u64) -> f64 {
        let repeats = self.repeats as f64;
        let lift = self.learned.as_ref().map_or(self.lift, |lift| lift.at(at_ms, HOUR_MS));
        let learned = if lift.is_finite() { lift } else { announced };
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
    use super::super::score::LeadScore;
    use super::*;

    #[test]
    fn repeats_outweigh_the_announcement() {
        let learned = |lift, repeats| LearnedLift { lift, repeats, ..LearnedLift::default() };
        assert_eq!(learned(2.0, 0).blended(5.0, 0), 5.0);
        assert_eq!(learned(2.0, 2).blended(5.0, 0), 3.0);
        assert_eq!(learned(f64::NAN, 9).blended(5.0, 0), 5.0);
    }

    fn curve() -> Curve {
        Curve {
            fitted_at_ms: 10_000_000,
            history_from_ms: 0,
            history_spans: 0,
            seasons_ms: Vec::new(),
            start_ms: 9_900_000,
            step_ms: 900_000,
            levels: vec![0.1, 0.5, 0.9],
            // Rises to the eleventh span, and falls again.
            quantiles: (0..20_i32)
                .map(|n| 100.0 - f64::from(10 - n).abs())
                .map(|rps| vec![rps - 10.0, rps, rps + 10.0])
                .collect(),
            mean: Vec::new(),
            score: Vec::new(),
            network: None,
            categories: Vec::new(),
            signals: Vec::new(),
            lifts: Vec::new(),
            told: Told::default(),
        }
    }

    #[test]
    fn rules_are_told_of_all_the_time_until_then() {
        let sight = |hours: u64, quantile| Sight { ahead_ms: hours * 3_600_000, quantile };
        let now_ms = 10_000_000;
        let told = curve().foreseen(sight(4, 50), now_ms).unwrap();
        assert_eq!((told.then_rps, told.least_rps, told.most_rps), (94.0, 90.0, 100.0));
        let told = curve().foreseen(sight(1, 70), now_ms).unwrap();
        assert!((told.then_rps - 99.0).abs() < 1e-9, "{told:?}");
        assert_eq!(curve().foreseen(sight(5, 50), now_ms), None, "it does not reach so far");
        assert_eq!(curve().foreseen(sight(1, 95), now_ms), None, "nor to such quantiles");
        assert_eq!(curve().foreseen(sight(1, 50), 14_000_000), None, "nor is it used so long");
        assert_eq!(curve().foreseen(sight(1, 50), 0), None);
        let record = |mae_rps| {
            let score =
                LeadScore { scored: 12, mae_rps, naive_mae_rps: 10.0, ..Default::default() };
            Curve { score: vec![score], ..curve() }.foreseen(sight(1, 50), now_ms)
        };
        assert!(record(12.0).is_some() && record(13.0).is_none());
    }

    #[test]
    fn curves_are_made_at_the_levels_that_decisions_ask_for() {
        let quantiles = QuantileSpec { prepare: 0.97, warm: 0.5, commit: 0.2 };
        let levels = levels(&quantiles);
        assert!(levels.is_sorted() && levels.contains(&0.97) && levels.contains(&0.2));
    }
}
