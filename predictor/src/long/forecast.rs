//! The answer: quantile curves over the time ahead.

use serde::{Deserialize, Serialize};

/// Quantile curves: what is expected at each step from a moment on, in the unit of the history.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LongForecast {
    /// Unix time in milliseconds of the first step described.
    pub start_ms: u64,
    /// Time between steps, in milliseconds; that of the history.
    pub step_ms: u64,
    /// Quantile levels, sorted, inside (0, 1).
    pub levels: Vec<f64>,
    /// One row per step, one value per level: finite and non-decreasing.
    pub quantiles: Vec<Vec<f64>>,
    /// Point forecast by step: finite.
    pub mean: Vec<f64>,
}

impl LongForecast {
    /// The value not exceeded with probability `level` during the step that contains `at_ms`:
    /// linear between the known levels, clamped to the outermost of them. `None` outside the time
    /// described; a NaN level is read as the median.
    pub fn quantile(&self, at_ms: u64, level: f64) -> Option<f64> {
        let step = at_ms.checked_sub(self.start_ms)?.checked_div(self.step_ms)?;
        let row = self.quantiles.get(usize::try_from(step).ok()?)?;
        let level = if level.is_nan() { 0.5 } else { level };
        let next = self.levels.partition_point(|known| *known < level);
        let (Some(above), Some(before)) = (row.get(next), next.checked_sub(1)) else {
            return if next == 0 { row.first() } else { row.last() }.copied();
        };
        let (low, high) = (self.levels[before], self.levels.get(next).copied()?);
        let below = row.get(before).copied()?;
        Some(below + (above - below) * ((level - low) / (high - low)).clamp(0.0, 1.0))
    }

    /// The largest [`quantile`](Self::quantile) of any step that overlaps `from_ms..to_ms`; `None`
    /// if none does. The probability is that of each step by itself.
    pub fn max_quantile(&self, from_ms: u64, to_ms: u64, level: f64) -> Option<f64> {
        let first = from_ms.saturating_sub(self.start_ms).checked_div(self.step_ms)?;
        let end = to_ms.saturating_sub(self.start_ms).div_ceil(self.step_ms);
        let end = end.min(self.quantiles.len() as u64);
        let at = |step: u64| self.start_ms.saturating_add(step.saturating_mul(self.step_ms));
        (first..end).filter_map(|step| self.quantile(at(step), level)).reduce(f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_read_by_time_and_level() {
        let forecast = LongForecast {
            start_ms: 1_000,
            step_ms: 10,
            levels: vec![0.1, 0.5, 0.9],
            quantiles: vec![vec![1.0, 2.0, 4.0], vec![10.0, 20.0, 30.0], vec![0.0, 1.0, 2.0]],
            mean: vec![2.0, 20.0, 1.0],
        };
        assert_eq!(forecast.quantile(1_000, 0.5), Some(2.0));
        assert_eq!(forecast.quantile(1_019, 0.5), Some(20.0));
        assert!((forecast.quantile(1_009, 0.7).unwrap() - 3.0).abs() < 1e-9);
        assert_eq!(forecast.quantile(1_000, 0.0), Some(1.0));
        assert_eq!(forecast.quantile(1_000, 1.0), Some(4.0));
        assert_eq!(forecast.quantile(1_000, f64::NAN), Some(2.0));
        assert_eq!((forecast.quantile(999, 0.5), forecast.quantile(1_030, 0.5)), (None, None));
        assert_eq!(forecast.max_quantile(0, 1_010, 0.9), Some(4.0));
        assert_eq!(forecast.max_quantile(0, 1_011, 0.9), Some(30.0));
        assert_eq!(forecast.max_quantile(1_020, u64::MAX, 0.9), Some(2.0));
        assert_eq!(forecast.max_quantile(2_000, 3_000, 0.9), None);
        assert_eq!(LongForecast::default().max_quantile(0, 9, 0.5), None);
        assert_eq!(LongForecast::default().quantile(0, 0.5), None);
    }
}
