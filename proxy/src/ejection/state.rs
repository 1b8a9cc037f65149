//! The state machine of passive ejection, without clock or sharing.
//!
//! ```text
//!            `consecutive_errors` failures in a row, or a refused connection
//!   Closed ----------------------------------------------------------------> Ejected
//!     ^                                                                     |      ^
//!     | every trial answered                                   time is over |      | a trial failed:
//!     +------------------------------ Probation <---------------------------+      | twice as long
//!                                         +----------------------------------------+
//! ```

use std::time::Duration;

use super::EjectionPolicy;

/// What a request says of the backend it was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Success,
    Failure,
    /// Nobody listens: one such answer is proof enough.
    Refused,
}

/// Where a backend stands. Times are milliseconds of the shared clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Takes requests. `level` is the number of doublings of the next ejection.
    Closed { since_ms: u64, failures: u16, level: u8 },
    /// Takes none until the time is over.
    Ejected { until_ms: u64, level: u8 },
    /// Takes `trials` more requests; `wanted` of them must still succeed.
    Probation { since_ms: u64, trials: u8, wanted: u8, level: u8 },
}

impl State {
    /// Whether a request may be sent now.
    pub(super) fn usable(self, now_ms: u64, policy: &EjectionPolicy) -> bool {
        self.after_admission(now_ms, policy).is_some()
    }

    /// A request wants to go to the backend: none if it may not.
    pub(super) fn after_admission(self, now_ms: u64, policy: &EjectionPolicy) -> Option<Self> {
        match self.after_wait(now_ms, policy) {
            closed @ Self::Closed { .. } => Some(closed),
            Self::Ejected { .. } => None,
            Self::Probation { trials, since_ms, wanted, level } => {
                let trials = trials.checked_sub(1)?;
                Some(Self::Probation { trials, since_ms, wanted, level })
            }
        }
    }

    /// Time passes. Trials whose outcome never came (an aborted client) are granted again.
    pub(super) fn after_wait(self, now_ms: u64, policy: &EjectionPolicy) -> Self {
        let trials = policy.probation_requests.max(1);
        match self {
            Self::Ejected { until_ms, level } if now_ms >= until_ms => {
                Self::Probation { since_ms: now_ms, trials, wanted: trials, level }
            }
            Self::Probation { since_ms, trials: 0, wanted, level }
                if now_ms >= since_ms.saturating_add(millis(policy.base)) =>
            {
                Self::Probation { since_ms: now_ms, trials, wanted, level }
            }
            other => other,
        }
    }

    /// A request that was sent at `started_ms` has ended. News from before the present state began
    /// is ignored, but for a refused connection: that is true now, whenever the request began.
    /// `jitter` is uniform in 0 to 1.
    pub(super) fn after_outcome(
        self,
        verdict: Verdict,
        started_ms: u64,
        now_ms: u64,
        jitter: f64,
        policy: &EjectionPolicy,
    ) -> Self {
        let eject = |level| Self::Ejected {
            until_ms: now_ms.saturating_add(duration_ms(level, jitter, policy)),
            level,
        };
        match (self, verdict) {
            (Self::Ejected { .. }, _) => self,
            (Self::Closed { since_ms, level, .. }, Verdict::Success) => {
                Self::Closed { since_ms, failures: 0, level }
            }
            (Self::Closed { since_ms, .. } | Self::Probation { since_ms, .. }, _)
                if started_ms < since_ms && verdict != Verdict::Refused =>
            {
                self
            }
            (Self::Closed { since_ms, failures, level }, bad) => {
                let failures = failures.saturating_add(1);
                let enough = policy.consecutive_errors > 0 && failures >= policy.consecutive_errors;
                let quiet = now_ms.saturating_sub(since_ms) >= millis(policy.max);
                let level = if quiet { 0 } else { level };
                if enough || bad == Verdict::Refused {
                    eject(level)
                } else {
                    Self::Closed { since_ms, failures, level }
                }
            }
            (Self::Probation { since_ms, trials, wanted, level }, Verdict::Success) => {
                match wanted.saturating_sub(1) {
                    0 => Self::Closed { since_ms: now_ms, failures: 0, level: level + 1 },
                    wanted => Self::Probation { since_ms, trials, wanted, level },
                }
            }
            (Self::Probation { level, .. }, _) => eject(level + 1),
        }
        .with_bounded_level()
    }

