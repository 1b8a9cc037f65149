//! What a series usually does at each moment of a season, learned in one pass.

use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};

use super::season::{Seasons, dot};

/// Exponentially weighted mean per slot of a period.
#[derive(Clone, Debug)]
struct Slots {
    values: Vec<f64>,
    seen: Vec<u16>,
    /// Weight of the newest value once enough were seen.
    rate: f64,
}

impl Slots {
    /// Means whose weights halve every `half_life` periods.
    fn new(period: usize, half_life: f64) -> Self {
        let rate = 1.0 - (-std::f64::consts::LN_2 / half_life).exp();
        Self { values: vec![0.0; period], seen: vec![0; period], rate }
    }

    fn learn(&mut self, slot: usize, value: f64) {
        self.seen[slot] = self.seen[slot].saturating_add(1);
        let rate = self.rate.max(1.0 / f64::from(self.seen[slot]));
        self.values[slot] += rate * (value - self.values[slot]);
    }

    /// The means in order of time from the step `at` on.
    fn from(&self, at: usize) -> Vec<f64> {
        let slot = at % self.values.len();
        [&self.values[slot..], &self.values[..slot]].concat()
    }
}

/// How many tables there are; their names follow.
const TABLES: usize = 8;
/// One everywhere.
pub(super) const ONE: usize = 0;
/// The newest short season.
pub(super) const LAST_SHORT: usize = 1;
/// Mean of few short seasons.
pub(super) const SHORT_FAST: usize = 2;
/// Mean of more short seasons.
pub(super) const SHORT_SLOW: usize = 3;
/// The newest long season.
pub(super) const LAST_LONG: usize = 4;
/// Mean of few long seasons, drawn towards the short one.
pub(super) const BLEND: usize = 5;
/// Mean of more long seasons.
pub(super) const LONG_SLOW: usize = 6;
/// The last of the above that there is, without its fine structure.
pub(super) const FOURIER: usize = 7;

/// Half-lives of the means, in periods.
const FAST: f64 = 1.5;
const SLOW: f64 = 7.0;
const LONG: f64 = 4.0;
const LONGEST: f64 = 8.0;

/// What repeats, as seen at one moment: table `t` gives for the step `h` ahead (from 1) the value
/// at `(h - 1) % length`. A table without data is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Tables(pub(super) Vec<Vec<f64>>);

impl Tables {
    /// Every table over the steps ahead from `first` on; empty where there is none.
    pub(super) fn ahead(&self, first: usize, length: usize) -> Vec<Vec<f64>> {
        let spread = |table: &Vec<f64>| {
            let mut steps = Vec::with_capacity(length);
            let mut slot = first.checked_rem(table.len()).unwrap_or(0);
            while steps.len() < length && !table.is_empty() {
                let room = (length - steps.len()).min(table.len() - slot);
                steps.extend_from_slice(&table[slot..slot + room]);
                slot = 0;
            }
            steps
        };
        self.0.iter().map(spread).collect()
    }
}

/// The state of the one pass.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    seasons: Seasons,
    fast: Slots,
    slow: Slots,
    long: Option<(Slots, Slots)>,
    /// Sines and cosines over the longer season, of the multiples of its frequency that are kept.
    waves: Vec<Vec<f64>>,
}

impl Profile {
    pub(super) fn new(seasons: Seasons) -> Self {
        let long = |period| (Slots::new(period, LONG), Slots::new(period, LONGEST));
        let period = seasons.long.unwrap_or(seasons.short);
        let circle: Vec<(f64, f64)> =
            (0..period).map(|at| (TAU * at as f64 / period as f64).sin_cos()).collect();
        let at = |harmonic: usize, step: usize| circle[harmonic * step % period];
        let sine = |harmonic| (0..period).map(|step| at(harmonic, step).0).collect();
        let cosine = |harmonic| (0..period).map(|step| at(harmonic, step).1).collect();
        let pair = |harmonic| [sine(harmonic), cosine(harmonic)];
        Self {
            seasons,
            fast: Slots::new(seasons.short, FAST),
            slow: Slots::new(seasons.short, SLOW),
            long: seasons.long.map(long),
            waves: harmonics(seasons).into_iter().flat_map(pair).collect(),
        }
    }

    /// Learns one value; returns what the longest season known would have said of it.
    pub(super) fn learn(&mut self, at: usize, value: f64) -> f64 {
        let slot = at % self.seasons.short;
        let mut foreseen = self.slow.values[slot];
        self.fast.learn(slot, value);
        self.slow.learn(slot, value);
        if let (Some((long, longest)), Some(period)) = (&mut self.long, self.seasons.long) {
            if at >= period {
                foreseen = long.values[at % period];
            }
            long.learn(at % period, value);
            longest.learn(at % period, value);
        }
        foreseen
    }

    /// What is known after the values of `past`, which are all there were.
    pub(super) fn tables(&self, past: &[f64]) -> Tables {
        let at = past.len();
        let mut tables = vec![Vec::new(); TABLES];
        tables[ONE] = vec![1.0];
        let newest = |period: usize| past[at - period..].to_vec();
        if at >= self.seasons.short {
            tables[LAST_SHORT] = newest(self.seasons.short);
            tables[SHORT_FAST] = self.fast.from(at);
            tables[SHORT_SLOW] = self.slow.from(at);
        }
        match (self.seasons.long, &self.long) {
            (Some(period), Some((long, longest))) if at >= period => {
                tables[LAST_LONG] = newest(period);
                tables[LONG_SLOW] = longest.from(at);
                tables[BLEND] = blend(long, at, &tables[SHORT_SLOW]);
                tables[FOURIER] = self.smooth(&tables[LONG_SLOW]);
            }
            (None, _) if self.seasons.short > 1 => {
                tables[FOURIER] = self.smooth(&tables[SHORT_SLOW]);
            }
            _ => {}
        }
        Tables(tables)
    }

    /// The least-squares fit of the kept harmonics to the table; over whole periods they are
    /// orthogonal, so that no system of equations needs solving.
    fn smooth(&self, table: &[f64]) -> Vec<f64> {
        let period = table.len() as f64;
        let mut out = vec![table.iter().sum::<f64>() / period; table.len()];
        for wave in &self.waves {
            let height = 2.0 / period * dot(wave, table);
            out.iter_mut().zip(wave).for_each(|(sum, wave)| *sum += height * wave);
        }
        out
    }
}

/// Low multiples of both seasons, and the neighbours by which one modulates the other: how a
/// weekend differs from other days.
fn harmonics(Seasons { short, long }: Seasons) -> Vec<usize> {
    let Some(long) = long else { return (1..=5).filter(|order| 2 * order < short).collect() };
    let ratio = long / short;
    let mut all = vec![1, 2];
    all.extend((1..=4).flat_map(|order| [order * ratio - 1, order * ratio, order * ratio + 1]));
    all.sort_unstable();
    all.dedup();
    all.retain(|harmonic| 2 * harmonic < long);
    all
}

/// The long season drawn towards the short one as far as it was seen seldom.
fn blend(long: &Slots, at: usize, short: &[f64]) -> Vec<f64> {
    let period = long.values.len();
    let mut means = long.from(at);
    for (ahead, mean) in means.iter_mut().enumerate() {
        let seen = f64::from(long.seen[(at + ahead) % period].min(4));
        *mean = (seen * *mean + short[ahead % short.len()]) / (seen + 1.0);
    }
    means
}
