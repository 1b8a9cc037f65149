//! The one clock of a running node: Unix time anchored at start, monotonic from there.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds of Unix time that never jump: the wall clock is read once, at start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    anchor: Instant,
    unix_ms: u64,
}

impl Clock {
    /// Reads the wall clock.
    pub(crate) fn start() -> Self {
        let unix_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
        Self { anchor: Instant::now(), unix_ms }
    }

    /// Time now.
    pub(crate) fn now_ms(&self) -> u64 {
        self.at_ms(self.anchor.elapsed())
    }

    fn at_ms(&self, since_start: Duration) -> u64 {
        self.unix_ms.saturating_add(u64::try_from(since_start.as_millis()).unwrap_or(u64::MAX))
    }

    /// Time since start.
    pub(crate) fn uptime(&self) -> Duration {
        self.anchor.elapsed()
    }
}
