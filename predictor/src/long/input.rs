//! What a fit is made from: history, series that move with it, and events.

use serde::{Deserialize, Serialize};

/// A series sampled on a regular grid.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Unix time of the first value, in milliseconds.
    pub start_ms: u64,
    /// Time between values, in milliseconds; any, commonly a minute, a quarter of an hour, an
    /// hour.
    pub step_ms: u64,
    /// One value per step, oldest first; `None` where nothing is known. NaN and infinite values
    /// are read as `None`.
    pub values: Vec<Option<f64>>,
}

impl History {
    /// Unix time in milliseconds of the first step after the last value.
    pub fn end_ms(&self) -> u64 {
        self.start_ms.saturating_add(self.step_ms.saturating_mul(self.values.len() as u64))
    }
}

/// A series that may explain another, known over its past and for as far ahead as it was planned:
/// a campaign's budget, a queue's depth, a calendar as zeros and ones. One that is known only up to the
/// end of the history counts by its lead, if it is found to have one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Regressor {
    /// Name for display.
    pub name: String,
    /// Unix time of the first value, in milliseconds.
    pub start_ms: u64,
    /// One value per step of the history it goes with; `None` where nothing is known, which counts
    /// as the series' usual value, after the last value fading to it. It may begin and end before or after the history.
    pub values: Vec<Option<f64>>,
}

/// Something announced that changes demand while it lasts. Events of one kind share one lift,
/// learned over their repeats.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What repeats, such as `sale` or `match`.
    pub kind: String,
    /// Unix time at which it begins, in milliseconds.
    pub start_ms: u64,
    /// Unix time at which it is over, in milliseconds.
    pub end_ms: u64,
    /// Factor on demand expected by whoever announced it; what repeats teach outweighs it.
    pub expected_lift: Option<f64>,
}
