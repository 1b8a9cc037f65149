//! One series: observations in, forecast out.

use serde::{Deserialize, Serialize};

use crate::score::usable;
use crate::{Forecast, HorizonForecast, HorizonScore, Score, SeriesSpec};

/// Forecasts one series.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Forecaster {
    spec: SeriesSpec,
    level: f64,
    forecast: Forecast,
    scores: Vec<HorizonScore>,
}

impl Forecaster {
    /// A forecaster that has seen nothing; the spec is repaired by [`SeriesSpec::sanitised`].
    pub fn new(spec: SeriesSpec) -> Self {
        let spec = spec.sanitised();
        let horizon = |horizon_ms: &u64| HorizonForecast {
            horizon_ms: *horizon_ms,
            mean: 0.0,
            quantiles: vec![0.0; spec.levels.len()],
        };
        let forecast = Forecast {
            levels: spec.levels.clone(),
            horizons: spec.horizons_ms.iter().map(horizon).collect(),
        };
        let scores =
            spec.horizons_ms.iter().map(|ms| HorizonScore::new(*ms, &spec.levels)).collect();
        Self { spec, level: 0.0, forecast, scores }
    }

    /// Takes the value of one step, a rate per second (for a count: count x 1000 / `step_ms`).
    ///
    /// NaN, infinite, negative and absurd (above 1e9) values count as missing.
    pub fn observe(&mut self, value: f64) {
        if (0.0..=1e9).contains(&value) {
            self.level += 0.3 * (value - self.level);
        }
        for horizon in &mut self.forecast.horizons {
            horizon.mean = self.level;
            horizon.quantiles.fill(self.level);
        }
    }

    /// Skips `steps` steps in which nothing was seen.
    pub fn observe_gap(&mut self, _steps: u64) {}

    /// The current forecast.
    pub fn forecast(&self) -> &Forecast {
        &self.forecast
    }

    /// The smoothed value now, in the unit of the series.
    pub fn level(&self) -> f64 {
        self.level
    }

    /// The track record so far.
    pub fn score(&self) -> Score {
        Score { levels: self.spec.levels.clone(), horizons: self.scores.clone() }
    }

    /// [`Score::usable`], without copying the score.
    pub fn usable(&self) -> bool {
        usable(&self.scores, &self.spec.levels)
    }

    /// The sanitised spec in force.
    pub fn spec(&self) -> &SeriesSpec {
        &self.spec
    }
}
