//! Occurrences of many events at once, no more of them than anybody looks at.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::recurring::MOST_OCCURRENCES;
use super::{Occurrence, RecurringEvent};

/// Of the occurrences of `events` that overlap the time from `from_ms` to `until_ms` the soonest, at
/// most `most` and of each event 500, by start. No more of them are laid out at once.
pub(crate) fn soonest<'a>(
    events: impl Iterator<Item = &'a RecurringEvent>,
    (from_ms, until_ms): (u64, u64),
    most: usize,
) -> Vec<Occurrence> {
    let mut kept = BinaryHeap::new();
    let events: Vec<&RecurringEvent> = events.collect();
    for (nth, event) in events.iter().enumerate() {
        let until_ms = match kept.peek() {
            Some(((last_ms, _), _)) if kept.len() >= most => until_ms.min(*last_ms),
            _ => until_ms,
        };
        for time in event.walk(from_ms, until_ms).take(MOST_OCCURRENCES) {
            kept.push((time, nth));
            if kept.len() > most {
                kept.pop();
            }
        }
    }
    listed(&events, kept.into_sorted_vec())
}

/// The same looking back: of the occurrences the latest.
pub(crate) fn latest<'a>(
    events: impl Iterator<Item = &'a RecurringEvent>,
    (from_ms, until_ms): (u64, u64),
    most: usize,
) -> Vec<Occurrence> {
    let mut kept = BinaryHeap::new();
    let events: Vec<&RecurringEvent> = events.collect();
    for (nth, event) in events.iter().enumerate() {
        let from_ms = match kept.peek() {
            Some((Reverse((first_ms, _)), _)) if kept.len() >= most => from_ms.max(*first_ms),
            _ => from_ms,
        };
        for time in event.last(from_ms, until_ms) {
            kept.push((Reverse(time), nth));
            if kept.len() > most {
                kept.pop();
            }
        }
    }
    let mut kept: Vec<_> = kept.into_iter().map(|(time, nth)| (time.0, nth)).collect();
    kept.sort_unstable();
    listed(&events, kept)
}

fn listed(events: &[&RecurringEvent], mut kept: Vec<((u64, u64), usize)>) -> Vec<Occurrence> {
    kept.dedup();
    let mut all: Vec<Occurrence> = kept.iter().map(|(time, nth)| events[*nth].at(*time)).collect();
    all.sort_by(|a, b| a.start_ms.cmp(&b.start_ms).then_with(|| a.name.cmp(&b.name)));
    all
}
