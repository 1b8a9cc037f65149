//! From single checks to a verdict.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Why a check failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CheckFailure {
    /// Nobody listens: no need to wait for more failures.
    pub(crate) definitive: bool,
    pub(crate) reason: String,
}

/// What active checks say of a backend: unknown, up after `rise` passes in a row, down after `fall`
/// failures in a row. One checker writes; workers read a single byte.
#[derive(Debug, Default)]
pub(crate) struct ActiveHealth {
    state: AtomicU8,
    passed: AtomicU32,
    failed: AtomicU32,
    /// Read only by drains and written only by checks, never on the request path.
    reason: Mutex<String>,
}

const UP: u8 = 1;
const DOWN: u8 = 2;

impl ActiveHealth {
    pub(crate) fn is_down(&self) -> bool {
        self.state.load(Relaxed) == DOWN
    }

    pub(crate) fn is_up(&self) -> bool {
        self.state.load(Relaxed) == UP
    }

    /// Why the backend is down; none when it is not.
    pub(crate) fn down_reason(&self) -> Option<String> {
        self.is_down().then(|| self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Requests have shown the opposite: passes so far count for nothing.
    pub(crate) fn start_over(&self) {
        self.passed.store(0, Relaxed);
    }

    /// Takes note of a check; true when it has passed often enough in a row to be up.
    pub(crate) fn record(&self, result: Result<(), CheckFailure>, rise: u32, fall: u32) -> bool {
        match result {
            Ok(()) => {
                self.failed.store(0, Relaxed);
                let up = self.passes_again(rise);
                if up {
                    self.state.store(UP, Relaxed);
                }
                up
            }
            Err(failure) => {
                self.passed.store(0, Relaxed);
                let failed = self.failed.load(Relaxed).saturating_add(1);
                self.failed.store(failed, Relaxed);
                if failed >= fall || failure.definitive {
                    *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = failure.reason;
                    self.state.store(DOWN, Relaxed);
                }
                false
            }
        }
    }

    /// Counts a pass without a verdict on the backend; true when there were enough in a row.
    pub(crate) fn passes_again(&self, rise: u32) -> bool {
        let passed = self.passed.load(Relaxed).saturating_add(1);
        self.passed.store(passed, Relaxed);
        passed >= rise
    }

    /// No check is made any more.
    pub(crate) fn forget(&self) {
        self.state.store(0, Relaxed);
        self.start_over();
        self.failed.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(reason: &str) -> Result<(), CheckFailure> {
        Err(CheckFailure { definitive: false, reason: reason.to_owned() })
    }

    #[test]
    fn rise_and_fall_must_be_reached_in_a_row() {
        let health = ActiveHealth::default();
        // (check passes, is down after, is up after) with rise 2, fall 3
        let script = [
            (true, false, false),
            (true, false, true),
            (false, false, true),
            (false, false, true),
            (true, false, true),
            (false, false, true),
            (false, false, true),
            (false, true, false),
            (true, true, false),
            (false, true, false),
            (true, true, false),
            (true, false, true),
        ];
        for (step, (passes, down, up)) in script.into_iter().enumerate() {
            health.record(if passes { Ok(()) } else { failure("status 500") }, 2, 3);
            assert_eq!((health.is_down(), health.is_up()), (down, up), "step {step}");
        }
    }

    #[test]
    fn a_refused_check_needs_no_second_one() {
        let health = ActiveHealth::default();
        health.record(Err(CheckFailure { definitive: true, reason: "refused".into() }), 2, 3);
        assert_eq!(health.down_reason().as_deref(), Some("refused"));
    }

    #[test]
    fn passes_from_before_a_refused_request_do_not_count() {
        let health = ActiveHealth::default();
        assert!(!health.record(Ok(()), 2, 3));
        health.start_over();
        assert!(!health.record(Ok(()), 2, 3));
        assert!(health.record(Ok(()), 2, 3));
    }
}
