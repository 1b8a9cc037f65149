//! The experts: level times shape, in the one form that all of them take.

use serde::{Deserialize, Serialize};

use super::profile::{
    BLEND, FOURIER, LAST_LONG, LAST_SHORT, LONG_SLOW, ONE, SHORT_FAST, SHORT_SLOW, Tables,
};

/// How long a difference from the usual level is expected to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Lasting {
    /// For good.
    Always,
    /// Half of it is left after a unit, such as a day.
    Unit,
    /// A tenth of it goes with each step.
    Steps,
}

/// One expert's forecast from one moment on. With `kept` the share of a difference that lasts to
/// the step `h` ahead, and `s` its shape there, it says
/// `s + kept * ((ratio - 1) * s + offset) + drift * min(h, 7 units)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Curve {
    /// Which table is the shape.
    pub(super) table: usize,
    ratio: f64,
    offset: f64,
    lasting: Lasting,
    drift: f64,
}

/// What curves need to know of the steps ahead from `first` (0 is the next) on.
#[derive(Clone, Debug)]
pub(super) struct Ahead {
    pub(super) first: usize,
    always: Vec<f64>,
    unit: Vec<f64>,
    steps: Vec<f64>,
    drifted: Vec<f64>,
}

/// What is left per step of a short-lived difference.
const FADE: f64 = 0.9;
/// Drift goes on for so many units.
const DRIFT_UNITS: usize = 7;

impl Ahead {
    pub(super) fn new(unit: usize, first: usize, length: usize) -> Self {
        let powers = |fade: f64| -> Vec<f64> {
            let mut left = fade.powf(first as f64);
            let next = |_| {
                left *= fade;
                left
            };
            (0..length).map(next).collect()
        };
        let drifted = |at: usize| (first + at + 1).min(DRIFT_UNITS * unit) as f64;
        Self {
            first,
            always: vec![1.0; length],
            unit: powers(0.5_f64.powf(1.0 / unit as f64)),
            steps: powers(FADE),
            drifted: (0..length).map(drifted).collect(),
        }
    }

    fn kept(&self, lasting: Lasting) -> &[f64] {
        match lasting {
            Lasting::Always => &self.always,
            Lasting::Unit => &self.unit,
            Lasting::Steps => &self.steps,
        }
    }
}

impl Curve {
    pub(super) const fn plain(table: usize) -> Self {
        Self { table, ratio: 1.0, offset: 0.0, lasting: Lasting::Always, drift: 0.0 }
    }

    /// The shape, `ratio` times.
    pub(super) const fn scaled(table: usize, ratio: f64) -> Self {
        Self { ratio, ..Self::plain(table) }
    }

    /// The forecast at one step from the three things that depend on it.
    fn at(&self, shape: f64, kept: f64, drifted: f64) -> f64 {
        shape + kept * ((self.ratio - 1.0) * shape + self.offset) + self.drift * drifted
    }

    /// Adds `weight` times the forecast for the steps `from..from + sum.len()` of `ahead`; `shape`
    /// and `ahead` begin at the same step.
    pub(super) fn add(
        &self,
        (shape, ahead): (&[f64], &Ahead),
        from: usize,
        weight: f64,
        sum: &mut [f64],
    ) {
        let kept = &ahead.kept(self.lasting)[from..];
        let steps = shape[from..].iter().zip(kept).zip(&ahead.drifted[from..]);
        for (sum, ((shape, kept), drifted)) in sum.iter_mut().zip(steps) {
            *sum += weight * self.at(*shape, *kept, *drifted);
        }
    }

    /// Sum of absolute errors over the steps `from..to`, each times its `trust`.
    pub(super) fn miss(
        &self,
        (shape, ahead): (&[f64], &Ahead),
        (actual, trust): (&[f64], &[f64]),
        (from, to): (usize, usize),
        floor: f64,
    ) -> f64 {
        const LANES: usize = 4;
        let (shape, drifted) = (&shape[from..to], &ahead.drifted[from..to]);
        let (actual, trust) = (&actual[from..to], &trust[from..to]);
        let kept = &ahead.kept(self.lasting)[from..to];
        let error = |at: usize| {
            let forecast = self.at(shape[at], kept[at], drifted[at]).max(floor);
            trust[at] * (forecast - actual[at]).abs()
        };
        let mut sums = [0.0; LANES];
        let whole = shape.len() / LANES * LANES;
        for first in (0..whole).step_by(LANES) {
            for (lane, sum) in sums.iter_mut().enumerate() {
                *sum += error(first + lane);
            }
        }
        sums.iter().sum::<f64>() + (whole..shape.len()).map(error).sum::<f64>()
    }
}

