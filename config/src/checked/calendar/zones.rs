//! Which zone is meant by a TZID: real calendars write names of Windows, and paths of their makers.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::rule::{Rule, Stamp};
use super::super::zone::{Changes, Zone};
use super::syntax::{Component, shown};
use super::windows;

/// Zones that a calendar writes out, of which are read.
const MOST_ZONES: usize = 100;
/// Parts that are laid out of all of them.
const MOST_PARTS: usize = 1_000;
/// Bytes of a name; each of its tails is looked for.
const LONGEST_NAME: usize = 255;
/// Changes of clocks that are laid out of one rule of a zone: from 1601, where Outlook's begin, on.
const MOST_CHANGES: usize = 600;
/// Unix time until which they are: 2120-01-01.
const LAID_OUT_UNTIL_S: i64 = 4_733_510_400;

/// The zones that times of one calendar are in.
pub(super) struct Zones<'a> {
    written: BTreeMap<&'a str, &'a Component<'a>>,
    known: RefCell<BTreeMap<String, Result<Zone, String>>>,
    /// Parts of zones that were laid out so far, of all calendars of the file.
    parts: &'a Cell<usize>,
    /// Of times that name none, where the calendar names one.
    own: Option<&'a str>,
}

impl<'a> Zones<'a> {
    /// `parts` counts what is laid out of all calendars of a file.
    pub(super) fn of(calendar: &'a Component<'a>, parts: &'a Cell<usize>) -> Self {
        let zones = calendar.within.iter().filter(|it| it.is("VTIMEZONE"));
        let named = zones.filter_map(|zone| Some((zone.get("TZID")?.value(), zone)));
        let written = named.take(MOST_ZONES).collect();
        let own = calendar.get("X-WR-TIMEZONE").map(|line| line.value());
        Self { written, known: RefCell::default(), parts, own: own.filter(|own| !own.is_empty()) }
    }

    /// The zone of a time with this TZID, or with none.
    ///
    /// # Errors
    /// That nobody knows it.
    pub(super) fn find(&self, name: Option<&str>) -> Result<Zone, String> {
        let Some(name) = name.or(self.own) else { return Ok(Zone::HERE) };
        if name.len() > LONGEST_NAME {
            return Err(format!("the name of its zone is {} bytes long", name.len()));
        }
        if let Some(known) = self.known.borrow().get(name) {
            return known.clone();
        }
        let found = self.look_up(name);
        let mut known = self.known.borrow_mut();
        // Names that nobody knows take the place of none that the calendar writes out.
        if known.len() < MOST_ZONES || self.written.contains_key(name) {
            known.insert(name.to_owned(), found.clone());
        }
        found
    }

    /// What the database knows comes first: it is right about all years.
    fn look_up(&self, name: &str) -> Result<Zone, String> {
        let written = self.written.get(name);
        let place = written.and_then(|zone| zone.get("X-LIC-LOCATION"));
        let place = place.filter(|place| place.value().len() <= LONGEST_NAME);
        let known = by_name(name).or_else(|| by_name(place?.value()));
        if let Some(zone) = known {
            return Ok(zone);
        }
        let Some(zone) = written else {
            return Err(format!(
                "the zone {:?} is neither in the IANA database, nor of Windows, nor a VTIMEZONE of \
                 the calendar",
                shown(name)
            ));
        };
        let mut components = std::iter::once(*zone).chain(&zone.within);
        if let Some((line, why)) = components.find_map(|it| it.spoilt.as_ref()) {
            return Err(format!("of the VTIMEZONE {:?} line {line}: {why}", shown(name)));
        }
        let parts = self.parts.get() + zone.within.len();
        if parts > MOST_PARTS {
            return Err(format!("the zones of its file have more than {MOST_PARTS} parts"));
        }
        self.parts.set(parts);
        changes(zone).map(|changes| Zone::Listed(Arc::new(changes))).map_err(|error| {
            format!("the VTIMEZONE {:?} in line {}: {error}", shown(name), zone.number)
        })
    }
}

/// A zone by its name in the IANA database, on Windows, or by a path that ends with the former, such
/// as `/mozilla.org/20050126_1/Europe/Berlin`.
fn by_name(name: &str) -> Option<Zone> {
    let known = |name: &str| Zone::of_name(name).or_else(|| Zone::of_name(windows::iana(name)?));
    let tails = || name.match_indices('/').map(|(at, _)| &name[at + 1..]);
    let is_path = name.starts_with('/') || name.contains("://");
    known(name).or_else(|| is_path.then(|| tails().find_map(known)).flatten())
}

