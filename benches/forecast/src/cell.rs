//! The figures of one trace at one horizon.

use foreshadow_predictor::HorizonForecast;
use serde::Serialize;

use crate::Trace;

/// Hours with fewer points than this say nothing about coverage.
const MIN_HOUR_POINTS: u64 = 50;

/// One trace at one horizon. All errors are those of the same points: forecasts made at each step
/// for the mean over [`Forecaster::target_steps`](foreshadow_predictor::Forecaster::target_steps).
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cell {
    /// The trace.
    pub trace: String,
    /// Its step.
    pub step_ms: u64,
    /// How far ahead.
    pub horizon_ms: u64,
    /// Forecasts compared.
    pub points: u64,
    /// Mean absolute error of the forecast, in the unit of the trace.
    pub mae: f64,
    /// The same of the last value seen, held.
    pub last_mae: f64,
    /// The same of the smoothed level, held: the forecaster's own "same as now".
    pub level_mae: f64,
    /// `mae / last_mae`.
    pub relative_to_last: f64,
    /// `mae / level_mae`.
    pub relative_to_level: f64,
    /// The expert with the least error over all points, known only afterwards.
    pub best_expert: String,
    /// `mae` over that expert's.
    pub over_best: f64,
    /// Every expert's error relative to the last value.
    pub experts: Vec<(String, f64)>,
    /// The weights at the end.
    pub weights: Vec<f64>,
    /// Share of truths inside the 90 % interval.
    pub coverage: f64,
    /// The same by hour of day; none where too few points fell into it.
    pub coverage_by_hour: Vec<Option<f64>>,
    /// Mean width of the 90 % interval.
    pub width: f64,
    /// Mean width of an interval of constant offsets from the same forecasts, chosen afterwards as
    /// the equal-tailed empirical quantiles of all errors so that it covers as much.
    pub static_width: f64,
    /// `width / static_width`.
    pub relative_width: f64,
    #[serde(skip)]
    sums: Sums,
}

#[derive(Clone, Debug, Default)]
struct Sums {
    experts: Vec<f64>,
    inside: u64,
    by_hour: [(u64, u64); 24],
    /// Forecast and truth less forecast, of every point.
    errors: Vec<(f64, f64)>,
}

impl Cell {
    pub(crate) fn new(trace: &Trace, horizon_ms: u64) -> Self {
        let (name, step_ms) = (trace.name.clone(), trace.step_ms);
        Self { trace: name, step_ms, horizon_ms, ..Self::default() }
    }

    /// Adds one comparison; `experts` says what each forecast, "same as now" first.
    pub(crate) fn add(
        &mut self,
        truth: f64,
        hour: usize,
        forecast: &HorizonForecast,
        last: f64,
        experts: &[f64],
    ) {
        self.points += 1;
        self.mae += (truth - forecast.mean).abs();
        self.last_mae += (truth - last).abs();
        self.sums.experts.resize(experts.len(), 0.0);
        for (sum, expert) in self.sums.experts.iter_mut().zip(experts) {
            *sum += (truth - expert).abs();
        }
        let (low, high) = (forecast.quantiles[0], forecast.quantiles[forecast.quantiles.len() - 1]);
        let inside = u64::from((low..=high).contains(&truth));
        self.width += high - low;
        self.sums.inside += inside;
        let (all, held) = &mut self.sums.by_hour[hour % 24];
        (*all, *held) = (*all + 1, *held + inside);
        self.sums.errors.push((forecast.mean, truth - forecast.mean));
    }

    /// Turns sums into means.
    pub(crate) fn finish(&mut self, names: &[String], weights: &[f64]) {
        let points = self.points.max(1) as f64;
        for sum in [&mut self.mae, &mut self.last_mae, &mut self.width] {
            *sum /= points;
        }
        let experts: Vec<f64> = self.sums.experts.iter().map(|sum| sum / points).collect();
        self.level_mae = experts.first().copied().unwrap_or_default();
        let best = experts.iter().copied().enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
        if let Some((index, least)) = best {
            self.best_expert = names.get(index).cloned().unwrap_or_default();
            self.over_best = ratio(self.mae, least);
        }
        let relative = |mae: f64| ratio(mae, self.last_mae);
        self.experts = names.iter().cloned().zip(experts.iter().copied().map(relative)).collect();
        self.relative_to_last = ratio(self.mae, self.last_mae);
        self.relative_to_level = ratio(self.mae, self.level_mae);
        self.weights = weights.to_vec();
        self.coverage = self.sums.inside as f64 / points;
        let share = |(all, held): &(u64, u64)| {
            (*all >= MIN_HOUR_POINTS).then(|| *held as f64 / *all as f64)
        };
        self.coverage_by_hour = self.sums.by_hour.iter().map(share).collect();
        self.static_width = static_width(&std::mem::take(&mut self.sums.errors), self.coverage);
        self.relative_width = ratio(self.width, self.static_width);
    }
}

/// `0 / 0` is 1: equally good.
fn ratio(ours: f64, theirs: f64) -> f64 {
    if ours <= 1e-12 && theirs <= 1e-12 { 1.0 } else { ours / theirs.max(1e-12) }
}

/// Mean width of the interval between the equal-tailed quantiles of the errors that hold `coverage`
/// of them, cut at zero like every forecast.
fn static_width(errors: &[(f64, f64)], coverage: f64) -> f64 {
    let mut sorted: Vec<f64> = errors.iter().map(|(_, error)| *error).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = |level: f64| {
        let index = (level * sorted.len() as f64).floor() as usize;
        sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
    };
    let tail = (1.0 - coverage) / 2.0;
    let (low, high) = (at(tail), at(1.0 - tail));
    let width = |(mean, _): &(f64, f64)| (mean + high).max(0.0) - (mean + low).max(0.0);
    errors.iter().map(width).sum::<f64>() / errors.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_static_interval_spans_the_asked_share_of_the_errors() {
        let errors: Vec<(f64, f64)> = (0..1_000).map(|i| (1e4, f64::from(i))).collect();
        assert!((static_width(&errors, 0.9) - 900.0).abs() < 2.0);
        assert!(static_width(&[(0.0, -5.0), (0.0, 5.0)], 1.0) == 5.0, "nothing below zero");
    }

    #[test]
    fn sums_become_means_and_ratios() {
        let trace = Trace { name: "t".to_owned(), start_ms: 0, step_ms: 1_000, values: vec![] };
        let mut cell = Cell::new(&trace, 1_000);
        let forecast = |mean: f64| HorizonForecast {
            horizon_ms: 1_000,
            mean,
            quantiles: vec![mean - 1.0, mean + 1.0],
        };
        cell.add(10.0, 3, &forecast(12.0), 14.0, &[13.0, 10.5]);
        cell.add(10.0, 3, &forecast(10.0), 14.0, &[13.0, 10.5]);
        cell.finish(&["level".to_owned(), "other".to_owned()], &[0.5, 0.5]);
        assert_eq!((cell.mae, cell.last_mae, cell.level_mae), (1.0, 4.0, 3.0));
        assert_eq!((cell.relative_to_last, cell.over_best), (0.25, 2.0));
        assert_eq!((cell.best_expert.as_str(), cell.coverage), ("other", 0.5));
    }
}
