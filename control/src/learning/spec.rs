//! What may be learned from outcomes, and how far it may go.

use serde::{Deserialize, Serialize};

use super::Pace;

/// What is learned from outcomes; nothing by default, so that recordings of releases before replay as they
/// were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LearningSpec {
    /// Failures, lead times of creations that failed, and warm-up count by place.
    pub outcomes: bool,
    /// Whether migrations shift by what became of earlier ones to the same place.
    pub steps: bool,
    /// The fastest plan that may be chosen for it.
    pub fastest: Pace,
    /// Successes in a row that a faster plan needs before it is tried.
    pub successes: u32,
}

impl Default for LearningSpec {
    fn default() -> Self {
        Self { outcomes: false, steps: false, fastest: Pace::Normal, successes: Self::SUCCESSES }
    }
}

impl LearningSpec {
    /// Successes in a row that a faster plan needs where nothing is said of it.
    pub const SUCCESSES: u32 = 5;

    /// Whether nothing is learned.
    #[must_use]
    pub fn is_off(&self) -> bool {
        *self == Self::default()
    }
}
