//! Shadows and their providers as written.

use super::read::table;
use super::{Count, OneOf, RawProvider, Share, Text};
use crate::OnExit;

table! {
    /// The shadow instances of a service.
    RawShadows {
        /// What makes them.
        provider: RawProvider = required,
        /// How many are kept ready.
        pool: RawPool,
        /// Where they run. Default: no zone.
        zone: Text,
        /// Copies of requests that warm shadows get.
        mirror: RawMirror,
        /// What becomes of them when Foreshadow ends: destroy, or keep for the next start.
        /// Default: destroy.
        on_exit: OneOf<OnExit>,
    }
}

table! {
    /// CPU by tier, as a share of one core, where a CPU controller is available; a full instance
    /// has no limit.
    RawCpu {
        /// At tier warm, 1% to 100%; applies where a CPU controller is available. Default: 20%.
        warm: Share,
    }
}

table! {
    /// How many shadows are kept ready, by tier.
    RawPool {
        /// Created and frozen. Default: 1.
        shadow: Count,
        /// Running scaled down. Default: 1.
        warm: Count,
        /// Full size. Default: 0.
        full: Count,
        /// Bound on all shadows, serving ones included, up to 1000. Default: 4, or what the others
        /// add up to.
        max: Count,
    }
}

table! {
    /// Copies of safe requests, sent to warm shadows and never waited for.
    RawMirror {
        /// Share of requests that are copied. Default: 5%.
        share: Share,
        /// Copies under way at once, up to 65536; beyond it none are made. Default: 16.
        max_in_flight: Count,
    }
}
