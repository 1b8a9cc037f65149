//! Calendars in the text form of RFC 5545: which events they hold, and when.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::DateTime;
use icalendar::{Calendar, Component as _, DatePerhapsTime, EventStatus};
use rrule::{RRuleError, RRuleSet, Tz};

use super::events::{MOST_LIFT, RecurringEvent};

/// An event that says neither its end nor that it takes a day lasts this long.
const DEFAULT_DURATION: Duration = Duration::from_secs(3_600);
/// Components within components: alarms of events, rules of zones, in a calendar, and some to spare.
const MOST_NESTED: usize = 8;
const DAY: Duration = Duration::from_secs(86_400);
/// How an event says its lift.
const LIFT_PROPERTY: &str = "X-FORESHADOW-LIFT";

/// The events of a calendar, those without a lift of their own with `lift`; the error says what is
/// wrong with it.
pub(crate) fn of_calendar(text: &str, lift: f64) -> Result<Vec<RecurringEvent>, String> {
    nesting(text)?;
    let calendar: Calendar = text.parse()?;
    let zone = calendar.get_timezone();
    let name = |event: &icalendar::Event| event.get_summary().unwrap_or("event").to_owned();
    let in_event =
        |event: &icalendar::Event, error| format!("the event {:?}: {error}", name(event));
    // Occurrences that another event of the same UID replaces, be it by nothing.
    let mut replaced: BTreeMap<&str, Vec<DateTime<Tz>>> = BTreeMap::new();
    let mut newest: BTreeMap<Identity<'_>, Revision> = BTreeMap::new();
    let mut revisions = Vec::new();
    for event in calendar.events() {
        let which = replaces(event, zone).map_err(|error| in_event(event, error))?;
        let revision = revision(event).map_err(|error| in_event(event, error))?;
        let identity = event.get_uid().map(|uid| (uid, which));
        if let Some((uid, which)) = identity {
            if let Some(which) = which {
                replaced.entry(uid).or_default().push(which);
            }
            let known = newest.entry((uid, which)).or_default();
            *known = revision.clone().max(std::mem::take(known));
        }
        revisions.push((identity, revision));
    }
    let mut events = Vec::new();
    for (event, (identity, revision)) in calendar.calendar_events().zip(&revisions) {
        let is_old = identity.and_then(|key| newest.get(&key)).is_some_and(|new| revision < new);
        let is_cancelled = matches!(event.event().get_status(), Some(EventStatus::Cancelled));
        if is_old || is_cancelled {
            continue;
        }
        let in_event = |error| in_event(event.event(), error);
        let mut starts = event.get_recurrence().map_err(|error| in_event(error.to_string()))?;
        let lasts = duration(event.event(), zone, *starts.get_dt_start()).map_err(in_event)?;
        let lift = own_lift(event.event()).map_err(in_event)?.unwrap_or(lift);
        if event.event().properties().get("RECURRENCE-ID").is_none() {
            let replaced = event.event().get_uid().and_then(|uid| replaced.get(uid));
            for which in replaced.into_iter().flatten() {
                starts = starts.exdate(*which);
            }
        }
        let event = RecurringEvent::new(&name(event.event()), lift, lasts, starts);
        events.push(event.map_err(in_event)?);
    }
    Ok(events)
}

/// The parser calls itself for each component within another, so how deep they lie is bounded before.
///
/// # Errors
/// Where one lies too deep, or ends that has not begun.
fn nesting(text: &str) -> Result<(), String> {
    // A line break before a blank is none (RFC 5545, section 3.1).
    let unfolded = text.replace("\r\n", "\n").replace('\r', "\n");
    let unfolded = unfolded.replace("\n ", "").replace("\n\t", "");
    let mut open: Vec<String> = Vec::new();
    for line in unfolded.lines() {
        let Some((name, value)) = line.split_once([':', ';']) else { continue };
        let value = || value.trim().to_ascii_uppercase();
        if name.trim().eq_ignore_ascii_case("BEGIN") {
            open.push(value());
        } else if name.trim().eq_ignore_ascii_case("END") && open.pop() != Some(value()) {
            return Err(format!("END:{} ends nothing that has begun", shown(&value())));
        }
        if open.len() > MOST_NESTED {
            return Err(format!(
                "BEGIN:{} lies within {MOST_NESTED} others: is an END missing before it?",
                shown(open.last().map_or("", String::as_str))
            ));
        }
    }
    Ok(())
}

/// The beginning of what may be long.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

/// What revisions of one event have in common: its UID, and which occurrence it stands in for.
type Identity<'a> = (&'a str, Option<DateTime<Tz>>);

/// How new an event is among those of its UID: its sequence, then when that was written (RFC 5545,
/// sections 3.8.7.4 and 3.8.7.2).
type Revision = (u64, String);