    /// The state of a backend that deserves ejection while the service can spare no more.
    pub(super) fn spared(now_ms: u64, level: u8) -> Self {
        Self::Closed { since_ms: now_ms, failures: 0, level }
    }

    pub(super) fn is_ejected(self) -> bool {
        matches!(self, Self::Ejected { .. })
    }

    pub(super) fn level(self) -> u8 {
        match self {
            Self::Closed { level, .. }
            | Self::Ejected { level, .. }
            | Self::Probation { level, .. } => level,
        }
    }

    fn with_bounded_level(mut self) -> Self {
        match &mut self {
            Self::Closed { level, .. }
            | Self::Ejected { level, .. }
            | Self::Probation { level, .. } => *level = (*level).min(LEVEL_MAX),
        }
        self
    }

    /// One word: tag (2 bits), level (6), time (40), and two counts (8 each) or one (16).
    pub(super) fn pack(self) -> u64 {
        let (tag, level, time_ms, counts) = match self {
            Self::Closed { since_ms, failures, level } => (0, level, since_ms, failures),
            Self::Ejected { until_ms, level } => (1, level, until_ms, 0),
            Self::Probation { since_ms, trials, wanted, level } => {
                (2, level, since_ms, u16::from_be_bytes([trials, wanted]))
            }
        };
        tag << 62
            | u64::from(level.min(LEVEL_MAX)) << 56
            | time_ms.min(TIME_MAX_MS) << 16
            | u64::from(counts)
    }

    pub(super) fn unpack(word: u64) -> Self {
        let level = (word >> 56) as u8 & LEVEL_MAX;
        let time_ms = word >> 16 & TIME_MAX_MS;
        let counts = word as u16;
        let [trials, wanted] = counts.to_be_bytes();
        match word >> 62 {
            0 => Self::Closed { since_ms: time_ms, failures: counts, level },
            1 => Self::Ejected { until_ms: time_ms, level },
            _ => Self::Probation { since_ms: time_ms, trials, wanted, level },
        }
    }
}

