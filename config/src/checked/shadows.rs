//! Where a service's shadow instances come from.

use foreshadow_control::PoolSpec;
use serde::Serialize;

use super::Provider;
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
