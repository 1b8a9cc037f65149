//! How far the newest value of a series is from what was to be expected of it: at once, and lastingly.
//!
//! - Deviations are parts of what was expected. A rise has no bound and a fall is at most the whole,
//!   so that a step in which nothing was recorded does not drown what matters.
//! - What either a forecast or the level just before explains is not deviant: of both deviations the
//!   smaller one counts. So the return from an outlier is none, and neither is the daily rush.
//! - A rise counts at once. A fall counts as far as it lasts for two values: a single low one cannot
//!   be told from one that was recorded in part.
//! - The spread is that of the series' own deviations, heeding tails ([`DriftSpec::heeds_tails`]).
//!   What is no outlier but lasts shows in the median of ten, against the spread of such medians.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::drift::{Drift, DriftSpec};
use super::history::History;
use super::robust::median;

/// Single deviations remembered, and values that a lasting deviation is told from.
const PAST: usize = 240;
const LASTING: usize = 10;
/// Blocks of as many remembered.
const LASTING_PAST: usize = 144;
/// Parts below which nothing can be told of a single deviation, and of a lasting one.
const LEAST_SPREAD: f64 = 0.02;
const LEAST_LASTING: f64 = 0.01;
/// Values that make the level just before.
const RECENT: usize = 3;
/// Values that make the usual level, of which at least this part is taken for expected, so that
/// parts of next to nothing are bounded.
const LEVEL: usize = 240;
const LEAST_LEVEL: f64 = 0.05;
/// Values larger than this are taken for it: nothing that is measured is.
const LARGEST: f64 = 1e100;

/// One series of non-negative values and its deviations, in bounded memory: 9 KB.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Surprise {
    single: Drift,
    lasting: Drift,
    recent: VecDeque<f64>,
    level: History,
    /// Deviation of the newest value in spreads, and of the one before.
    newest: f64,
    before: f64,
}

/// How surprising the newest value is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Surprised {
    /// Robust standard deviations, either way, of what is larger: the newest, or what lasts.
    pub spreads: f64,
    /// Whether it is what lasts.
    pub lasts: bool,
    /// Whether it is a rise.
    pub rises: bool,
}

impl Default for Surprise {
    fn default() -> Self {
        let drift = |block, past, least_spread| {
            Drift::new(DriftSpec { block, past, least_spread, heeds_tails: true })
        };
        Self {
            single: drift(1, PAST, LEAST_SPREAD),
            lasting: drift(LASTING, LASTING_PAST, LEAST_LASTING),
            recent: VecDeque::new(),
            level: History::default(),
            newest: 0.0,
            before: 0.0,
        }
    }
}

impl Surprise {
    /// Takes the next value and what was forecast for it, if anything was. A value that is no
    /// finite number is left out; a negative one counts as 0.
    pub fn observe(&mut self, value: f64, forecast: Option<f64>) {
        if !value.is_finite() {
            return;
        }
        let value = value.clamp(0.0, LARGEST);
        let recent = median(&mut self.recent.iter().copied().collect::<Vec<f64>>());
        let usual = self.level.median();
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(value);
        self.level.push(value, LEVEL);
        let (Some(recent), Some(usual)) = (recent, usual) else { return };
        let least = (LEAST_LEVEL * usual).max(f64::MIN_POSITIVE);
        let part = |expected: f64| {
            let expected = expected.clamp(0.0, LARGEST);
            ((value - expected) / expected.max(least)).min(LARGEST)
        };
        let from_recent = part(recent);
        let from_forecast =
            forecast.filter(|forecast| forecast.is_finite()).map_or(from_recent, part);
        self.single.observe(from_forecast);
        self.lasting.observe(from_forecast);
        self.before = std::mem::take(&mut self.newest);
        if let Some(single) = self.single.deviation() {
            // The spread is that of what the forecast leaves.
            let unexplained = nearer_to_nothing(from_forecast, from_recent);
            self.newest = (unexplained / single.spread()).clamp(-LARGEST, LARGEST);
        }
    }

    /// How surprising the newest value is; none before enough is known.
    #[must_use]
    pub fn now(&self) -> Option<Surprised> {
        self.single.usual()?;
        let single = match self.newest >= 0.0 {
            true => self.newest,
            false => nearer_to_nothing(self.newest, self.before),
        };
        let lasting = self.lasting.deviation().map_or(0.0, |lasting| lasting.spreads);
        let lasts = lasting.abs() > single.abs();
        let larger = if lasts { lasting } else { single };
        Some(Surprised { spreads: larger.abs(), lasts, rises: larger >= 0.0 })
    }

    /// Drops what belongs to the values just before: what produced them has been replaced.
    pub fn interrupt(&mut self) {
        self.single.interrupt();
        self.lasting.interrupt();
        self.recent.clear();
        (self.newest, self.before) = (0.0, 0.0);
    }
}

/// The smaller of two deviations; nothing where they are in opposite directions.
fn nearer_to_nothing(a: f64, b: f64) -> f64 {
    if a > 0.0 && b > 0.0 {
        a.min(b)
    } else if a < 0.0 && b < 0.0 {
        a.max(b)
    } else {
        0.0
    }
}
