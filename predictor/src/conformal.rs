//! Quantiles around the point forecast, kept honest by what happened.

use serde::{Deserialize, Serialize};

use crate::check::{self, Checked};
use crate::math::normal_quantile;
use crate::touch::touch;

/// Step of the quantile tracker, in scales.
const STEP: f64 = 0.03;
/// Gain of the integrator, in scales.
const INTEGRAL_GAIN: f64 = 0.15;
/// Sum of coverage errors at which the integrator saturates.
const INTEGRAL_RANGE: f64 = 30.0;
/// What the integrator loses of its sum per truth.
const INTEGRAL_FADE: f64 = 0.005;
/// Trackers stay within this many scales of the mean.
const MAX_OFFSET: f64 = 6.0;
/// Truths the running scale remembers.
const SCALE_MEMORY: f64 = 150.0;
/// One truth may look at most this many times as large as the scale.
const SCALE_CLIP: f64 = 4.0;
/// The prior scale counts as much as this many truths.
const PRIOR_TRUTHS: f64 = 20.0;
/// The truth itself has noise of one sigma, so residuals much smaller are luck (an idle series).
const SCALE_RANGE: (f64, f64) = (0.8, 1e6);
/// The largest residual is taken for at least this many sigmas.
const MIN_WORST: f64 = 2.0;
/// What the largest residual seen keeps per truth.
const WORST_KEEP: f64 = 0.999;
/// Widths are at most this share of the largest residual.
const WIDEST: f64 = 0.35;
/// Bands reach at most this many times the largest residual.
const WORST_ROOM: f64 = 1.5;
/// A forecast below this, in requests per second, with nothing coming, is silence.
const SILENT_MEAN: f64 = 0.02;
/// Mean absolute value of a standard normal variable is the inverse of this.
const NORMAL_SCALE: f64 = 1.2533;

/// Online conformal quantile tracking (Angelopoulos, Candès & Tibshirani 2023, "Conformal PID
/// Control for Time Series Prediction", arXiv 2307.16895; the P and I parts), one tracker per
/// level, on normalised residuals:
///
/// ```text
/// sigma^2 = noise of the target's window + variance of the experts around their weighted mean
/// z   = (truth - mean) / (sigma s)           s: running scale
/// o_t <- o_t + step (t - [z <= q_t])         P: quantile tracking, t is the level
/// E_t <- E_t + pace ((t - [z <= q_t]) - fade E_t)     I: sum of coverage errors
/// q_t = o_t + gain sat(E_t / range)          sat(x) = x / (1 - |x|), |x| <= 0.9
/// quantile = mean + sigma s q_t
/// ```
///
/// Experts that disagree are the first sign that the forecast may be wrong, long before the truth
/// of a far horizon arrives; so their variance is part of `sigma` and bands widen at once. `s` is
/// the mean of `|truth - mean| / sigma` over about 150 truths, each clipped at 4 s; so
/// steps are free of units and a surge widens bands by a bounded factor. `sat` stands for the
/// paper's tangent: it grows without the tangent's pole. Until truths have come, offsets are the
/// normal quantiles and the scale is derived from the next shorter horizon's ([`Band::scale`]).
///
/// **Bounds.** With `W = max(largest foreseeable residual of late, 2 sigma)`, in the unit of the
/// series, `sigma s` is at most 0.35 W and no quantile is further than 1.5 W from the mean: a scale
/// learned when experts agreed on something false must not multiply what they disagree on later.
///
/// **What teaches nothing.** Truths that a jump between prediction and truth decided count less
/// ([`Outcome::trust`]) and are no residuals of late. A truth of zero is exactly where a quantile
/// clipped to zero says: the tracker rests, as all do in silence. Else they would creep down for as
/// long as nothing happens and be useless when something does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Band {
    trackers: Vec<Tracker>,
    /// Running mean of absolute residuals, in sigmas.
    scale: f64,
    /// Largest recent absolute residual of a truth that could be foreseen, in the unit of the series.
    worst: f64,
    /// Truths so far, each counted by what it was trusted.
    truths: f64,
    /// 1 where errors of successive truths are nearly independent, less where many predictions
    /// wait at once: slows everything down.
    pace: f64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Tracker {
    level: f64,
    offset: f64,
    errors: f64,
}

impl Tracker {
    fn quantile(&self) -> f64 {
        let x = (self.errors / INTEGRAL_RANGE).clamp(-0.9, 0.9);
        (self.offset + INTEGRAL_GAIN * x / (1.0 - x.abs())).clamp(-MAX_OFFSET, MAX_OFFSET)
    }
}

