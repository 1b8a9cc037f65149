//! Figures of a service as a whole that somebody else has.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::units;

/// A figure of a service, and where it is looked up.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Signal {
    /// Where.
    #[serde(flatten)]
    pub source: SignalSource,
    /// How often.
    #[serde(serialize_with = "units::duration::serialize")]
    pub interval: Duration,
    /// Longest wait for it; at most the interval.
    #[serde(serialize_with = "units::duration::serialize")]
    pub timeout: Duration,
}

/// Where a signal is looked up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum SignalSource {
    /// In a table of times and values.
    File {
        /// The table.
        file: PathBuf,
    },
    /// On a Prometheus server.
    Prometheus {
        /// Its URL, which begins with `http://`.
        prometheus: String,
        /// What it is asked, in PromQL.
        query: String,
    },
}
