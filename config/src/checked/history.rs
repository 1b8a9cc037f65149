//! What is kept of the past.

use std::time::Duration;

use serde::Serialize;

use crate::units;

/// What is kept of the past in `history.db` of the state directory, by resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct History {
    /// Whether anything is kept at all.
    pub enabled: bool,
    /// How long rows of one second are kept.
    #[serde(serialize_with = "units::duration::serialize")]
    pub keep_1s: Duration,
    /// How long rows of one minute are kept.
    #[serde(serialize_with = "units::duration::serialize")]
    pub keep_1m: Duration,
    /// How long rows of 15 minutes are kept.
    #[serde(serialize_with = "units::duration::serialize")]
    pub keep_15m: Duration,
    /// How long rows of one hour are kept.
    #[serde(serialize_with = "units::duration::serialize")]
    pub keep_1h: Duration,
    /// Bytes the file is held to.
    #[serde(serialize_with = "units::size::serialize")]
    pub max_size: u64,
    /// How often what the controller has learned is saved.
    #[serde(serialize_with = "units::duration::serialize")]
    pub snapshot_interval: Duration,
    /// What was learned longer ago than this is not taken up again at start.
    #[serde(serialize_with = "units::duration::serialize")]
    pub snapshot_max_age: Duration,
}
