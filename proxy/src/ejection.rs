//! Passive ejection: a backend that keeps failing real requests sits out for a while.

mod state;

use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Release},
};
use std::time::Duration;

use state::State;
pub(crate) use state::Verdict;

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
    /// Whether every 5xx is a failure, or only 502, 503 and 504. True by default: nothing but
    /// 500s in a row comes from an instance that is broken, and only ejection finds that out where
    /// its health check still passes.
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
            all_server_errors: true,
        }
    }
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

/// What came of a transition.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    /// It is not allowed.
    Refused,
    Made,
    /// No slot was left for an ejection.
    Spared,
}

impl Ejection {
    pub(crate) fn new() -> Self {
        let closed = State::Closed { since_ms: 0, failures: 0, level: 0 };
        Self { word: AtomicU64::new(closed.pack()) }
    }

    fn state(&self) -> State {
        State::unpack(self.word.load(Acquire))
    }

    pub(crate) fn usable(&self, now_ms: u64, policy: &EjectionPolicy) -> bool {
        self.state().usable(now_ms, policy)
    }

    pub(crate) fn is_ejected(&self) -> bool {
        self.state().is_ejected()
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.state(), State::Closed { .. })
    }

    /// Takes note of how a request ended. True where the backend deserves ejection and is spared, since the
    /// service can do without no more of them.
    pub(crate) fn record(
        &self,
        verdict: Verdict,
        started_ms: u64,
        now_ms: u64,
        policy: &EjectionPolicy,
        slots: &EjectionSlots,
    ) -> bool {
        let untroubled = matches!(self.state(), State::Closed { failures: 0, .. });
        if untroubled && verdict == Verdict::Success {
            return false;
        }
        let jitter = rand::random::<f64>();
        let definitive = verdict == Verdict::Refused;
        let change = self.change(slots, definitive, now_ms, |state| {
            Some(state.after_outcome(verdict, started_ms, now_ms, jitter, policy))
        });
        change == Change::Spared
    }

    /// Lets one request through, if the state allows it.
    pub(crate) fn admit(
        &self,
        now_ms: u64,
        policy: &EjectionPolicy,
        slots: &EjectionSlots,
    ) -> bool {
        let change =
            self.change(slots, false, now_ms, |state| state.after_admission(now_ms, policy));
        change != Change::Refused
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
    /// backends.
    fn change(
        &self,
        slots: &EjectionSlots,
        definitive: bool,
        now_ms: u64,
        transition: impl Fn(State) -> Option<State>,
    ) -> Change {
        let mut word = self.word.load(Acquire);
        loop {
            let old = State::unpack(word);
            let Some(mut new) = transition(old) else { return Change::Refused };
            if new == old {
                return Change::Made;
            }
            let falls = new.is_ejected() && !old.is_ejected();
            let took = falls && slots.take(definitive);
            if falls && !took {
                new = State::spared(now_ms, old.level());
            }
            match self.word.compare_exchange_weak(word, new.pack(), AcqRel, Acquire) {
                Ok(_) => {
                    if old.is_ejected() && !new.is_ejected() {
                        slots.give_back();
                    }
                    return if falls && !took { Change::Spared } else { Change::Made };
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

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    const POLICY: EjectionPolicy = EjectionPolicy {
        consecutive_errors: 1,
        base: Duration::from_millis(100),
        max: Duration::from_millis(400),
        max_ejected_share: 0.5,
        probation_requests: 1,
        all_server_errors: false,
    };

    #[test]
    fn failures_never_eject_more_than_the_share_but_refusals_do() {
        let slots = EjectionSlots::default();
        slots.set_limit(5, POLICY.max_ejected_share);
        let backends: Vec<Ejection> = (0..5).map(|_| Ejection::new()).collect();
        for backend in &backends {
            backend.record(Verdict::Failure, 1, 1, &POLICY, &slots);
        }
        assert_eq!(backends.iter().filter(|b| b.is_ejected()).count(), 2);
        for backend in &backends {
            backend.record(Verdict::Refused, 2, 2, &POLICY, &slots);
        }
        assert_eq!(backends.iter().filter(|b| b.is_ejected()).count(), 5);
        for backend in &backends {
            backend.close(3, &slots);
        }
        assert_eq!(slots.ejected(), 0);
    }

    #[test]
    fn an_ejection_ends_without_requests() {
        let slots = EjectionSlots::default();
        let backend = Ejection::new();
        backend.record(Verdict::Refused, 1, 1, &POLICY, &slots);
        backend.wait(50, &POLICY, &slots);
        assert!(backend.is_ejected());
        backend.wait(112, &POLICY, &slots);
        assert!(!backend.is_ejected());
        assert_eq!(slots.ejected(), 0);
        assert!(backend.admit(112, &POLICY, &slots));
        assert!(!backend.admit(112, &POLICY, &slots), "one trial only");
        backend.record(Verdict::Success, 112, 113, &POLICY, &slots);
        assert!(backend.is_closed());
    }

    proptest! {
        #[test]
        fn slots_taken_are_backends_ejected(
            events in prop::collection::vec((0usize..4, 0u8..6, 0u64..60), 1..300),
        ) {
            let slots = EjectionSlots::default();
            slots.set_limit(4, 0.5);
            let backends: Vec<Ejection> = (0..4).map(|_| Ejection::new()).collect();
            let mut now_ms = 0;
            for (which, event, later) in events {
                now_ms += later;
                let backend = &backends[which];
                let before = slots.ejected();
                match event {
                    0 => { backend.record(Verdict::Success, now_ms, now_ms, &POLICY, &slots); }
                    1 => { backend.record(Verdict::Failure, now_ms, now_ms, &POLICY, &slots); }
                    2 => { backend.record(Verdict::Refused, now_ms, now_ms, &POLICY, &slots); }
                    3 => backend.close(now_ms, &slots),
                    4 => backend.wait(now_ms, &POLICY, &slots),
                    _ => { backend.admit(now_ms, &POLICY, &slots); }
                }
                let ejected = backends.iter().filter(|b| b.is_ejected()).count() as u64;
                prop_assert_eq!(slots.ejected(), ejected);
                prop_assert!(event == 2 || ejected <= before.max(2));
            }
        }
    }

    #[test]
    fn threads_neither_leak_a_slot_nor_exceed_the_limit() {
        let slots = EjectionSlots::default();
        slots.set_limit(8, 0.5);
        let backends: Vec<Ejection> = (0..8).map(|_| Ejection::new()).collect();
        thread::scope(|scope| {
            for worker in 0..4u64 {
                let (slots, backends) = (&slots, &backends);
                scope.spawn(move || {
                    for i in 0..20_000u64 {
                        let backend = &backends[(i * (worker + 3) % 8) as usize];
                        let verdict = if i % 3 == 0 { Verdict::Success } else { Verdict::Failure };
                        backend.admit(i, &POLICY, slots);
                        backend.record(verdict, i, i, &POLICY, slots);
                        assert!(slots.ejected() <= 4);
                    }
                });
            }
        });
        assert_eq!(slots.ejected(), backends.iter().filter(|b| b.is_ejected()).count() as u64);
    }
}
