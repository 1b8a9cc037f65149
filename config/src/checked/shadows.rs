//! Where a service's shadow instances come from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use foreshadow_control::PoolSpec;
use serde::{Serialize, Serializer};

use crate::units;

/// The shadow instances of a service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shadows {
    /// What makes them.
    pub provider: Provider,
    /// How many are kept ready.
    pub pool: PoolSpec,
    /// Where they run; empty when the file names no zone.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// Copies of requests that warm shadows get.
    pub mirror: Mirror,
    /// What becomes of them when Foreshadow ends.
    pub on_exit: OnExit,
}

/// What makes instances.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// Processes on this machine.
    Process(ProcessProvider),
}

/// Instances as processes on this machine.
///
/// `command` and the values of `env` may hold `{port}`, `{id}`, `{service}` and `{address}`;
/// `{port}` or `{address}` is there at least once.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProcessProvider {
    /// The program and its arguments; not empty.
    pub command: Vec<String>,
    /// Working directory; absent: Foreshadow's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Environment variables set beyond Foreshadow's own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Longest time from its start until its health check passes.
    #[serde(serialize_with = "units::duration::serialize")]
    pub start_timeout: Duration,
    /// Time between the polite signal and the last one.
    #[serde(serialize_with = "units::duration::serialize")]
    pub stop_timeout: Duration,
    /// Ports given to instances; at least as many as the pool's `max`.
    pub ports: PortRange,
    /// CPU by tier.
    pub cpu: CpuShare,
}

/// Ports from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// At least 1.
    pub first: u16,
    /// At least `first`.
    pub last: u16,
}

impl PortRange {
    /// How many ports there are.
    #[must_use]
    pub fn count(self) -> u32 {
        u32::from(self.last) + 1 - u32::from(self.first)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl Serialize for PortRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// CPU by tier, as a share of one core; a full instance has no limit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CpuShare {
    /// At tier warm, above 0 up to 1; applies where a CPU controller is available.
    #[serde(serialize_with = "units::percent::serialize")]
    pub warm: f64,
}

/// Copies of safe requests, sent to warm shadows and never waited for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Mirror {
    /// Share of requests that are copied, 0 to 1.
    #[serde(serialize_with = "units::percent::serialize")]
    pub share: f64,
    /// Copies under way at once; beyond it none are made.
    pub max_in_flight: usize,
}

/// What becomes of shadows when Foreshadow ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnExit {
    /// They end with it.
    Destroy,
    /// They stay and are taken over by the next start.
    Keep,
}
