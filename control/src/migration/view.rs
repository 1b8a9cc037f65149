//! What the law of migration is told, what it says, and what of it is shown.

use serde::{Deserialize, Serialize};

use crate::{InstanceId, PlaceName};

/// How instances of a service are moved elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MigrationSpec {
    /// Part of its requests that has moved after each step, 0 to 1, rising, the last one 1.
    pub steps: Vec<f64>,
    /// Each step is watched for this long before the next.
    pub verify_ms: u64,
    /// A target that is not ready after this is given up.
    pub ready_ms: u64,
    /// The instance keeps its last requests for at most this long.
    pub drain_ms: u64,
    /// Probability of failing from which one begins by itself; none: only when it is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk: Option<f64>,
}

impl Default for MigrationSpec {
    fn default() -> Self {
        Self {
            steps: vec![0.05, 0.25, 0.5, 1.0],
            verify_ms: 10_000,
            ready_ms: 300_000,
            drain_ms: 30_000,
            risk: None,
        }
    }
}

impl MigrationSpec {
    /// Whether nothing was said of it.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A migration that somebody asked for; repeated each tick until its end was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationOrder {
    /// Distinct among all that were ever asked for.
    pub id: u64,
    /// Who moves; none: the one that the law would choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// Where to; none: the place that the law would choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<PlaceName>,
    /// It begins then: its time, and the next window after that. 0: now.
    #[serde(default, skip_serializing_if = "is_now")]
    pub begins_in_ms: u64,
    /// It is called off: what was moved goes back.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cancelled: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip predicates take a reference")]
fn is_now(ms: &u64) -> bool {
    *ms == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip predicates take a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// What is known of a service's migrations in one tick.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MigrationsSeen {
    /// Those asked for that have not ended, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<MigrationOrder>,
    /// Time until one may begin by itself: 0 within a window or where there are none; none where no
    /// window comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_in_ms: Option<u64>,
    /// Primaries that moved away earlier and are drained for good, whether or not the law remembers it:
    /// for each a shadow serves until it is not among these any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moved: Vec<InstanceId>,
}

impl MigrationsSeen {
    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// When an instance moves, and where to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationSchedule {
    /// Who moves.
    pub instance: InstanceId,
    /// The place it moves to.
    pub target: PlaceName,
    /// When it begins or began, as a time of the tick.
    pub start_ms: u64,
    /// From its begin to its end, by learned lead times and the steps as they are set.
    pub estimated_duration_ms: u64,
}

/// How far a migration has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MigrationPhase {
    /// Its time has not come, another one is under way, or nothing may be done now.
    Scheduled,
    /// The target is made ready.
    Preparing,
    /// Requests move step by step, each one watched.
    Shifting,
    /// All requests go elsewhere; the last ones are answered.
    Draining,
    /// What was moved goes back.
    RollingBack,
    /// The instance carries nothing any more: a shadow has ended, a primary is drained for good.
    Done,
    /// It was called off or a check failed; everything is as before.
    RolledBack,
    /// It could not begin; the text says why.
    Refused,
}

impl MigrationPhase {
    /// Every phase.
    pub const ALL: [Self; 8] = [
        Self::Scheduled,
        Self::Preparing,
        Self::Shifting,
        Self::Draining,
        Self::RollingBack,
        Self::Done,
        Self::RolledBack,
        Self::Refused,
    ];

    /// Its name in records, answers and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Preparing => "preparing",
            Self::Shifting => "shifting",
            Self::Draining => "draining",
            Self::RollingBack => "rolling_back",
            Self::Done => "done",
            Self::RolledBack => "rolled_back",
            Self::Refused => "refused",
        }
    }

    /// Whether nothing more happens.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::RolledBack | Self::Refused)
    }
}

/// One comparison that a step had to pass.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MigrationCheck {
    /// What was looked at: `health`, `errors`, `latency`, `agreement`, `samples`.
    pub name: String,
    /// Whether it holds.
    pub passed: bool,
    /// Figures and bound, as one sentence.
    pub text: String,
}

/// How one migration stands; told once more in the tick after its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MigrationView {
    /// Its number; none where the law began it by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// When, who and where to; none while that is not chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<MigrationSchedule>,
    /// How far it has come.
    pub phase: MigrationPhase,
    /// The shadow that takes over, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<InstanceId>,
    /// The step that is being watched, from 1; 0 before the first.
    pub step: u32,
    /// Part of the instance's requests that has moved, 0 to 1.
    pub moved: f64,
    /// Time in this phase.
    pub phase_ms: u64,
    /// What the newest step was held against.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<MigrationCheck>,
    /// Why it stands where it does, with figures.
    pub text: String,
}

/// One that could move, as a dry run tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MigrationChoice {
    /// Who would move, where to, when and for how long; `start_ms` is the time of the tick.
    pub schedule: MigrationSchedule,
    /// Probability that it fails within [`crate::RiskAssessment::HORIZON_MS`].
    pub risk: f64,
    /// Requests per second that it carries now.
    pub load_rps: f64,
    /// Requests per second that the place has room for, by ready shadows and room for more; none
    /// where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_rps: Option<f64>,
    /// What the target costs per hour beyond what the instance costs there where it is.
    pub cost_per_hour: f64,
    /// What speaks against it, one sentence each; empty when it could begin now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objections: Vec<String>,
    /// Why it stands where it does among the others.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_named_as_they_are_written() {
        for phase in MigrationPhase::ALL {
            let written = serde_json::to_value(phase).expect("a phase is a word");
            assert_eq!(written, phase.as_str());
        }
    }
}
