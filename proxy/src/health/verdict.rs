//! From single checks to a verdict.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

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
    /// Held by checks while they write and by drains while they read, never on the request path.
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    /// Number of times that everything found before was forgotten.
    epoch: u64,
    reason: String,
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

    /// Whether the last check failed, be that enough for a verdict or not.
    pub(crate) fn is_failing(&self) -> bool {
        self.failed.load(Relaxed) > 0
    }

    /// Why the backend is down; none when it is not.
    pub(crate) fn down_reason(&self) -> Option<String> {
        self.is_down().then(|| self.book().reason.clone())
    }

    /// Requests have shown the opposite: passes so far count for nothing.
    pub(crate) fn start_over(&self) {
        self.passed.store(0, Relaxed);
    }

    /// Which results count: those of checks begun in this epoch.
    pub(crate) fn epoch(&self) -> u64 {
        self.book().epoch
    }

    /// Takes note of a check begun in `epoch`; true when it has passed often enough in a row to be
    /// up. A result that comes in after its check was withdrawn would stand for ever, so it is
    /// dropped.
    pub(crate) fn record(
        &self,
        epoch: u64,
        result: Result<(), CheckFailure>,
        rise: u32,
        fall: u32,
    ) -> bool {
        let mut book = self.book();
        if book.epoch != epoch {
            return false;
        }
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
                    book.reason = failure.reason;
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
        let mut book = self.book();
        book.epoch += 1;
        self.state.store(0, Relaxed);
        self.start_over();
        self.failed.store(0, Relaxed);
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
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
            health.record(0, if passes { Ok(()) } else { failure("status 500") }, 2, 3);
            assert_eq!((health.is_down(), health.is_up()), (down, up), "step {step}");
        }
    }

    #[test]
    fn a_refused_check_needs_no_second_one() {
        let health = ActiveHealth::default();
        health.record(0, Err(CheckFailure { definitive: true, reason: "refused".into() }), 2, 3);
        assert_eq!(health.down_reason().as_deref(), Some("refused"));
    }

    #[test]
    fn passes_from_before_a_refused_request_do_not_count() {
        let health = ActiveHealth::default();
        assert!(!health.record(0, Ok(()), 2, 3));
        health.start_over();
        assert!(!health.record(0, Ok(()), 2, 3));
        assert!(health.record(0, Ok(()), 2, 3));
    }

    #[test]
    fn a_result_that_comes_after_its_check_was_withdrawn_is_dropped() {
        let health = ActiveHealth::default();
        let epoch = health.epoch();
        health.forget();
        assert!(!health.record(epoch, failure("late"), 1, 1));
        assert!(!health.is_down());
        assert!(!health.record(epoch, Ok(()), 1, 1));
        assert!(!health.is_up());
        assert!(health.record(health.epoch(), Ok(()), 1, 1));
    }
}
