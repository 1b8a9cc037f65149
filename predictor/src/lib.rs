//! Streaming forecasters, their aggregation and calibrated intervals; pure, without IO or clock.

mod aggregate;
mod conformal;
mod experts;
mod forecast;
mod horizon;
mod level;
mod math;
mod pending;
mod score;
mod series;
mod spec;
mod window;

pub use forecast::{Forecast, HorizonForecast};
pub use score::{HorizonScore, MIN_SCORED, Score};
pub use series::Forecaster;
pub use spec::{MAX_HORIZON_MS, MAX_HORIZONS, MAX_SEASONS, SeriesSpec};
