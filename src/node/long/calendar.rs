//! Events known beforehand: announced, of calendars, by rule.

use foreshadow_config::{Config, Occurrence};
use foreshadow_control::ServiceName;
use foreshadow_predictor::long::Event;

use super::Calendar;
use crate::node::announced::most_telling;
use crate::node::{Shared, decisions};

/// How far ahead occurrences of calendars are looked up: as far as any curve looks, and a day more.
const CALENDAR_MS: u64 = 8 * 86_400_000;
/// Occurrences to come of all calendars that are looked at, and of those of one service.
const MOST_COMING: usize = 10_000;
const MOST_OF_SERVICE: usize = 1_000;

/// Announced events and those of calendars that have not started.
pub(super) fn upcoming(
    shared: &Shared,
    service: &ServiceName,
    now_ms: u64,
) -> anyhow::Result<Vec<Event>> {
    let mut all = coming_of(shared, service, now_ms)?;
    all.retain(|event| event.start_ms > now_ms);
    all.truncate(super::fit::MOST_EVENTS);
    Ok(all)
}

/// Those that run as well.
pub(super) fn coming_of(
    shared: &Shared,
    service: &ServiceName,
    now_ms: u64,
) -> anyhow::Result<Vec<Event>> {
    let announced = shared.decisions.events(now_ms)?.into_iter().map(|(_, event)| event);
    let calendar = shared.long.calendar();
    let mine = announced.filter(|event| event.service == service.as_str());
    let all = mine.chain(calendar.get(service).into_iter().flatten().cloned());
    Ok(all
        .filter(|event| event.end_ms > now_ms)
        .map(|event| Event {
            kind: event.name,
            start_ms: event.start_ms,
            end_ms: event.end_ms,
            expected_lift: Some(event.lift),
        })
        .collect())
}

pub(super) fn as_event(occurrence: Occurrence) -> Event {
    Event {
        kind: occurrence.name,
        start_ms: occurrence.start_ms,
        end_ms: occurrence.end_ms,
        expected_lift: Some(occurrence.lift),
    }
}

/// What the calendars and rules of all services say of the next days. Of a service, of what runs the
/// 64 that change demand most, and of what is to come the soonest thousand; of all services together
/// the soonest of those to come.
pub(super) fn coming(config: &Config, now_ms: u64) -> Calendar {
    let mut calendar = Calendar::new();
    let mut later: Vec<(&ServiceName, Occurrence)> = Vec::new();
    for (service, configured) in &config.services {
        let until_ms = now_ms.saturating_add(CALENDAR_MS);
        let occurrences = configured.forecast.occurrences(now_ms, until_ms);
        let (running, to_come): (Vec<_>, Vec<_>) =
            occurrences.into_iter().partition(|occurrence| occurrence.start_ms <= now_ms);
        let running = running.into_iter().map(|occurrence| as_announced(service, occurrence));
        let mut running = most_telling(running.collect(), |event| event.lift);
        running.sort_by_key(|event| event.start_ms);
        if !running.is_empty() {
            calendar.insert(service.clone(), running);
        }
        let soonest = to_come.into_iter().take(MOST_OF_SERVICE);
        later.extend(soonest.map(|occurrence| (service, occurrence)));
    }
    later.sort_by_key(|(_, occurrence)| occurrence.start_ms);
    later.truncate(MOST_COMING);
    for (service, occurrence) in later {
        let events = calendar.entry(service.clone()).or_default();
        events.push(as_announced(service, occurrence));
    }
    calendar
}

fn as_announced(service: &ServiceName, occurrence: Occurrence) -> decisions::Event {
    decisions::Event {
        service: service.to_string(),
        name: occurrence.name,
        start_ms: occurrence.start_ms,
        end_ms: occurrence.end_ms,
        lift: occurrence.lift,
    }
}
