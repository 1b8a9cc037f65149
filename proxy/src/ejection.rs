//! Passive ejection: a backend that keeps failing real requests sits out for a while.
//!
//! ```text
//!            `consecutive_errors` failures in a row, or a refused connection
//!   Closed ----------------------------------------------------------------> Ejected
//!     ^                                                                     |      ^
//!     | every trial answered                                   time is over |      | a trial failed:
//!     +------------------------------ Probation <---------------------------+      | twice as long
//!                                         +----------------------------------------+
//! ```

use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Release},
};
use std::time::Duration;

/// When a backend is ejected and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EjectionPolicy {
    /// Failures in a row that eject; 0 turns ejection for failures off (a refused connection still
    /// ejects).
    pub consecutive_errors: u16,
    /// How long the first ejection lasts; each further one lasts twice as long.
    pub base: Duration,
    /// The longest ejection.
    pub max: Duration,
    /// Share of a service's backends that may be ejected for failures at once, 0 to 1.
    pub max_ejected_share: f64,
    /// Trial requests that must succeed in a row before a backend is taken back.
    pub probation_requests: u8,
    /// Whether every 5xx is a failure, or only 502, 503 and 504.
    pub all_server_errors: bool,
}

impl Default for EjectionPolicy {
    fn default() -> Self {
        Self {
            consecutive_errors: 5,
            base: Duration::from_secs(5),
            max: Duration::from_secs(120),
            max_ejected_share: 0.5,
            probation_requests: 3,
            all_server_errors: false,
        }
    }
}

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
pub(crate) enum State {
    /// Takes requests. `level` is the number of doublings of the next ejection.
    Closed { since_ms: u64, failures: u16, level: u8 },
    /// Takes none until the time is over.
    Ejected { until_ms: u64, level: u8 },
    /// Takes `trials` more requests; `wanted` of them must still succeed.
    Probation { since_ms: u64, trials: u8, wanted: u8, level: u8 },
}

impl State {
    /// Whether a request may be sent now.
    pub(crate) fn usable(self, now_ms: u64, policy: &EjectionPolicy) -> bool {
        self.after_admission(now_ms, policy).is_some()
    }

    /// A request wants to go to the backend: none if it may not.
    fn after_admission(self, now_ms: u64, policy: &EjectionPolicy) -> Option<Self> {
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
    fn after_wait(self, now_ms: u64, policy: &EjectionPolicy) -> Self {
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

    /// A request that was sent at `started_ms` has ended. Bad news from before the present state
    /// began says nothing new and is ignored. `jitter` is uniform in 0 to 1.
    fn after_outcome(
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
                if started_ms < since_ms =>
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
    fn spared(now_ms: u64, level: u8) -> Self {
        Self::Closed { since_ms: now_ms, failures: 0, level }
    }

    fn is_ejected(self) -> bool {
        matches!(self, Self::Ejected { .. })
    }

    fn level(self) -> u8 {
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
    fn pack(self) -> u64 {
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

    fn unpack(word: u64) -> Self {
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

/// How many backends of a service are ejected, and how many may be.
#[derive(Debug, Default)]
pub(crate) struct EjectionSlots {
    ejected: AtomicU64,
    limit: AtomicU64,
}

impl EjectionSlots {
    /// Allows the share of `backends`, rounded down.
    pub(crate) fn set_limit(&self, backends: usize, max_ejected_share: f64) {
        let limit = (backends as f64 * max_ejected_share.clamp(0.0, 1.0)).floor();
        self.limit.store(limit as u64, Release);
    }

    /// Takes a slot; a definitive witness may take one beyond the limit.
    fn take(&self, definitive: bool) -> bool {
        let limit = if definitive { u64::MAX } else { self.limit.load(Acquire) };
        self.ejected
            .fetch_update(AcqRel, Acquire, |ejected| (ejected < limit).then(|| ejected + 1))
            .is_ok()
    }

    fn give_back(&self) {
        self.ejected.fetch_sub(1, AcqRel);
    }

    #[cfg(test)]
    pub(crate) fn ejected(&self) -> u64 {
        self.ejected.load(Acquire)
    }
}

/// The state of one backend, shared by all workers without a lock.
#[derive(Debug)]
pub(crate) struct Ejection {
    word: AtomicU64,
}

impl Ejection {
    pub(crate) fn new(now_ms: u64) -> Self {
        let closed = State::Closed { since_ms: now_ms, failures: 0, level: 0 };
        Self { word: AtomicU64::new(closed.pack()) }
    }

    pub(crate) fn state(&self) -> State {
        State::unpack(self.word.load(Acquire))
    }

    pub(crate) fn is_ejected(&self) -> bool {
        self.state().is_ejected()
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.state(), State::Closed { .. })
    }

    /// Takes note of how a request ended.
    pub(crate) fn record(
        &self,
        verdict: Verdict,
        started_ms: u64,
        now_ms: u64,
        policy: &EjectionPolicy,
        slots: &EjectionSlots,
    ) {
        let untroubled = matches!(self.state(), State::Closed { failures: 0, .. });
        if untroubled && verdict == Verdict::Success {
            return;
        }
        let jitter = rand::random::<f64>();
        let definitive = verdict == Verdict::Refused;
        self.change(slots, definitive, now_ms, |state| {
            Some(state.after_outcome(verdict, started_ms, now_ms, jitter, policy))
        });
    }

    /// Lets one request through, if the state allows it.
    pub(crate) fn admit(
        &self,
        now_ms: u64,
        policy: &EjectionPolicy,
        slots: &EjectionSlots,
    ) -> bool {
        matches!(self.state(), State::Closed { .. })
            || self.change(slots, false, now_ms, |state| state.after_admission(now_ms, policy))
    }

    /// Lets time pass, so that an ejection ends even where no request asks for the backend.
    pub(crate) fn wait(&self, now_ms: u64, policy: &EjectionPolicy, slots: &EjectionSlots) {
        self.change(slots, false, now_ms, |state| Some(state.after_wait(now_ms, policy)));
    }

    /// Takes the backend back at once: something better than a trial request has vouched for it.
    pub(crate) fn close(&self, now_ms: u64, slots: &EjectionSlots) {
        self.change(slots, false, now_ms, |state| match state {
            State::Closed { .. } => Some(state),
            State::Ejected { level, .. } | State::Probation { level, .. } => {
                Some(State::Closed { since_ms: now_ms, failures: 0, level })
            }
        });
    }

    /// Returns the slot of a backend that is forgotten.
    pub(crate) fn forget(&self, slots: &EjectionSlots) {
        if self.state().is_ejected() {
            slots.give_back();
        }
    }

    /// Applies a transition, and keeps the number of slots taken equal to that of ejected
    /// backends. False when the transition is not allowed.
    fn change(
        &self,
        slots: &EjectionSlots,
        definitive: bool,
        now_ms: u64,
        transition: impl Fn(State) -> Option<State>,
    ) -> bool {
        let mut word = self.word.load(Acquire);
        loop {
            let old = State::unpack(word);
            let Some(mut new) = transition(old) else { return false };
            if new == old {
                return true;
            }
            let mut took = false;
            if new.is_ejected() && !old.is_ejected() {
                took = slots.take(definitive);
                if !took {
                    new = State::spared(now_ms, old.level());
                }
            }
            match self.word.compare_exchange_weak(word, new.pack(), AcqRel, Acquire) {
                Ok(_) => {
                    if old.is_ejected() && !new.is_ejected() {
                        slots.give_back();
                    }
                    return true;
                }
                Err(newer) => {
                    if took {
                        slots.give_back();
                    }
                    word = newer;
                }
            }
        }
    }
}
