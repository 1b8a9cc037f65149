//! One event of a calendar.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::events::MOST_LIFT;
use super::super::recurring::{Effort, RecurringEvent, Starts};
use super::super::rule::{Rule, Stamp};
use super::super::zone::Zone;
use super::syntax::{Component, Line, shown};
use super::zones::Zones;

/// An event that says neither its end nor that it takes a day lasts this long.
const DEFAULT_DURATION: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// How an event says its lift.
const LIFT_PROPERTY: &str = "X-FORESHADOW-LIFT";
/// Dates that an event may list beside its rule, and as exceptions from it.
const MOST_DATES: usize = 10_000;

/// What is wrong with an event, and where.
#[derive(Debug)]
pub(super) struct Fault {
    pub line: usize,
    pub why: String,
}

impl Fault {
    fn at(line: &Line<'_>) -> impl FnOnce(String) -> Self {
        let line = line.number;
        move |why| Self { line, why }
    }
}

/// How new an event is among those of its UID: its sequence, then when that was written (RFC 5545,
/// sections 3.8.7.4 and 3.8.7.2).
pub(super) type Revision = (i64, String);

/// What happens.
pub(super) fn name(event: &Component<'_>) -> String {
    let name: String = event.get("SUMMARY").map(Line::text).unwrap_or_default();
    let name: String = name.chars().take(200).collect();
    if name.trim().is_empty() { "event".to_owned() } else { name }
}

/// Which occurrence of its UID it stands in for; absent for the event itself.
pub(super) fn stands_in_for(
    event: &Component<'_>,
    zones: &Zones<'_>,
) -> Result<Option<Moment>, Fault> {
    let Some(line) = event.get("RECURRENCE-ID") else { return Ok(None) };
    if line.parameter("RANGE").is_some() {
        return Err(Fault::at(line)(
            "RECURRENCE-ID with a RANGE is not understood, so that the event goes on as before: end \
             it before the change with UNTIL and begin another one"
                .to_owned(),
        ));
    }
    Moment::read(line, zones).map(Some).map_err(Fault::at(line))
}

/// How new it is.
pub(super) fn revision(event: &Component<'_>) -> Result<Revision, Fault> {
    let sequence = match event.get("SEQUENCE") {
        Some(line) => line.value().parse().map_err(|_| {
            let found = shown(line.value());
            Fault::at(line)(format!("SEQUENCE is {found:?}, not a whole number"))
        })?,
        None => 0,
    };
    // In UTC and of one form, so that the order of texts is that of times.
    let written = event.get("DTSTAMP").map_or("", |line| line.value());
    Ok((sequence, shown(written)))
}

/// When it starts first.
pub(super) fn start(event: &Component<'_>, zones: &Zones<'_>) -> Result<Moment, Fault> {
    let line = event
        .get("DTSTART")
        .ok_or_else(|| Fault { line: event.number, why: "DTSTART is missing".to_owned() })?;
    Moment::read(line, zones).map_err(Fault::at(line))
}

/// The event, which does not start at the moments `except`.
pub(super) fn read(
    event: &Component<'_>,
    lift: f64,
    zones: &Zones<'_>,
    mut except: Vec<i64>,
    effort: &mut Effort,
) -> Result<RecurringEvent, Fault> {
    let line = event.get("DTSTART").map_or(event.number, |line| line.number);
    let start = start(event, zones)?;
    if let Some(line) = event.get("EXRULE") {
        return Err(Fault::at(line)("EXRULE is not understood: list EXDATE".to_owned()));
    }
    if let Some(line) = event.all("RRULE").nth(1) {
        return Err(Fault::at(line)(
            "a second RRULE is not understood: write an event for each".to_owned(),
        ));
    }
    let rule = event.get("RRULE").map(|line| {
        let rule = Rule::read(line.value(), start.wall_s, &start.zone);
        rule.map(|rule| (rule, line)).map_err(Fault::at(line))
    });
    let rule = rule.transpose()?;
    let mut more = Vec::new();
    for name in ["RDATE", "EXDATE"] {
        if let Some((line, _)) = dates(event, name, zones).nth(MOST_DATES) {
            return Err(Fault::at(line)(format!("it lists more than {MOST_DATES} {name}s")));
        }
    }
    for (line, moment) in dates(event, "RDATE", zones) {
        more.push(start.zone.wall_s(moment.map_err(Fault::at(line))?.on(&start).at_s()));
    }
    for (line, moment) in dates(event, "EXDATE", zones) {
        except.push(moment.map_err(Fault::at(line))?.on(&start).at_s());
    }
    let lasts = duration(event, &start, zones)?;
    let lift = own_lift(event)?.unwrap_or(lift);
    let place = rule.as_ref().map_or(line, |(_, line)| line.number);
    let rule = rule.map(|(rule, _)| rule);
    if rule.is_none() {
        // What lists its dates starts at its start as well.
        more.push(start.wall_s);
        // Of very many exceptions of a UID few are those of one event, and each event keeps its own.
        let starts: BTreeSet<i64> = more.iter().map(|wall_s| start.zone.at_s(*wall_s)).collect();
        except.retain(|at_s| starts.contains(at_s));
        except.shrink_to_fit();
    }
    Starts::new((start.wall_s, start.zone.clone()), rule, &more, except)
        .and_then(|starts| RecurringEvent::new(&name(event), lift, lasts, starts, effort))
        .map_err(|why| Fault { line: place, why })
}

