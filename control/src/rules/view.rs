//! What of a rule is told in the plan.

use serde::{Deserialize, Serialize};

use crate::InstanceId;

/// How a rule stands in one tick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleView {
    /// Its name.
    pub name: String,
    /// Its text.
    pub rule: String,
    /// How it stands.
    pub state: RuleState,
    /// Since when, as the time of an observation.
    pub since_ms: u64,
    /// Its comparisons, in the order written.
    pub readings: Vec<RuleReading>,
}

/// Where a rule stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleState {
    /// Its condition does not hold.
    Inactive,
    /// It holds, but not long enough yet.
    Pending,
    /// It asks for what it is there for.
    Firing,
    /// Whether its condition holds cannot be said, since figures are missing.
    NoData,
}

impl RuleState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Inactive, Self::Pending, Self::Firing, Self::NoData];

    /// The name it has in records and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::NoData => "no_data",
        }
    }
}

/// The figures of one comparison, in the unit its value is written in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleReading {
    /// The comparison.
    pub comparison: String,
    /// The instance whose figures these are, where instances are compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// What is measured; absent when nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<f64>,
    /// What is predicted; absent when the comparison looks at now, or too little is known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted: Option<f64>,
    /// The unit of both.
    pub unit: String,
    /// Whether the comparison holds; absent when that cannot be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<bool>,
    /// The figures as a sentence.
    pub text: String,
}