/// A truth beside what was predicted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) truth: f64,
    /// The point forecast.
    pub(crate) mean: f64,
    /// The sigma and the width used for it.
    pub(crate) sigma: f64,
    pub(crate) width: f64,
    /// From 0 to 1: how much the truth says about forecasts to come.
    pub(crate) trust: f64,
}

impl Band {
    /// Memory per level.
    pub(crate) const TRACKER_BYTES: usize = size_of::<Tracker>();

    pub(crate) fn new(levels: &[f64], pace: f64) -> Self {
        let tracker = |level: &f64| Tracker {
            level: *level,
            offset: (normal_quantile(*level) * NORMAL_SCALE).clamp(-MAX_OFFSET, MAX_OFFSET),
            errors: 0.0,
        };
        let trackers = levels.iter().map(tracker).collect();
        Self { trackers, scale: 1.0, worst: 0.0, truths: 0.0, pace }
    }

    /// See [`touch`].
    pub(crate) fn touch(&self) {
        touch(&self.trackers, |tracker| tracker.offset);
    }

    /// The width to use: `sigma` times the scale, but not more than an ordinary error can be, which is
    /// the largest one of late.
    pub(crate) fn width(&self, sigma: f64, prior: f64) -> f64 {
        let width = sigma * self.scale(prior);
        match self.truths >= PRIOR_TRUTHS {
            true => width.min(WIDEST * self.worst.max(MIN_WORST * sigma)),
            false => width,
        }
    }

    /// Whether enough truths have come for the widths to be about this horizon.
    pub(crate) fn settled(&self) -> bool {
        self.truths >= PRIOR_TRUTHS
    }

    /// The scale to use, in sigmas: the running one, and `prior` while truths are few.
    ///
    /// The prior of a horizon is the scale of the next shorter one, grown by the square root of
    /// the ratio of the horizons (residuals of a random walk), plus the noise of the window.
    fn scale(&self, prior: f64) -> f64 {
        let mixed =
            (self.truths * self.scale + PRIOR_TRUTHS * prior) / (self.truths + PRIOR_TRUTHS);
        mixed.clamp(SCALE_RANGE.0, SCALE_RANGE.1)
    }

    /// Writes the quantiles: `mean + width x tracker`, non-decreasing, within 0..=`ceiling`.
    ///
    /// `width` is `sigma` times the scale in use.
    pub(crate) fn write(&self, mean: f64, sigma: f64, width: f64, ceiling: f64, out: &mut [f64]) {
        let reach = match self.truths >= PRIOR_TRUTHS {
            true => WORST_ROOM * self.worst.max(MIN_WORST * sigma),
            false => MAX_OFFSET * width,
        };
        let mut floor = 0.0_f64;
        for (slot, tracker) in out.iter_mut().zip(&self.trackers) {
            let offset = (width * tracker.quantile()).clamp(-reach, reach);
            floor = (mean + offset).min(ceiling).max(floor);
            *slot = floor;
        }
    }

    /// Lowers what [`write`](Self::write) wrote to what a count of mean `expected` and standard deviation
    /// `sigma` does not exceed, whatever its distribution, `per` being what one of it is in the unit of the
    /// series: zero where anything comes at all with at most the probability that the level leaves
    /// (Markov), at most `expected + sigma sqrt(p / (1 - p))` at level `p` (Cantelli).
    ///
    /// Errors in silence say nothing of widths, which stay those of when more came.
    pub(crate) fn hush(&self, (expected, sigma): (f64, f64), per: f64, out: &mut [f64]) {
        for (quantile, Tracker { level, .. }) in out.iter_mut().zip(&self.trackers) {
            let beyond = 1.0 - level;
            let most = match expected < beyond {
                true => 0.0,
                false => expected + sigma * (level / beyond.max(1e-9)).sqrt(),
            };
            *quantile = quantile.min(per * most);
        }
    }

