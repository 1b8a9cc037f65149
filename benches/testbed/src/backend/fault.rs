//! Faults: what may go wrong in the backend, when, and for which share of the requests.

use std::str::FromStr;
use std::time::{Duration, Instant};

use super::args::in_range;
use crate::units;

/// What goes wrong while a fault is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultKind {
    /// The process kills itself with SIGKILL: at once when `share` is 1, else at a request drawn
    /// with that probability.
    Crash,
    /// The drawn requests get no answer and keep their slot, as a stuck worker does; `/healthz`
    /// is drawn like any other request.
    Hang,
    /// The drawn requests take `factor` times as long.
    Slow,
    /// The drawn requests are answered 500 without any service time.
    Errors,
    /// The listening socket is closed, so new connections are refused. Open ones are answered
    /// with `connection: close`, except for `/_testbed/`, by which the fault can be ended.
    Refuse,
    /// Ends every active and every pending fault.
    None,
}

impl FaultKind {
    const NAMES: &str = "crash, hang, slow, errors, refuse, none";
}

/// One fault as it is asked for, on the command line or by `POST /_testbed/fault`.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultSpec {
    /// What goes wrong.
    pub kind: FaultKind,
    /// Probability in 0..=1 that a request is hit.
    #[serde(default = "one")]
    pub share: f64,
    /// Service-time factor of `slow`, 0.01..=10000.
    #[serde(default = "five")]
    pub factor: f64,
    /// Delay before the fault starts, in milliseconds.
    #[serde(default)]
    pub after_ms: u64,
    /// How long it lasts, in milliseconds; 0 means until it is changed.
    #[serde(default)]
    pub for_ms: u64,
}

fn one() -> f64 {
    1.0
}

fn five() -> f64 {
    5.0
}

/// Why a fault was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// The kind is not known.
    #[error("unknown fault {0:?}: use one of {names}", names = FaultKind::NAMES)]
    Kind(String),
    /// A key is not known or has no value.
    #[error("{0:?} is not a fault setting: write share=0.5, factor=5, after=10s or for=5s")]
    Setting(String),
    /// A value does not fit its key.
    #[error("fault setting {key}: {problem}")]
    Value {
        /// The key.
        key: String,
        /// What is wrong with the value, with the remedy.
        problem: String,
    },
}

impl FaultSpec {
    /// A fault of the given kind that hits every request, starts now and lasts.
    #[must_use]
    pub fn new(kind: FaultKind) -> Self {
        Self { kind, share: one(), factor: five(), after_ms: 0, for_ms: 0 }
    }

    /// Checks the ranges, which matter for values that came as JSON.
    ///
    /// # Errors
    /// [`FaultError::Value`] names the field and its range.
    pub fn checked(self) -> Result<Self, FaultError> {
        let year_ms = 366 * 86_400_000;
        let problem = if !(0.0..=1.0).contains(&self.share) {
            Some(("share", format!("{} is not a number from 0 to 1", self.share)))
        } else if !(0.01..=10_000.0).contains(&self.factor) {
            Some(("factor", format!("{} is not a number from 0.01 to 10000", self.factor)))
        } else if self.after_ms > year_ms || self.for_ms > year_ms {
            Some(("after_ms/for_ms", "longer than a year: use 0 for no end".to_owned()))
        } else {
            None
        };
        match problem {
            Some((key, problem)) => Err(FaultError::Value { key: key.to_owned(), problem }),
            None => Ok(self),
        }
    }
}

impl FromStr for FaultSpec {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let (kind, settings) = text.split_once(':').unwrap_or((text, ""));
        let mut spec = Self::new(match kind {
            "crash" => FaultKind::Crash,
            "hang" => FaultKind::Hang,
            "slow" => FaultKind::Slow,
            "errors" => FaultKind::Errors,
            "refuse" => FaultKind::Refuse,
            "none" => FaultKind::None,
            other => return Err(FaultError::Kind(other.to_owned())),
        });
        for setting in settings.split(',').filter(|setting| !setting.is_empty()) {
            let (key, value) =
                setting.split_once('=').ok_or_else(|| FaultError::Setting(setting.to_owned()))?;
            let bad = |problem: String| FaultError::Value { key: key.to_owned(), problem };
            let millis = || match units::duration(value) {
                Ok(time) => Ok(time.as_millis() as u64),
                Err(error) => Err(bad(error.to_string())),
            };
            match key {
                "share" => spec.share = in_range(value, 0.0, 1.0).map_err(bad)?,
                "factor" => spec.factor = in_range(value, 0.01, 10_000.0).map_err(bad)?,
                "after" => spec.after_ms = millis()?,
                "for" => spec.for_ms = millis()?,
                _ => return Err(FaultError::Setting(setting.to_owned())),
            }
        }
        spec.checked()
    }
}

