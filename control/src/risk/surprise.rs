//! How far the newest value of a series is from what was to be expected of it: at once, and lastingly.
//!
//! - Deviations are parts of what was expected. A rise has no bound and a fall is at most the whole,
//!   so that a step in which nothing was recorded does not drown what matters.
//! - What either a forecast or the level just before explains is not deviant: of both deviations the
//!   smaller one counts. So the return from an outlier is none, and neither is the daily rush.
//! - A rise counts at once. A fall counts as far as it lasts for two values: a single low one cannot
//!   be told from one that was recorded in part.
//! - The spread is that of the series' own deviations, heeding tails ([`DriftSpec::heeds_tails`]).
//!   What is no outlier but lasts shows in the median of ten, against the spread of such medians;
//!   without a forecast it is compared with the usual level.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::drift::{Drift, DriftSpec};
use super::history::History;
use super::robust::{median, ramp};

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

/// One series of non-negative values and its deviations, in bounded memory: 10 KB.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Surprise {
    single: Drift,
    lasting: Drift,
    recent: VecDeque<f64>,
    level: History,
    /// Deviation of the newest value in spreads, and of the one before.
    newest: f64,
    before: f64,
    /// That of the newest value as a part of what was expected.
    size: f64,
}

/// How surprising the newest value is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Surprised {
    /// Robust standard deviations, either way, of what is larger: the newest, or what lasts.
    pub spreads: f64,
    /// The same as a part of what was expected.
    pub size: f64,
    /// Whether it is what lasts.
    pub lasts: bool,
    /// Whether it is a rise.
    pub rises: bool,
}

/// Log-odds that surprise is worth: this much up to so many spreads, and the rest up to so many
/// more. Of recorded failures (`make bench-risk`): within five of their steps, one in a hundred
/// where nothing surprises, one in two at eight spreads.
const SURPRISING: (f64, f64) = (8.0, 5.0);
const ASTONISHING: (f64, f64) = (24.0, 1.4);

impl Surprised {
    /// What is left of it without what is shared, as a part of what was expected.
    #[must_use]
    pub fn beyond(&self, shared: f64) -> Self {
        let left = 1.0 - ramp(shared, 0.0, self.size.max(f64::MIN_POSITIVE));
        Self { spreads: self.spreads * left, size: self.size * left, ..*self }
    }

    /// By how much the log-odds of a failure are higher than where nothing surprises; 0 to 6.4.
    #[must_use]
    pub fn log_odds(&self) -> f64 {
        let (most, worth) = SURPRISING;
        let (astonishing, more) = ASTONISHING;
        worth * ramp(self.spreads, 0.0, most) + more * ramp(self.spreads, most, astonishing)
    }
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
            size: 0.0,
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
        let forecast = forecast.filter(|forecast| forecast.is_finite());
        let from_forecast = forecast.map_or(from_recent, part);
        self.single.observe(from_forecast);
        // The level just before soon explains what lasts.
        self.lasting.observe(part(forecast.unwrap_or(usual)));
        self.before = std::mem::take(&mut self.newest);
        if let Some(single) = self.single.deviation() {
            // The spread is that of what the forecast leaves.
            let unexplained = nearer_to_nothing(from_forecast, from_recent);
            self.newest = (unexplained / single.spread()).clamp(-LARGEST, LARGEST);
            self.size = unexplained;
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
        let lasting = self.lasting.deviation();
        let (lasting, lasting_size) = lasting.map_or((0.0, 0.0), |now| (now.spreads, now.size));
        let lasts = lasting.abs() > single.abs();
        let (larger, size) = if lasts { (lasting, lasting_size) } else { (single, self.size) };
        let (spreads, size) = (larger.abs(), size.abs());
        Some(Surprised { spreads, size, lasts, rises: larger >= 0.0 })
    }