    /// Learns from a truth that `outcome` compares with what was predicted.
    pub(crate) fn learn(&mut self, outcome: &Outcome) {
        let Outcome { truth, mean, sigma, width, trust } = *outcome;
        let residual = truth - mean;
        let pace = self.pace;
        let silent = silent(truth, mean);
        for tracker in self.trackers.iter_mut().filter(|_| !silent) {
            let quantile = mean + width * tracker.quantile();
            let tied = truth <= 0.0 && quantile <= 0.0;
            let error = match tied {
                true => 0.0,
                false => tracker.level - f64::from(u8::from(truth <= quantile)),
            };
            tracker.errors += pace * (error - INTEGRAL_FADE * tracker.errors);
            tracker.offset = (tracker.offset + STEP * pace * error).clamp(-MAX_OFFSET, MAX_OFFSET);
        }
        self.truths += trust;
        let size = (residual / sigma).abs().min(SCALE_CLIP * self.scale);
        let memory = (SCALE_MEMORY / self.pace).min(self.truths.max(1.0));
        self.scale += trust * (size - self.scale) / memory;
        self.scale = self.scale.clamp(SCALE_RANGE.0, SCALE_RANGE.1);
        self.worst *= WORST_KEEP;
        if trust >= 1.0 {
            self.worst = self.worst.max(residual.abs());
        }
    }
}

/// Whether nothing came and nothing was expected.
pub(crate) fn silent(truth: f64, mean: f64) -> bool {
    truth <= 0.0 && mean < SILENT_MEAN
}

impl Band {
    pub(crate) fn check(&self, levels: &[f64]) -> Checked {
        check::same("trackers.len", &self.trackers.len(), &levels.len())?;
        for (at, (tracker, level)) in self.trackers.iter().zip(levels).enumerate() {
            let within = |name: &str, value, reach: f64| {
                check::within(format_args!("trackers[{at}].{name}"), value, -reach, reach)
            };
            check::same("trackers.level", &tracker.level, level)?;
            within("offset", tracker.offset, MAX_OFFSET)?;
            within("errors", tracker.errors, 1e6)?;
        }
        check::within("scale", self.scale, 0.0, check::MOST)?;
        check::within("worst", self.worst, 0.0, check::MOST)?;
        check::within("truths", self.truths, 0.0, check::MOST)?;
        check::within("pace", self.pace, 1e-9, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learns_the_quantiles_of_a_skewed_residual() {
        let levels = [0.1, 0.5, 0.9];
        let mut band = Band::new(&levels, 1.0);
        let mut quantiles = [0.0; 3];
        let mut covered = [0.0; 3];
        for step in 0..20_000_u64 {
            // Uniform in [0, 1), squared: quantiles are the squares of the levels.
            let uniform =
                (step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11) as f64 / (1u64 << 53) as f64;
            let truth = 100.0 + 20.0 * uniform * uniform;
            let width = 3.0 * band.scale(1.0);
            band.write(100.0, 3.0, width, 1e3, &mut quantiles);
            assert!(quantiles.is_sorted());
            if step >= 10_000 {
                (0..3).for_each(|i| covered[i] += f64::from(u8::from(truth <= quantiles[i])) / 1e4);
            }
            band.learn(&Outcome { truth, mean: 100.0, sigma: 3.0, width, trust: 1.0 });
        }
        for (covered, level) in covered.iter().zip(levels) {
            assert!((covered - level).abs() < 0.02, "{covered} for {level}");
        }
    }

    #[test]
    fn what_hardly_ever_comes_is_hushed_and_nothing_else() {
        let band = Band::new(&[0.1, 0.5, 0.95, 0.99], 1.0);
        let hushed = |expected: f64, written: [f64; 4]| {
            let mut out = written;
            band.hush((expected, expected.sqrt()), 2.0, &mut out);
            out
        };
        let written = [0.0, 0.2, 0.9, 1.4];
        assert_eq!(hushed(0.005, written), [0.0; 4]);
        let [low, median, upper, outer] = hushed(0.02, written);
        assert_eq!([low, median, upper], [0.0; 3]);
        assert_eq!(outer, 1.4, "within what Cantelli allows: 2.9");
        assert_eq!(hushed(1.0, written), [0.0, 0.2, 0.9, 1.4]);
        assert!(hushed(0.02, [9.0; 4])[3] < 2.9);
    }

    #[test]
    fn a_huge_residual_widens_by_a_bounded_factor() {
        let mut band = Band::new(&[0.5, 0.9], 1.0);
        let residual = |step: u64| if step.is_multiple_of(2) { 1.0 } else { -1.0 };
        let learn = |band: &mut Band, residual: f64| {
            let (truth, width) = (100.0 + residual, band.scale(1.0));
            band.learn(&Outcome { truth, mean: 100.0, sigma: 1.0, width, trust: 1.0 });
        };
        (0..1_000).for_each(|step| learn(&mut band, residual(step)));
        let before = band.scale(1.0);
        learn(&mut band, 1e9);
        assert!(band.scale(1.0) < 1.1 * before);
    }
}
