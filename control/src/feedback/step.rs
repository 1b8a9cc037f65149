//! The steps a shadow takes on its way to serving, and the thresholds that start them.

use serde::{Deserialize, Serialize};

/// A step that brings a shadow nearer to serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Cold to shadow.
    Prepare,
    /// Shadow to warm.
    Warm,
    /// To serving.
    Commit,
}

impl Step {
    /// All of them, in the order they are taken.
    pub const ALL: [Self; 3] = [Self::Prepare, Self::Warm, Self::Commit];

    /// Its name in records and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Warm => "warm",
            Self::Commit => "commit",
        }
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The quantile of demand that starts each step now, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// Makes a shadow.
    pub prepare: f64,
    /// Warms one up.
    pub warm: f64,
    /// Has one serve.
    pub commit: f64,
}

impl Thresholds {
    /// That of a step.
    #[must_use]
    pub fn of(&self, step: Step) -> f64 {
        match step {
            Step::Prepare => self.prepare,
            Step::Warm => self.warm,
            Step::Commit => self.commit,
        }
    }
}
