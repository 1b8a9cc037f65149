//! What was said of a later time and waits there for the truth it is held against.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Something said of a later time.
pub(crate) trait Awaited {
    /// When the truth is known, in milliseconds of the clock of ticks.
    fn due_ms(&self) -> u64;
}

/// About as many forecasts of one horizon wait for their truth.
pub(crate) const MOST_PENDING: u64 = 32;
/// Least time between two of them.
const LEAST_STRIDE_MS: u64 = 10_000;

/// Time between two forecasts of `horizon_ms` that are kept to be held against the truth.
pub(crate) fn stride_ms(horizon_ms: u64) -> u64 {
    (horizon_ms / MOST_PENDING).max(LEAST_STRIDE_MS)
}

/// What waits, the earliest due first.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Pending<T>(VecDeque<T>);

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T: Awaited> Pending<T> {
    /// Keeps what is said, unless it is due less than `stride_ms` after what was kept last: that bounds how
    /// many wait to the horizon divided by the stride, and one.
    pub(crate) fn keep(&mut self, said: T, stride_ms: u64) {
        let last_ms = self.0.back().map(Awaited::due_ms);
        if last_ms.is_none_or(|last_ms| said.due_ms() >= last_ms.saturating_add(stride_ms)) {
            self.0.push_back(said);
        }
    }

    /// Takes out the next whose truth is that of `now_ms`. What was due `seen_ms` ago or before is dropped:
    /// after a leap of the clock its truth was not seen. That must not be less than ticks are apart, which
    /// is more than a stride where months are simulated, or nothing would ever be held against anything.
    pub(crate) fn next_due(&mut self, now_ms: u64, seen_ms: u64) -> Option<T> {
        loop {
            let said = self.0.pop_front_if(|said| said.due_ms() <= now_ms)?;
            if now_ms - said.due_ms() < seen_ms {
                return Some(said);
            }
        }
    }

    /// Time passed unseen: what is open will not meet its truth.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Awaited for u64 {
        fn due_ms(&self) -> u64 {
            *self
        }
    }

    #[test]
    fn as_many_wait_as_strides_fit_in() {
        let mut pending = Pending::default();
        for now_ms in (0..7_200_000).step_by(100) {
            while pending.next_due(now_ms, 100).is_some() {}
            pending.keep(now_ms + 3_600_000, stride_ms(3_600_000));
            assert!(pending.len() as u64 <= MOST_PENDING + 1, "{}", pending.len());
        }
    }

    #[test]
    fn what_was_due_while_nobody_looked_is_dropped() {
        let mut pending = Pending::default();
        [1_000, 2_000, 3_000].into_iter().for_each(|due_ms| pending.keep(due_ms, 1_000));
        assert_eq!(pending.next_due(999, 1_000), None);
        assert_eq!(
            pending.next_due(2_500, 1_000),
            Some(2_000),
            "what was due at 1,000 was not seen"
        );
        assert_eq!(pending.next_due(2_500, 1_000), None);
        assert_eq!(pending.next_due(3_000, 1_000), Some(3_000));
        assert!(pending.is_empty());
    }
}
