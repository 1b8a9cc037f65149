//! Active health checks: what is checked, how often, and what the results mean.

mod checker;
mod probe;
pub(crate) mod verdict;

use std::ops::RangeInclusive;
use std::time::Duration;

pub use checker::{CheckTarget, Checker};
pub use probe::{ProbeError, probe};

/// How a backend is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub kind: CheckKind,
    /// Time from one check to the next; each is shifted by up to a tenth at random.
    pub interval: Duration,
    /// Longest duration of one check, connecting included.
    pub timeout: Duration,
    /// Passed checks in a row that bring a backend up.
    pub rise: u32,
    /// Failed checks in a row that take it down.
    pub fall: u32,
}

/// What is asked of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// A connection must be accepted.
    Tcp,
    /// `GET path` over HTTP/1.1 must be answered with an expected status.
    Http {
        /// Path and query.
        path: String,
        /// The `Host` header; the address when absent.
        host: Option<String>,
        /// Status ranges that pass; 200 to 399 when empty.
        expected: Vec<RangeInclusive<u16>>,
    },
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            kind: CheckKind::Tcp,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
        }
    }
}
