//! What is asked of a fit, and why it can fail.

use serde::{Deserialize, Serialize};
use thiserror::Error;

const DAY_MS: u64 = 24 * 3_600_000;
/// Most quantile levels kept.
const MAX_LEVELS: usize = 32;

/// What is asked of a fit. Any value is accepted; nonsense is repaired as each field says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LongSpec {
    /// Quantile levels; those outside (0, 1) are dropped, the rest sorted and clamped to
    /// 0.001..=0.999, and none becomes 0.1, 0.5, 0.9.
    pub levels: Vec<f64>,
    /// Periods in milliseconds; when empty, the day and the week are tried and whatever other
    /// period the data shows. Those that are no multiple of the step, or of which the history
    /// holds less than one and a quarter, are left out; of the rest the shortest counts, and the
    /// longest that is a multiple of it.
    pub seasons_ms: Vec<u64>,
    /// How far ahead the forecast must be good, in milliseconds; the models are weighed by their
    /// errors up to there. 0 becomes a day.
    pub horizon_ms: u64,
    /// Whether the series cannot be negative, as counts and rates cannot.
    pub non_negative: bool,
    /// Whether effects of events and regressors may depend on the time of day, the weekend and how busy it
    /// usually is, where the history shows that they do.
    pub interactions: bool,
}

impl Default for LongSpec {
    fn default() -> Self {
        Self {
            levels: vec![0.1, 0.5, 0.9],
            seasons_ms: Vec::new(),
            horizon_ms: DAY_MS,
            non_negative: true,
            interactions: true,
        }
    }
}

impl LongSpec {
    /// The horizon as [`LongSpec::horizon_ms`] says it is repaired.
    pub(super) fn sane_horizon_ms(&self) -> u64 {
        if self.horizon_ms == 0 { DAY_MS } else { self.horizon_ms }
    }

    /// The levels as [`LongSpec::levels`] says they are repaired.
    pub(super) fn sane_levels(&self) -> Vec<f64> {
        let inside = |level: &f64| *level > 0.0 && *level < 1.0;
        let mut levels: Vec<f64> = self.levels.iter().copied().filter(inside).collect();
        if levels.is_empty() {
            levels = Self::default().levels;
        }
        levels.iter_mut().for_each(|level| *level = level.clamp(0.001, 0.999));
        levels.sort_unstable_by(f64::total_cmp);
        levels.dedup();
        levels.truncate(MAX_LEVELS);
        levels
    }
}

/// Why no model can be made of a history.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FitError {
    /// There is no finite value.
    #[error("no finite value in a history of {steps} steps; fit again when something was measured")]
    Empty {
        /// Length of the history.
        steps: usize,
    },
    /// The step is zero.
    #[error("a history with a step of 0 ms has no time; give the time between its values")]
    Step,
}
