//! Events that are known beforehand: from calendar files, and by rules.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, TimeZone as _};
use rrule::{Frequency, RRule, RRuleSet, Tz};
use serde::Serialize;

use crate::{file, units};

/// A larger file is no calendar of a service.
const MAX_CALENDAR_BYTES: u64 = 4 << 20;
/// Occurrences of one event given out at once.
const MOST_OCCURRENCES: usize = 500;
/// Repeats of one event that are gone through at once.
const MOST_REPEATS: usize = 200_000;
/// Times of one day that a rule may list: every minute.
const MOST_TIMES: usize = 1_440;
/// Unix time until which they are counted: 2200-01-01.
const COUNTED_UNTIL_S: i64 = 7_258_118_400;
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
    /// Of the text they were read from, or of why it could not be read.
    #[serde(skip)]
    pub(crate) fingerprint: u64,
}

impl CalendarFile {
    /// Of the text that events were read from; only to be compared within one process.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The same of what the file holds now. Blocks on the disk.
    #[must_use]
    pub fn fingerprint_now(&self) -> u64 {
        fingerprint(&read_calendar(&self.file))
    }
}

/// The text of a calendar file, or why there is none.
pub(crate) fn read_calendar(file: &Path) -> Result<String, String> {
    file::read_text(file, MAX_CALENDAR_BYTES).map_err(|error| error.to_string())
}

