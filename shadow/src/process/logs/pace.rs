//! How much of what one instance writes goes into the log: a token bucket.

use std::time::{Duration, Instant};

/// Lines per second in the long run.
const RATE: f64 = 100.0;
/// Lines at once: the start of a chatty program, a stack trace.
const BURST: f64 = 500.0;
/// Longer lines count as several, so that the bytes are bounded too.
const LINE_BYTES: usize = 512;
/// How often it is said that lines are left out.
const TOLD: Duration = Duration::from_secs(1);

/// The bucket of one instance, and what it turned away.
#[derive(Debug)]
pub(super) struct Pace {
    tokens: f64,
    filled: Instant,
    dropped: Option<(Dropped, Instant)>,
}

/// What was left out since it was last said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dropped {
    pub(super) lines: u64,
    pub(super) bytes: u64,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { tokens: BURST, filled: now, dropped: None }
    }

    /// Whether a line of `bytes` may be logged; one that may not is counted.
    pub(super) fn admit(&mut self, bytes: usize, now: Instant) -> bool {
        let idle_s = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + idle_s * RATE).min(BURST);
        self.filled = now;
        let cost = f64::from(u32::try_from(bytes / LINE_BYTES).unwrap_or(u32::MAX)) + 1.0;
        let admitted = self.tokens >= cost;
        if admitted {
            self.tokens -= cost;
        } else {
            self.count(1, bytes as u64, now);
        }
        admitted
    }

    /// Counts bytes that nobody looked at.
    pub(super) fn skip(&mut self, bytes: u64, now: Instant) {
        if bytes > 0 {
            self.count(0, bytes, now);
        }
    }

    fn count(&mut self, lines: u64, bytes: u64, now: Instant) {
        let (dropped, _) = self.dropped.get_or_insert((Dropped::default(), now));
        dropped.lines += lines;
        dropped.bytes += bytes;
    }

    /// What was left out, once that is due to be said.
    pub(super) fn due(&mut self, now: Instant) -> Option<Dropped> {
        let (_, since) = self.dropped?;
        (now.saturating_duration_since(since) >= TOLD).then(|| self.take())?
    }

    /// What was left out and not said yet.
    pub(super) fn take(&mut self) -> Option<Dropped> {
        self.dropped.take().map(|(dropped, _)| dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_a_hundred_lines_a_second() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut passed = |at_ms: u64, lines: u32| {
            let now = start + Duration::from_millis(at_ms);
            (0..lines).filter(|_| pace.admit(80, now)).count()
        };
        assert_eq!(passed(0, 1_000), 500);
        assert_eq!(passed(1_000, 1_000), 100);
        assert_eq!(passed(1_500, 1_000), 50);
        assert_eq!(passed(60_000, 10_000), 500, "the bucket has a bound");
    }

    #[test]
    fn long_lines_count_as_several() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        assert_eq!((0..1_000).filter(|_| pace.admit(4_096, now)).count(), 500 / 9);
    }

    #[test]
    fn what_is_left_out_is_said_once_a_second() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut pace = Pace::new(start);
        for _ in 0..500 {
            assert!(pace.admit(10, at(0)));
        }
        assert_eq!(pace.due(at(5_000)), None, "nothing was");
        let mut pace = Pace { tokens: 0.0, filled: at(0), dropped: None };
        for _ in 0..7 {
            assert!(!pace.admit(10, at(0)));
        }
        assert_eq!(pace.due(at(999)), None);
        assert_eq!(pace.due(at(1_000)), Some(Dropped { lines: 7, bytes: 70 }));
        assert_eq!(pace.due(at(9_000)), None);
        assert_eq!(pace.take(), None);
    }
}
