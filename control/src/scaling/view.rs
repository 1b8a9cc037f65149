//! What the law of scaling is told, what it says, and what of it is shown.

use serde::{Deserialize, Serialize};

use crate::InstanceId;

/// How the primaries of a service are scaled by its own means.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScalingSpec {
    /// Never fewer; absent: the number that was found before the first order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<u32>,
    /// Never more.
    pub max: u32,
    /// Share of its capacity that a primary is to be filled to, 0 to 1.
    pub target: f64,
    /// From an order to primaries that are ready, until that has been seen.
    pub lead_time_ms: u64,
    /// Fewer must have been needed for this long before one goes.
    pub stabilisation_ms: u64,
    /// Least time between two steps down.
    pub cooldown_ms: u64,
    /// Most primaries that are added before those asked for are ready.
    pub max_step: u32,
    /// A number that somebody else has set is left alone, or kept for a floor, for this long.
    pub respect_ms: u64,
}

/// What is known of a service's scaler in one tick.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScalingSeen {
    /// The number that is wanted there by the newest answer, whoever set it; none before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<u32>,
    /// Primaries that it lists as ready, those of the configuration included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ready: Vec<InstanceId>,
    /// Primaries that it is about to end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<InstanceId>,
    /// Of `ready`, those that its newest answer does not list, which is not believed yet: too many went at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unlisted: Vec<InstanceId>,
    /// The number that it was asked for last and took; outlives a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<u32>,
    /// The number before the first such order, as the order said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<u32>,
    /// What it was asked last and did not do, what came back and what happens next; none where its
    /// newest answer was a good one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// An order to a service's own scaler; it stands until it is taken or withdrawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScaleOrder {
    /// Primaries there should be.
    pub primaries: u32,
    /// How many were wanted before it.
    pub was: u32,
    /// How many before the first order.
    pub original: u32,
    /// Why, with figures.
    pub text: String,
}

/// How the scaling of a service's primaries stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScalingPhase {
    /// The scaler has not answered yet.
    #[default]
    Unknown,
    /// As many as are wanted, or nothing is known that would ask for others.
    Steady,
    /// More are asked for, or not ready yet: shadows bridge.
    ScalingOut,
    /// They are ready and not warm yet: shadows still bridge.
    WarmingUp,
    /// They are warm: shadows step back.
    SteppingBack,
    /// Fewer are asked for.
    ScalingIn,
    /// Somebody else has set the number, which is respected.
    StandingAside,
}

impl ScalingPhase {
    /// Every phase.
    pub const ALL: [Self; 7] = [
        Self::Unknown,
        Self::Steady,
        Self::ScalingOut,
        Self::WarmingUp,
        Self::SteppingBack,
        Self::ScalingIn,
        Self::StandingAside,
    ];

    /// Its name in records, answers and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Steady => "steady",
            Self::ScalingOut => "scaling_out",
            Self::WarmingUp => "warming_up",
            Self::SteppingBack => "stepping_back",
            Self::ScalingIn => "scaling_in",
            Self::StandingAside => "standing_aside",
        }
    }
}

/// How the scaling of a service's primaries stands, with the order that stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScalingView {
    /// How it stands.
    pub phase: ScalingPhase,
    /// Primaries that sustained demand needs, within the bounds; none while that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed: Option<u32>,
    /// The number wanted there by the newest answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<u32>,
    /// The number asked for last and taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<u32>,
    /// The number that rollback goes back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<u32>,
    /// How many are ready.
    pub ready: u32,
    /// How many are about to end.
    pub leaving: u32,
    /// From an order to ready primaries: the 90th percentile of what was seen, or the prior.
    pub lead_ms: u64,
    /// For how long the number that somebody else has set is still respected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub respected_for_ms: Option<u64>,
    /// The scaler's trouble, as it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// The order that stands; carried out in mode act only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<ScaleOrder>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_named_as_they_are_written() {
        for phase in ScalingPhase::ALL {
            let written = serde_json::to_value(phase).expect("a phase is a word");
            assert_eq!(written, phase.as_str());
        }
    }
}
