//! Finds a period that nobody told of, a little work per step.

use std::hint::black_box;

use serde::{Deserialize, Serialize};

use crate::check::{self, Checked};

/// Blocks that each scale holds.
const BLOCKS: usize = 512;
/// Lags looked at, in blocks: from the shortest period to twice the longest.
const SHORTEST: usize = 6;
const LONGEST: usize = BLOCKS / 4;
const LAGS: usize = 2 * LONGEST + 1;
/// Blocks of the coarser scale are this many of the finer.
const COARSER: u64 = 16;
/// Correlation that a period must have, and its double at least.
const LEAST_CORRELATION: f64 = 0.4;
const LEAST_DOUBLE: f64 = 0.3;
/// Between two cycles correlation must fall by this much: a slow drift has no dip.
const LEAST_DIP: f64 = 0.3;
/// Least variance of the blocks, relative to their squared mean, that is more than rounding.
const LEAST_VARIANCE: f64 = 1e-10;
/// Of several peaks the shortest that reaches this share of the highest is the period.
const NEARLY_HIGHEST: f64 = 0.85;
/// Periods this near to each other are one.
const SAME: f64 = 0.06;

/// Looks for periods at two scales of time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Periods {
    scales: [Scale; 2],
    /// Periods that were told, in steps.
    known: Vec<f64>,
    /// What is believed, in steps.
    found: Option<f64>,
}

/// Autocorrelation (Box, Jenkins & Reinsel, "Time Series Analysis", section 2.1) of block means, one
/// lag per block: by when all lags are known, about as many blocks have passed. Means are taken under
/// the square root, which gives counts of every size the same variance (Bartlett 1936) and keeps one
/// surge from being all there is. A period counts when two scans in a row agree.
///
/// Products are summed up while the next block fills, an equal share at each of its steps.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Scale {
    block_steps: u64,
    sum: f64,
    steps: u64,
    /// The newest at `head`.
    roots: Vec<f32>,
    head: usize,
    filled: usize,
    /// Sums of all roots and of their squares.
    total: f64,
    squares: f64,
    /// The lag whose products are being summed, and their sum so far.
    lag: usize,
    products: f64,
    /// Pairs of blocks that went into it.
    pairs: usize,
    correlations: Vec<f32>,
    /// What the last scan said, in steps.
    candidate: Option<f64>,
}

impl Periods {
    /// `block_steps` steps make a block of the finer scale.
    pub(super) fn new(block_steps: u64, known: Vec<f64>) -> Self {
        let scales = [Scale::new(block_steps), Scale::new(block_steps * COARSER)];
        Self { scales, known, found: None }
    }

    /// Heap memory, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        let scale = |scale: &Scale| size_of_val(&*scale.roots) + size_of_val(&*scale.correlations);
        self.scales.iter().map(scale).sum::<usize>() + size_of_val(&*self.known)
    }

    /// See [`touch`](crate::touch).
    pub(super) fn touch(&self) {
        for scale in &self.scales {
            let next = scale.head + 1 + scale.pairs;
            let places = [next, next + scale.lag];
            black_box(places.map(|place| scale.roots[place % BLOCKS]));
        }
    }

    /// Takes one step; a period, in steps, when one is believed that was not before.
    pub(super) fn observe(&mut self, value: f64) -> Option<f64> {
        let mut believed = None;
        for scale in &mut self.scales {
            let agreed = scale.observe(value);
            believed = believed.or(agreed);
        }
        let period = believed?;
        let same = |other: f64| (period / other - 1.0).abs() < SAME;
        if self.known.iter().any(|known| same(*known)) || self.found.is_some_and(same) {
            return None;
        }
        self.found = Some(period);
        self.found
    }
}

impl Scale {
    fn new(block_steps: u64) -> Self {
        Self {
            block_steps: block_steps.max(1),
            sum: 0.0,
            steps: 0,
            roots: vec![0.0; BLOCKS],
            head: 0,
            filled: 0,
            total: 0.0,
            squares: 0.0,
            lag: 1,
            products: 0.0,
            pairs: 0,
            correlations: vec![0.0; LAGS],
            candidate: None,
        }
    }

    fn observe(&mut self, value: f64) -> Option<f64> {
        self.sum += value;
        self.steps += 1;
        if self.filled == BLOCKS {
            let share = self.steps as f64 / self.block_steps as f64;
            self.multiply((share * (BLOCKS - self.lag) as f64) as usize);
        }
        if self.steps < self.block_steps {
            return None;
        }
        let agreed = if self.filled == BLOCKS { self.close_lag() } else { None };
        self.push((self.sum / self.steps as f64).sqrt() as f32);
        (self.sum, self.steps) = (0.0, 0);
        agreed
    }

    fn push(&mut self, root: f32) {
        self.head = (self.head + 1) % BLOCKS;
        let (new, old) = (f64::from(root), f64::from(self.roots[self.head]));
        self.roots[self.head] = root;
        self.filled = (self.filled + 1).min(BLOCKS);
        self.total += new - old;
        self.squares += new * new - old * old;
    }

    /// Sums the products of departures from the mean of pairs of blocks up to the `until`-th, from the oldest on.
    fn multiply(&mut self, until: usize) {
        let oldest = self.head + 1;
        let mean = self.total / BLOCKS as f64;
        let at = |index: usize| f64::from(self.roots[(oldest + index) % BLOCKS]) - mean;
        let products = (self.pairs..until).map(|index| at(index) * at(index + self.lag));
        self.products += products.sum::<f64>();
        self.pairs = until;
    }

