//! Rules by which something repeats (RFC 5545, section 3.3.10), reckoned on the wall.

use chrono::{DateTime, NaiveDate};
use rrule::{Frequency, RRule, RRuleSet, Tz, Unvalidated};

use super::zone::Zone;

/// Times of one day that a rule may list: every minute.
const MOST_TIMES: usize = 1_440;

/// A date or a time, as calendars write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// On the wall, in seconds as if it were Unix time; of a date the midnight it begins with.
    pub wall_s: i64,
    /// There is no time in it.
    pub is_date: bool,
    /// It ends with Z: the wall is that of universal time.
    pub is_utc: bool,
}

impl Stamp {
    /// `20261023`, `20261023T100000` or `20261023T100000Z`.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (text, is_utc) =
            text.strip_suffix(['Z', 'z']).map_or((text, false), |text| (text, true));
        let (date, time) = match text.split_once(['T', 't']) {
            Some((date, time)) => (date, Some(time)),
            None => (text, None),
        };
        let digits = |text: &str, many: usize| {
            (text.len() == many && text.bytes().all(|b| b.is_ascii_digit())).then_some(())
        };
        digits(date, 8)?;
        let year = date[..4].parse().ok()?;
        let date =
            NaiveDate::from_ymd_opt(year, date[4..6].parse().ok()?, date[6..].parse().ok()?)?;
        let time_s = match time {
            Some(time) => {
                digits(time, 6)?;
                let part = |at: usize| time[at..at + 2].parse::<u32>().ok();
                // A leap second is the one before it.
                let (hour, minute, second) = (part(0)?, part(2)?, part(4)?.min(59));
                date.and_hms_opt(hour, minute, second)?
            }
            None => date.and_hms_opt(0, 0, 0)?,
        };
        Some(Self { wall_s: time_s.and_utc().timestamp(), is_date: time.is_none(), is_utc })
    }
}

/// How something repeats.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rule(Option<RRule>);

impl Rule {
    /// Reads what stands behind `RRULE:` of something that first starts at `start_s` on the wall of
    /// `zone`. UNTIL may be of any form: a date includes its whole day.
    ///
    /// # Errors
    /// What cannot be understood.
    pub(crate) fn read(text: &str, start_s: i64, zone: &Zone) -> Result<Self, String> {
        let mut until_s = None;
        let mut others = Vec::new();
        for part in text.trim().split(';').filter(|part| !part.trim().is_empty()) {
            match part.split_once('=') {
                Some((key, value)) if key.trim().eq_ignore_ascii_case("UNTIL") => {
                    let stamp = Stamp::read(value.trim());
                    let stamp =
                        stamp.ok_or_else(|| format!("UNTIL is {value:?}, not a date or time"))?;
                    until_s = Some(match stamp {
                        Stamp { is_date: true, wall_s, .. } => wall_s + 86_399,
                        Stamp { is_utc: true, wall_s, .. } => zone.wall_s(wall_s),
                        Stamp { wall_s, .. } => wall_s,
                    });
                }
                _ => others.push(part),
            }
        }
        let mut rule: RRule<Unvalidated> =
            others.join(";").parse().map_err(|error: rrule::RRuleError| error.to_string())?;
        // All of a day are laid out before the first is known, so many take long and much memory.
        let by = |list: &[u8]| list.len().max(1);
        if by(rule.get_by_hour()) * by(rule.get_by_minute()) * by(rule.get_by_second()) > MOST_TIMES
        {
            return Err(format!(
                "BYHOUR, BYMINUTE and BYSECOND make more than {MOST_TIMES} times of a day: name fewer"
            ));
        }
        if until_s.is_some_and(|until_s| until_s < start_s) {
            return Ok(Self(None));
        }
        if let Some(until) = until_s {
            rule = rule.until(on_wall(until).ok_or("UNTIL is too far away")?);
        }
        let start = on_wall(start_s).ok_or("its start is too far away")?;
        rule.validate(start).map(|rule| Self(Some(rule))).map_err(|error| error.to_string())
    }

    /// Whether it repeats by years.
    pub(crate) fn is_yearly(&self) -> bool {
        self.0.as_ref().is_none_or(|rule| rule.get_freq() == Frequency::Yearly)
    }

    /// When it comes, on the wall, of a start at `start_s`.
    pub(crate) fn walls(&self, start_s: i64) -> impl Iterator<Item = i64> {
        let set = on_wall(start_s).zip(self.0.clone()).map(|(start, rule)| {
            let set = RRuleSet::new(start).rrule(rule).limit();
            (&set).into_iter().map(|start| start.timestamp())
        });
        set.into_iter().flatten()
    }

    /// The rule, unless it is over before it begins.
    pub(crate) fn into_rule(self) -> Option<RRule> {
        self.0
    }
}

/// What the crate for rules takes a time on the wall as: universal time, in which none is skipped.
pub(crate) fn on_wall(wall_s: i64) -> Option<DateTime<Tz>> {
    DateTime::from_timestamp(wall_s, 0).map(|time| time.with_timezone(&Tz::UTC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_dates_or_times() {
        let read = |text| Stamp::read(text).map(|s| (s.wall_s, s.is_date, s.is_utc));
        assert_eq!(read("20261023"), Some((1_792_713_600, true, false)));
        assert_eq!(read("20261023T010000"), Some((1_792_717_200, false, false)));
        assert_eq!(read("20261023T010000Z"), Some((1_792_717_200, false, true)));
        assert_eq!(read("20261023T005960"), Some((1_792_717_199, false, false)));
        for text in ["", "Z", "2026102", "20261323", "20261023T1", "20261023T250000", "2026é023"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn until_may_be_of_any_form() {
        let berlin = Zone::of_name("Europe/Berlin").unwrap();
        let start_s = Stamp::read("20261023T100000").unwrap().wall_s;
        let days = |until: &str| {
            let rule = Rule::read(&format!("FREQ=DAILY;UNTIL={until};"), start_s, &berlin);
            rule.unwrap().walls(start_s).count()
        };
        assert_eq!(days("20261025"), 3, "the day of a date is part of it");
        assert_eq!(days("20261025T100000"), 3);
        assert_eq!(days("20261025T095959"), 2);
        assert_eq!(days("20261025T090000Z"), 3, "the clocks have gone back");
        assert_eq!(days("20261025T085959Z"), 2);
        assert_eq!(days("20261022"), 0, "over before it begins");
        let error = Rule::read("FREQ=DAILY;UNTIL=soon", start_s, &berlin).unwrap_err();
        assert!(error.contains("UNTIL is \"soon\""), "{error}");
    }
}
