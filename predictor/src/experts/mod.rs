//! The experts: simple forecasters that each are right about one kind of series.
//!
//! [`Experts`] holds those of one series. An expert sees every step once and predicts the rate
//! any number of steps ahead; least squares (one per horizon, [`rls`]) lives with its horizon,
//! since it learns from that horizon's truths.

mod ewma;
mod holt;
mod periods;
pub(crate) mod rls;
mod seasonal;

use serde::{Deserialize, Serialize};

use ewma::{Ewma, Restart};
use holt::Holt;
use periods::Periods;
pub(crate) use rls::{MAX_FEATURES, Rls};
use seasonal::Seasonal;

use crate::check::{self, Checked};
use crate::level::Level;
use crate::window::Window;
use crate::{MAX_SEASONS, SeriesSpec};

/// Memory of each average and the least steps of it, and what starts it anew: the short one follows
/// steps, the middle one remembers what was usual before a spike, unless that was next to nothing,
/// the long one what is usual in the end.
const EWMA_MS: [(u64, u64, Restart); 3] =
    [(5_000, 5, Restart::Change), (60_000, 20, Restart::Waking), (600_000, 100, Restart::Never)];
/// Response of each Holt forecaster and the least steps of it; damping takes ten times as long.
const HOLT_MS: [(u64, u64); 3] = [(1_000, 2), (4_000, 5), (20_000, 20)];
const HOLT_DAMPING: u64 = 10;
/// Trailing means that least squares looks at, and the least steps of each.
const FEATURE_MS: [(u64, u64); 5] = [(100, 1), (1_000, 2), (5_000, 5), (15_000, 12), (60_000, 40)];
/// Features that every series has: a constant, the trailing means, two trends.
const PLAIN_FEATURES: usize = 1 + FEATURE_MS.len() + 2;
/// Features of each season: the profile at the target and the profile now.
const SEASON_FEATURES: usize = 2;
/// Length of one unit of trend.
const TREND_FEATURE_INDEX: usize = 2;
/// Periods nobody told of are looked for in means over this, and over sixteen times as much.
const BLOCK_MS: u64 = 1_000;
/// Features stay within this.
const FEATURE_RANGE: f64 = 4.0;
/// Share of the first weights that goes to what is usual, very far ahead, and the steps at which it is
/// half of that.
const FAR_SHARE: f64 = 0.7;
const FAR_STEPS: f64 = 30.0;
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
    /// The newest value.
    pub(crate) last: f64,
}

/// What a season's profile says; none where it is not known.
pub(crate) type Look = Option<f64>;

/// Seasons there can be: those told of and one found.
pub(crate) const MAX_LOOKS: usize = MAX_SEASONS + 1;

/// All experts of a series that do not depend on a horizon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Experts {
    ewmas: [Ewma; EWMA_MS.len()],
    holts: [Holt; HOLT_MS.len()],
    /// Those told of, then the one found, if any.
    seasonals: Vec<Seasonal>,
    periods: Periods,
    step_ms: u64,
    /// Seasons told of.
    told: usize,
    /// Whether least squares with regressors takes part.
    signals: bool,
    feature_steps: [usize; FEATURE_MS.len()],
}

/// Index of the "same as now" expert.
pub(crate) const LAST: usize = 0;
const LAST_STEP: usize = 1;
const FIRST_EWMA: usize = 2;

impl Experts {
    pub(crate) fn new(step_ms: u64, seasons_ms: &[u64], signals: bool) -> Self {
        let steps = |ms: u64, least: u64| (ms / step_ms).max(least);
        let holt = |(ms, least)| {
            let response = steps(ms, least);
            Holt::new(response, HOLT_DAMPING * response)
        };
        Self {
            ewmas: EWMA_MS.map(|(ms, least, restart)| Ewma::new(steps(ms, least), restart)),
            holts: HOLT_MS.map(holt),
            seasonals: seasons_ms.iter().map(|ms| Seasonal::new(step_ms, *ms)).collect(),
            periods: Periods::new(
                steps(BLOCK_MS, 1),
                seasons_ms.iter().map(|ms| *ms as f64 / step_ms as f64).collect(),
            ),
            step_ms,
            told: seasons_ms.len(),
            signals,
            feature_steps: FEATURE_MS.map(|(ms, least)| steps(ms, least) as usize),
        }
    }

    /// Steps of history that [`features`](Self::features) needs.
    pub(crate) fn history_steps(&self) -> usize {
        self.feature_steps.iter().copied().max().unwrap_or(1)
    }

