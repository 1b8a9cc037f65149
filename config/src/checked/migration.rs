//! How instances are moved elsewhere, and when that may begin.

use std::time::Duration;

use foreshadow_control::MigrationSpec;
use serde::{Serialize, Serializer};

use super::RecurringEvent;
use crate::units;

/// How instances of a service are moved elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Migration {
    /// Part of its requests that has moved after each step, rising, the last one 1; 1 to 20 of them.
    #[serde(serialize_with = "shares")]
    pub steps: Vec<f64>,
    /// Each step is watched for this long before the next.
    #[serde(serialize_with = "units::duration::serialize")]
    pub verify: Duration,
    /// A target that is not ready after this is given up.
    #[serde(serialize_with = "units::duration::serialize")]
    pub ready: Duration,
    /// The instance keeps its last requests for at most this long.
    #[serde(serialize_with = "units::duration::serialize")]
    pub drain: Duration,
    /// Probability of failing from which one begins by itself; absent: only when it is asked for.
    #[serde(serialize_with = "share", skip_serializing_if = "Option::is_none")]
    pub risk: Option<f64>,
    /// When one may begin; empty: at any time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<MigrationWindow>,
}

/// A time in which migrations may begin, as it is written.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MigrationWindow {
    /// When it first starts, local to `timezone`.
    pub start: String,
    /// Where that is the time.
    pub timezone: String,
    /// How it repeats; absent: not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// How long it lasts.
    #[serde(serialize_with = "units::duration::serialize")]
    pub duration: Duration,
    /// The times that it is.
    #[serde(skip)]
    pub event: RecurringEvent,
}

impl Migration {
    /// How far ahead a window is looked for.
    pub const FAR_MS: u64 = 10 * 366 * 86_400_000;

    /// As the controller knows it.
    #[must_use]
    pub fn spec(&self) -> MigrationSpec {
        MigrationSpec {
            steps: self.steps.clone(),
            verify_ms: units::duration::to_ms(self.verify),
            ready_ms: units::duration::to_ms(self.ready),
            drain_ms: units::duration::to_ms(self.drain),
            risk: self.risk,
        }
    }

    /// Start and end of the window that is open at `at_ms` (Unix time), or else of the next one within
    /// [`Migration::FAR_MS`]; from 0 to the end of time where there are no windows.
    #[must_use]
    pub fn window(&self, at_ms: u64) -> Option<(u64, u64)> {
        if self.windows.is_empty() {
            return Some((0, u64::MAX));
        }
        let until_ms = at_ms.saturating_add(Self::FAR_MS);
        let next = |window: &MigrationWindow| window.event.walk(at_ms, until_ms).next();
        self.windows.iter().filter_map(next).min()
    }
}

fn shares<S: Serializer>(shares: &[f64], out: S) -> Result<S::Ok, S::Error> {
    out.collect_seq(shares.iter().map(|share| units::percent::format(*share)))
}

#[expect(clippy::ref_option, reason = "serde passes a reference")]
fn share<S: Serializer>(share: &Option<f64>, out: S) -> Result<S::Ok, S::Error> {
    match share {
        Some(share) => units::percent::serialize(share, out),
        None => out.serialize_none(),
    }
}
