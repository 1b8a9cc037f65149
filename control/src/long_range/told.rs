//! What a model fitted to history tells of the next hour, on a live node and in a backtest alike.

use foreshadow_predictor::long::LongForecast;

use crate::{DemandHorizon, QuantileSpec};

/// How far ahead the controller is told of.
const POINTS_MS: [u64; 11] = [
    0, 60_000, 120_000, 180_000, 300_000, 600_000, 900_000, 1_200_000, 1_800_000, 2_700_000,
    3_600_000,
];
/// What was fitted longer ago than this is not told any more.
const STALE_MS: u64 = Told::REACH_MS;

/// By step, the three quantiles of demand that decisions are taken from; without announced events,
/// which the controller counts in itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    fitted_at_ms: u64,
    start_ms: u64,
    step_ms: u64,
    rows: Vec<[f64; 3]>,
}

impl Told {
    /// How far ahead the controller is told.
    pub const REACH_MS: u64 = 3_600_000;
    /// The kept history that the model is fitted to, at most, by the minute: as much of it as is like
    /// the next hour.
    pub const HISTORY_MS: u64 = 14 * 86_400_000;
    /// Minutes of history that it cannot do without.
    pub const LEAST_STEPS: usize = 30;
    /// Time between two fits.
    pub const EVERY_MS: u64 = 300_000;

    /// Takes from `forecast`, fitted at `fitted_at_ms` of Unix time, the levels nearest to those
    /// wanted.
    #[must_use]
    pub fn of(forecast: &LongForecast, wanted: &QuantileSpec, fitted_at_ms: u64) -> Self {
        let nearest = |level: f64| {
            let distance = |at: &usize| (forecast.levels[*at] - level).abs();
            (0..forecast.levels.len()).min_by(|a, b| distance(a).total_cmp(&distance(b)))
        };
        let places = [wanted.commit, wanted.warm, wanted.prepare].map(nearest);
        let of =
            |row: &Vec<f64>| places.map(|at| at.and_then(|at| row.get(at)).copied().unwrap_or(0.0));
        Self {
            fitted_at_ms,
            start_ms: forecast.start_ms,
            step_ms: forecast.step_ms.max(1),
            rows: forecast.quantiles.iter().map(of).collect(),
        }
    }

    /// What is expected at `at_ms` and up to an hour later, by increasing horizon.
    #[must_use]
    pub fn points(&self, at_ms: u64) -> Vec<DemandHorizon> {
        if at_ms.saturating_sub(self.fitted_at_ms) > STALE_MS {
            return Vec::new();
        }
        let point = |horizon_ms: &u64| {
            let [lower_rps, median_rps, upper_rps] = self.at(at_ms.saturating_add(*horizon_ms))?;
            Some(DemandHorizon { horizon_ms: *horizon_ms, lower_rps, median_rps, upper_rps })
        };
        POINTS_MS.iter().map_while(point).collect()
    }

    /// The lower, median and upper quantile of one moment, in requests per second: between the
    /// middles of steps on a straight line; nothing beyond the last.
    #[must_use]
    pub fn at(&self, at_ms: u64) -> Option<[f64; 3]> {
        let step_ms = self.step_ms.max(1);
        let since_ms = at_ms.saturating_sub(self.start_ms.saturating_add(step_ms / 2));
        let nth = usize::try_from(since_ms / step_ms).ok()?;
        let (near, far) = (self.rows.get(nth)?, self.rows.get(nth + 1)?);
        let share = (since_ms % step_ms) as f64 / step_ms as f64;
        Some(std::array::from_fn(|at| near[at] + share * (far[at] - near[at])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: QuantileSpec = QuantileSpec { prepare: 0.97, warm: 0.5, commit: 0.2 };

    #[test]
    fn between_steps_a_straight_line_and_nothing_beyond_or_when_stale() {
        let forecast = LongForecast {
            start_ms: 960_000,
            step_ms: 60_000,
            levels: vec![0.2, 0.5, 0.97],
            quantiles: (0..20).map(|n| vec![f64::from(n), 10.0 * f64::from(n), 99.0]).collect(),
            ..LongForecast::default()
        };
        let told = Told::of(&forecast, &WANTED, 1_000_000);
        let points = told.points(990_000 + 90_000);
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
        assert_eq!(told.points(0).first().map(|p| p.lower_rps), Some(0.0));
        assert!(told.points(1_000_000 + STALE_MS + 1).is_empty());
    }

    #[test]
    fn decisions_get_the_levels_they_ask_for() {
        let levels = vec![0.05, 0.1, 0.2, 0.25, 0.5, 0.75, 0.95, 0.97];
        let row: Vec<f64> = levels.iter().map(|level| level * 100.0).collect();
        let quantiles = vec![row.clone(), row];
        let forecast =
            LongForecast { step_ms: 60_000, levels, quantiles, ..LongForecast::default() };
        assert_eq!(Told::of(&forecast, &WANTED, 0).at(0), Some([20.0, 50.0, 97.0]));
    }
}
