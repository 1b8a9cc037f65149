//! Activations: a shadow that is taken from the pool to serve, step by step to its end, each as one record.
//! Made from what the loop sees and plans anyway; written by a thread of its own that nobody waits for.

mod follow;
mod store;

use std::collections::BTreeMap;

use foreshadow_control::{InstanceId, Law, PlaceName, ServiceName, Tier};
use serde::{Deserialize, Serialize};

pub(crate) use follow::Following;
pub(crate) use store::{ActivationLog, MOST, read_file};

/// One activation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Activation {
    /// The service.
    pub(crate) service: ServiceName,
    /// The shadow.
    pub(crate) instance: InstanceId,
    /// Where it was made.
    pub(crate) place: PlaceName,
    /// When it was taken from the pool, Unix time.
    pub(crate) at_ms: u64,
    /// The tier it stood at.
    pub(crate) from: Tier,
    /// The law that wanted it.
    pub(crate) law: Law,
    /// Its reason.
    pub(crate) why: String,
    /// When each step was done.
    pub(crate) steps: Steps,
    /// Demand, requests per second.
    pub(crate) demand: DemandSeen,
    /// How it stands, or what became of it.
    pub(crate) outcome: Outcome,
}

/// Milliseconds from the taking to the end of each step; absent where it was not reached or not seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Steps {
    /// It has full size, and what its provider mirrors of the primary: networks, names, labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) configured_ms: Option<u64>,
    /// Its health check passes at full size, and it stands at `serving`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) verified_ms: Option<u64>,
    /// It has a weight: the first requests go to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) redirected_ms: Option<u64>,
    /// As many stand in reserve as before it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refilled_ms: Option<u64>,
}

/// Demand around an activation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct DemandSeen {
    /// When it was taken.
    pub(crate) before_rps: f64,
    /// The highest while it had a weight.
    pub(crate) highest_rps: f64,
    /// When it ended; absent while it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) after_rps: Option<f64>,
}

/// How an activation stands, or what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub(crate) enum Outcome {
    /// On its way.
    UnderWay,
    /// It has a weight.
    Serves,
    /// Taken back: the order to drain it.
    RolledBack {
        /// After it had its first requests, or was taken where it had none.
        after_s: u64,
        /// Whether demand was ever more than the primaries carried; absent where that was not known.
        needed: Option<bool>,
    },
    /// A step failed, or it ended or was ended while it served.
    Failed {
        /// `configured`, `verified`, `redirected` or `serving`: the first that did not come about.
        step: String,
        /// What came back.
        error: String,
    },
    /// The node ended, or the service went, before it did.
    NotSeen,
}

impl Outcome {
    /// Whether more may come of it.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Self::UnderWay | Self::Serves)
    }
}

/// Those that have not ended, by shadow.
type Open = BTreeMap<InstanceId, follow::Followed>;
