//! Whether a backend has gone silent while requests wait for it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Silence shorter than this is a pause of the scheduler or of a garbage collector.
const LEAST_MS: f64 = 5.0;
/// Silence shorter than this many usual latencies is that of requests that came together.
const LATENCIES: f64 = 4.0;
/// With `n` requests of mean latency `l` under way, a backend that answers at random is silent for
/// `s` with probability `exp(-s * n / l)` (Little's law gives the rate); this is the exponent from
/// which chance is no explanation any more.
const EXPONENT: f64 = 10.0;
/// A silent backend is tried with one request in this time, since what makes it look silent may be
/// a few requests that take long.
const TRIAL_MS: u64 = 500;

/// Requests that wait for the head of their answer, and since when none has come.
///
/// It shows what neither health checks nor ended requests show yet: a backend that hangs answers
/// nothing, fails nothing, and looks like an idle one until its first timeout.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    waiting: AtomicU32,
    /// When the last answer began, or the first of those that wait was sent.
    since_ms: AtomicU64,
    /// When the last request was sent.
    asked_ms: AtomicU64,
}

impl Silence {
    /// A request is sent to its last byte.
    pub(crate) fn asked(&self, now_ms: u64) {
        if self.waiting.fetch_add(1, Relaxed) == 0 {
            self.since_ms.store(now_ms, Relaxed);
        }
        self.asked_ms.store(now_ms, Relaxed);
    }

    /// The answer to a request begins.
    pub(crate) fn heard(&self, now_ms: u64) {
        self.waiting.fetch_sub(1, Relaxed);
        self.breaks_off(now_ms);
    }

    /// An answer begins before its request has ended, which is a sign of life no less.
    pub(crate) fn breaks_off(&self, now_ms: u64) {
        self.since_ms.store(now_ms, Relaxed);
    }

    /// A request that was sent ends without an answer, which says nothing new.
    pub(crate) fn given_up(&self) {
        self.waiting.fetch_sub(1, Relaxed);
    }

    /// Whether it answers nothing although it is asked; `usual_us` is the latency it has shown.
    pub(crate) fn is_stuck(&self, usual_us: f64, now_ms: u64) -> bool {
        let waiting = f64::from(self.waiting.load(Relaxed));
        let silent_ms = now_ms.saturating_sub(self.since_ms.load(Relaxed)) as f64;
        let usual_ms = usual_us / 1e3;
        waiting > 0.0
            && silent_ms > LEAST_MS
            && silent_ms > LATENCIES * usual_ms
            && silent_ms * waiting > EXPONENT * usual_ms
            && now_ms.saturating_sub(self.asked_ms.load(Relaxed)) < TRIAL_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A backend that answers within 10 ms as a rule, last at time 0, with this many waiting.
    fn silent(waiting: u32) -> Silence {
        let silence = Silence::default();
        (0..=waiting).for_each(|_| silence.asked(0));
        silence.heard(0);
        silence
    }

    #[test]
    fn more_that_wait_show_it_sooner() {
        for (waiting, not_yet_ms, stuck_ms) in [(1, 100, 101), (2, 50, 51), (50, 40, 41)] {
            let silence = silent(waiting);
            assert!(!silence.is_stuck(10_000.0, not_yet_ms), "{waiting} waiting");
            assert!(silence.is_stuck(10_000.0, stuck_ms), "{waiting} waiting");
        }
        assert!(!silent(0).is_stuck(10_000.0, 400), "nobody waits");
        assert!(!silent(50).is_stuck(100.0, 5), "a pause");
    }

    #[test]
    fn idleness_before_the_request_is_no_silence() {
        let silence = silent(0);
        silence.asked(60_000);
        assert!(!silence.is_stuck(10_000.0, 60_050));
        silence.given_up();
        silence.asked(120_000);
        assert!(!silence.is_stuck(10_000.0, 120_050));
    }

    #[test]
    fn an_answer_or_half_a_second_without_requests_gives_it_another_one() {
        let silence = silent(50);
        assert!(silence.is_stuck(10_000.0, 499));
        assert!(!silence.is_stuck(10_000.0, 500));
        silence.asked(500);
        assert!(silence.is_stuck(10_000.0, 501));
        silence.heard(600);
        assert!(!silence.is_stuck(10_000.0, 640));
    }
}
