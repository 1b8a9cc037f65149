//! How instances are moved elsewhere, as written.

use super::read::table;
use super::{List, Share, Text, Time};

table! {
    /// How an instance is moved to another place, a part of its requests at a time, see
    /// docs/migration.md.
    RawMigration {
        /// Part of its requests that has moved after each step: rising, the last one 100%, at most 20.
        /// Default: [5%, 25%, 50%, 100%].
        steps: List<Share>,
        /// How long each step is watched before the next, 1s to 1h. Default: 10s.
        verify: Time,
        /// A target that is not ready after this is given up, 1s to 1h. Default: 5m.
        ready: Time,
        /// How long the instance keeps its last requests at most, 1s to 1h. Default: 30s.
        drain: Time,
        /// Probability of failing from which an instance is moved without being asked for, 1% to 99%.
        /// Default: none is.
        risk: Share,
        /// When migrations may begin, at most 32; what has begun is brought to its end. Default: at any
        /// time.
        windows: List<RawWindow>,
    }
}

table! {
    /// A time in which migrations may begin.
    RawWindow {
        /// When it first starts, such as 2026-11-23T02:00:00.
        start: Text = required,
        /// Where that is the time, such as Europe/Berlin; it follows daylight saving. Default: UTC.
        timezone: Text,
        /// How it repeats (RFC 5545), such as FREQ=WEEKLY;BYDAY=SU. Default: not at all.
        rule: Text,
        /// How long it lasts, 1s to 31d. Default: 1h.
        duration: Time,
    }
}
