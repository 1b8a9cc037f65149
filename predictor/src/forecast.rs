//! The distribution of a series at several horizons, and how to read between them.

use serde::{Deserialize, Serialize};

use crate::SeriesSpec;
use crate::check::{self, Checked};

/// A forecast made at one moment: quantiles of the rate at each horizon.
///
/// What is described is the *rate*, not the count of one step: see
/// [`Forecaster`](crate::Forecaster) for the window it is averaged over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// Quantile levels, sorted, inside (0, 1); the same for every horizon.
    pub levels: Vec<f64>,
    /// One entry per horizon, nearest first.
    pub horizons: Vec<HorizonForecast>,
}

/// The forecast at one horizon, in the unit of the series (requests per second for demand).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HorizonForecast {
    /// How far ahead, in milliseconds.
    pub horizon_ms: u64,
    /// Point forecast: the experts' weighted mean; finite and not negative.
    pub mean: f64,
    /// One value per level: finite, not negative, non-decreasing.
    pub quantiles: Vec<f64>,
}

impl HorizonForecast {
    /// The quantile at `level`, linear between the given `levels`, clamped outside them.
    fn quantile(&self, levels: &[f64], level: f64) -> f64 {
        let above = levels.partition_point(|known| *known < level);
        let at = |index: usize| self.quantiles.get(index).copied().unwrap_or(self.mean);
        if above == 0 {
            return at(0);
        }
        if above >= levels.len() {
            return at(levels.len() - 1);
        }
        lerp(levels[above - 1], at(above - 1), levels[above], at(above), level)
    }
}

impl Forecast {
    /// The rate that is not exceeded with probability `level` at `horizon_ms`.
    ///
    /// Linear between the known horizons and between the known levels, clamped to the outermost of
    /// both. A NaN level is read as the median. Zero when there are no horizons.
    pub fn quantile(&self, horizon_ms: u64, level: f64) -> f64 {
        let level = if level.is_nan() { 0.5 } else { level };
        let next = self.horizons.partition_point(|known| known.horizon_ms < horizon_ms);
        let before = next.checked_sub(1).and_then(|index| self.horizons.get(index));
        match (before, self.horizons.get(next)) {
            (None, None) => 0.0,
            (Some(only), None) | (None, Some(only)) => only.quantile(&self.levels, level),
            (Some(near), Some(far)) => lerp(
                near.horizon_ms as f64,
                near.quantile(&self.levels, level),
                far.horizon_ms as f64,
                far.quantile(&self.levels, level),
                horizon_ms as f64,
            ),
        }
    }

    /// The largest of [`quantile`](Self::quantile) over all horizons up to `horizon_ms`.
    ///
    /// It answers "how much may be asked at some moment before then", horizon by horizon; the
    /// probability is that of each horizon by itself, not of the maximum.
    pub fn max_quantile_within(&self, horizon_ms: u64, level: f64) -> f64 {
        let nearer = self.horizons.iter().take_while(|known| known.horizon_ms < horizon_ms);
        nearer
            .map(|known| self.quantile(known.horizon_ms, level))
            .fold(self.quantile(horizon_ms, level), f64::max)
    }
}

fn lerp(x0: f64, y0: f64, x1: f64, y1: f64, x: f64) -> f64 {
    if x1 <= x0 {
        return y0;
    }
    let share = ((x - x0) / (x1 - x0)).clamp(0.0, 1.0);
    y0 * (1.0 - share) + y1 * share
}

impl Forecast {
    pub(crate) fn check(&self, spec: &SeriesSpec) -> Checked {
        check::same("levels", &self.levels, &spec.levels)?;
        check::same("horizons.len", &self.horizons.len(), &spec.horizons_ms.len())?;
        for (at, (found, ms)) in self.horizons.iter().zip(&spec.horizons_ms).enumerate() {
            let values = [found.mean].into_iter().chain(found.quantiles.iter().copied());
            let mut values = values.map(|value| check::within("a value", value, 0.0, 1e25));
            let sound = check::same("horizon_ms", &found.horizon_ms, ms)
                .and(check::same("quantiles.len", &found.quantiles.len(), &spec.levels.len()))
                .and_then(|()| values.try_for_each(|value| value));
            check::part(format_args!("horizons[{at}]"), sound)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Forecast {
        let horizon = |horizon_ms, quantiles: [f64; 3]| HorizonForecast {
            horizon_ms,
            mean: quantiles[1],
            quantiles: quantiles.to_vec(),
        };
        Forecast {
            levels: vec![0.1, 0.5, 0.9],
            horizons: vec![
                horizon(1_000, [90.0, 100.0, 110.0]),
                horizon(3_000, [150.0, 200.0, 250.0]),
                horizon(5_000, [50.0, 100.0, 150.0]),
            ],
        }
    }

    #[test]
    fn interpolates_inside_and_clamps_outside() {
        let forecast = sample();
        assert_eq!(forecast.quantile(1_000, 0.5), 100.0);
        assert_eq!(forecast.quantile(2_000, 0.5), 150.0);
        assert!((forecast.quantile(1_000, 0.7) - 105.0).abs() < 1e-9);
        assert_eq!(forecast.quantile(0, 0.0), 90.0);
        assert_eq!(forecast.quantile(u64::MAX, 1.0), 150.0);
        assert_eq!(forecast.quantile(1_000, f64::NAN), 100.0);
        assert_eq!(forecast.quantile(1_000, f64::NEG_INFINITY), 90.0);
    }

    #[test]
    fn the_maximum_sees_a_hump_before_the_horizon() {
        let forecast = sample();
        assert_eq!(forecast.max_quantile_within(5_000, 0.9), 250.0);
        assert_eq!(forecast.max_quantile_within(2_000, 0.9), 180.0);
        assert_eq!(forecast.max_quantile_within(0, 0.9), 110.0);
    }

    #[test]
    fn an_empty_forecast_reads_as_zero() {
        assert_eq!(Forecast::default().quantile(1_000, 0.5), 0.0);
        assert_eq!(Forecast::default().max_quantile_within(1_000, 0.5), 0.0);
        let bare = Forecast { levels: vec![], horizons: vec![HorizonForecast::default()] };
        assert_eq!(bare.quantile(1_000, 0.5), 0.0);
    }
}