pub(crate) fn fingerprint(read: &Result<String, String>) -> u64 {
    let mut hasher = DefaultHasher::new();
    read.hash(&mut hasher);
    hasher.finish()
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
        Self::new(name, lift, duration, starts)
    }

    /// An event that happens at `starts`; the error says why it cannot be followed.
    pub(crate) fn new(
        name: &str,
        lift: f64,
        duration: Duration,
        starts: RRuleSet,
    ) -> Result<Self, String> {
        // All are laid out before the first is known, so many take long and much memory.
        let by = |list: &[u8]| list.len().max(1);
        let times = |rule: &RRule| {
            by(rule.get_by_hour()) * by(rule.get_by_minute()) * by(rule.get_by_second())
        };
        if starts.get_rrule().iter().chain(starts.get_exrule()).any(|rule| times(rule) > MOST_TIMES)
        {
            return Err(format!(
                "BYHOUR, BYMINUTE and BYSECOND make more than {MOST_TIMES} times of a day: name fewer"
            ));
        }
        let event = Self { name: name.to_owned(), duration, lift, starts: starts.limit() };
        // However long ago it began, it must be found out quickly when it comes next.
        if event.period_s().is_none() {
            let until = |start: &DateTime<Tz>| start.timestamp() < COUNTED_UNTIL_S;
            let repeats = event.starts.into_iter().take_while(until);
            if repeats.take(MOST_REPEATS + 1).count() > MOST_REPEATS {
                return Err(format!(
                    "it repeats more than {MOST_REPEATS} times: end it with UNTIL rather than \
                     COUNT, or repeat it more seldom"
                ));
            }
        }
        Ok(event)
    }

    /// Its occurrences that overlap the time from `from_ms` to `until_ms`, by start; of more than
    /// 500, the first.
    #[must_use]
    pub fn occurrences(&self, from_ms: u64, until_ms: u64) -> Vec<Occurrence> {
        self.walk(from_ms, until_ms).take(MOST_OCCURRENCES).collect()
    }

    /// The same looking back: of more than 500, the last.
    #[must_use]
    pub fn last_occurrences(&self, from_ms: u64, until_ms: u64) -> Vec<Occurrence> {
        let mut back_ms = 3_600_000_u64;
        loop {
            let since_ms = until_ms.saturating_sub(back_ms).max(from_ms);
            let mut last = VecDeque::new();
            for occurrence in self.walk(since_ms, until_ms) {
                if last.len() == MOST_OCCURRENCES {
                    last.pop_front();
                }
                last.push_back(occurrence);
            }
            if last.len() == MOST_OCCURRENCES || since_ms <= from_ms {
                return last.into();
            }
            back_ms = back_ms.saturating_mul(8);
        }
    }

    fn walk(&self, from_ms: u64, until_ms: u64) -> impl Iterator<Item = Occurrence> {
        let lasts_ms = units::duration::to_ms(self.duration);
        let near = self.near(from_ms.saturating_sub(lasts_ms));
        near.into_iter()
            .take(MOST_REPEATS)
            .filter_map(|start| u64::try_from(start.timestamp_millis()).ok())
            .take_while(move |start_ms| *start_ms < until_ms)
            .map(move |start_ms| (start_ms, start_ms.saturating_add(lasts_ms)))
            .filter(move |(_, end_ms)| *end_ms > from_ms)
            .map(|(start_ms, end_ms)| Occurrence {
                name: self.name.clone(),
                start_ms,
                end_ms,
                lift: self.lift,
            })
    }

    /// The same repeats from a little before `after_ms` on: what is long over is not gone through.
    fn near(&self, after_ms: u64) -> RRuleSet {
        let (all, first) = (&self.starts, *self.starts.get_dt_start());
        let Some(period_s) = self.period_s() else { return all.clone() };
        let after_s = i64::try_from(after_ms / 1_000).unwrap_or(i64::MAX);
        // A day more, since clocks change, and a period, since the first one may be cut.
        let over_s = after_s.saturating_sub(first.timestamp()).saturating_sub(86_400);
        let over = over_s.div_euclid(period_s) - 1;
        // A time that the clock on the wall skips or shows twice is no start: then an earlier one.
        for periods in (0..16).map(|tried| over - (1 << tried) + 1).take_while(|n| *n > 0) {
            let on_the_wall = TimeDelta::try_seconds(periods.saturating_mul(period_s))
                .and_then(|later| first.naive_local().checked_add_signed(later));
            let start =
                on_the_wall.and_then(|local| first.timezone().from_local_datetime(&local).single());
            if let Some(start) = start {
                return RRuleSet::new(start)
                    .set_rrules(all.get_rrule().clone())
                    .set_rdates(all.get_rdate().clone())
                    .set_exdates(all.get_exdate().clone())
                    .limit();
            }
        }
        all.clone()
    }

    /// Time on the wall after which it repeats in the same way, where there is such a time and
    /// repeats need not be counted.
    fn period_s(&self) -> Option<i64> {
        let [rule] = &self.starts.get_rrule()[..] else { return None };
        if rule.get_count().is_some() || !self.starts.get_exrule().is_empty() {
            return None;
        }
        let unit_s = match rule.get_freq() {
            Frequency::Weekly => 604_800,
            Frequency::Daily => 86_400,
            Frequency::Hourly => 3_600,
            Frequency::Minutely => 60,
            Frequency::Secondly => 1,
            Frequency::Yearly | Frequency::Monthly => return None,
        };
        Some(unit_s * i64::from(rule.get_interval().max(1)))
    }
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
    fn what_makes_no_sense_is_refused() {
        for (start, timezone, repeats) in [
            ("tomorrow", "UTC", "FREQ=DAILY"),
            ("2026-01-05T09:00:00", "Mars/Olympus", "FREQ=DAILY"),
            ("2026-01-05T09:00:00", "UTC", "FREQ=SOMETIMES"),
            ("2026-13-45T99:00:00", "UTC", "FREQ=DAILY"),
        ] {
            assert!(rule(start, timezone, repeats).is_err(), "{start} {timezone} {repeats}");
        }
    }

    fn rule(start: &str, timezone: &str, rule: &str) -> Result<RecurringEvent, String> {
        RecurringEvent::of_rule(("x", 2.0, Duration::from_secs(60)), (start, timezone), Some(rule))
    }

    #[test]
    fn of_very_many_repeats_the_nearest_are_found_however_long_ago_they_began() {
        let event = rule("1990-01-01T00:00:30", "UTC", "FREQ=MINUTELY").unwrap();
        let ahead = event.occurrences(FRIDAY_MS, FRIDAY_MS + 8 * DAY_MS);
        assert_eq!((ahead.len(), ahead[0].start_ms), (500, FRIDAY_MS - 30_000), "what runs counts");
        let back = event.last_occurrences(FRIDAY_MS - 366 * DAY_MS, FRIDAY_MS);
        assert_eq!((back.len(), back[499].start_ms), (500, FRIDAY_MS - 30_000));
        assert!(back.is_sorted_by_key(|occurrence| occurrence.start_ms));
        let over = rule("2026-10-01T00:00:00", "UTC", "FREQ=HOURLY;COUNT=600").unwrap();
        let back = over.last_occurrences(0, FRIDAY_MS + 300 * DAY_MS);
        let last_ms = FRIDAY_MS - 22 * DAY_MS + 599 * HOUR_MS;
        assert_eq!((back.len(), back[499].start_ms), (500, last_ms));
    }

    #[test]
    fn what_is_long_over_can_be_left_out_without_a_trace() {
        for text in [
            "FREQ=DAILY",
            "FREQ=DAILY;INTERVAL=3;UNTIL=20270101T000000Z",
            "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,TH,SU;WKST=SU",
            "FREQ=WEEKLY;BYDAY=MO,WE,FR;BYSETPOS=-1",
            "FREQ=HOURLY;INTERVAL=7",
            "FREQ=MINUTELY;INTERVAL=50;BYDAY=SA,SU",
            "FREQ=MONTHLY;BYDAY=-1FR",
            "FREQ=YEARLY;BYMONTH=10;BYDAY=SU",
        ] {
            let event = rule("2026-01-07T02:30:00", "Europe/Berlin", text).unwrap();
            let all: Vec<i64> = event
                .starts
                .into_iter()
                .map(|start| start.timestamp_millis())
                .take_while(|start_ms| *start_ms < 1_830_000_000_000)
                .collect();
            for hours in 0..40 {
                let from_ms = FRIDAY_MS - 20 * DAY_MS + hours * 31 * HOUR_MS;
                let until_ms = from_ms + 6 * DAY_MS;
                let found = event.occurrences(from_ms, until_ms);
                let expected = all.iter().map(|start_ms| u64::try_from(*start_ms).unwrap());
                let expected: Vec<u64> = expected
                    .filter(|start_ms| start_ms + 60_000 > from_ms && *start_ms < until_ms)
                    .collect();
                let found: Vec<u64> = found.iter().map(|o| o.start_ms).collect();
                assert_eq!(found, expected, "{text} from {from_ms}");
            }
        }
    }

    #[test]
    fn a_rule_without_end_or_measure_is_cut_and_endless_counting_refused() {
        let event = rule("2026-10-23T00:00:00", "UTC", "FREQ=SECONDLY").unwrap();
        assert_eq!(event.occurrences(FRIDAY_MS, FRIDAY_MS + 300 * DAY_MS).len(), 500);
        let error = rule("2026-10-23T00:00:00", "UTC", "FREQ=MINUTELY;COUNT=999999").unwrap_err();
        assert!(error.contains("more than 200000 times"), "{error}");
    }
}