/// The changes that a VTIMEZONE writes out.
fn changes(zone: &Component<'_>) -> Result<Changes, String> {
    let mut all: Vec<(i64, i32, i32)> = Vec::new();
    for part in zone.within.iter().filter(|it| it.is("STANDARD") || it.is("DAYLIGHT")).take(100) {
        let offset = |name| {
            part.get(name).map_or(Err(format!("{name} is missing")), |it| {
                let text = it.value();
                offset_s(text)
                    .ok_or_else(|| format!("{name} is {:?}, not such as +0100", shown(text)))
            })
        };
        let (from_s, to_s) = (offset("TZOFFSETFROM")?, offset("TZOFFSETTO")?);
        let before = Zone::Listed(Arc::new(Changes::new(from_s, Vec::new())));
        let start = part.get("DTSTART").ok_or("DTSTART is missing")?.value();
        let start_s = Stamp::read(start)
            .map(|it| it.wall_s)
            .ok_or_else(|| format!("DTSTART is {:?}", shown(start)))?;
        let mut walls = vec![start_s];
        if let Some(line) = part.get("RRULE") {
            let text = line.value();
            let rule = Rule::read(text, start_s, &before)?;
            if !rule.is_yearly() {
                return Err(format!("the rule {:?} is not FREQ=YEARLY", shown(text)));
            }
            let until = |wall_s: &i64| *wall_s < LAID_OUT_UNTIL_S;
            walls.extend(rule.walls(start_s).take(MOST_CHANGES).take_while(until));
        }
        let dates = part.all("RDATE").flat_map(|line| line.value().split(','));
        walls.extend(dates.take(MOST_CHANGES).filter_map(|it| Stamp::read(it).map(|it| it.wall_s)));
        all.extend(walls.iter().map(|wall_s| (wall_s - i64::from(from_s), to_s, from_s)));
    }
    all.sort_unstable();
    let first_s = all.first().ok_or("it has neither STANDARD nor DAYLIGHT")?.2;
    Ok(Changes::new(first_s, all.into_iter().map(|(at_s, to_s, _)| (at_s, to_s)).collect()))
}

/// `+0100` or `-013045` in seconds.
fn offset_s(text: &str) -> Option<i32> {
    let (sign, digits) = match text.as_bytes().split_first()? {
        (b'+', digits) => (1, digits),
        (b'-', digits) => (-1, digits),
        _ => return None,
    };
    if !matches!(digits.len(), 4 | 6) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let pairs =
        digits.chunks(2).map(|two| i32::from(two[0] - b'0') * 10 + i32::from(two[1] - b'0'));
    let total_s: i32 = pairs.zip([3_600, 60, 1]).map(|(pair, unit_s)| pair * unit_s).sum();
    (total_s < 86_400).then_some(sign * total_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_known_by_all_the_names_that_calendars_give_them() {
        let berlin = Zone::of_name("Europe/Berlin");
        for name in [
            "Europe/Berlin",
            "W. Europe Standard Time",
            "/mozilla.org/20050126_1/Europe/Berlin",
            "/freeassociation.sourceforge.net/Tzfile/Europe/Berlin",
        ] {
            assert_eq!(by_name(name), berlin, "{name}");
        }
        let far = by_name("/citadel.org/20210210_1/America/Argentina/Buenos_Aires");
        assert_eq!(far, Zone::of_name("America/Argentina/Buenos_Aires"));
        assert_eq!(by_name("tzone://Microsoft/Utc"), Zone::of_name("Etc/UTC"));
        for name in ["", "/", "Mars/Berlin", "/Mars", "tzone://Microsoft/Custom"] {
            assert_eq!(by_name(name), None, "{name}");
        }
    }

    #[test]
    fn offsets_are_of_one_form() {
        for (text, expected) in
            [("+0100", Some(3_600)), ("-0330", Some(-12_600)), ("+013045", Some(5_445))]
        {
            assert_eq!(offset_s(text), expected);
        }
        for text in ["", "0100", "+1", "+01:00", "+9900", "+01é0"] {
            assert_eq!(offset_s(text), None, "{text}");
        }
    }
}