/// Bounds of the ratio of a level to the usual one.
const RATIO: (f64, f64) = (0.1, 10.0);
/// Share of the usual level added to both sides of a ratio, so that it exists for empty hours.
const RATIO_FLOOR: f64 = 0.02;

/// Every expert as of the end of `past`, of which `foreseen` is what the season said before each
/// value was known; always the same number in the same order.
pub(super) fn curves(
    (past, foreseen): (&[f64], &[f64]),
    tables: &Tables,
    unit: usize,
) -> Vec<Curve> {
    let plain = [LAST_SHORT, SHORT_FAST, SHORT_SLOW, LAST_LONG, BLEND, LONG_SLOW, FOURIER];
    let mut all = plain.map(Curve::plain).to_vec();
    // The theta method's drift: half the slope (Assimakopoulos and Nikolopoulos 2000).
    let drift = 0.5 * slope(past, unit, tables.0[BLEND].len());
    for table in [SHORT_SLOW, BLEND] {
        let shape = &tables.0[table];
        let plain = Curve::plain(table);
        for (back, lasts) in [(1, true), (unit.div_ceil(4), true), (unit, false), (3 * unit, false)]
        {
            let (ratio, offset) = level(past, shape, back);
            all.push(Curve { ratio, ..plain });
            all.push(Curve { offset, ..plain });
            if lasts {
                all.push(Curve { offset, lasting: Lasting::Unit, ..plain });
            }
            if back == unit.div_ceil(4) {
                all.push(Curve { ratio, lasting: Lasting::Unit, ..plain });
            }
        }
        let (_, offset) = level(past, shape, 3);
        all.push(Curve { offset, lasting: Lasting::Steps, ..plain });
    }
    // A level so new that the season has half learned it looks smaller against what the season
    // says now than against what it said then.
    for back in [unit, 3 * unit] {
        let newest = |values: &[f64]| -> f64 {
            values[values.len().saturating_sub(back)..].iter().sum::<f64>()
        };
        let (seen, usual) = (newest(past), newest(foreseen));
        let count = back.min(past.len()).max(1) as f64;
        let plain = Curve::plain(BLEND);
        all.push(Curve { ratio: ratio(seen, usual, RATIO_FLOOR * count), ..plain });
        all.push(Curve { offset: (seen - usual) / count, ..plain });
    }
    let (ratio, _) = level(past, &tables.0[BLEND], unit);
    all.push(Curve { ratio, drift, ..Curve::plain(BLEND) });
    let (ratio, offset) = level(past, &tables.0[FOURIER], unit);
    all.push(Curve { ratio, ..Curve::plain(FOURIER) });
    all.push(Curve { offset, ..Curve::plain(FOURIER) });
    for (back, drift) in [(1, 0.0), (unit, 0.0), (3 * unit, 0.0), (unit, drift)] {
        let newest = &past[past.len().saturating_sub(back)..];
        let mean = newest.iter().sum::<f64>() / newest.len().max(1) as f64;
        all.push(Curve { ratio: 0.0, offset: mean, drift, ..Curve::plain(ONE) });
    }
    all
}

/// Change per step from the season before the last to the last.
fn slope(past: &[f64], unit: usize, long: usize) -> f64 {
    let span = if long > 0 { long } else { 3 * unit };
    if past.len() < 2 * span {
        return 0.0;
    }
    let (before, now) = past[past.len() - 2 * span..].split_at(span);
    (now.iter().sum::<f64>() - before.iter().sum::<f64>()) / (span * span) as f64
}

/// How the newest `back` values compare with what the shape says of them: as a ratio, and as a
/// difference.
fn level(past: &[f64], shape: &[f64], back: usize) -> (f64, f64) {
    let back = back.min(past.len());
    if shape.is_empty() || back == 0 {
        return (1.0, 0.0);
    }
    let (mut seen, mut usual) = (0.0, 0.0);
    let mut slot = (shape.len() - back % shape.len()) % shape.len();
    for value in &past[past.len() - back..] {
        seen += value;
        usual += shape[slot];
        slot = if slot + 1 == shape.len() { 0 } else { slot + 1 };
    }
    let count = back as f64;
    let level = shape.iter().sum::<f64>() / shape.len() as f64;
    let floor = RATIO_FLOOR * level.abs().max(1e-6) * count;
    (ratio(seen, usual, floor), (seen - usual) / count)
}

fn ratio(seen: f64, usual: f64, floor: f64) -> f64 {
    let ratio = if usual + floor > 0.0 { (seen + floor) / (usual + floor) } else { 1.0 };
    ratio.clamp(RATIO.0, RATIO.1)
}