const LEVEL_MAX: u8 = (1 << 6) - 1;
/// 34 years.
const TIME_MAX_MS: u64 = (1 << 40) - 1;

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `base * 2^level`, at most `max`, plus up to a tenth so that backends ejected together do not
/// come back together.
fn duration_ms(level: u8, jitter: f64, policy: &EjectionPolicy) -> u64 {
    let doubled = policy.base.as_millis() as f64 * 2f64.powi(i32::from(level));
    (doubled.min(policy.max.as_millis() as f64) * (1.0 + 0.1 * jitter)) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: EjectionPolicy = EjectionPolicy {
        consecutive_errors: 3,
        base: Duration::from_secs(1),
        max: Duration::from_secs(5),
        max_ejected_share: 0.5,
        probation_requests: 2,
        all_server_errors: false,
    };

    fn closed(since_ms: u64, failures: u16, level: u8) -> State {
        State::Closed { since_ms, failures, level }
    }

    fn ejected(until_ms: u64, level: u8) -> State {
        State::Ejected { until_ms, level }
    }

    fn probation(since_ms: u64, trials: u8, wanted: u8, level: u8) -> State {
        State::Probation { since_ms, trials, wanted, level }
    }

    #[test]
    fn outcomes_move_it_as_drawn() {
        use Verdict::{Failure, Refused, Success};
        // (before, verdict, request sent at, now, after)
        let table = [
            (closed(0, 0, 0), Failure, 90, 100, closed(0, 1, 0)),
            (closed(0, 1, 0), Success, 90, 100, closed(0, 0, 0)),
            (closed(0, 2, 0), Failure, 90, 100, ejected(1100, 0)),
            (closed(0, 0, 0), Refused, 90, 100, ejected(1100, 0)),
            (closed(50, 2, 1), Failure, 40, 100, closed(50, 2, 1)),
            (closed(50, 2, 1), Failure, 60, 100, ejected(2100, 1)),
            (closed(50, 2, 3), Failure, 60, 100, ejected(5100, 3)),
            (closed(50, 2, 3), Failure, 5060, 5100, ejected(6100, 0)),
            (ejected(1100, 0), Failure, 90, 200, ejected(1100, 0)),
            (ejected(1100, 0), Success, 90, 200, ejected(1100, 0)),
            (probation(1100, 1, 2, 0), Success, 1100, 1200, probation(1100, 1, 1, 0)),
            (probation(1100, 0, 1, 0), Success, 1100, 1200, closed(1200, 0, 1)),
            (probation(1100, 1, 2, 0), Failure, 1100, 1200, ejected(3200, 1)),
            (probation(1100, 1, 2, 0), Refused, 1100, 1200, ejected(3200, 1)),
            (probation(1100, 1, 2, 0), Failure, 90, 1200, probation(1100, 1, 2, 0)),
            (probation(1100, 1, 2, 0), Refused, 90, 1200, ejected(3200, 1)),
            (closed(50, 0, 0), Refused, 40, 100, ejected(1100, 0)),
            (probation(1100, 1, 2, 0), Success, 90, 1200, probation(1100, 1, 2, 0)),
        ];
        for (before, verdict, started_ms, now_ms, after) in table {
            let got = before.after_outcome(verdict, started_ms, now_ms, 0.0, &POLICY);
            assert_eq!(got, after, "{before:?} {verdict:?}");
        }
    }

    #[test]
    fn requests_pass_as_drawn() {
        // (before, now, after a request asked; none when it may not pass)
        let table = [
            (closed(0, 2, 0), 100, Some(closed(0, 2, 0))),
            (ejected(1100, 0), 1099, None),
            (ejected(1100, 0), 1100, Some(probation(1100, 1, 2, 0))),
            (probation(1100, 1, 2, 0), 1200, Some(probation(1100, 0, 2, 0))),
            (probation(1100, 0, 2, 0), 2099, None),
            (probation(1100, 0, 2, 0), 2100, Some(probation(2100, 1, 2, 0))),
        ];
        for (before, now_ms, after) in table {
            assert_eq!(before.after_admission(now_ms, &POLICY), after, "{before:?} at {now_ms}");
            assert_eq!(before.usable(now_ms, &POLICY), after.is_some());
        }
    }

    #[test]
    fn failures_do_not_eject_when_that_is_turned_off_but_a_refusal_does() {
        let policy = EjectionPolicy { consecutive_errors: 0, ..POLICY };
        let mut state = closed(0, 0, 0);
        for now_ms in 0..100 {
            state = state.after_outcome(Verdict::Failure, now_ms, now_ms, 0.0, &policy);
            assert!(!state.is_ejected());
        }
        assert!(state.after_outcome(Verdict::Refused, 100, 100, 0.0, &policy).is_ejected());
    }

    #[test]
    fn jitter_adds_up_to_a_tenth() {
        assert_eq!(duration_ms(0, 0.0, &POLICY), 1000);
        assert_eq!(duration_ms(0, 1.0, &POLICY), 1100);
        assert_eq!(duration_ms(63, 1.0, &POLICY), 5500);
    }

    proptest! {
        #[test]
        fn a_state_fits_its_word(
            tag in 0..3, level in 0..=LEVEL_MAX, time_ms in 0..=TIME_MAX_MS, a: u8, b: u8, n: u16,
        ) {
            let state = match tag {
                0 => closed(time_ms, n, level),
                1 => ejected(time_ms, level),
                _ => probation(time_ms, a, b, level),
            };
            prop_assert_eq!(State::unpack(state.pack()), state);
        }
    }
}
