//! A fitted curve, and what the controller is told of it.

use foreshadow_control::{DemandHorizon, QuantileSpec};
use foreshadow_predictor::long::LongForecast;
use serde::Serialize;

use super::score::LeadScore;

/// Quantile levels of every curve, besides those that the service's decisions use.
const LEVELS: [f64; 7] = [0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95];
/// How far ahead the controller is told of.
const POINTS_MS: [u64; 11] = [
    0, 60_000, 120_000, 180_000, 300_000, 600_000, 900_000, 1_200_000, 1_800_000, 2_700_000,
    3_600_000,
];
/// A curve fitted longer ago than this is not told any more.
const STALE_MS: u64 = 3_600_000;

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
    /// By span: the three quantiles that decisions are taken from; without announced events, which the
    /// controller counts in itself.
    #[serde(skip)]
    pub(super) told: Vec<[f64; 3]>,
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

/// By span, the three quantiles that decisions use.
pub(super) fn told(forecast: &LongForecast, quantiles: &QuantileSpec) -> Vec<[f64; 3]> {
    let nearest = |level: f64| {
        let distance = |at: &usize| (forecast.levels[*at] - level).abs();
        (0..forecast.levels.len()).min_by(|a, b| distance(a).total_cmp(&distance(b)))
    };
    let wanted = [quantiles.commit, quantiles.warm, quantiles.prepare].map(nearest);
    let of =
        |row: &Vec<f64>| wanted.map(|at| at.and_then(|at| row.get(at)).copied().unwrap_or(0.0));
    forecast.quantiles.iter().map(of).collect()
}

impl Curve {
    /// What is expected now and up to an hour ahead, by increasing horizon.
    pub(super) fn points(&self, at_ms: u64) -> Vec<DemandHorizon> {
        if at_ms.saturating_sub(self.fitted_at_ms) > STALE_MS {
            return Vec::new();
        }
        let point = |horizon_ms: &u64| {
            let [lower_rps, median_rps, upper_rps] =
                self.told_at(at_ms.saturating_add(*horizon_ms))?;
            Some(DemandHorizon { horizon_ms: *horizon_ms, lower_rps, median_rps, upper_rps })
        };
        POINTS_MS.iter().map_while(point).collect()
    }

    /// Between the middles of spans on a straight line; nothing beyond the last.
    #[expect(clippy::cast_precision_loss, reason = "spans of a week are few and short")]
    fn told_at(&self, at_ms: u64) -> Option<[f64; 3]> {
        let since_ms = at_ms.saturating_sub(self.start_ms.saturating_add(self.step_ms / 2));
        let nth = usize::try_from(since_ms / self.step_ms.max(1)).ok()?;
        let (near, far) = (self.told.get(nth)?, self.told.get(nth + 1)?);
        let share = (since_ms % self.step_ms.max(1)) as f64 / self.step_ms.max(1) as f64;
        Some(std::array::from_fn(|at| near[at] + share * (far[at] - near[at])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(told: Vec<[f64; 3]>) -> Curve {
        Curve {
            fitted_at_ms: 1_000_000,
            history_from_ms: 0,
            history_spans: 100,
            seasons_ms: Vec::new(),
            start_ms: 960_000,
            step_ms: 60_000,
            levels: Vec::new(),
            quantiles: Vec::new(),
            mean: Vec::new(),
            score: Vec::new(),
            lifts: Vec::new(),
            told,
        }
    }

    #[test]
    fn between_spans_a_straight_line_and_nothing_beyond_or_when_stale() {
        let ramp: Vec<[f64; 3]> =
            (0..20).map(|n| [f64::from(n), 10.0 * f64::from(n), 99.0]).collect();
        let curve = curve(ramp);
        let points = curve.points(990_000 + 90_000);
        let read: Vec<_> =
            points.iter().map(|p| (p.horizon_ms / 60_000, p.lower_rps, p.median_rps)).collect();
        assert_eq!(
            read,
            [
                (0, 1.5, 15.0),
                (1, 2.5, 25.0),
                (2, 3.5, 35.0),
                (3, 4.5, 45.0),
                (5, 6.5, 65.0),
                (10, 11.5, 115.0),
                (15, 16.5, 165.0)
            ]
        );
        // Before the first middle as there.
        assert_eq!(curve.points(0).first().map(|p| p.lower_rps), Some(0.0));
        assert!(curve.points(1_000_000 + STALE_MS + 1).is_empty());
    }

    #[test]
    fn repeats_outweigh_the_announcement() {
        let learned = |lift, repeats| LearnedLift { name: "sale".to_owned(), lift, repeats };
        assert_eq!(learned(2.0, 0).blended(5.0), 5.0);
        assert_eq!(learned(2.0, 2).blended(5.0), 3.0);
        assert_eq!(learned(f64::NAN, 9).blended(5.0), 5.0);
    }

    #[test]
    fn decisions_get_the_levels_they_ask_for() {
        let quantiles = QuantileSpec { prepare: 0.97, warm: 0.5, commit: 0.2 };
        let levels = levels(&quantiles);
        assert!(levels.is_sorted() && levels.contains(&0.97) && levels.contains(&0.2));
        let row: Vec<f64> = levels.iter().map(|level| level * 100.0).collect();
        let forecast = LongForecast { levels, quantiles: vec![row], ..LongForecast::default() };
        assert_eq!(told(&forecast, &quantiles), [[20.0, 50.0, 97.0]]);
    }
}
