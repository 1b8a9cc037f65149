//! Times on the wall of a place, and the moments they are.
//!
//! A repeat is reckoned on the wall and only then looked up: at 9:00 every day, whatever clocks do.
//! A time that the clock skips is read with the offset before it does, and of one that it shows
//! twice the first is meant (RFC 5545, section 3.3.5).

use std::sync::Arc;

use chrono::{DateTime, Offset as _, TimeZone as _};
use rrule::Tz;

/// Longest that a clock was ever put on at once: Samoa left a day out.
const LONGEST_GAP_S: i64 = 86_400;

/// What clocks of a place show. Times on the wall are in seconds as if they were Unix time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Zone {
    /// As the IANA database has it, or as this machine does.
    Named(Tz),
    /// As a calendar writes it out.
    Listed(Arc<Changes>),
}

/// The changes of clocks of a place.
#[derive(Debug, PartialEq)]
pub(crate) struct Changes {
    /// Seconds east of UTC before the first one.
    first_s: i32,
    /// In order of time.
    changes: Vec<Change>,
}

#[derive(Debug, PartialEq)]
struct Change {
    /// When, Unix time.
    at_s: i64,
    /// From which time on the wall on what it shows counts: what is skipped or shown twice is of before.
    wall_s: i64,
    /// Seconds east of UTC from then on.
    offset_s: i32,
}

impl Changes {
    /// Clocks at `first_s` east of UTC until the first of the changes, each a moment (Unix time) with
    /// the seconds east of UTC from then on.
    pub(crate) fn new(first_s: i32, mut changes: Vec<(i64, i32)>) -> Self {
        changes.sort_unstable();
        let mut before_s = first_s;
        let changes = changes.into_iter().map(|(at_s, offset_s)| {
            let wall_s = at_s.saturating_add(i64::from(before_s.max(offset_s)));
            before_s = offset_s;
            Change { at_s, wall_s, offset_s }
        });
        Self { first_s, changes: changes.collect() }
    }

    fn offset_s(&self, passed: usize) -> i64 {
        let last = passed.checked_sub(1).and_then(|last| self.changes.get(last));
        i64::from(last.map_or(self.first_s, |change| change.offset_s))
    }
}

impl Zone {
    /// Universal time.
    pub(crate) const UTC: Self = Self::Named(Tz::UTC);
    /// That of this machine.
    pub(crate) const HERE: Self = Self::Named(Tz::LOCAL);

    /// A zone by its name in the IANA database.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        name.parse::<chrono_tz::Tz>().ok().map(|zone| Self::Named(zone.into()))
    }

    /// Seconds east of UTC at a moment.
    pub(crate) fn offset_s(&self, at_s: i64) -> i64 {
        match self {
            Self::Named(zone) => DateTime::from_timestamp(at_s, 0).map_or(0, |at| {
                let offset = zone.offset_from_utc_datetime(&at.naive_utc());
                i64::from(offset.fix().local_minus_utc())
            }),
            Self::Listed(list) => {
                list.offset_s(list.changes.partition_point(|change| change.at_s <= at_s))
            }
        }
    }

    /// What the clock shows at a moment.
    pub(crate) fn wall_s(&self, at_s: i64) -> i64 {
        at_s.saturating_add(self.offset_s(at_s))
    }

    /// The moment at which the clock shows `wall_s`.
    pub(crate) fn at_s(&self, wall_s: i64) -> i64 {
        match self {
            Self::Named(zone) => {
                let earliest = |wall_s: i64| {
                    let wall = DateTime::from_timestamp(wall_s, 0)?.naive_utc();
                    zone.from_local_datetime(&wall).earliest().map(|at| at.timestamp())
                };
                // Skipped: by the offset of the last time before that was shown.
                let back = [0, 3_600, 7_200, 4 * 3_600, LONGEST_GAP_S + 1];
                let found = back
                    .iter()
                    .find_map(|back_s| Some(earliest(wall_s.saturating_sub(*back_s))? + back_s));
                found.unwrap_or(wall_s)
            }
            Self::Listed(list) => {
                wall_s - list.offset_s(list.changes.partition_point(|it| it.wall_s <= wall_s))
            }
        }
    }

    /// Whether the clock skips `wall_s`.
    pub(crate) fn skips(&self, wall_s: i64) -> bool {
        self.wall_s(self.at_s(wall_s)) != wall_s
    }

    /// How far the order of times on the wall may differ from that of moments around `at_s`.
    pub(crate) fn disorder_s(&self, at_s: i64) -> i64 {
        let near = |by_s: i64| self.offset_s(at_s.saturating_add(by_s));
        let day_s = 86_400;
        if near(-day_s) == near(day_s) { 0 } else { LONGEST_GAP_S }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::NaiveDate;

    /// A time on the wall.
    fn wall((year, month, day): (i32, u32, u32), (hour, minute): (u32, u32)) -> i64 {
        let date = NaiveDate::from_ymd_opt(year, month, day).unwrap();
        date.and_hms_opt(hour, minute, 0).unwrap().and_utc().timestamp()
    }

    /// Berlin in 2026, as a calendar may write it out.
    fn listed() -> Zone {
        let spring = wall((2026, 3, 29), (1, 0));
        let autumn = wall((2026, 10, 25), (1, 0));
        Zone::Listed(Arc::new(Changes::new(3_600, vec![(autumn, 3_600), (spring, 7_200)])))
    }

    #[test]
    fn what_is_skipped_is_read_as_before_and_of_what_is_shown_twice_the_first_is_meant() {
        for zone in [Zone::of_name("Europe/Berlin").unwrap(), listed()] {
            // 2:30 in the night of spring is half an hour after 2:00, when the clock shows 3:00.
            let skipped = wall((2026, 3, 29), (2, 30));
            assert_eq!(zone.at_s(skipped), wall((2026, 3, 29), (1, 30)));
            assert!(zone.skips(skipped) && !zone.skips(wall((2026, 3, 29), (3, 30))));
            let twice = wall((2026, 10, 25), (2, 30));
            assert_eq!(zone.at_s(twice), wall((2026, 10, 25), (0, 30)));
            assert!(!zone.skips(twice));
            assert_eq!(zone.at_s(wall((2026, 10, 25), (3, 0))), wall((2026, 10, 25), (2, 0)));
            assert_eq!(zone.at_s(wall((2026, 3, 29), (3, 0))), wall((2026, 3, 29), (1, 0)));
            assert_eq!(zone.wall_s(wall((2026, 7, 1), (0, 0))), wall((2026, 7, 1), (2, 0)));
            assert_eq!(zone.disorder_s(wall((2026, 7, 1), (0, 0))), 0);
            assert!(zone.disorder_s(skipped) >= 3_600);
        }
        let samoa = Zone::of_name("Pacific/Apia").unwrap();
        let left_out = wall((2011, 12, 30), (12, 0));
        assert_eq!(samoa.at_s(left_out), wall((2011, 12, 30), (22, 0)));
        assert!(Zone::of_name("Mars/Olympus").is_none());
    }

    #[test]
    fn no_time_is_too_far_away() {
        for zone in [Zone::UTC, Zone::HERE, Zone::of_name("Europe/Berlin").unwrap(), listed()] {
            for far in [i64::MIN / 2, -62_135_596_800, 253_402_300_799, i64::MAX / 2] {
                assert!(zone.at_s(far).abs_diff(far) < 100_000);
                assert!(zone.wall_s(far).abs_diff(far) < 100_000);
            }
        }
    }
}
