//! What is remembered of an instance's latency from window to window.

use serde::{Deserialize, Serialize};

/// The latency at low load.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Service {
    pub(crate) mean_ms: f64,
    pub(crate) seen_at_rps: f64,
    /// Windows it is the mean of, as far as they still count.
    pub(crate) windows: f64,
}

/// One window: mean latency, throughput, and whether it was saturated.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Former {
    pub(crate) latency_ms: f64,
    pub(crate) rps: f64,
    pub(crate) saturated: bool,
}

/// A latency that jumped in the last window: what it became, and the window before it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Jump {
    pub(crate) before: Former,
    pub(crate) latency_ms: f64,
}

/// What a window says of a change of the server itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    Suspected,
    Confirmed,
}
