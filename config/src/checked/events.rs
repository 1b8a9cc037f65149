//! Events that are known beforehand: from calendar files, and by rules.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, TimeZone as _};
use icalendar::{Calendar, CalendarDateTime, Component as _, DatePerhapsTime};
use rrule::{RRuleSet, Tz};
use serde::Serialize;

use crate::units;

/// Occurrences of one event given out at once.
const MOST_OCCURRENCES: u16 = 500;
/// An event of a calendar that says neither its end nor that it takes a day lasts this long.
const DEFAULT_DURATION: Duration = Duration::from_secs(3_600);
/// How an event of a calendar says its lift.
const LIFT_PROPERTY: &str = "X-FORESHADOW-LIFT";
/// Lifts beyond this are slips of the pen.
pub(crate) const MOST_LIFT: f64 = 100.0;

/// A calendar file with the events it holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CalendarFile {
    /// The file.
    pub file: PathBuf,
    /// Lift of events that say none.
    pub lift: f64,
    /// Its events.
    #[serde(skip)]
    pub events: Vec<RecurringEvent>,
}

/// An event that repeats by a rule, as it is written.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EventRule {
    /// What happens.
    pub name: String,
    /// When it first starts, local to `timezone`.
    pub start: String,
    /// Where that is the time.
    pub timezone: String,
    /// How it repeats; absent: not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// How long it lasts.
    #[serde(serialize_with = "units::duration::serialize")]
    pub duration: Duration,
    /// Demand during it relative to none of it, above 0.
    pub lift: f64,
    /// The event.
    #[serde(skip)]
    pub event: RecurringEvent,
}

/// An event with all its repeats.
#[derive(Clone, Debug, PartialEq)]
pub struct RecurringEvent {
    name: String,
    duration: Duration,
    lift: f64,
    starts: RRuleSet,
}

/// One time at which an event happens.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Occurrence {
    /// What happens.
    pub name: String,
    /// Start, Unix time.
    pub start_ms: u64,
    /// End, Unix time.
    pub end_ms: u64,
    /// Demand during it relative to none of it; 1 where nothing was said.
    pub lift: f64,
}

impl RecurringEvent {
    /// The event of a rule; the error says what is wrong with it.
    pub(crate) fn of_rule(
        (name, lift, duration): (&str, f64, Duration),
        (start, timezone): (&str, &str),
        rule: Option<&str>,
    ) -> Result<Self, String> {
        let compact: String = start.chars().filter(|c| !matches!(c, '-' | ':')).collect();
        let is_time = compact.len() == 15
            && compact
                .bytes()
                .enumerate()
                .all(|(at, b)| if at == 8 { b == b'T' } else { b.is_ascii_digit() });
        if !is_time {
            return Err(format!("the start {start:?} is not a time such as 2026-11-23T09:00:00"));
        }
        let repeats = rule.map_or_else(
            || format!("RDATE;TZID={timezone}:{compact}"),
            |rule| format!("RRULE:{}", rule.trim_start_matches("RRULE:")),
        );
        let text = format!("DTSTART;TZID={timezone}:{compact}\n{repeats}");
        let starts: RRuleSet =
            text.parse().map_err(|error: rrule::RRuleError| error.to_string())?;
        Ok(Self { name: name.to_owned(), duration, lift, starts })
    }

    /// Its occurrences that overlap the time from `from_ms` to `until_ms`; of very many, the first
    /// 500.
    #[must_use]
    pub fn occurrences(&self, from_ms: u64, until_ms: u64) -> Vec<Occurrence> {
        let lasts_ms = units::duration::to_ms(self.duration);
        let (Some(after), Some(before)) = (time(from_ms.saturating_sub(lasts_ms)), time(until_ms))
        else {
            return Vec::new();
        };
        let found = self.starts.clone().after(after).before(before).all(MOST_OCCURRENCES);
        let occurrence = |start: &DateTime<Tz>| {
            let start_ms = u64::try_from(start.timestamp_millis()).ok()?;
            let end_ms = start_ms.saturating_add(lasts_ms);
            let overlaps = start_ms < until_ms && end_ms > from_ms;
            overlaps.then(|| Occurrence {
                name: self.name.clone(),
                start_ms,
                end_ms,
                lift: self.lift,
            })
        };
        found.dates.iter().filter_map(occurrence).collect()
    }
}