/// The faults asked for so far, with their times. Pure: the present comes in as a value.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    spec: FaultSpec,
    from: Instant,
    until: Option<Instant>,
}

/// Faults kept at once; an older one beyond it is forgotten, so a client cannot fill the memory.
const MAX_ENTRIES: usize = 64;

impl Schedule {
    /// Adds a fault at `now`; [`FaultKind::None`] clears everything.
    pub(super) fn add(&mut self, spec: FaultSpec, now: Instant) {
        if spec.kind == FaultKind::None && spec.after_ms == 0 {
            self.entries.clear();
            return;
        }
        self.entries.retain(|entry| entry.until.is_none_or(|until| until > now));
        if self.entries.len() == MAX_ENTRIES {
            self.entries.remove(0);
        }
        let from = now + Duration::from_millis(spec.after_ms);
        let until = (spec.for_ms > 0).then(|| from + Duration::from_millis(spec.for_ms));
        self.entries.push(Entry { spec, from, until });
    }

    /// The fault in force at `now`: the active one that was added last.
    pub(super) fn active(&self, now: Instant) -> Option<FaultSpec> {
        let entry = self
            .entries
            .iter()
            .rev()
            .find(|entry| entry.from <= now && entry.until.is_none_or(|until| until > now))?;
        (entry.spec.kind != FaultKind::None).then_some(entry.spec)
    }

    /// The next instant after `now` at which [`Schedule::active`] may change.
    pub(super) fn next_change(&self, now: Instant) -> Option<Instant> {
        self.entries
            .iter()
            .flat_map(|entry| [Some(entry.from), entry.until])
            .flatten()
            .filter(|&at| at > now)
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_command_line_gives() {
        let spec: FaultSpec = "slow:factor=3,share=0.5,after=10s,for=500ms".parse().unwrap();
        let expected = FaultSpec {
            kind: FaultKind::Slow,
            share: 0.5,
            factor: 3.0,
            after_ms: 10_000,
            for_ms: 500,
        };
        assert_eq!(spec, expected);
        assert_eq!("crash".parse(), Ok(FaultSpec::new(FaultKind::Crash)));
    }

    #[test]
    fn names_the_remedy_for_what_it_cannot_read() {
        for (text, remedy) in [
            ("boom", "crash, hang, slow"),
            ("slow:factor", "factor=5"),
            ("slow:speed=2", "share=0.5"),
            ("errors:share=2", "from 0 to 1"),
            ("errors:share=NaN", "from 0 to 1"),
            ("slow:factor=0", "0.01"),
            ("crash:after=5", "like 20ms"),
        ] {
            let error = text.parse::<FaultSpec>().unwrap_err().to_string();
            assert!(error.contains(remedy), "{text}: {error}");
        }
        let json = r#"{"kind":"errors","share":-1}"#;
        assert!(serde_json::from_str::<FaultSpec>(json).unwrap().checked().is_err());
    }

    #[test]
    fn the_latest_active_fault_wins_and_none_clears() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let kind = |schedule: &Schedule, ms| schedule.active(at(ms)).map(|fault| fault.kind);
        let mut schedule = Schedule::default();
        schedule.add(FaultSpec::new(FaultKind::Slow), start);
        let errors = FaultSpec { after_ms: 100, for_ms: 50, ..FaultSpec::new(FaultKind::Errors) };
        schedule.add(errors, start);
        assert_eq!(kind(&schedule, 99), Some(FaultKind::Slow));
        assert_eq!(schedule.next_change(at(99)), Some(at(100)));
        assert_eq!(kind(&schedule, 100), Some(FaultKind::Errors));
        assert_eq!(schedule.next_change(at(100)), Some(at(150)));
        assert_eq!(kind(&schedule, 150), Some(FaultKind::Slow));
        assert_eq!(schedule.next_change(at(150)), None);
        schedule.add(FaultSpec::new(FaultKind::None), at(160));
        assert_eq!(kind(&schedule, 160), None);
    }

    #[test]
    fn no_number_of_faults_fills_the_memory() {
        let mut schedule = Schedule::default();
        for _ in 0..10 * MAX_ENTRIES {
            schedule.add(FaultSpec::new(FaultKind::Slow), Instant::now());
        }
        assert_eq!(schedule.entries.len(), MAX_ENTRIES);
    }
}
