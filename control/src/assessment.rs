//! How likely instances are to fail, as it is told.

use serde::{Deserialize, Serialize};

use crate::InstanceId;

/// How likely an instance is to fail, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RiskAssessment {
    /// The instance.
    pub instance: InstanceId,
    /// Probability that it is ejected, goes down or ends within `horizon_ms`, 0 to 1, calibrated
    /// by what became of earlier ones.
    pub score: f64,
    /// How far ahead.
    pub horizon_ms: u64,
    /// The same within [`RiskAssessment::SOON_MS`].
    pub soon_score: f64,
    /// Requests per second it would get then, by its share and the demand forecast.
    pub predicted_load_rps: f64,
    /// Share of its requests that it keeps while its load is moved away, 0 to 1; 1 when it is
    /// left alone.
    pub kept: f64,
    /// When a resource of it is exhausted, where one is being used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exhaustion: Option<Exhaustion>,
    /// What speaks for a failure, most important first; the largest four.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contributors: Vec<Contributor>,
}

impl RiskAssessment {
    /// The nearer of the two horizons.
    pub const SOON_MS: u64 = 30_000;
    /// The farther one, that decisions look at.
    pub const HORIZON_MS: u64 = 300_000;
}

/// One thing that speaks for a failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contributor {
    /// The kind of evidence.
    pub what: RiskSignal,
    /// Figures, readable without the code.
    pub evidence: String,
    /// Its part of all evidence, 0 to 1.
    pub share: f64,
}

/// Kinds of evidence that an instance will fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RiskSignal {
    /// It answers slower than it did, and its peers do not.
    Latency,
    /// A larger share of its requests fails than it did, and of its peers'.
    Errors,
    /// Connections to it cannot be made.
    ConnectErrors,
    /// Requests pile up in it.
    InFlight,
    /// It answers fewer of the requests it is given than its peers.
    Throughput,
    /// More segments to it are sent again than were, and than its peers'.
    Retransmits,
    /// It went down or was ejected lately, and came back.
    Flaps,
    /// Its memory is used up soon, by its trend.
    MemoryTrend,
    /// Little of its memory is left now.
    MemoryLeft,
    /// Its disk is full soon, by its trend.
    DiskTrend,
    /// Little of its disk is left now.
    DiskLeft,
    /// It waits for memory or disk for much of the time.
    Stalls,
    /// It uses all the processor time it may.
    Cpu,
    /// A metric that it reports is far from its own past, and its peers' are not.
    Reported,
}

/// When a resource is used up, by a robust trend.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exhaustion {
    /// [`RiskSignal::MemoryTrend`] or [`RiskSignal::DiskTrend`].
    pub what: RiskSignal,
    /// Time left by the trend.
    pub in_ms: u64,
    /// Time left at the upper end of the trend's 90 % interval: the sooner one.
    pub soonest_ms: u64,
    /// Time left at its lower end; absent when that end is no growth at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_ms: Option<u64>,
}