    /// Notes the correlation at the lag and goes on to the next; what two scans agree on, after the
    /// last.
    fn close_lag(&mut self) -> Option<f64> {
        self.correlations[self.lag] = self.correlation();
        (self.products, self.pairs) = (0.0, 0);
        self.lag += 1;
        if self.lag < LAGS {
            return None;
        }
        self.lag = 1;
        self.total = self.roots.iter().map(|root| f64::from(*root)).sum();
        self.squares = self.roots.iter().map(|root| f64::from(*root) * f64::from(*root)).sum();
        let before = self.candidate;
        self.candidate = self.period().map(|blocks| blocks * self.block_steps as f64);
        let (before, now) = (before?, self.candidate?);
        ((now / before - 1.0).abs() < SAME).then_some(now)
    }

    /// The mean of the products, relative to that of the squares: there are fewer pairs at longer lags.
    fn correlation(&self) -> f32 {
        let mean = self.total / BLOCKS as f64;
        let variance = self.squares / BLOCKS as f64 - mean * mean;
        if variance <= LEAST_VARIANCE * mean * mean {
            return 0.0;
        }
        (self.products / self.pairs as f64 / variance) as f32
    }

    /// The period in blocks, between them by a parabola through the peak.
    fn period(&self) -> Option<f64> {
        let at = |lag: usize| f64::from(self.correlations[lag]);
        let mut dip = (1..SHORTEST).map(at).fold(1.0, f64::min);
        let peak = |lag: &usize| {
            let double = (2 * lag - 1..=(2 * lag + 1).min(LAGS - 1)).map(at).fold(-1.0, f64::max);
            let deepest = dip;
            dip = dip.min(at(*lag));
            at(*lag) >= LEAST_CORRELATION
                && at(*lag) >= at(lag - 1)
                && at(*lag) >= at(lag + 1)
                && double >= LEAST_DOUBLE
                && at(*lag) - deepest >= LEAST_DIP
        };
        let mut peaks = [-1.0; LONGEST + 1];
        (SHORTEST..=LONGEST).filter(peak).for_each(|lag| peaks[lag] = at(lag));
        let highest = peaks.iter().copied().fold(0.0, f64::max);
        let lag = peaks.iter().position(|peak| *peak > 0.0 && *peak >= NEARLY_HIGHEST * highest)?;
        let (left, middle, right) = (at(lag - 1), at(lag), at(lag + 1));
        let bend = left - 2.0 * middle + right;
        let shift = if bend < 0.0 { 0.5 * (left - right) / bend } else { 0.0 };
        Some(lag as f64 + shift.clamp(-0.5, 0.5))
    }
}

impl Periods {
    pub(super) fn check(&self) -> Checked {
        for (at, scale) in self.scales.iter().enumerate() {
            check::part(format_args!("scales[{at}]"), scale.check())?;
        }
        let mut periods = self.known.iter().chain(&self.found);
        periods.try_for_each(|steps| check::within("a period", *steps, 1.0, check::MOST))
    }
}

impl Scale {
    fn check(&self) -> Checked {
        check::count("block_steps", self.block_steps, 1, check::MOST_STEPS)?;
        check::count("steps", self.steps, 0, self.block_steps - 1)?;
        check::same("roots.len", &self.roots.len(), &BLOCKS)?;
        check::same("correlations.len", &self.correlations.len(), &LAGS)?;
        check::count("head", self.head as u64, 0, BLOCKS as u64 - 1)?;
        check::count("filled", self.filled as u64, 0, BLOCKS as u64)?;
        check::count("lag", self.lag as u64, 1, LAGS as u64 - 1)?;
        check::count("pairs", self.pairs as u64, 0, (BLOCKS - self.lag) as u64)?;
        let roots: Vec<f64> = self.roots.iter().map(|root| f64::from(*root)).collect();
        check::all_within("roots", &roots, 0.0, 1e6)?;
        for (name, value) in [("sum", self.sum), ("total", self.total), ("squares", self.squares)] {
            check::within(name, value, -1.0, check::MOST)?;
        }
        check::within("products", self.products, -check::MOST, check::MOST)?;
        let correlations = self.correlations.iter().map(|value| f64::from(*value));
        let mut correlations =
            correlations.map(|value| check::within("correlations", value, -1e9, 1e9));
        correlations.try_for_each(|found| found)?;
        check::all_within("candidate", &self.candidate, 1.0, check::MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(values: impl Iterator<Item = f64>) -> Option<f64> {
        let mut periods = Periods::new(10, vec![]);
        let mut last = None;
        values.for_each(|value| last = periods.observe(value).or(last));
        last
    }

    /// Noise from a fixed sequence, from -1 to 1.
    fn noise(step: u64) -> f64 {
        let mixed = step.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed >> 40) as f64 / (1u64 << 23) as f64 - 1.0
    }

    #[test]
    fn finds_a_triangle_and_a_surge_in_noise() {
        let triangle = |step: u64| 200.0 + (step % 600).abs_diff(300) as f64 + 50.0 * noise(step);
        let period = found((0..15_000).map(triangle)).unwrap();
        assert!((period - 600.0).abs() < 10.0, "{period}");
        let surge = |step: u64| if step % 430 < 60 { 900.0 } else { 100.0 } + 50.0 * noise(step);
        let period = found((0..15_000).map(surge)).unwrap();
        assert!((period - 430.0).abs() < 10.0, "{period}");
    }

    #[test]
    fn finds_nothing_in_noise_drift_steps_or_silence() {
        assert_eq!(found((0..40_000).map(|step| 200.0 + 150.0 * noise(step))), None);
        assert_eq!(found((0..40_000).map(|step| step as f64)), None);
        assert_eq!(found((0..40_000).map(|step| f64::from(u8::from(step > 20_000)))), None);
        assert_eq!(found((0..40_000).map(|_| 0.0)), None);
    }
}
