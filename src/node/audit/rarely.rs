//! Entries that others could make as often as they like: told a few times, then counted.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;

use super::entry::Entry;

/// So many at once, and one more each time this has passed.
const BURST: u32 = 20;
const EVERY: Duration = Duration::from_secs(10);

/// Lets few entries through and counts the others; the next one through tells how many.
#[derive(Debug, Default)]
pub(crate) struct Rarely(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    used: u32,
    since_ms: u64,
    left_out: u64,
}

impl Rarely {
    /// The entry, if it may be told now.
    pub(crate) fn pass(&self, mut entry: Entry) -> Option<Entry> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let every = u64::try_from(EVERY.as_millis()).unwrap_or(u64::MAX);
        let back = entry.at_ms.saturating_sub(state.since_ms) / every;
        if back > 0 || entry.at_ms < state.since_ms {
            state.used = state.used.saturating_sub(u32::try_from(back).unwrap_or(u32::MAX));
            state.since_ms = entry.at_ms;
        }
        if state.used >= BURST {
            state.left_out += 1;
            return None;
        }
        state.used += 1;
        let left_out = std::mem::take(&mut state.left_out);
        if left_out > 0 {
            entry.before = json!({ "alike_left_out": left_out });
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::Actor;
    use super::*;

    #[test]
    fn a_flood_is_counted_and_the_count_is_told() {
        let rarely = Rarely::default();
        let at = |at_ms| rarely.pass(Entry::new(at_ms, Actor::Node, "access"));
        let told = (0..1_000).filter_map(|nth| at(1_000_000 + nth)).count();
        assert_eq!(told, BURST as usize);
        let next = at(1_011_000).expect("ten seconds are over");
        assert_eq!(next.before, json!({ "alike_left_out": 980 }));
        assert!(at(1_011_001).is_none());
        assert!(at(5_000).is_none(), "a clock that is set back");
        assert_eq!(at(16_000).expect("and goes on").before, json!({ "alike_left_out": 2 }));
    }
}
