//! The experts: simple forecasters that each are right about one kind of series.
//!
//! [`Experts`] holds those of one series. An expert sees every step once and predicts the rate
//! any number of steps ahead; least squares (one per horizon, [`rls`]) lives with its horizon,
//! since it learns from that horizon's truths.

mod ewma;
mod holt;
pub(crate) mod rls;
mod seasonal;

use serde::{Deserialize, Serialize};

use ewma::Ewma;
use holt::Holt;
pub(crate) use rls::{FEATURES, Rls};
use seasonal::Seasonal;

use crate::SeriesSpec;
use crate::check::{self, Checked};
use crate::level::Level;
use crate::window::Window;

/// Memory of each average, and whether any change of the level starts it anew: the short one follows
/// steps, the long one remembers what was usual before a spike, unless that was next to nothing.
const EWMA_MS: [(u64, bool); 2] = [(5_000, true), (60_000, false)];
/// Response and damping time of each Holt forecaster.
const HOLT_MS: [(u64, u64); 3] = [(1_000, 10_000), (4_000, 40_000), (20_000, 200_000)];
/// Trailing means that least squares looks at.
const FEATURE_MS: [u64; 4] = [1_000, 5_000, 15_000, 60_000];
/// A level this many times what was before came out of what is idleness in comparison.
pub(crate) const WAKING_GROWTH: f64 = 3.0;

/// One observed step, as the experts see it.
pub(crate) struct Seen {
    /// The value of the step.
    pub(crate) value: f64,
    /// The smoothed value, this step included.
    pub(crate) level: f64,
    /// Steps that the smoothed value is the mean of.
    pub(crate) level_steps: u64,
    /// Whether the level changed by more than noise can explain.
    pub(crate) changed: bool,
    /// Whether the level has just come out of idleness.
    pub(crate) waking: bool,
    /// Standard deviation of one step's noise.
    pub(crate) sigma: f64,
}

/// What an expert predicts from, beside its own state.
#[derive(Clone, Copy)]
pub(crate) struct Now {
    /// The smoothed value: the prediction of the "same as now" expert.
    pub(crate) level: f64,
    /// How many steps the level lags.
    pub(crate) lag: f64,
}

/// All experts of a series that do not depend on a horizon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Experts {
    ewmas: [Ewma; EWMA_MS.len()],
    holts: [Holt; HOLT_MS.len()],
    seasonals: Vec<Seasonal>,
    feature_steps: [usize; FEATURE_MS.len()],
}

/// Index of the "same as now" expert.
pub(crate) const LAST: usize = 0;

impl Experts {
    pub(crate) fn new(step_ms: u64, seasons_ms: &[u64]) -> Self {
        let steps = |ms: u64| (ms / step_ms).max(1);
        Self {
            ewmas: EWMA_MS.map(|(ms, restarts)| Ewma::new(steps(ms), restarts)),
            holts: HOLT_MS.map(|(response, damping)| Holt::new(steps(response), steps(damping))),
            seasonals: seasons_ms.iter().map(|ms| Seasonal::new(step_ms, *ms)).collect(),
            feature_steps: FEATURE_MS.map(|ms| steps(ms) as usize),
        }
    }

    /// Steps of history that [`features`](Self::features) needs.
    pub(crate) fn history_steps(&self) -> usize {
        self.feature_steps.iter().copied().max().unwrap_or(1)
    }

    /// Experts, the horizon's least squares included: the length of what
    /// [`predict`](Self::predict) fills.
    pub(crate) fn count(&self) -> usize {
        2 + self.ewmas.len() + self.holts.len() + self.seasonals.len()
    }

    /// What the experts are called, in the order of [`predict`](Self::predict).
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names = vec!["same as now".to_owned()];
        names.extend(EWMA_MS.map(|(ms, _)| format!("average over {} s", ms / 1_000)));
        names.extend(HOLT_MS.map(|(ms, _)| format!("damped trend of {} s", ms / 1_000)));
        names.extend(self.seasonals.iter().map(Seasonal::name));
        names.push("least squares".to_owned());
        names
    }

    /// Heap memory, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.seasonals.iter().map(Seasonal::memory_bytes).sum()
    }

    pub(crate) fn observe(&mut self, seen: &Seen) {
        self.ewmas.iter_mut().for_each(|ewma| ewma.observe(seen));
        self.holts.iter_mut().for_each(|holt| holt.observe(seen));
        self.seasonals.iter_mut().for_each(|seasonal| seasonal.observe(seen));
    }

    /// Lets `steps` steps pass unseen.
    pub(crate) fn skip(&mut self, steps: u64) {
        self.holts.iter_mut().for_each(|holt| holt.skip(steps));
        self.seasonals.iter_mut().for_each(|seasonal| seasonal.skip(steps));
    }

    /// Sums of the damped trends' weights `ahead` steps ahead; constant per horizon.
    pub(crate) fn trend_reach(&self, ahead: u64) -> [f64; HOLT_MS.len()] {
        [0, 1, 2].map(|index: usize| self.holts[index].reach(ahead))
    }

    /// The most that any trend adds with the given reach.
    pub(crate) fn trend_room(&self, reach: &[f64; HOLT_MS.len()]) -> f64 {
        let growth = self.holts.iter().zip(reach).map(|(holt, reach)| holt.trend() * reach);
        growth.fold(0.0, f64::max)
    }

    /// Writes every expert's prediction `ahead` steps ahead, the horizon's own least squares last.
    pub(crate) fn predict(
        &self,
        now: Now,
        ahead: u64,
        reach: &[f64; HOLT_MS.len()],
        least_squares: f64,
        out: &mut [f64],
    ) {
        let ewmas = self.ewmas.iter().map(Ewma::predict);
        let holts = self.holts.iter().zip(reach).map(|(holt, reach)| holt.predict(*reach));
        let seasonals = self.seasonals.iter().map(|seasonal| seasonal.predict(now, ahead));
        let all = [now.level].into_iter().chain(ewmas).chain(holts).chain(seasonals);
        for (slot, prediction) in out.iter_mut().zip(all.chain([least_squares])) {
            *slot = prediction;
        }
    }

    /// What least squares sees: departures of trailing means and trends from the level, in units
    /// of `scale`, and a constant.
    pub(crate) fn features(&self, window: &Window, level: &Level, scale: f64) -> [f64; FEATURES] {
        let departure = |index: usize| {
            let steps: usize = self.feature_steps[index];
            (window.mean(steps) - level.value()) / scale
        };
        let trend = |index: usize| self.holts[index].trend() * self.feature_steps[1] as f64 / scale;
        let raw = [0.1, departure(0), departure(1), departure(2), departure(3), trend(0), trend(1)];
        raw.map(|feature| feature.clamp(-4.0, 4.0))
    }
}

impl Experts {
    pub(crate) fn check(&self, spec: &SeriesSpec) -> Checked {
        check::same("seasonals.len", &self.seasonals.len(), &spec.seasons_ms.len())?;
        for (at, ewma) in self.ewmas.iter().enumerate() {
            check::part(format_args!("ewmas[{at}]"), ewma.check())?;
        }
        for (at, holt) in self.holts.iter().enumerate() {
            check::part(format_args!("holts[{at}]"), holt.check())?;
        }
        for (at, (seasonal, ms)) in self.seasonals.iter().zip(&spec.seasons_ms).enumerate() {
            check::part(format_args!("seasonals[{at}]"), seasonal.check(spec.step_ms, *ms))?;
        }
        let mut steps = self.feature_steps.iter();
        steps.try_for_each(|steps| check::count("feature_steps", *steps as u64, 1, 1 << 20))
    }
}
