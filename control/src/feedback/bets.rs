//! What a threshold asked for, held against what demand came to ask for within the lead time.

use std::cmp::Ordering;
use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Bets of one threshold that wait for their truth, at most.
const MOST_OPEN: u64 = 16;
/// Least time between two of them.
const LEAST_STRIDE_MS: u64 = 1_000;

/// Every so often, how many shadows a threshold asks for, until it is known how many were needed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Bets {
    open: VecDeque<Bet>,
    last_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Bet {
    due_ms: u64,
    asked: u32,
    /// The most that was needed since.
    needed: u32,
}

impl Bets {
    /// Takes one tick: what is `needed` now and what the threshold asks for within `lead_ms`.
    /// Returns how what was asked compares with what was needed, for every bet that is due.
    pub(super) fn follow(
        &mut self,
        now_ms: u64,
        lead_ms: u64,
        asked: u32,
        needed: u32,
    ) -> Vec<Ordering> {
        let mut settled = Vec::new();
        for bet in &mut self.open {
            bet.needed = bet.needed.max(needed);
        }
        while let Some(bet) = self.open.pop_front_if(|bet| bet.due_ms <= now_ms) {
            settled.push(bet.asked.cmp(&bet.needed));
        }
        let stride_ms = (lead_ms / MOST_OPEN).max(LEAST_STRIDE_MS);
        let is_due = self.last_ms.is_none_or(|last| now_ms >= last.saturating_add(stride_ms));
        // A lead time that has become shorter does not overtake.
        let due_ms = now_ms.saturating_add(lead_ms).max(self.open.back().map_or(0, |b| b.due_ms));
        if is_due && self.open.len() < 2 * MOST_OPEN as usize {
            self.last_ms = Some(now_ms);
            self.open.push_back(Bet { due_ms, asked, needed });
        }
        settled
    }

    /// What is open will not meet its truth.
    pub(super) fn dismiss(&mut self) {
        self.open.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_needed_within_the_lead_time_is_the_truth() {
        let mut bets = Bets::default();
        let mut settled = Vec::new();
        for now_ms in (0..10_000).step_by(100) {
            let needed = if now_ms == 1_500 { 3 } else { 1 };
            settled.extend(bets.follow(now_ms, 1_000, 2, needed));
        }
        assert_eq!(settled[..3], [Ordering::Greater, Ordering::Less, Ordering::Greater]);
        assert!(settled[3..].iter().all(|s| *s == Ordering::Greater) && settled.len() == 9);
    }
}
