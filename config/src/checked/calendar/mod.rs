//! Calendars in the text form of RFC 5545: which events they hold, and when.
//!
//! What has not the form of a calendar is refused with its line. An event that cannot be followed, or
//! in which a line has no form, is left out, so that one of a strange program does not take all others
//! with it.

mod event;
mod syntax;
mod windows;
mod zones;

use std::cell::Cell;
use std::collections::BTreeMap;

use super::RecurringEvent;
use super::events::LeftOut;
use super::recurring::Effort;
use event::{Fault, Moment, Revision};
use syntax::Component;
pub(super) use syntax::text;
use zones::Zones;

/// What a calendar holds.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// Those that can be followed.
    pub events: Vec<RecurringEvent>,
    /// And those that cannot.
    pub left_out: Vec<LeftOut>,
}

/// The events of a text of calendars, those without a lift of their own with `lift`; the error says
/// what is wrong with the text.
pub(crate) fn of_calendar(text: &str, lift: f64) -> Result<Events, String> {
    let calendars = syntax::calendars(text)?;
    let parts = Cell::new(0);
    let zones: Vec<Zones<'_>> = calendars.iter().map(|it| Zones::of(it, &parts)).collect();
    let mut left_out = Vec::new();
    let mut written = Vec::new();
    for (calendar, zones) in calendars.iter().zip(&zones) {
        if let Some((line, why)) = calendar.spoilt.clone() {
            left_out.push(LeftOut { line, name: "calendar".to_owned(), why });
        }
        let method = calendar.get("METHOD").map_or("", |line| line.value());
        let is_off = method.eq_ignore_ascii_case("CANCEL");
        for event in calendar.within.iter().filter(|it| it.is("VEVENT")) {
            match Written::read(event, zones, is_off) {
                Ok(event) => written.push(event),
                Err(fault) => left_out.push(self::left_out(event, fault)),
            }
        }
    }
    let mut found = Events { events: Vec::new(), left_out };
    follow(&written, lift, &mut found);
    Ok(found)
}

/// What stands for an event, or for one occurrence of it.
struct Written<'a> {
    event: &'a Component<'a>,
    zones: &'a Zones<'a>,
    uid: Option<&'a str>,
    stands_in_for: Option<Moment>,
    revision: Revision,
    is_off: bool,
}

impl<'a> Written<'a> {
    fn read(event: &'a Component<'a>, zones: &'a Zones<'a>, is_off: bool) -> Result<Self, Fault> {
        if let Some((line, why)) = event.spoilt.clone() {
            return Err(Fault { line, why });
        }
        let status = event.get("STATUS").map_or("", |line| line.value());
        Ok(Self {
            event,
            zones,
            uid: event.get("UID").map(|line| line.value()),
            stands_in_for: event::stands_in_for(event, zones)?,
            revision: event::revision(event)?,
            is_off: is_off || status.eq_ignore_ascii_case("CANCELLED"),
        })
    }
}

/// What revisions of one event have in common: its UID, and which occurrence, Unix time, it stands
/// in for.
type Identity<'a> = (&'a str, Option<i64>);

/// Of what is written what happens: the newest of each, in whichever calendar of the file it stands,
/// and a series without what others stand in for.
fn follow(written: &[Written<'_>], lift: f64, found: &mut Events) {
    let identities = identities(written);
    let mut replaced: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    let mut newest: BTreeMap<Identity<'_>, &Revision> = BTreeMap::new();
    for (written, identity) in written.iter().zip(&identities) {
        if let Some((uid, which)) = *identity {
            replaced.entry(uid).or_default().extend(which);
            let known = newest.entry((uid, which)).or_insert(&written.revision);
            *known = (*known).max(&written.revision);
        }
    }
    let mut effort = Effort::of_file();
    for (written, identity) in written.iter().zip(&identities) {
        let newest = identity.and_then(|identity| newest.get(&identity));
        if written.is_off || newest.is_some_and(|newest| written.revision < **newest) {
            continue;
        }
        let series = identity.filter(|(_, which)| which.is_none());
        let except = series.and_then(|(uid, _)| replaced.get(uid)).cloned().unwrap_or_default();
        match event::read(written.event, lift, written.zones, except, &mut effort) {
            Ok(event) => found.events.push(event),
            Err(fault) => found.left_out.push(left_out(written.event, fault)),
        }
    }
}

/// Which event each is; a day that one stands in for is the occurrence of its series on that day.
fn identities<'a>(written: &[Written<'a>]) -> Vec<Option<Identity<'a>>> {
    let mut series: BTreeMap<&str, (&Revision, Moment)> = BTreeMap::new();
    for written in written.iter().filter(|it| it.stands_in_for.is_none()) {
        let (Some(uid), Ok(start)) = (written.uid, event::start(written.event, written.zones))
        else {
            continue;
        };
        if series.get(uid).is_none_or(|(newest, _)| **newest <= written.revision) {
            series.insert(uid, (&written.revision, start));
        }
    }
    let which = |written: &Written<'a>| {
        let uid = written.uid?;
        let moment = written.stands_in_for.clone().map(|moment| match series.get(uid) {
            Some((_, start)) => moment.on(start).at_s(),
            None => moment.at_s(),
        });
        Some((uid, moment))
    };
    written.iter().map(which).collect()
}

