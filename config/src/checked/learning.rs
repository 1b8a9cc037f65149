//! What may be learned from outcomes, and how far it may go.

use foreshadow_control::{LearningSpec, Pace};
use serde::Serialize;

/// What is learned from outcomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Learning {
    /// Whether outcomes count by place in where and when shadows are made.
    pub enabled: bool,
    /// Whether migrations shift by what became of earlier ones.
    #[serde(skip_serializing_if = "is_off")]
    pub steps: bool,
    /// The fastest plan that may be chosen for it.
    #[serde(skip_serializing_if = "is_normal")]
    pub fastest: Pace,
    /// Migrations in a row that must go well before a faster plan is tried, 1 to 1,000.
    #[serde(skip_serializing_if = "is_usual")]
    pub successes: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip predicates take a reference")]
fn is_off(switch: &bool) -> bool {
    !*switch
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip predicates take a reference")]
fn is_normal(pace: &Pace) -> bool {
    *pace == Pace::Normal
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip predicates take a reference")]
fn is_usual(successes: &u32) -> bool {
    *successes == LearningSpec::SUCCESSES
}

impl Learning {
    /// The same as the controller knows it.
    #[must_use]
    pub fn spec(self) -> LearningSpec {
        let Self { enabled, steps, fastest, successes } = self;
        LearningSpec { outcomes: enabled, steps, fastest, successes }
    }
}