fn time(unix_ms: u64) -> Option<DateTime<Tz>> {
    Tz::UTC.timestamp_millis_opt(i64::try_from(unix_ms).ok()?).single()
}

/// The events of a calendar in the text form of RFC 5545; the error says what is wrong with it.
pub(crate) fn of_calendar(text: &str, lift: f64) -> Result<Vec<RecurringEvent>, String> {
    let calendar: Calendar = text.parse()?;
    let mut events = Vec::new();
    for event in calendar.calendar_events() {
        let name = event.event().get_summary().unwrap_or("event").to_owned();
        let starts =
            event.get_recurrence().map_err(|error| format!("the event {name:?}: {error}"))?;
        let own = event
            .event()
            .property_value(LIFT_PROPERTY)
            .map(|text| (text, text.trim().parse::<f64>()));
        let lift = match own {
            Some((_, Ok(lift))) if lift > 0.0 && lift <= MOST_LIFT => lift,
            Some((text, _)) => {
                return Err(format!(
                    "the event {name:?}: {LIFT_PROPERTY} is {text:?}, not a number above 0 up to {MOST_LIFT}"
                ));
            }
            None => lift,
        };
        let duration = duration(event.event()).unwrap_or(DEFAULT_DURATION);
        events.push(RecurringEvent { name, duration, lift, starts });
    }
    Ok(events)
}

/// From start to end, or as the event says.
fn duration(event: &icalendar::Event) -> Option<Duration> {
    const DAY: Duration = Duration::from_secs(86_400);
    if let Some(text) = event.property_value("DURATION") {
        return written_duration(text);
    }
    match (event.get_start()?, event.get_end()) {
        (DatePerhapsTime::Date(first), Some(DatePerhapsTime::Date(last))) => {
            let days = u32::try_from((last - first).num_days()).ok()?;
            Some(DAY * days.max(1))
        }
        (DatePerhapsTime::Date(_), _) => Some(DAY),
        (DatePerhapsTime::DateTime(start), Some(DatePerhapsTime::DateTime(end))) => {
            (local(&end) - local(&start)).to_std().ok().filter(|lasts| !lasts.is_zero())
        }
        _ => None,
    }
}

/// The time on the wall; start and end hang on the same one.
fn local(time: &CalendarDateTime) -> chrono::NaiveDateTime {
    match time {
        CalendarDateTime::Floating(time) => *time,
        CalendarDateTime::Utc(time) => time.naive_utc(),
        CalendarDateTime::WithTimezone { date_time, .. } => *date_time,
    }
}