    /// Experts, the horizon's least squares included: the length of what
    /// [`predict`](Self::predict) fills.
    pub(crate) fn count(&self) -> usize {
        let own = 1 + usize::from(self.signals);
        2 + self.ewmas.len() + self.holts.len() + self.season_slots() + own
    }

    /// What the experts are called, in the order of [`predict`](Self::predict).
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names = vec!["same as now".to_owned(), "last step".to_owned()];
        names.extend(self.ewmas.iter().map(Ewma::name));
        names.extend(self.holts.iter().map(Holt::name));
        names.extend(self.seasonals.iter().take(self.told).map(Seasonal::name));
        let found = self.seasonals.get(self.told);
        names.push(found.map_or_else(|| "no season found".to_owned(), Seasonal::name));
        if self.signals {
            names.push("least squares with regressors".to_owned());
        }
        names.push("least squares".to_owned());
        names
    }

    /// Which experts follow what happens now: all but the newest step alone and the longest average.
    pub(crate) fn quick(&self) -> Vec<bool> {
        let slow = [LAST_STEP, FIRST_EWMA + EWMA_MS.len() - 1];
        (0..self.count()).map(|index| !slow.contains(&index)).collect()
    }

    /// How each expert is weighed `ahead` steps ahead before anything is known of it: evenly near,
    /// while far ahead what is usual is the better guess, so most goes to the averages and to least
    /// squares, which begins as "same as now" and learns how far to return to them.
    pub(crate) fn start(&self, ahead: u64) -> Vec<f64> {
        let far = FAR_SHARE * ahead as f64 / (ahead as f64 + FAR_STEPS);
        let (count, own) = (self.count(), 1 + usize::from(self.signals));
        let usual = |index: usize| {
            let averages = FIRST_EWMA..FIRST_EWMA + EWMA_MS.len();
            averages.contains(&index) || index >= count - own
        };
        let of = (0..count).filter(|index| usual(*index)).count() as f64;
        let weight = |index| (1.0 - far) / count as f64 + if usual(index) { far / of } else { 0.0 };
        (0..count).map(weight).collect()
    }

    /// Heap memory, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let told: usize = self.seasonals.iter().take(self.told).map(Seasonal::memory_bytes).sum();
        told + Seasonal::MAX_BYTES + self.periods.memory_bytes()
    }

    /// See [`touch`](crate::touch).
    pub(crate) fn touch(&self, window: &Window) {
        self.feature_steps.iter().for_each(|steps| window.touch(*steps));
        self.seasonals.iter().for_each(Seasonal::touch);
        self.periods.touch();
    }

    pub(crate) fn observe(&mut self, seen: &Seen) {
        self.ewmas.iter_mut().for_each(|ewma| ewma.observe(seen));
        self.holts.iter_mut().for_each(|holt| holt.observe(seen));
        self.seasonals.iter_mut().for_each(|seasonal| seasonal.observe(seen));
        if let Some(steps) = self.periods.observe(seen.value) {
            let period_ms = (steps * self.step_ms as f64 + 0.5) as u64;
            self.seasonals.truncate(self.told);
            self.seasonals.push(Seasonal::new(self.step_ms, period_ms));
        }
    }

    /// The clock that the seasons told of follow was set forward by `by_ms`, or back.
    pub(crate) fn shift_clock(&mut self, by_ms: i64) {
        self.seasonals.iter_mut().take(self.told).for_each(|seasonal| seasonal.shift(by_ms));
    }

    /// Seasons there can be: those told of and one found.
    fn season_slots(&self) -> usize {
        self.told + 1
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

    /// What each season's profile says `steps` steps after the newest, or before if negative.
    pub(crate) fn look(&self, steps: f64) -> [Look; MAX_LOOKS] {
        let mut looks = [None; MAX_LOOKS];
        let seasons = looks.iter_mut().zip(&self.seasonals);
        seasons.for_each(|(look, seasonal)| *look = seasonal.look(steps));
        looks
    }

    /// Writes every expert's prediction, the horizon's own last: least squares with regressors, if
    /// any, and without. `here` and `there` are what the seasons say of the level and of the target.
    pub(crate) fn predict(
        &self,
        now: Now,
        (here, there): (&[Look], &[Look]),
        reach: &[f64; HOLT_MS.len()],
        own: [Option<f64>; 2],
        out: &mut [f64],
    ) {
        let ewmas = self.ewmas.iter().map(Ewma::predict);
        let holts = self.holts.iter().zip(reach).map(|(holt, reach)| holt.predict(*reach));
        let seasonals = here.iter().zip(there).take(self.season_slots()).map(|looks| match looks {
            (Some(here), Some(there)) => Seasonal::predict(now.level, *here, *there),
            _ => now.level,
        });
        let all = [now.level, now.last].into_iter().chain(ewmas).chain(holts).chain(seasonals);
        for (slot, prediction) in out.iter_mut().zip(all.chain(own.into_iter().flatten())) {
            *slot = prediction;
        }
    }

    /// Writes what each expert takes the present for, in the order of [`predict`](Self::predict).
    pub(crate) fn present(&self, level: f64, out: &mut [f64]) {
        out.fill(level);
        let holts = self.holts.iter().map(|holt| holt.predict(0.0));
        let own = self.ewmas.iter().map(Ewma::predict).chain(holts);
        out[FIRST_EWMA..].iter_mut().zip(own).for_each(|(slot, value)| *slot = value);
    }

    /// Length of what [`features`](Self::features) and [`season_features`](Self::season_features)
    /// fill together.
    pub(crate) fn feature_count(&self) -> usize {
        PLAIN_FEATURES + SEASON_FEATURES * self.season_slots()
    }

    /// What least squares sees at every horizon, in the first slots of `out`: a constant, and
    /// departures of trailing means and trends from the level, in units of `scale`.
    pub(crate) fn features(&self, window: &Window, level: &Level, scale: f64, out: &mut [f64]) {
        let means = self.feature_steps.iter().map(|steps| window.mean(*steps) - level.value());
        let reach = self.feature_steps[TREND_FEATURE_INDEX] as f64;
        let trends = self.holts.iter().take(2).map(|holt| holt.trend() * reach);
        let per_scale = 1.0 / scale;
        let departures = means.chain(trends).map(|departure| departure * per_scale);
        for (slot, feature) in out.iter_mut().zip([0.1].into_iter().chain(departures)) {
            *slot = feature.clamp(-FEATURE_RANGE, FEATURE_RANGE);
        }
    }

    /// What least squares sees of the seasons, after what [`features`](Self::features) wrote: each
    /// profile here and there, in units of `scale` from the level.
    pub(crate) fn season_features(
        &self,
        level: f64,
        (here, there): (&[Look], &[Look]),
        scale: f64,
        out: &mut [f64],
    ) {
        let per_scale = 1.0 / scale;
        let pairs = out[PLAIN_FEATURES..].chunks_exact_mut(SEASON_FEATURES);
        for (pair, looks) in pairs.zip(here.iter().zip(there)) {
            let (Some(here), Some(there)) = looks else {
                pair.fill(0.0);
                continue;
            };
            for (slot, value) in pair.iter_mut().zip([here, there]) {
                *slot = ((value - level) * per_scale).clamp(-FEATURE_RANGE, FEATURE_RANGE);
            }
        }
    }

    /// In which of `parts` equal parts of the shortest season the step `ahead` steps ahead lies.
    pub(crate) fn season_part(&self, ahead: u64, parts: usize) -> usize {
        self.told_seasons().first().map_or(0, |seasonal| seasonal.part(ahead, parts))
    }

    /// Whether there is any season.
    pub(crate) fn seasonal(&self) -> bool {
        self.told > 0
    }

    fn told_seasons(&self) -> &[Seasonal] {
        &self.seasonals[..self.told.min(self.seasonals.len())]
    }

    /// The highest value that any season's profile holds.
    pub(crate) fn season_peak(&self) -> f64 {
        self.seasonals.iter().map(Seasonal::peak).fold(0.0, f64::max)
    }
}

impl Experts {
    pub(crate) fn check(&self, spec: &SeriesSpec, signals: bool) -> Checked {
        check::same("step_ms", &self.step_ms, &spec.step_ms)?;
        check::same("told", &self.told, &spec.seasons_ms.len())?;
        check::same("signals", &self.signals, &signals)?;
        let (least, most) = (self.told as u64, self.season_slots() as u64);
        check::count("seasonals.len", self.seasonals.len() as u64, least, most)?;
        for (at, ewma) in self.ewmas.iter().enumerate() {
            check::part(format_args!("ewmas[{at}]"), ewma.check())?;
        }
        for (at, holt) in self.holts.iter().enumerate() {
            check::part(format_args!("holts[{at}]"), holt.check())?;
        }
        for (at, seasonal) in self.seasonals.iter().enumerate() {
            let told = spec.seasons_ms.get(at).copied();
            check::part(format_args!("seasonals[{at}]"), seasonal.check(spec.step_ms, told))?;
        }
        check::part("periods", self.periods.check())?;
        let mut steps = self.feature_steps.iter();
        steps.try_for_each(|steps| check::count("feature_steps", *steps as u64, 1, 1 << 20))
    }
}
