//! MASE and WQL by series, relative to seasonal naive, as GIFT-Eval takes them (arXiv 2410.10393).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::windows::{DAY, Window};

/// Quantile levels that WQL is the mean over.
pub(crate) const LEVELS: [f64; 9] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
const MEDIAN: usize = 4;
/// Normal quantiles of the levels.
const NORMAL: [f64; 9] = [
    -1.281_552, -0.841_621, -0.524_401, -0.253_347, 0.0, 0.253_347, 0.524_401, 0.841_621, 1.281_552,
];

/// A forecast: for each level, one value per step.
pub(crate) type Quantiles = Vec<Vec<f64>>;

/// Scores of one model over the windows of one series.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    mase: f64,
    windows: f64,
    pinball: f64,
    size: f64,
    covered: f64,
    steps: f64,
}

/// Scores by horizon, model and series.
#[derive(Default)]
pub(crate) struct Scores(BTreeMap<(usize, String), BTreeMap<String, Sum>>);

/// What is printed of one model at one horizon.
#[derive(Serialize)]
pub(crate) struct Summary {
    pub(crate) relative_mase: f64,
    pub(crate) relative_wql: f64,
    /// Share of truths between the 0.1 and the 0.9 quantile.
    pub(crate) coverage_80: f64,
    pub(crate) windows: f64,
    pub(crate) by_series: BTreeMap<String, [f64; 2]>,
}

impl Scores {
    pub(crate) fn add(&mut self, window: &Window, model: &str, quantiles: &Quantiles) {
        let key = (window.horizon, model.to_owned());
        let sum = self.0.entry(key).or_default().entry(window.series.clone()).or_default();
        let scale = naive_error(&window.history);
        let (mut error, mut known) = (0.0, 0.0);
        for (step, actual) in window.actual.iter().enumerate() {
            let Some(actual) = actual else { continue };
            error += (quantiles[MEDIAN][step] - actual).abs();
            known += 1.0;
            sum.size += actual.abs();
            for (level, row) in LEVELS.iter().zip(quantiles) {
                let over = actual - row[step];
                sum.pinball += 2.0 * (level * over).max((level - 1.0) * over) / LEVELS.len() as f64;
            }
            let inside = quantiles[0][step] <= *actual && *actual <= quantiles[8][step];
            sum.covered += f64::from(u8::from(inside));
        }
        sum.steps += known;
        if known > 0.0 {
            sum.mase += error / known / scale;
            sum.windows += 1.0;
        }
    }

    /// Every model at `horizon`, relative to `base`, as geometric means over the series.
    pub(crate) fn summaries(&self, horizon: usize, base: &str) -> BTreeMap<String, Summary> {
        let Some(base) = self.0.get(&(horizon, base.to_owned())) else { return BTreeMap::new() };
        let models = self.0.iter().filter(|((known, _), _)| *known == horizon);
        models.map(|((_, model), sums)| (model.clone(), summary(sums, base))).collect()
    }
}

fn summary(sums: &BTreeMap<String, Sum>, base: &BTreeMap<String, Sum>) -> Summary {
    let mut by_series = BTreeMap::new();
    let mut all = Sum::default();
    for (series, sum) in sums {
        let Some(base) = base.get(series) else { continue };
        all.covered += sum.covered;
        all.steps += sum.steps;
        all.windows += sum.windows;
        let mase = (sum.mase / sum.windows) / (base.mase / base.windows);
        let wql = (sum.pinball / sum.size) / (base.pinball / base.size);
        // A series that never changes is forecast without error by all.
        if mase.is_finite() && wql.is_finite() && mase > 0.0 && wql > 0.0 {
            by_series.insert(series.clone(), [mase, wql]);
        }
    }
    let geometric = |which: usize| {
        let logs: f64 = by_series.values().map(|scores| scores[which].ln()).sum();
        (logs / by_series.len() as f64).exp()
    };
    Summary {
        relative_mase: geometric(0),
        relative_wql: geometric(1),
        coverage_80: all.covered / all.steps,
        windows: all.windows,
        by_series,
    }
}

/// The series of the day before repeated, with normal intervals that grow by the day as those of
/// the seasonal random walk do (Hyndman and Athanasopoulos, "Forecasting: Principles and
/// Practice", section 5.5); what statsforecast's `SeasonalNaive` says.
pub(crate) fn seasonal_naive(window: &Window) -> Quantiles {
    let filled = filled(&window.history);
    let last = &filled[filled.len() - DAY..];
    let errors = filled[DAY..].iter().zip(&filled);
    let squares: f64 = errors.map(|(now, before)| (now - before).powi(2)).sum();
    let sigma = (squares / (filled.len() - DAY) as f64).sqrt();
    let at = |step: usize, normal: f64| {
        last[step % DAY] + normal * sigma * ((step / DAY + 1) as f64).sqrt()
    };
    NORMAL.map(|normal| (0..window.horizon).map(|step| at(step, normal)).collect()).to_vec()
}

/// Mean absolute error of seasonal naive within the history.
fn naive_error(history: &[Option<f64>]) -> f64 {
    let filled = filled(history);
    let errors = filled[DAY..].iter().zip(&filled).map(|(now, before)| (now - before).abs());
    (errors.sum::<f64>() / (filled.len() - DAY) as f64).max(1e-9)
}

/// Gaps interpolated, as for the peers.
fn filled(history: &[Option<f64>]) -> Vec<f64> {
    let known: Vec<(usize, f64)> =
        history.iter().enumerate().filter_map(|(at, value)| Some((at, (*value)?))).collect();
    let value = |at: usize| {
        let next = known.partition_point(|(known, _)| *known < at).min(known.len() - 1);
        let ((x0, y0), (x1, y1)) = (known[next.saturating_sub(1)], known[next]);
        let share = if x1 > x0 { (at as f64 - x0 as f64) / (x1 - x0) as f64 } else { 1.0 };
        y0 + (y1 - y0) * share.clamp(0.0, 1.0)
    };
    (0..history.len()).map(value).collect()
}