fn left_out(written: &Component<'_>, Fault { line, why }: Fault) -> LeftOut {
    LeftOut { line, name: event::name(written), why }
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
        let events = of_calendar(text, 1.0).unwrap().events;
        let until_ms = FRIDAY_MS + 240 * HOUR_MS;
        let all = events.iter().flat_map(|event| event.occurrences(FRIDAY_MS, until_ms));
        let hours = |ms: u64| (ms - FRIDAY_MS) / HOUR_MS;
        all.map(|o| (o.name, hours(o.start_ms), hours(o.end_ms))).collect()
    }

    /// Line, name and reason of the only event that is left out.
    fn left_out(text: &str) -> String {
        let left_out = of_calendar(text, 1.0).unwrap().left_out;
        assert_eq!(left_out.len(), 1, "{left_out:?}");
        format!("{}: {}: {}", left_out[0].line, left_out[0].name, left_out[0].why)
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
        let events = of_calendar(&text, 1.5).unwrap().events;
        let until_ms = FRIDAY_MS + 240 * HOUR_MS;
        let lift = |at: usize| events[at].occurrences(FRIDAY_MS, until_ms)[0].lift;
        assert_eq!((lift(0), lift(1)), (2.5, 1.5));
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
        let why = left_out(&calendar(&[&event]));
        assert!(why.starts_with("9: sale: ") && why.contains("times of a day"), "{why}");
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
        let why = left_out(&calendar(&[&from_then_on]));
        assert!(why.starts_with("8: moved: RECURRENCE-ID with a RANGE"), "{why}");
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
        let older = first.replace("UID:1", "UID:1 SEQUENCE:-1");
        assert_eq!(found(&calendar(&[&older, first])), named("sale", &[(10, 11)]));
        let why = left_out(&calendar(&["UID:1 SEQUENCE:one DTSTART:20261023T100000Z"]));
        assert!(why.contains("SEQUENCE is \"one\""), "{why}");
        // In a file that several calendars were put together in.
        let files = calendar(&[first]) + &calendar(&[later, off]);
        assert_eq!(found(&files), []);
        let off = first.replace("SUMMARY", "SEQUENCE:1 SUMMARY");
        let cancelled = calendar(&[&off]).replace("VERSION", "METHOD:CANCEL\r\nVERSION");
        assert_eq!(
            found(&(cancelled + &calendar(&[first, days]))),
            named("match", &[(10, 11), (34, 35)])
        );
    }

    #[test]
    fn a_day_that_is_moved_is_the_occurrence_on_that_day() {
        let days = "UID:1 SUMMARY:match DTSTART;TZID=Europe/Berlin:20261023T120000 DURATION:PT1H \
                    RRULE:FREQ=DAILY;COUNT=2";
        let moved = "UID:1 SUMMARY:match RECURRENCE-ID;VALUE=DATE:20261024 \
                     DTSTART:20261024T200000Z DURATION:PT1H";
        let expected = [named("match", &[(10, 11)]), named("match", &[(44, 45)])].concat();
        assert_eq!(found(&calendar(&[days, moved])), expected);
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
    fn what_makes_no_sense_is_left_out_by_its_name_and_line() {
        let rules = "SUMMARY:x DTSTART:20261024T100000Z RRULE:FREQ=DAILY;COUNT=2 RRULE:FREQ=WEEKLY";
        let many =
            format!("SUMMARY:x DTSTART:20261024T100000Z EXDATE:{}", "20261024,".repeat(10_001));
        for (event, complaint) in [
            (rules, "9: x: a second RRULE"),
            (&many, "8: x: it lists more than 10000 EXDATEs"),
            (
                "SUMMARY:x DTSTART:20261024T100000Z continued",
                "8: x: \"continued\" is not of the form",
            ),
            ("SUMMARY:x", "4: x: DTSTART is missing"),
            ("SUMMARY:x DTSTART:20261024T100000Z DTEND:20261024T090000Z", "8: x: it ends at"),
            ("SUMMARY:x DTSTART:20261024T100000Z DURATION:-PT1H", "\"-PT1H\", not a length"),
            (
                "SUMMARY:x DTSTART:20261024T100000Z DTEND;TZID=Mars:20261024T110000",
                "\"Mars\" is neither",
            ),
            ("SUMMARY:x DTSTART:20261024T100000Z X-FORESHADOW-LIFT:0", "not a number above 0"),
            ("SUMMARY:x DTSTART:20261024T100000Z RRULE:FREQ=MINUTELY;COUNT=300000", "200000 times"),
        ] {
            let good = "SUMMARY:good DTSTART:20261024T100000Z";
            let text = calendar(&[event, good]);
            let why = left_out(&text);
            assert!(why.contains(complaint), "{event}: {why}");
            assert_eq!(found(&text), named("good", &[(34, 35)]), "one takes no other with it");
        }
        assert!(of_calendar("no calendar", 1.0).is_err());
    }
}