    /// Drops what belongs to the values just before: what produced them has been replaced.
    pub fn interrupt(&mut self) {
        self.single.interrupt();
        self.lasting.interrupt();
        self.recent.clear();
        (self.newest, self.before, self.size) = (0.0, 0.0, 0.0);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A daily wave of 96 steps with some noise.
    fn wave(at: usize) -> f64 {
        let season = [0.0, 0.38, 0.71, 0.92, 1.0, 0.92, 0.71, 0.38][at / 12 % 8];
        100.0 + 50.0 * season + ((at * 7) % 5) as f64
    }

    fn fed(values: impl IntoIterator<Item = f64>) -> Surprise {
        let mut surprise = Surprise::default();
        values.into_iter().for_each(|value| surprise.observe(value, None));
        surprise
    }

    fn spreads(surprise: &Surprise) -> f64 {
        surprise.now().unwrap().spreads
    }

    #[test]
    fn a_spike_surprises_at_once_and_its_end_does_not() {
        let mut surprise = fed((0..500).map(wave));
        assert!(spreads(&surprise) < 3.0, "{:?}", surprise.now());
        surprise.observe(5.0 * wave(500), None);
        let now = surprise.now().unwrap();
        assert!(now.spreads > 10.0 && now.rises && !now.lasts, "{now:?}");
        assert!((5.0..=6.4).contains(&now.log_odds()), "{now:?}");
        surprise.observe(wave(501), None);
        assert!(spreads(&surprise) < 3.0, "{:?}", surprise.now());
    }

    #[test]
    fn a_fall_surprises_when_it_lasts_for_two_values() {
        let mut surprise = fed((0..500).map(wave));
        surprise.observe(0.0, None);
        assert!(spreads(&surprise) < 3.0, "{:?}", surprise.now());
        surprise.observe(0.0, None);
        let now = surprise.now().unwrap();
        assert!(now.spreads > 8.0 && !now.rises, "{now:?}");
    }

    #[test]
    fn what_was_forecast_is_no_surprise_and_what_was_forecast_in_vain_is_none() {
        let mut surprise = Surprise::default();
        (0..500).for_each(|at| surprise.observe(wave(at), Some(wave(at) + 1.0)));
        surprise.observe(400.0, Some(390.0));
        assert!(spreads(&surprise) < 3.0, "{:?}", surprise.now());
        surprise.observe(400.0, Some(1_000.0));
        assert!(spreads(&surprise) < 3.0, "{:?}", surprise.now());
        surprise.observe(900.0, Some(400.0));
        assert!(spreads(&surprise) > 8.0, "{:?}", surprise.now());
    }

    #[test]
    fn what_is_small_and_lasts_surprises_in_time() {
        let calm = |at: usize| 100.0 + ((at * 7) % 11) as f64;
        let mut surprise = Surprise::default();
        (0..1_600).for_each(|at| surprise.observe(calm(at), Some(105.0)));
        (0..12).for_each(|at| surprise.observe(12.0 + calm(at), Some(105.0)));
        let now = surprise.now().unwrap();
        assert!(now.lasts && now.rises && now.spreads > 6.0, "{now:?}");
    }

    #[test]
    fn what_was_learned_is_stored_and_comes_back() {
        let mut surprise = fed((0..900).map(wave));
        let text = serde_json::to_string(&surprise).unwrap();
        let mut restored: Surprise = serde_json::from_str(&text).unwrap();
        for at in 900..1_000 {
            surprise.observe(wave(at), Some(120.0));
            restored.observe(wave(at), Some(120.0));
            assert_eq!(surprise.now(), restored.now());
        }
        assert!(text.len() < 20_000, "{} bytes", text.len());
    }

    fn value() -> impl Strategy<Value = f64> {
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN_POSITIVE, 0.0];
        prop_oneof![any::<f64>(), 0.0..1e6, prop::sample::select(odd.to_vec())]
    }

    proptest! {
        #[test]
        fn no_values_and_no_forecasts_harm(
            fed in prop::collection::vec((value(), prop::option::of(value())), 0..700),
        ) {
            let mut surprise = Surprise::default();
            for (value, forecast) in fed {
                surprise.observe(value, forecast);
                if let Some(now) = surprise.now() {
                    prop_assert!(now.spreads >= 0.0, "{now:?}");
                    prop_assert!((0.0..=6.5).contains(&now.log_odds()), "{now:?}");
                }
            }
            prop_assert!(surprise.level.len() <= LEVEL && surprise.recent.len() <= RECENT);
        }

        /// Nothing that is constant is ever a surprise.
        #[test]
        fn a_constant_is_no_surprise(value in value(), times in 20usize..400) {
            let surprise = fed((0..times).map(|_| value));
            prop_assert!(surprise.now().is_none_or(|now| now.spreads < 1e-6));
        }
    }
}