/// All dates of all lines of a name.
fn dates<'a>(
    event: &'a Component<'a>,
    name: &'a str,
    zones: &'a Zones<'_>,
) -> impl Iterator<Item = (&'a Line<'a>, Result<Moment, String>)> {
    let each = move |line: &'a Line<'a>| {
        let values = line.value().split(',').filter(|value| !value.trim().is_empty());
        // Of a period its start.
        let starts = values.map(|value| value.split('/').next().unwrap_or(value).trim());
        starts.map(move |value| (line, Moment::of(line, value, zones)))
    };
    event.all(name).flat_map(each)
}

/// A time of a property.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    wall_s: i64,
    zone: Zone,
    is_date: bool,
}

impl Moment {
    fn read(line: &Line<'_>, zones: &Zones<'_>) -> Result<Self, String> {
        Self::of(line, line.value(), zones)
    }

    fn of(line: &Line<'_>, value: &str, zones: &Zones<'_>) -> Result<Self, String> {
        let stamp = Stamp::read(value).ok_or_else(|| {
            format!("{:?} is neither a date nor a time such as 20261023T100000", shown(value))
        })?;
        let Stamp { wall_s, is_date, is_utc } = stamp;
        let zone = if is_utc { Zone::UTC } else { zones.find(line.parameter("TZID"))? };
        Ok(Self { wall_s, zone, is_date })
    }

    /// Unix time.
    pub(super) fn at_s(&self) -> i64 {
        self.zone.at_s(self.wall_s)
    }

    /// A date stands for the start of that day of what starts at a time.
    pub(super) fn on(self, start: &Self) -> Self {
        if self.is_date && !start.is_date {
            let wall_s = self.wall_s + start.wall_s.rem_euclid(86_400);
            return Self { wall_s, zone: start.zone.clone(), is_date: false };
        }
        self
    }
}

fn own_lift(event: &Component<'_>) -> Result<Option<f64>, Fault> {
    let Some(line) = event.get(LIFT_PROPERTY) else { return Ok(None) };
    let lift = line.value().parse().ok().filter(|lift| *lift > 0.0 && *lift <= MOST_LIFT);
    lift.map(Some).ok_or_else(|| {
        let found = shown(line.value());
        let why = format!("{LIFT_PROPERTY} is {found:?}, not a number above 0 up to {MOST_LIFT}");
        Fault::at(line)(why)
    })
}

/// From start to end, or as the event says. Repeats last as long as the first one.
fn duration(event: &Component<'_>, start: &Moment, zones: &Zones<'_>) -> Result<Duration, Fault> {
    let unsaid = if start.is_date { DAY } else { DEFAULT_DURATION };
    let lasts = if let Some(line) = event.get("DURATION") {
        written_duration(line.value()).ok_or_else(|| {
            let found = shown(line.value());
            let why = format!("DURATION is {found:?}, not a length of time such as PT1H30M");
            Fault::at(line)(why)
        })?
    } else if let Some(line) = event.get("DTEND") {
        let end = Moment::read(line, zones).map_err(Fault::at(line))?;
        let lasts_s = u64::try_from(end.at_s() - start.at_s()).map_err(|_| {
            Fault::at(line)(format!("it ends at {}, before its start", shown(line.value())))
        })?;
        Duration::from_secs(lasts_s)
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

    #[test]
    fn durations_are_of_the_form_of_calendars() {
        assert_eq!(written_duration("P1DT2H30M"), Some(Duration::from_secs(95_400)));
        assert_eq!(written_duration("P2W"), Some(Duration::from_secs(1_209_600)));
        for text in ["", "P", "PT", "1H", "PT1X", "PTH", "-PT1H", "P99999999999999999999D"] {
            assert_eq!(written_duration(text), None, "{text}");
        }
    }
}