fn revision(event: &icalendar::Event) -> Result<Revision, String> {
    let text = event.property_value("SEQUENCE").unwrap_or("0").trim();
    let sequence =
        text.parse().map_err(|_| format!("SEQUENCE is {text:?}, not a whole number from 0 on"))?;
    // In UTC and of one form, so that the order of texts is that of times.
    let written = event.property_value("DTSTAMP").unwrap_or_default().trim().to_owned();
    Ok((sequence, written))
}

/// Which occurrence of a repeating event it stands in for, if it does.
fn replaces(event: &icalendar::Event, zone: Option<&str>) -> Result<Option<DateTime<Tz>>, String> {
    let property = event.properties().get("RECURRENCE-ID");
    if property.is_some_and(|property| property.params().contains_key("RANGE")) {
        return Err(
            "RECURRENCE-ID with a RANGE is not understood: end the event before the change \
                    with UNTIL and begin another one"
                .to_owned(),
        );
    }
    moment(event, "RECURRENCE-ID", zone)
}

/// The moment that a property names, if it is there; a date is the midnight it begins with.
fn moment(
    event: &icalendar::Event,
    name: &str,
    zone: Option<&str>,
) -> Result<Option<DateTime<Tz>>, String> {
    let Some(property) = event.properties().get(name) else { return Ok(None) };
    let own_zone = property.params().get("TZID").map(|zone| zone.value());
    let value = match (own_zone, DatePerhapsTime::from_property(property), zone) {
        (Some(zone), _, _) => format!(";TZID={zone}:{}", property.value()),
        (None, Some(DatePerhapsTime::Date(date)), Some(zone)) => {
            format!(";TZID={zone}:{}T000000", date.format("%Y%m%d"))
        }
        _ => format!(":{}", property.value()),
    };
    // As the start of a rule, so that zones are understood as those of starts are.
    let parsed: Result<RRuleSet, RRuleError> = format!("DTSTART{value}\nRDATE{value}").parse();
    let starts = parsed.map_err(|error| format!("{name} is {:?}: {error}", property.value()))?;
    Ok(Some(*starts.get_dt_start()))
}

fn own_lift(event: &icalendar::Event) -> Result<Option<f64>, String> {
    let Some(text) = event.property_value(LIFT_PROPERTY) else { return Ok(None) };
    let lift = text.trim().parse().ok().filter(|lift| *lift > 0.0 && *lift <= MOST_LIFT);
    lift.map(Some).ok_or_else(|| {
        format!("{LIFT_PROPERTY} is {text:?}, not a number above 0 up to {MOST_LIFT}")
    })
}

/// From start to end, or as the event says. Repeats last as long as the first one.
fn duration(
    event: &icalendar::Event,
    zone: Option<&str>,
    start: DateTime<Tz>,
) -> Result<Duration, String> {
    let is_date = matches!(event.get_start(), Some(DatePerhapsTime::Date(_)));
    let unsaid = if is_date { DAY } else { DEFAULT_DURATION };
    let lasts = if let Some(text) = event.property_value("DURATION") {
        written_duration(text)
            .ok_or_else(|| format!("DURATION is {text:?}, not a length of time such as PT1H30M"))?
    } else if let Some(end) = moment(event, "DTEND", zone)? {
        (end - start).to_std().map_err(|_| format!("it ends at {end}, before its start {start}"))?
    } else {
        return Ok(unsaid);
    };
    Ok(if lasts.is_zero() { unsaid } else { lasts })
}

