//! Events that are known beforehand: from calendar files, and by rules.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::RecurringEvent;
use crate::{file, units};

/// A larger file is no calendar of a service.
const MAX_CALENDAR_BYTES: u64 = 4 << 20;
/// Lifts beyond this are slips of the pen.
pub(crate) const MOST_LIFT: f64 = 100.0;
/// Events of one file of which it is said that they are left out.
const MOST_WARNINGS: usize = 10;

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
    /// Its events that cannot be followed.
    #[serde(skip)]
    pub left_out: Vec<LeftOut>,
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

    /// What is to be said of its events that cannot be followed, of very many the first.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let file = &self.file;
        let said = self.left_out.iter().take(MOST_WARNINGS).map(move |left_out| {
            let LeftOut { line, name, why } = left_out;
            format!("{}:{line}: the event {name:?} is left out: {why}", file.display())
        });
        let more = self.left_out.len().saturating_sub(MOST_WARNINGS);
        said.chain(
            (more > 0).then(|| format!("{}: {more} more events are left out", file.display())),
        )
    }

    /// The fingerprint of what the file holds now. Blocks on the disk.
    #[must_use]
    pub fn fingerprint_now(&self) -> u64 {
        fingerprint(&read_calendar(&self.file))
    }
}

/// The text of a calendar file, or why there is none.
pub(crate) fn read_calendar(file: &Path) -> Result<String, String> {
    let bytes = file::read_whole(file, MAX_CALENDAR_BYTES).map_err(|error| error.to_string())?;
    super::calendar::text(bytes).map_err(|error| error.to_string())
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

/// An event of a calendar file that is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Line of the file, from 1.
    pub line: usize,
    /// What happens; as foreign as the file is.
    pub name: String,
    /// Why it cannot be followed.
    pub why: String,
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
