//! Events with all their repeats.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rrule::{Frequency, RRuleSet};

use super::Occurrence;
use super::rule::{Rule, Stamp, on_wall};
use super::zone::Zone;
use crate::units;

/// Occurrences of one event given out at once.
pub(super) const MOST_OCCURRENCES: usize = 500;
/// Repeats of one event that are gone through at once.
const MOST_REPEATS: usize = 200_000;
/// Repeats of all events of one file that are gone through at once.
const MOST_REPEATS_OF_FILE: usize = 2_000_000;
/// Events of one file that may turn out never to happen: each is looked for at length.
const MOST_IDLE_OF_FILE: usize = 20;
/// Repeating events of one file: each is gone through every time that it is looked ahead.
const MOST_RULES_OF_FILE: usize = 5_000;
/// Unix time until which they are counted: 2200-01-01.
const COUNTED_UNTIL_S: i64 = 7_258_118_400;

/// An event with all its repeats.
#[derive(Clone, Debug, PartialEq)]
pub struct RecurringEvent {
    name: Arc<str>,
    duration: Duration,
    lift: f64,
    starts: Starts,
}

/// When an event starts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Starts {
    /// On the wall, which the crate for rules takes for universal time.
    walls: RRuleSet,
    /// Where the wall is.
    zone: Zone,
    /// Moments at which it does not start after all, Unix time, sorted.
    except: Vec<i64>,
}

impl Starts {
    /// At `start_s` on the wall of `zone` and by `rule` from then on, where there is one; as well at
    /// `more`, on the wall, but not at the moments `except`.
    pub(crate) fn new(
        (start_s, zone): (i64, Zone),
        rule: Option<Rule>,
        more: &[i64],
        mut except: Vec<i64>,
    ) -> Result<Self, String> {
        let start = on_wall(start_s).ok_or("its start is too far away")?;
        let mut walls = RRuleSet::new(start).limit();
        match rule.map(Rule::into_rule) {
            Some(Some(rule)) => walls = walls.rrule(rule),
            Some(None) => {}
            None => walls = walls.rdate(start),
        }
        for wall_s in more {
            walls = walls.rdate(on_wall(*wall_s).ok_or("an RDATE is too far away")?);
        }
        except.sort_unstable();
        Ok(Self { walls, zone, except })
    }

    fn is_rule(&self) -> bool {
        !self.walls.get_rrule().is_empty()
    }

    /// Whether it repeats within days, and so would fall on itself where a clock skips an hour.
    fn is_often(&self) -> bool {
        let often =
            |freq| matches!(freq, Frequency::Hourly | Frequency::Minutely | Frequency::Secondly);
        self.walls.get_rrule().iter().any(|rule| often(rule.get_freq()))
    }
}

/// What finding out about the events of one file may still cost.
#[derive(Debug)]
pub(crate) struct Effort {
    repeats: usize,
    idle: usize,
    rules: usize,
}

impl Effort {
    /// That of a file.
    pub(crate) fn of_file() -> Self {
        Self { repeats: MOST_REPEATS_OF_FILE, idle: MOST_IDLE_OF_FILE, rules: MOST_RULES_OF_FILE }
    }
}

impl RecurringEvent {
    /// The event of a rule; the error says what is wrong with it.
    pub(crate) fn of_rule(
        (name, lift, duration): (&str, f64, Duration),
        (start, timezone): (&str, &str),
        rule: Option<&str>,
    ) -> Result<Self, String> {
        let compact: String = start.chars().filter(|c| !matches!(c, '-' | ':')).collect();
        let stamp = Stamp::read(&compact).filter(|stamp| !stamp.is_date && !stamp.is_utc);
        let Some(Stamp { wall_s, .. }) = stamp else {
            return Err(format!("the start {start:?} is not a time such as 2026-11-23T09:00:00"));
        };
        let zone = Zone::of_name(timezone).ok_or_else(|| {
            format!("the timezone {timezone:?} is not in the IANA database, as Europe/Berlin is")
        })?;
        let rule = rule.map(|rule| rule.trim_start_matches("RRULE:"));
        let rule = rule.map(|rule| Rule::read(rule, wall_s, &zone)).transpose()?;
        let starts = Starts::new((wall_s, zone), rule, &[], Vec::new())?;
        Self::new(name, lift, duration, starts, &mut Effort::of_file())
    }

    /// An event that happens at `starts`; the error says why it cannot be followed.
    pub(crate) fn new(
        name: &str,
        lift: f64,
        duration: Duration,
        starts: Starts,
        effort: &mut Effort,
    ) -> Result<Self, String> {
        let event = Self { name: name.into(), duration, lift, starts };
        if event.starts.is_rule() {
            event.try_out(effort)?;
        }
        Ok(event)
    }

    /// However long ago a rule began, it must be found out quickly when it comes next.
    fn try_out(&self, effort: &mut Effort) -> Result<(), String> {
        let less = |left: &mut usize, by: usize, what: &str| {
            *left = left.checked_sub(by).ok_or_else(|| format!("the events of its file {what}"))?;
            Ok::<(), String>(())
        };
        less(&mut effort.rules, 1, &format!("have more than {MOST_RULES_OF_FILE} rules"))?;
        if effort.idle == 0 {
            return Err("too many events of its file never happen".to_owned());
        }
        let first = self.starts.walls.clone().all(1);
        if first.dates.is_empty() && first.limited {
            effort.idle -= 1;
            return Err(
                "no start of it was found however long it was looked for: do the parts of \
                        its rule exclude each other?"
                    .to_owned(),
            );
        }
        if self.period_s().is_none() {
            let until = |start: &chrono::DateTime<_>| start.timestamp() < COUNTED_UNTIL_S;
            let repeats = self.starts.walls.into_iter().take_while(until);
            let most = MOST_REPEATS.min(effort.repeats);
            let many = repeats.take(most + 1).count();
            if many > MOST_REPEATS {
                return Err(format!(
                    "it repeats more than {MOST_REPEATS} times: end it with UNTIL rather than \
                     COUNT, or repeat it more seldom"
                ));
            }
            let what = format!("repeat more than {MOST_REPEATS_OF_FILE} times");
            less(&mut effort.repeats, many, &what)?;
        }
        Ok(())
    }