/// `P1DT2H30M`, `P2W`: days, weeks and times of RFC 5545, section 3.3.6.
fn written_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim().trim_start_matches('+').strip_prefix('P')?;
    if rest.is_empty() {
        return None;
    }
    let mut total_s = 0_u64;
    while !rest.is_empty() {
        rest = rest.strip_prefix('T').unwrap_or(rest);
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let unit_s = match tail.chars().next()? {
            'W' => 7 * 86_400,
            'D' => 86_400,
            'H' => 3_600,
            'M' => 60,
            'S' => 1,
            _ => return None,
        };
        total_s = total_s.checked_add(number.parse::<u64>().ok()?.checked_mul(unit_s)?)?;
        rest = &tail[1..];
    }
    Some(Duration::from_secs(total_s))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;
    /// 2026-10-23T00:00:00Z, a Friday; clocks in Berlin go back in the night to Sunday.
    const FRIDAY_MS: u64 = 1_792_713_600_000;

    /// A calendar of events that are written as lines separated by spaces.
    fn calendar(events: &[&str]) -> String {
        let event = |lines: &&str| {
            let lines = lines.replace(' ', "\r\n");
            format!("BEGIN:VEVENT\r\nDTSTAMP:20260101T000000Z\r\n{lines}\r\nEND:VEVENT\r\n")
        };
        let events: String = events.iter().map(event).collect();
        format!("BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//EN\r\n{events}END:VCALENDAR\r\n")
    }

    /// Names of occurrences within ten days, with their starts and ends in hours from Friday.
    fn found(text: &str) -> Vec<(String, u64, u64)> {
        let events = of_calendar(text, 1.0).unwrap();
        let until_ms = FRIDAY_MS + 240 * HOUR_MS;
        let all = events.iter().flat_map(|event| event.occurrences(FRIDAY_MS, until_ms));
        let hours = |ms: u64| (ms - FRIDAY_MS) / HOUR_MS;
        all.map(|o| (o.name, hours(o.start_ms), hours(o.end_ms))).collect()
    }

    fn named(name: &str, hours: &[(u64, u64)]) -> Vec<(String, u64, u64)> {
        hours.iter().map(|(start, end)| (name.to_owned(), *start, *end)).collect()
    }

    #[test]
    fn a_calendar_is_read_with_its_exceptions() {
        let text = calendar(&[
            "UID:1 SUMMARY:sale DTSTART:20261023T100000Z DTEND:20261023T120000Z \
             RRULE:FREQ=DAILY;COUNT=4 EXDATE:20261024T100000Z X-FORESHADOW-LIFT:2.5",
            "UID:2 SUMMARY:match DTSTART:20261024T180000Z DURATION:PT2H",
        ]);
        let sale = named("sale", &[(10, 12), (58, 60), (82, 84)]);
        assert_eq!(found(&text), [sale, named("match", &[(42, 44)])].concat());
        let events = of_calendar(&text, 1.5).unwrap();
        let until_ms = FRIDAY_MS + 240 * HOUR_MS;
        let lift = |at: usize| events[at].occurrences(FRIDAY_MS, until_ms)[0].lift;
        assert_eq!((lift(0), lift(1)), (2.5, 1.5));
    }

    #[test]
    fn what_is_nested_without_end_is_refused_before_it_is_parsed() {
        let deep = "BEGIN:VCALENDAR\r\n".repeat(100_000);
        let folded = "BEG\r\n IN:VCALENDAR\n".repeat(100_000);
        let mixed = "BEGIN:VEVENT\nEND:VALARM\n".repeat(100_000);
        for (text, why) in [(deep, "lies within"), (folded, "lies within"), (mixed, "ends nothing")]
        {
            let error = of_calendar(&text, 1.0).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_rule_of_every_second_of_a_year_is_refused_before_it_is_laid_out() {
        let all = |most: u32| (0..most).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        let rule = format!(
            "FREQ=YEARLY;BYSECOND={};BYMINUTE={};BYHOUR={};BYDAY=MO,TU,WE,TH,FR,SA,SU",
            all(60),
            all(60),
            all(24)
        );
        let event = format!("UID:1 SUMMARY:sale DTSTART:20261023T100000Z RRULE:{rule}");
        let error = of_calendar(&calendar(&[&event]), 1.0).unwrap_err();
        assert!(error.contains("\"sale\"") && error.contains("times of a day"), "{error}");
    }

    #[test]
    fn what_is_cancelled_or_moved_happens_not_at_all_or_elsewhere() {
        let sale = "UID:1 SUMMARY:sale DTSTART;TZID=Europe/Berlin:20261023T120000 \
                    DTEND;TZID=Europe/Berlin:20261023T130000 RRULE:FREQ=DAILY;COUNT=4";
        let moved = "UID:1 SUMMARY:moved RECURRENCE-ID;TZID=Europe/Berlin:20261024T120000 \
                     DTSTART:20261024T180000Z DTEND:20261024T190000Z";
        let cancelled = "UID:1 SUMMARY:sale RECURRENCE-ID:20261025T110000Z STATUS:CANCELLED \
                         DTSTART:20261025T110000Z DTEND:20261025T120000Z";
        let off = "UID:2 SUMMARY:off DTSTART:20261024T100000Z RRULE:FREQ=DAILY STATUS:CANCELLED";
        let other = "UID:3 SUMMARY:other DTSTART:20261024T100000Z STATUS:CONFIRMED";
        let expected = [
            named("moved", &[(42, 43)]),
            named("sale", &[(10, 11), (83, 84)]),
            named("other", &[(34, 35)]),
        ];
        assert_eq!(found(&calendar(&[moved, sale, cancelled, off, other])), expected.concat());

        let from_then_on = moved.replace("RECURRENCE-ID;", "RECURRENCE-ID;RANGE=THISANDFUTURE;");
        let error = of_calendar(&calendar(&[&from_then_on]), 1.0).unwrap_err();
        assert!(error.contains("\"moved\": RECURRENCE-ID with a RANGE"), "{error}");
    }

    #[test]
    fn of_revisions_of_an_event_the_newest_counts_wherever_it_stands() {
        let first = "UID:1 SUMMARY:sale DTSTART:20261023T100000Z DURATION:PT1H";
        let later = "UID:1 SEQUENCE:2 SUMMARY:sale DTSTART:20261023T150000Z DURATION:PT1H";
        let between = "UID:1 SEQUENCE:1 SUMMARY:sale DTSTART:20261023T120000Z DURATION:PT1H";
        assert_eq!(found(&calendar(&[later, first, between])), named("sale", &[(15, 16)]));
        // A revision that calls it off leaves nothing of those before it.
        let off = "UID:1 SEQUENCE:3 SUMMARY:sale DTSTART:20261023T150000Z STATUS:CANCELLED";
        assert_eq!(found(&calendar(&[off, first, later])), []);
        // One occurrence that was moved twice.
        let days =
            "UID:2 SUMMARY:match DTSTART:20261023T100000Z DURATION:PT1H RRULE:FREQ=DAILY;COUNT=2";
        let moved = "UID:2 SEQUENCE:2 SUMMARY:match RECURRENCE-ID:20261024T100000Z \
                     DTSTART:20261024T200000Z DURATION:PT1H";
        let before = "UID:2 SEQUENCE:1 SUMMARY:match RECURRENCE-ID:20261024T100000Z \
                      DTSTART:20261024T180000Z DURATION:PT1H";
        let expected = [named("match", &[(10, 11)]), named("match", &[(44, 45)])].concat();
        assert_eq!(found(&calendar(&[days, moved, before])), expected);
        // What is as new is no revision of each other.
        let twin = first.replace("T100000Z", "T110000Z");
        assert_eq!(found(&calendar(&[first, &twin])), named("sale", &[(10, 11), (11, 12)]));
        let error = of_calendar(&calendar(&["UID:1 SEQUENCE:-1 DTSTART:20261023T100000Z"]), 1.0);
        assert!(error.unwrap_err().contains("SEQUENCE is \"-1\""));
    }

    #[test]
    fn events_last_from_moment_to_moment_whatever_clocks_on_walls_show() {
        let across = "SUMMARY:flight DTSTART;TZID=Europe/Berlin:20261023T120000 \
                      DTEND;TZID=America/New_York:20261023T120000";
        let night = "SUMMARY:night DTSTART;TZID=Europe/Berlin:20261024T230000 \
                     DTEND;TZID=Europe/Berlin:20261025T070000";
        let day =
            "SUMMARY:day DTSTART;VALUE=DATE;TZID=UTC:20261026 DTEND;VALUE=DATE;TZID=UTC:20261028";
        let point = "SUMMARY:point DTSTART:20261024T100000Z DTEND:20261024T100000Z";
        for (event, expected) in [
            (across, named("flight", &[(10, 16)])),
            (night, named("night", &[(45, 54)])),
            (day, named("day", &[(72, 120)])),
            (point, named("point", &[(34, 35)])),
        ] {
            assert_eq!(found(&calendar(&[event])), expected);
        }
        let whole_days = calendar(&["SUMMARY:day DTSTART;VALUE=DATE:20261025"]);
        let in_berlin =
            whole_days.replace("VERSION:2.0", "VERSION:2.0\r\nX-WR-TIMEZONE:Europe/Berlin");
        assert_eq!(found(&in_berlin), named("day", &[(46, 70)]));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_name() {
        for (event, complaint) in [
            ("SUMMARY:x", "the event \"x\""),
            ("SUMMARY:x DTSTART:20261024T100000Z DTEND:20261024T090000Z", "before its start"),
            ("SUMMARY:x DTSTART:20261024T100000Z DURATION:-PT1H", "\"-PT1H\", not a length"),
            ("SUMMARY:x DTSTART:20261024T100000Z DTEND;TZID=Mars:20261024T110000", "DTEND is"),
            ("SUMMARY:x DTSTART:20261024T100000Z X-FORESHADOW-LIFT:0", "not a number above 0"),
            ("SUMMARY:x DTSTART:20261024T100000Z RRULE:FREQ=MINUTELY;COUNT=300000", "200000 times"),
        ] {
            let error = of_calendar(&calendar(&[event]), 1.0).unwrap_err();
            assert!(error.contains(complaint), "{event}: {error}");
        }
        assert!(of_calendar("no calendar", 1.0).is_err());
        assert_eq!(written_duration("P1DT2H30M"), Some(Duration::from_secs(95_400)));
        assert_eq!(written_duration("P2W"), Some(Duration::from_secs(1_209_600)));
        for text in ["", "P", "PT", "1H", "PT1X", "PTH", "-PT1H", "P99999999999999999999D"] {
            assert_eq!(written_duration(text), None, "{text}");
        }
    }
}
