//! How wide bands are: several views of the size of an ordinary error, aggregated.

use serde::{Deserialize, Serialize};

use crate::boa::{Boa, slope_saved};
use crate::check::{self, Checked};

/// Views of the size of an error.
pub(crate) const VIEWS: usize = 4;
/// Parts of the season whose errors are kept apart.
pub(crate) const SEASON_BINS: usize = 48;
/// Truths that the long view remembers, and those that the part of a season does.
const LONG_MEMORY: f64 = 2_000.0;
const BIN_MEMORY: f32 = 30.0;
/// Truths of a part of the season before it has a view of its own.
const MIN_BIN_TRUTHS: u8 = 6;
/// One error counts for at most this many times the usual one.
const CLIP: f64 = 6.0;
/// Share of errors inside the width that the mix is judged by: that of a 90 % band.
const INSIDE: f64 = 0.9;
/// That width, in sizes, at first, its range and the step of its tracker.
const FIRST_REACH: f64 = 2.0;
const REACH_RANGE: (f64, f64) = (1.0, 20.0);
const REACH_STEP: f64 = 0.02;
/// The mixed size is at least this share of the first view.
const LEAST: f64 = 0.3;

/// Sizes of errors, each a mean of `|truth - mean|`, in the unit of the series:
///
/// 1. that of late, moving with the noise at the level forecast and with the experts' disagreement
///    (the caller's);
/// 2. the same at all times, over a long memory;
/// 3. in proportion to the level forecast;
/// 4. that of this part of the season.
///
/// [`Boa`] mixes them by the pinball loss of the absolute error at the 90 % level, so that the width is conditioned
/// on regime, level or season where that pays: a scale conditioned on what explains the errors is
/// what keeps conformal intervals from being wide at all times because of some (Romano, Patterson &
/// Candès 2019, "Conformalized Quantile Regression", NeurIPS, on locally adaptive scores).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Scales {
    boa: Boa,
    long: f64,
    /// Per unit of the level.
    relative: f64,
    bins: Vec<f32>,
    bin_truths: Vec<u8>,
    truths: f64,
    /// Sizes within which [`INSIDE`] of the errors lie.
    reach: f64,
}

impl Scales {
    /// `delay` predictions wait at once.
    pub(crate) fn new(delay: f64, seasonal: bool) -> Self {
        let bins = if seasonal { SEASON_BINS } else { 0 };
        Self {
            boa: Boa::new(&[1.0 / VIEWS as f64; VIEWS], delay),
            long: 0.0,
            relative: 0.0,
            bins: vec![0.0; bins],
            bin_truths: vec![0; bins],
            truths: 0.0,
            reach: FIRST_REACH,
        }
    }

    /// See [`touch`](crate::touch).
    pub(crate) fn touch(&self) {
        self.boa.touch();
    }

    /// Heap memory, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.boa.memory_bytes() + size_of_val(&*self.bins) + size_of_val(&*self.bin_truths)
    }

    /// All views of the size of the error of a forecast of `mean` in part `bin` of the season.
    pub(crate) fn views(&self, recent: f64, mean: f64, bin: usize) -> [f64; VIEWS] {
        if self.truths < 1.0 {
            return [recent; VIEWS];
        }
        let known = self.bin_truths.get(bin).is_some_and(|truths| *truths >= MIN_BIN_TRUTHS);
        let season = if known { f64::from(self.bins[bin]) } else { self.long };
        [recent, self.long, self.relative * mean, season]
    }

    /// The size to use.
    pub(crate) fn mix(&self, views: &[f64; VIEWS]) -> f64 {
        let mixed: f64 = self.boa.weights().zip(views).map(|(weight, view)| weight * view).sum();
        mixed.max(LEAST * views[0])
    }

    /// Learns from the error of a forecast whose sizes were `views`.
    /// `trust`, from 0 to 1, is how much it says about errors to come.
    pub(crate) fn learn(
        &mut self,
        views: &[f32; VIEWS],
        error: f64,
        mean: f64,
        bin: usize,
        trust: f64,
    ) {
        let size = error.abs();
        let first = self.truths < 1.0;
        self.truths += 1.0;
        let usual = if first { size } else { self.long };
        let seen = size.min(CLIP * usual.max(f64::from(views[0])));
        let gain = if first { 1.0 } else { trust / self.truths.min(LONG_MEMORY) };
        self.long += gain * (seen - self.long);
        if mean > 0.0 {
            let relative = (seen / mean).min(CLIP);
            self.relative += gain * (relative - self.relative);
        }
        if let (Some(slot), Some(truths)) = (self.bins.get_mut(bin), self.bin_truths.get_mut(bin)) {
            *truths = truths.saturating_add(1);
            let gain = trust as f32 / f32::from(*truths).min(BIN_MEMORY);
            *slot += gain.max(f32::from(u8::from(*truths == 1))) * (seen as f32 - *slot);
        }
        let mixed = self.mix(&views.map(f64::from));
        let slope = if size > self.reach * mixed { -INSIDE } else { 1.0 - INSIDE };
        self.reach = (self.reach * (1.0 - REACH_STEP * slope)).clamp(REACH_RANGE.0, REACH_RANGE.1);
        let per_unit = slope / mixed.max(1e-9);
        self.boa.learn(views.iter().map(|view| slope_saved(mixed, f64::from(*view), per_unit)));
    }
}

impl Scales {
    pub(crate) fn check(&self, seasonal: bool) -> Checked {
        let bins = if seasonal { SEASON_BINS } else { 0 };
        check::part("boa", self.boa.check(VIEWS))?;
        check::same("bins.len", &self.bins.len(), &bins)?;
        check::same("bin_truths.len", &self.bin_truths.len(), &bins)?;
        let sizes: Vec<f64> = self.bins.iter().map(|size| f64::from(*size)).collect();
        check::all_within("bins", &sizes, 0.0, check::MOST)?;
        check::within("long", self.long, 0.0, check::MOST)?;
        check::within("relative", self.relative, 0.0, check::MOST)?;
        check::within("truths", self.truths, 0.0, check::MOST)?;
        check::within("reach", self.reach, REACH_RANGE.0, REACH_RANGE.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_season_of_errors_is_found() {
        // Errors of 10 in one part of the season, of 1 in the other, at the same level.
        let mut scales = Scales::new(1.0, true);
        let error = |step: u32| if step % 20 < 10 { 10.0 } else { 1.0 };
        let bin = |step: u32| if step % 20 < 10 { 3 } else { 30 };
        for step in 0..2_000 {
            let views = scales.views(5.0, 100.0, bin(step)).map(|view| view as f32);
            scales.learn(&views, error(step), 100.0, bin(step), 1.0);
        }
        let size = |bin| scales.mix(&scales.views(5.0, 100.0, bin));
        assert!(size(3) > 8.0 && size(30) < 3.5, "{} {}", size(3), size(30));
    }
}
