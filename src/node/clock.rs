//! The clocks of a running node: a steady one for the loop, and Unix time for everybody else.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A wall clock that is this far from Unix time as told was set, and is followed. Less stays: of
/// what is announced and kept, nothing is finer than seconds.
const FOLLOWED_MS: u64 = 5_000;
/// Least time between two times of following: a clock that is set all the time is not.
const FOLLOW_EVERY_MS: u64 = 60_000;
/// Not followed yet.
const NEVER: u64 = u64::MAX;

/// Two clocks of one anchor, equal until the wall clock is set. Only the loop follows; everybody
/// reads.
#[derive(Debug)]
pub(crate) struct Clock {
    anchor: Instant,
    unix_ms: u64,
    offset_ms: AtomicI64,
    followed_at_ms: AtomicU64,
}

impl Clock {
    /// Reads the wall clock.
    pub(crate) fn start() -> Self {
        Self::anchored(wall_ms())
    }

    fn anchored(unix_ms: u64) -> Self {
        Self {
            anchor: Instant::now(),
            unix_ms,
            offset_ms: AtomicI64::new(0),
            followed_at_ms: AtomicU64::new(NEVER),
        }
    }

    /// Milliseconds that never jump: Unix time as it was said to be at start, and steady since.
    pub(crate) fn steady_ms(&self) -> u64 {
        self.at_ms(self.anchor.elapsed())
    }

    /// Unix time in milliseconds. It jumps when the wall clock is set, and only then.
    pub(crate) fn now_ms(&self) -> u64 {
        self.steady_ms().saturating_add_signed(self.offset_ms())
    }

    /// How far Unix time is from the steady clock.
    pub(crate) fn offset_ms(&self) -> i64 {
        self.offset_ms.load(Ordering::Relaxed)
    }

    /// Looks at the wall clock and follows it where it was set.
    pub(crate) fn follow(&self) {
        if let Some(leap_ms) = self.follow_to(self.steady_ms(), wall_ms()) {
            tracing::warn!(
                leap_s = leap_ms / 1_000,
                "the wall clock was set: announced events and history follow it, the loop goes on"
            );
        }
    }

    /// How far Unix time has leapt, if it has.
    fn follow_to(&self, steady_ms: u64, wall_ms: u64) -> Option<i64> {
        let told_ms = steady_ms.saturating_add_signed(self.offset_ms());
        let followed_at_ms = self.followed_at_ms.load(Ordering::Relaxed);
        let rests =
            followed_at_ms != NEVER && steady_ms.saturating_sub(followed_at_ms) < FOLLOW_EVERY_MS;
        if told_ms.abs_diff(wall_ms) <= FOLLOWED_MS || rests {
            return None;
        }
        self.followed_at_ms.store(steady_ms, Ordering::Relaxed);
        self.offset_ms.store(difference(wall_ms, steady_ms), Ordering::Relaxed);
        Some(difference(wall_ms, told_ms))
    }

    fn at_ms(&self, since_start: Duration) -> u64 {
        self.unix_ms.saturating_add(u64::try_from(since_start.as_millis()).unwrap_or(u64::MAX))
    }

    /// Time since start.
    pub(crate) fn uptime(&self) -> Duration {
        self.anchor.elapsed()
    }
}

fn difference(a_ms: u64, b_ms: u64) -> i64 {
    let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    signed(a_ms) - signed(b_ms)
}

/// Unix time by the wall clock.
pub(super) fn wall_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_after_the_start_is_followed_and_the_steady_one_is_not_moved() {
        const NOW_MS: u64 = 1_795_305_600_000;
        let clock = Clock::anchored(20_000);
        assert_eq!(clock.follow_to(20_100, 25_100), None, "as good as equal");
        assert_eq!(clock.follow_to(20_200, NOW_MS), Some(NOW_MS as i64 - 20_200));
        assert!(clock.now_ms().abs_diff(NOW_MS) < FOLLOWED_MS + 60_000, "{}", clock.now_ms());
        assert!(clock.steady_ms() < 20_000 + 60_000, "{}", clock.steady_ms());
        assert_eq!(clock.follow_to(20_300, NOW_MS + 100), None, "followed already");
    }

    #[test]
    fn a_clock_that_is_set_back_is_followed_once_a_minute() {
        let clock = Clock::anchored(1_000_000);
        assert_eq!(clock.follow_to(1_000_000, 900_000), Some(-100_000));
        assert_eq!(clock.follow_to(1_059_999, 1_059_999), None);
        assert_eq!(clock.follow_to(1_060_000, 1_060_000), Some(100_000));
        assert_eq!(clock.offset_ms(), 0);
    }

    #[test]
    fn wild_clocks_do_no_harm() {
        let clock = Clock::anchored(1_000);
        assert!(clock.follow_to(1_000, u64::MAX).is_some());
        assert!(clock.now_ms() > i64::MAX as u64 - 2_000);
        assert!(clock.follow_to(100_000, 0).is_some());
        assert!(clock.now_ms() < 100_000);
    }
}
