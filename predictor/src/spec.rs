//! What a series is, and the sanitised form of it that the rest of the crate can rely on.

use serde::{Deserialize, Serialize};

/// Longest horizon a [`Forecaster`](crate::Forecaster) looks ahead, in milliseconds, unless its steps
/// are so long that [`MAX_HORIZON_STEPS`] of them are more.
pub const MAX_HORIZON_MS: u64 = 600_000;

/// Longest horizon of a series of long steps.
pub const MAX_HORIZON_STEPS: u64 = 256;

/// Most horizons, and most quantile levels, kept of a [`SeriesSpec`].
pub const MAX_HORIZONS: usize = 16;

/// Most seasons kept of a [`SeriesSpec`].
pub const MAX_SEASONS: usize = 4;

const DEFAULT_STEP_MS: u64 = 100;
const STEP_RANGE_MS: (u64, u64) = (10, 86_400_000);
const DEFAULT_HORIZONS_MS: [u64; 4] = [1_000, 5_000, 30_000, 120_000];
const DEFAULT_LEVELS: [f64; 3] = [0.1, 0.5, 0.9];
const LEVEL_RANGE: (f64, f64) = (0.001, 0.999);
/// A season must have at least this many steps to have a shape.
const MIN_SEASON_STEPS: u64 = 8;
const MAX_SEASON_MS: u64 = 366 * 24 * 3_600_000;

/// What a series is and where it is looked at.
///
/// Any value is accepted: [`Forecaster::new`](crate::Forecaster::new) works on
/// [`sanitised`](Self::sanitised), whose doc lists the repairs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SeriesSpec {
    /// Time between two calls of [`observe`](crate::Forecaster::observe), in milliseconds;
    /// normally 100.
    pub step_ms: u64,
    /// How far ahead to look, in milliseconds: sorted, from one step to [`MAX_HORIZON_MS`].
    pub horizons_ms: Vec<u64>,
    /// Quantile levels, sorted, inside (0, 1).
    pub levels: Vec<f64>,
    /// Known periods of the series, in milliseconds, such as a day; may be empty. Phase zero is
    /// the first step observed.
    pub seasons_ms: Vec<u64>,
}

impl SeriesSpec {
    /// The nearest spec that makes sense.
    ///
    /// - `step_ms`: 0 becomes 100; otherwise clamped to 10 ms..=1 day.
    /// - `horizons_ms`: rounded up to whole steps, clamped to one step..=[`MAX_HORIZON_MS`] or
    ///   [`MAX_HORIZON_STEPS`] steps if that is more, sorted, duplicates dropped, the first [`MAX_HORIZONS`] kept; none becomes 1, 5, 30 and
    ///   120 s.
    /// - `levels`: NaN, infinite and outside (0, 1) dropped, the rest clamped to 0.001..=0.999,
    ///   sorted, duplicates dropped, the first [`MAX_HORIZONS`] kept; none becomes 0.1, 0.5, 0.9.
    /// - `seasons_ms`: shorter than 8 steps or longer than a year dropped, sorted, duplicates
    ///   dropped, the first [`MAX_SEASONS`] kept.
    pub fn sanitised(&self) -> Self {
        let step_ms = match self.step_ms {
            0 => DEFAULT_STEP_MS,
            ms => ms.clamp(STEP_RANGE_MS.0, STEP_RANGE_MS.1),
        };
        let longest = (MAX_HORIZON_MS / step_ms).max(MAX_HORIZON_STEPS) * step_ms;
        let round_up = |ms: &u64| ms.min(&longest).div_ceil(step_ms).max(1) * step_ms;
        let mut horizons_ms: Vec<u64> = self.horizons_ms.iter().map(round_up).collect();
        if horizons_ms.is_empty() {
            horizons_ms = DEFAULT_HORIZONS_MS.iter().map(round_up).collect();
        }
        horizons_ms.sort_unstable();
        horizons_ms.dedup();
        horizons_ms.truncate(MAX_HORIZONS);

        let inside = |level: &f64| *level > 0.0 && *level < 1.0;
        let mut levels: Vec<f64> = self.levels.iter().copied().filter(inside).collect();
        if levels.is_empty() {
            levels = DEFAULT_LEVELS.to_vec();
        }
        levels.iter_mut().for_each(|level| *level = level.clamp(LEVEL_RANGE.0, LEVEL_RANGE.1));
        levels.sort_unstable_by(f64::total_cmp);
        levels.dedup();
        levels.truncate(MAX_HORIZONS);

        let mut seasons_ms = self.seasons_ms.clone();
        seasons_ms.retain(|ms| (step_ms * MIN_SEASON_STEPS..=MAX_SEASON_MS).contains(ms));
        seasons_ms.sort_unstable();
        seasons_ms.dedup();
        seasons_ms.truncate(MAX_SEASONS);
        Self { step_ms, horizons_ms, levels, seasons_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_every_kind_of_nonsense() {
        let spec = SeriesSpec {
            step_ms: 0,
            horizons_ms: vec![u64::MAX, 0, 150, 150],
            levels: vec![f64::NAN, 2.0, 0.9, -1.0, 0.1, f64::INFINITY, 0.1],
            seasons_ms: vec![0, u64::MAX, 60_000, 60_000],
        };
        let expected = SeriesSpec {
            step_ms: 100,
            horizons_ms: vec![100, 200, 600_000],
            levels: vec![0.1, 0.9],
            seasons_ms: vec![60_000],
        };
        assert_eq!(spec.sanitised(), expected);
        assert_eq!(expected.sanitised(), expected);
    }

    #[test]
    fn an_empty_spec_becomes_the_default() {
        let spec = SeriesSpec::default().sanitised();
        assert_eq!(spec.horizons_ms, DEFAULT_HORIZONS_MS);
        assert_eq!(spec.levels, DEFAULT_LEVELS);
    }
}
