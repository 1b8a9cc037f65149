//! Streaming forecasters, their aggregation and calibrated intervals; pure, without IO or clock.
//!
//! A [`Forecaster`] takes one value per step and always has a current [`Forecast`]; its
//! [`Score`] says whether that can be relied on.
//!
//! ```
//! use foreshadow_predictor::{Forecaster, SeriesSpec};
//!
//! let mut demand = Forecaster::new(SeriesSpec {
//!     step_ms: 100,
//!     horizons_ms: vec![500, 2_000],
//!     levels: vec![0.1, 0.5, 0.9],
//!     seasons_ms: vec![],
//! });
//! for step in 0..200 {
//!     let requests_per_s = 100.0 + 2.0 * f64::from(step);
//!     demand.observe(requests_per_s);
//! }
//! let now = demand.level();
//! assert!(demand.forecast().quantile(2_000, 0.5) > now + 20.0, "the ramp goes on");
//! assert!(demand.usable());
//! ```

mod aggregate;
mod boa;
mod check;
mod conformal;
mod experts;
mod forecast;
mod horizon;
mod level;
pub mod long;
mod math;
#[cfg(feature = "onnx")]
pub mod onnx;
mod pending;
mod scales;
mod score;
mod series;
mod sight;
mod signals;
mod spec;
mod touch;
mod window;

pub use forecast::{Forecast, HorizonForecast};
pub use score::{HorizonScore, MIN_SCORED, Score};
pub use series::Forecaster;
pub use signals::MAX_REGRESSORS;
pub use spec::{MAX_HORIZON_MS, MAX_HORIZON_STEPS, MAX_HORIZONS, MAX_SEASONS, SeriesSpec};