    /// Its occurrences that overlap the time from `from_ms` to `until_ms`, by start; of more than
    /// 500, the first.
    #[must_use]
    pub fn occurrences(&self, from_ms: u64, until_ms: u64) -> Vec<Occurrence> {
        let found = self.walk(from_ms, until_ms).take(MOST_OCCURRENCES).collect();
        self.named(found)
    }

    /// The same looking back: of more than 500, the last.
    #[must_use]
    pub fn last_occurrences(&self, from_ms: u64, until_ms: u64) -> Vec<Occurrence> {
        self.named(self.last(from_ms, until_ms).into())
    }

    fn named(&self, mut found: Vec<(u64, u64)>) -> Vec<Occurrence> {
        found.sort_unstable();
        found.dedup();
        found.into_iter().map(|time| self.at(time)).collect()
    }

    pub(super) fn at(&self, (start_ms, end_ms): (u64, u64)) -> Occurrence {
        Occurrence { name: self.name.to_string(), start_ms, end_ms, lift: self.lift }
    }

    pub(super) fn last(&self, from_ms: u64, until_ms: u64) -> VecDeque<(u64, u64)> {
        let mut back_ms = 3_600_000_u64;
        loop {
            let since_ms = until_ms.saturating_sub(back_ms).max(from_ms);
            let mut last = VecDeque::new();
            for time in self.walk(since_ms, until_ms) {
                if last.len() == MOST_OCCURRENCES {
                    last.pop_front();
                }
                last.push_back(time);
            }
            if last.len() == MOST_OCCURRENCES || since_ms <= from_ms {
                return last;
            }
            back_ms = back_ms.saturating_mul(8);
        }
    }

    /// Starts and ends that overlap the time from `from_ms` to `until_ms`, by time on the wall.
    pub(super) fn walk(&self, from_ms: u64, until_ms: u64) -> impl Iterator<Item = (u64, u64)> {
        let lasts_ms = units::duration::to_ms(self.duration);
        let Starts { zone, except, .. } = &self.starts;
        let until_s = i64::try_from(until_ms.div_ceil(1_000)).unwrap_or(i64::MAX);
        let last_s = zone.wall_s(until_s).saturating_add(zone.disorder_s(until_s));
        let is_often = self.starts.is_often();
        let near = self.near(from_ms.saturating_sub(lasts_ms));
        near.into_iter()
            .take(MOST_REPEATS)
            .map(|wall| wall.timestamp())
            .take_while(move |wall_s| *wall_s <= last_s)
            .filter(move |wall_s| !(is_often && zone.skips(*wall_s)))
            .map(|wall_s| zone.at_s(wall_s))
            .filter(|start_s| except.binary_search(start_s).is_err())
            .filter_map(|start_s| u64::try_from(start_s).ok()?.checked_mul(1_000))
            .map(move |start_ms| (start_ms, start_ms.saturating_add(lasts_ms)))
            .filter(move |(start_ms, end_ms)| *start_ms < until_ms && *end_ms > from_ms)
    }

    /// The same repeats from a little before `after_ms` on: what is long over is not gone through.
    fn near(&self, after_ms: u64) -> RRuleSet {
        let all = &self.starts.walls;
        let Some(period_s) = self.period_s() else { return all.clone() };
        let first_s = all.get_dt_start().timestamp();
        let after_s = i64::try_from(after_ms / 1_000).unwrap_or(i64::MAX);
        let zone = &self.starts.zone;
        let over_s = zone.wall_s(after_s).saturating_sub(zone.disorder_s(after_s));
        let over_s = over_s.saturating_sub(first_s);
        // A period more, since the first one may be cut.
        let periods = over_s.div_euclid(period_s).saturating_sub(1);
        let later = periods.checked_mul(period_s).and_then(|by_s| first_s.checked_add(by_s));
        match later.and_then(on_wall) {
            Some(start) if periods > 0 => RRuleSet::new(start)
                .set_rrules(all.get_rrule().clone())
                .set_rdates(all.get_rdate().clone())
                .limit(),
            _ => all.clone(),
        }
    }

    /// Time on the wall after which it repeats in the same way, where there is such a time and
    /// repeats need not be counted.
    fn period_s(&self) -> Option<i64> {
        let [rule] = &self.starts.walls.get_rrule()[..] else { return None };
        if rule.get_count().is_some() {
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
            let (walls, zone) = (&event.starts.walls, &event.starts.zone);
            let walls = walls.into_iter().map(|wall| wall.timestamp());
            let is_often = event.starts.is_often();
            let walls = walls.filter(|wall_s| !(is_often && zone.skips(*wall_s)));
            let mut all: Vec<i64> = walls
                .map(|wall_s| zone.at_s(wall_s) * 1_000)
                .take_while(|start_ms| *start_ms < 1_830_000_000_000)
                .collect();
            all.sort_unstable();
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
