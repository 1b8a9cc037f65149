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
