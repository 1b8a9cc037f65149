//! Announced events: changes of them on their way to the loop, and which of all an observation tells.

use std::collections::BTreeSet;

use foreshadow_control::Announced;
use tokio::sync::{AcquireError, Mutex, MutexGuard, Semaphore, SemaphorePermit};

use super::decisions::Event;

/// Events to come that are told of: as many as the controller looks at.
const MOST_UPCOMING: usize = 64;
/// Events that run which are told of: a calendar may say that thousands do.
const MOST_RUNNING: usize = 64;

/// Changes that may wait for the same tick: each brings a list of all events.
pub(crate) const CHANGES_AT_ONCE: usize = 16;

/// Lines up changes of the announced events.
#[derive(Debug)]
pub(crate) struct Announcing {
    places: Semaphore,
    turn: Mutex<()>,
}

impl Default for Announcing {
    fn default() -> Self {
        Self { places: Semaphore::new(CHANGES_AT_ONCE), turn: Mutex::default() }
    }
}

impl Announcing {
    /// A place among the changes that are under way, until the loop has answered.
    ///
    /// # Errors
    /// Never, as long as nobody closes them.
    pub(crate) async fn place(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        self.places.acquire().await
    }

    /// Held from changing the events until the list of them is in the queue of the loop, and no
    /// longer: so the list of the later of two changes comes later, and one tick takes both.
    pub(crate) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }
}

/// All that an event is, in order.
pub(super) fn all_of(event: &Event) -> ((u64, &str, &str), u64, u64) {
    (key(event), event.end_ms, event.lift.to_bits())
}

/// What an event is known by, whatever else of it is changed.
fn key(event: &Event) -> (u64, &str, &str) {
    (event.start_ms, &event.name, &event.service)
}

/// Of more than 64 events that run those that change demand most.
pub(super) fn most_telling<T>(mut running: Vec<T>, lift: impl Fn(&T) -> f64) -> Vec<T> {
    if running.len() > MOST_RUNNING {
        // As far from 1 downwards as upwards: half of it is as telling as twice.
        let telling = |event: &T| lift(event).max(1e-9).ln().abs();
        running.sort_by(|one, other| telling(other).total_cmp(&telling(one)));
        running.truncate(MOST_RUNNING);
    }
    running
}

/// Takes out of `started` what is over at `at_ms`, and what is known no more though it has not ended; the
/// latter is given back as what ended now.
pub(super) fn cut_short<'a>(
    started: &mut Vec<Event>,
    known: impl Iterator<Item = &'a Event>,
    at_ms: u64,
) -> Vec<Event> {
    started.retain(|event| event.end_ms > at_ms);
    // An event that was changed goes on.
    let known: BTreeSet<_> = known.filter(|event| event.start_ms <= at_ms).map(key).collect();
    let is_known = |event: &Event| known.contains(&key(event));
    let gone = started.extract_if(.., |event| !is_known(event));
    gone.map(|event| Event { end_ms: at_ms, ..event }).collect()
}

/// The events that run at `at_ms`, and the soonest of those to come that ask for more than usual:
/// an observation is built, recorded and kept every tick, and most of a calendar is far away.
pub(super) fn announced<'a>(
    events: impl Iterator<Item = &'a Event>,
    lift: impl Fn(&Event) -> f64,
    at_ms: u64,
) -> Vec<Announced> {
    let (running, mut upcoming): (Vec<&Event>, Vec<&Event>) =
        events.filter(|event| event.end_ms > at_ms).partition(|event| event.start_ms <= at_ms);
    upcoming.sort_by_key(|event| event.start_ms);
    let announced = |event: &Event| Announced {
        starts_in_ms: event.start_ms.saturating_sub(at_ms),
        ends_in_ms: event.end_ms.saturating_sub(at_ms),
        lift: lift(event),
    };
    let upcoming = upcoming.into_iter().map(announced).filter(|event| event.lift > 1.0);
    let running = most_telling(running, |event| event.lift);
    running.into_iter().map(announced).chain(upcoming.take(MOST_UPCOMING)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_is_withdrawn_while_it_runs_ends_then() {
        let event = |name: &str, end_ms| Event {
            service: "shop".to_owned(),
            name: name.to_owned(),
            start_ms: 100,
            end_ms,
            lift: 2.0,
        };
        let mut started = vec![event("over", 150), event("sale", 500), event("match", 500)];
        let known = [event("sale", 600)];
        let ended = cut_short(&mut started, known.iter(), 200);
        assert_eq!(ended, [event("match", 200)]);
        assert_eq!(started, [event("sale", 500)]);
        assert!(cut_short(&mut started, known.iter(), 300).is_empty());
    }

    #[test]
    fn of_very_many_that_run_those_are_told_that_change_demand_most() {
        let events: Vec<Event> = (0..30_000)
            .map(|nth| Event {
                service: "shop".to_owned(),
                name: nth.to_string(),
                start_ms: nth,
                end_ms: 90_000,
                lift: if nth % 1_000 == 0 { 3.0 } else { 1.01 },
            })
            .collect();
        let told = announced(events.iter(), |event| event.lift, 40_000);
        assert_eq!(told.len(), MOST_RUNNING);
        assert_eq!(told.iter().filter(|event| event.lift == 3.0).count(), 30);
    }

    #[test]
    fn what_runs_is_told_and_the_soonest_that_ask_for_more() {
        let event = |start_ms: u64, lift| Event {
            service: "shop".to_owned(),
            name: "sale".to_owned(),
            start_ms,
            end_ms: start_ms + 100,
            lift,
        };
        let mut events: Vec<Event> = (0..10_000).rev().map(|n| event(1_000 + n, 2.0)).collect();
        events.extend((0..100).map(|n| event(1_000 + n, 1.0)));
        events.extend([event(950, 1.0), event(901, 3.0), event(900, 3.0)]);
        let told = announced(events.iter(), |event| event.lift, 1_000);
        let starts: Vec<u64> = told.iter().map(|event| event.starts_in_ms).collect();
        // Of those that begin now there is one of either lift.
        assert_eq!(starts, [vec![0; 4], (1..=64).collect()].concat());
        assert!(told.iter().all(|event| event.starts_in_ms == 0 || event.lift == 2.0));
    }
}