/// `P1DT2H30M`, `P2W`: days, weeks and times of RFC 5545, section 3.3.6.
fn written_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim().trim_start_matches('+').strip_prefix('P')?;
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
    (total_s > 0).then(|| Duration::from_secs(total_s))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;
    const DAY_MS: u64 = 24 * HOUR_MS;
    /// 2026-10-23T00:00:00Z, a Friday; clocks in Berlin go back in the night to Sunday.
    const FRIDAY_MS: u64 = 1_792_713_600_000;

    fn starts(events: &[RecurringEvent], days: u64) -> Vec<(String, u64)> {
        let all = events.iter().flat_map(|e| e.occurrences(FRIDAY_MS, FRIDAY_MS + days * DAY_MS));
        all.map(|o| (o.name, (o.start_ms - FRIDAY_MS) / HOUR_MS)).collect()
    }

    #[test]
    fn a_rule_follows_the_clock_on_the_wall() {
        let event = RecurringEvent::of_rule(
            ("opening", 3.0, Duration::from_secs(1_800)),
            ("2026-01-05T09:00:00", "Europe/Berlin"),
            Some("FREQ=DAILY"),
        )
        .unwrap();
        let hours: Vec<u64> =
            starts(std::slice::from_ref(&event), 4).into_iter().map(|(_, hour)| hour).collect();
        assert_eq!(hours, [7, 31, 56, 80], "one hour later, in UTC, from Sunday on");
        let now = event.occurrences(FRIDAY_MS + 7 * HOUR_MS + 60_000, FRIDAY_MS + 8 * HOUR_MS);
        assert_eq!(now.len(), 1, "what runs counts");
        assert_eq!(now[0].end_ms - now[0].start_ms, 1_800_000);
        let once = RecurringEvent::of_rule(
            ("launch", 3.0, Duration::from_secs(1_800)),
            ("2026-10-24T12:00:00", "UTC"),
            None,
        );
        assert_eq!(starts(&[once.unwrap()], 30), [("launch".to_owned(), 36)]);
    }

    #[test]
    fn a_calendar_is_read_with_its_exceptions() {
        let text = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//EN\r\n\
            BEGIN:VEVENT\r\nUID:1\r\nDTSTAMP:20260101T000000Z\r\nSUMMARY:sale\r\n\
            DTSTART:20261023T100000Z\r\nDTEND:20261023T120000Z\r\n\
            RRULE:FREQ=DAILY;COUNT=4\r\nEXDATE:20261024T100000Z\r\n\
            X-FORESHADOW-LIFT:2.5\r\nEND:VEVENT\r\n\
            BEGIN:VEVENT\r\nUID:2\r\nDTSTAMP:20260101T000000Z\r\nSUMMARY:match\r\n\
            DTSTART:20261024T180000Z\r\nDURATION:PT1H45M\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";
        let events = of_calendar(text, 1.5).unwrap();
        let found = starts(&events, 10);
        let named = |name: &str, hours: &[u64]| {
            hours.iter().map(|h| (name.to_owned(), *h)).collect::<Vec<_>>()
        };
        assert_eq!(found, [named("sale", &[10, 58, 82]), named("match", &[42])].concat());
        let all: Vec<_> = events.iter().map(|e| (e.lift, e.duration.as_secs())).collect();
        assert_eq!(all, [(2.5, 7_200), (1.5, 6_300)]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let rule = |start, timezone, rule| {
            RecurringEvent::of_rule(
                ("x", 2.0, Duration::from_secs(60)),
                (start, timezone),
                Some(rule),
            )
        };
        for (start, timezone, repeats) in [
            ("tomorrow", "UTC", "FREQ=DAILY"),
            ("2026-01-05T09:00:00", "Mars/Olympus", "FREQ=DAILY"),
            ("2026-01-05T09:00:00", "UTC", "FREQ=SOMETIMES"),
            ("2026-13-45T99:00:00", "UTC", "FREQ=DAILY"),
        ] {
            assert!(rule(start, timezone, repeats).is_err(), "{start} {timezone} {repeats}");
        }
        assert!(
            of_calendar(
                "BEGIN:VCALENDAR\nBEGIN:VEVENT\nSUMMARY:x\nEND:VEVENT\nEND:VCALENDAR\n",
                1.0
            )
            .is_err()
        );
        assert!(of_calendar("no calendar", 1.0).is_err());
        assert_eq!(written_duration("P1DT2H30M"), Some(Duration::from_secs(95_400)));
        assert_eq!(written_duration("P2W"), Some(Duration::from_secs(1_209_600)));
        for text in ["", "P", "PT", "1H", "PT1X", "PTH", "P99999999999999999999D"] {
            assert_eq!(written_duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_rule_without_end_or_measure_is_cut() {
        let event = RecurringEvent::of_rule(
            ("x", 2.0, Duration::from_secs(1)),
            ("2026-10-23T00:00:00", "UTC"),
            Some("FREQ=SECONDLY"),
        );
        assert!(event.unwrap().occurrences(FRIDAY_MS, FRIDAY_MS + 300 * DAY_MS).len() <= 501);
    }
}
