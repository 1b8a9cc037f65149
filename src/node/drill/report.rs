//! What a drill tells of itself, while it runs and after.

use foreshadow_control::{InstanceId, Role, ServiceName};
use serde::{Deserialize, Serialize};

use super::ask::Ask;

/// Where a drill stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    /// Nothing is done yet: what is normal is measured.
    Before,
    /// The fault is in force.
    Fault,
    /// It is over; the service has time to be as before.
    Settling,
    /// All is said.
    Done,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Every goal was met.
    Passed,
    /// A goal was not.
    Failed,
    /// It was called off before its time.
    CalledOff,
    /// The node ended in the middle of it.
    CutShort,
}

impl Verdict {
    /// Every verdict.
    pub(crate) const ALL: [Self; 4] = [Self::Passed, Self::Failed, Self::CalledOff, Self::CutShort];

    /// Its name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::CalledOff => "called_off",
            Self::CutShort => "cut_short",
        }
    }
}

/// A drill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Its number since the node started; it goes on from one that was cut short.
    pub(crate) id: u64,
    /// The service.
    pub(crate) service: ServiceName,
    /// Who is hurt.
    pub(crate) victim: Victim,
    /// How: by which provider, or at the proxy.
    pub(crate) how: String,
    /// As it was asked for.
    pub(crate) asked: Ask,
    /// Objections that were passed over.
    pub(crate) forced: Vec<Objection>,
    /// Unix time at which it began.
    pub(crate) began_ms: u64,
    /// Where it stands.
    pub(crate) stage: Stage,
    /// What came of it, once that is known.
    pub(crate) verdict: Option<Verdict>,
    /// Why it was called off, if it was.
    pub(crate) called_off: Option<String>,
    /// What happened when.
    pub(crate) times: Times,
    /// Requests by part of the drill.
    pub(crate) figures: Parts,
    /// Requests by second.
    pub(crate) seconds: Vec<Second>,
    /// What was expected, and what was found.
    pub(crate) goals: Vec<Goal>,
    /// What else there is to say.
    pub(crate) notes: Vec<String>,
}

/// The instance that is hurt, as it was before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Victim {
    /// The instance.
    pub(crate) instance: InstanceId,
    /// Primary or shadow.
    pub(crate) role: Role,
    /// Where it listens.
    pub(crate) address: String,
    /// Its weight.
    pub(crate) weight: u32,
}

/// Times in milliseconds from the fault; absent what has not happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Times {
    /// Its weight is zero, or it is gone from the table.
    pub(crate) weight_zero_ms: Option<u64>,
    /// A request that it did not answer was answered by another, or all of them go to others.
    pub(crate) carried_elsewhere_ms: Option<u64>,
    /// Another instance has a weight that had none.
    pub(crate) replaced_ms: Option<u64>,
    /// Which.
    pub(crate) replaced_by: Option<InstanceId>,
    /// An instance that is new has been made.
    pub(crate) recreated_ms: Option<u64>,
    /// Which.
    pub(crate) recreated_as: Option<InstanceId>,
    /// The fault was taken back, or its time was over.
    pub(crate) over_ms: Option<u64>,
    /// The instance is as its tier asks for again, or gone for good.
    pub(crate) put_right_ms: Option<u64>,
    /// The service is as before.
    pub(crate) normal_ms: Option<u64>,
}

/// Requests of one stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Figures {
    /// Its length.
    pub(crate) seconds: f64,
    /// Requests of clients.
    pub(crate) requests: u64,
    /// Of those, requests that were answered with a 5xx, or not to the end.
    pub(crate) failed: u64,
    /// Attempts that were a retry.
    pub(crate) retried: u64,
    /// Median latency of answers; 0 without any.
    pub(crate) p50_ms: f64,
    /// 99th percentile.
    pub(crate) p99_ms: f64,
}

/// The parts of a drill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Parts {
    /// Up to the fault.
    pub(crate) before: Figures,
    /// While it was in force.
    pub(crate) during: Figures,
    /// From its end.
    pub(crate) after: Figures,
}

/// One second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Second {
    /// Its beginning, in milliseconds from the fault; before it less than zero.
    pub(crate) from_ms: i64,
    /// Its requests.
    #[serde(flatten)]
    pub(crate) figures: Figures,
}

/// What was expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Goal {
    /// Of what.
    pub(crate) what: String,
    /// The bound.
    pub(crate) expected: String,
    /// What was seen.
    pub(crate) found: String,
    /// Whether that is within it.
    pub(crate) met: bool,
}

/// Why a drill is not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Objection {
    /// A word for it.
    pub(crate) what: String,
    /// With figures.
    pub(crate) text: String,
    /// What would help.
    pub(crate) help: String,
    /// Whether `force` passes over it.
    pub(crate) may_be_forced: bool,
}

impl Objection {
    pub(super) fn hard(what: &str, text: impl Into<String>, help: impl Into<String>) -> Self {
        let (text, help) = (text.into(), help.into());
        Self { what: what.to_owned(), text, help, may_be_forced: false }
    }

    pub(super) fn soft(what: &str, text: impl Into<String>, help: impl Into<String>) -> Self {
        Self { may_be_forced: true, ..Self::hard(what, text, help) }
    }
}
