//! Demand of one service: measured, smoothed and forecast.

use serde::{Deserialize, Serialize};

/// What a forecaster says of a service's demand, in requests per second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DemandForecast {
    /// By increasing horizon.
    pub horizons: Vec<DemandHorizon>,
}

/// Demand at one horizon, in requests per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DemandHorizon {
    /// How far ahead.
    pub horizon_ms: u64,
    /// The quantile that commits.
    pub lower_rps: f64,
    /// The quantile that warms.
    pub median_rps: f64,
    /// The quantile that prepares.
    pub upper_rps: f64,
}
