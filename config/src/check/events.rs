//! Events by rule and from calendar files, which are read here.

use super::range::{self, DAY_MS, HOUR_MS, SECOND_MS};
use crate::checked::{Events, MOST_LIFT, fingerprint, of_calendar, read_calendar};
use crate::raw::{Either, Factor, FilePath, List, RawCalendar, RawEvent};
use crate::reader::{At, Field, Problem, Reader};
use crate::{CalendarFile, EventRule, RecurringEvent};

pub(super) fn calendars(
    field: Field<List<Either<FilePath, RawCalendar>>>,
    r: &mut Reader<'_>,
) -> Vec<CalendarFile> {
    let Some(list) = field.value() else { return Vec::new() };
    let mut calendars = Vec::with_capacity(list.0.len());
    for At { value, place } in list.0 {
        let (file, lift) = match value {
            Either::Short(file) => (file.0, 1.0),
            Either::Table(table) => match table.file.value() {
                Some(file) => (file.0, lift(table.lift, r)),
                None => continue,
            },
        };
        let read = read_calendar(&file);
        let fingerprint = fingerprint(&read);
        match read.and_then(|text| of_calendar(&text, lift)) {
            Ok(Events { events, left_out }) => {
                calendars.push(CalendarFile { file, lift, events, left_out, fingerprint });
            }
            Err(error) => {
                let found = format!("{} that cannot be used: {error}", file.display());
                r.report(&place, Problem::new(found, "a calendar file (.ics, RFC 5545)"));
            }
        }
    }
    calendars
}

pub(super) fn rules(field: Field<List<RawEvent>>, r: &mut Reader<'_>) -> Vec<EventRule> {
    let Some(list) = field.value() else { return Vec::new() };
    let mut rules = Vec::with_capacity(list.0.len());
    for At { value: raw, place } in list.0 {
        let duration = range::time(raw.duration, SECOND_MS..=31 * DAY_MS, HOUR_MS, r);
        let lift = lift(raw.lift, r);
        let (Some(name), Some(start)) = (raw.name.value(), raw.start.value()) else { continue };
        let (name, start) = (name.0, start.0);
        let timezone = raw.timezone.value().map_or_else(|| "UTC".to_owned(), |zone| zone.0);
        let rule = raw.rule.value().map(|rule| rule.0);
        let when = (start.as_str(), timezone.as_str());
        match RecurringEvent::of_rule((&name, lift, duration), when, rule.as_deref()) {
            Ok(event) => {
                rules.push(EventRule { name, start, timezone, rule, duration, lift, event })
            }
            Err(error) => {
                let expected = "a start, a timezone and a rule such as FREQ=WEEKLY;BYDAY=MO";
                r.report(
                    &place,
                    Problem::new(format!("an event that never is ({error})"), expected),
                );
            }
        }
    }
    rules
}

fn lift(field: Field<Factor>, r: &mut Reader<'_>) -> f64 {
    let Some(At { value: Factor(lift), place }) = field.given() else { return 1.0 };
    if lift > 0.0 && lift <= MOST_LIFT {
        return lift;
    }
    r.report(&place, Problem::new(lift.to_string(), "a number above 0, up to 100"));
    1.0
}
