//! Exponential back-off with jitter after failures to make an instance; pure, time passed in.

use std::time::Duration;

/// How long to pause after failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffPolicy {
    /// Pause after the first failure, before jitter.
    pub base: Duration,
    /// Longest pause, before jitter.
    pub max: Duration,
    /// An instance that lived this long was a success: the next failure starts at `base` again.
    pub stable_after: Duration,
}

impl Default for BackoffPolicy {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(200),
            max: Duration::from_secs(30),
            stable_after: Duration::from_secs(10),
        }
    }
}

/// The failures of one service in a row, and how long it must still wait.
///
/// Instants are durations since any fixed point; they must not go backwards.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    failures: u32,
    last_failure: Duration,
    until: Duration,
}

impl Backoff {
    /// Notes that an attempt begun at `started` failed at `now`; returns the pause from `now`.
    ///
    /// The pause is `min(max, base * 2^(n-1))` for the n-th failure in a row, of which the upper
    /// half is drawn by `jitter` in 0..=1 ("equal jitter"), so that many services which failed
    /// together do not come back together. Attempts that were already under way at the last
    /// failure share its pause instead of lengthening it.
    pub fn failed(
        &mut self,
        policy: &BackoffPolicy,
        started: Duration,
        now: Duration,
        jitter: f64,
    ) -> Duration {
        let same_round = self.failures > 0 && started <= self.last_failure;
        if !same_round {
            self.failures = self.failures.saturating_add(1);
            let factor = 1_u32.checked_shl(self.failures - 1).unwrap_or(u32::MAX);
            let whole = policy.base.saturating_mul(factor).min(policy.max);
            let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 1.0 };
            self.until = now + whole.mul_f64(0.5 + 0.5 * jitter);
            self.last_failure = now;
        }
        self.until.saturating_sub(now)
    }

    /// Notes that an instance lived for [`BackoffPolicy::stable_after`]: the row of failures ends.
    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.until = Duration::ZERO;
    }

    /// Time until the next attempt is allowed; zero when it is allowed now.
    #[must_use]
    pub fn remaining(&self, now: Duration) -> Duration {
        self.until.saturating_sub(now)
    }

    /// Failures in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn the_pause_doubles_up_to_the_maximum_and_starts_again_after_a_success() {
        let (policy, mut backoff) = (BackoffPolicy::default(), Backoff::default());
        let mut now = MS(1);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let pause = backoff.failed(&policy, now, now, 1.0);
            pauses.push(pause.as_millis());
            now += pause + MS(1);
        }
        assert_eq!(pauses, [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000]);
        backoff.succeeded();
        assert_eq!(backoff.remaining(now), Duration::ZERO);
        assert_eq!(backoff.failed(&policy, now, now, 1.0), MS(200));
    }

    #[test]
    fn attempts_that_fail_together_count_once() {
        let (policy, mut backoff) = (BackoffPolicy::default(), Backoff::default());
        assert_eq!(backoff.failed(&policy, MS(10), MS(50), 1.0), MS(200));
        assert_eq!(backoff.failed(&policy, MS(11), MS(60), 1.0), MS(190));
        assert_eq!(backoff.failures(), 1);
        assert_eq!(backoff.failed(&policy, MS(251), MS(260), 1.0), MS(400));
    }

    #[test]
    fn an_attempt_is_refused_until_the_pause_is_over() {
        let (policy, mut backoff) = (BackoffPolicy::default(), Backoff::default());
        backoff.failed(&policy, MS(0), MS(1_000), 0.0);
        assert_eq!(backoff.remaining(MS(1_040)), MS(60));
        assert_eq!(backoff.remaining(MS(1_100)), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn every_pause_lies_between_half_the_base_and_the_maximum(
            jitters in proptest::collection::vec(proptest::num::f64::ANY, 1..80),
        ) {
            let (policy, mut backoff) = (BackoffPolicy::default(), Backoff::default());
            let mut now = MS(1);
            for jitter in jitters {
                let pause = backoff.failed(&policy, now, now, jitter);
                prop_assert!(pause >= policy.base / 2 && pause <= policy.max);
                now += pause + MS(1);
            }
        }
    }
}
