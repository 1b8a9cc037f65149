//! The controller's own time: it only goes forward, whatever the observations say.

use serde::{Deserialize, Serialize};

/// Longest time that may pass between two ticks; more counts as this much.
pub(crate) const LONGEST_STEP_MS: u64 = 60_000;

/// Time since the first observation, as far as it is credible.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Clock {
    now_ms: u64,
    last_at_ms: Option<u64>,
}

impl Clock {
    /// Goes to the observation's time and returns how much time has passed. A step backwards
    /// counts as one interval, a leap ahead as [`LONGEST_STEP_MS`].
    pub(crate) fn advance(&mut self, at_ms: u64, interval_ms: u64) -> u64 {
        let passed_ms = match self.last_at_ms {
            Some(last_at_ms) if at_ms > last_at_ms => at_ms - last_at_ms,
            Some(_) | None => interval_ms,
        };
        let passed_ms = passed_ms.min(LONGEST_STEP_MS);
        self.last_at_ms = Some(at_ms);
        self.now_ms = self.now_ms.saturating_add(passed_ms);
        passed_ms
    }

    /// Goes ahead by a gap that is known to be one; the next observation counts as one interval.
    pub(crate) fn resume(&mut self, gap_ms: u64) {
        self.now_ms = self.now_ms.saturating_add(gap_ms);
        self.last_at_ms = None;
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaps_and_steps_back_are_tamed() {
        let mut clock = Clock::default();
        for (at_ms, expected) in
            [(1_000, 100), (1_100, 100), (500, 100), (u64::MAX, LONGEST_STEP_MS), (0, 100)]
        {
            assert_eq!(clock.advance(at_ms, 100), expected);
        }
        assert_eq!(clock.now_ms(), 400 + LONGEST_STEP_MS);
    }
}
