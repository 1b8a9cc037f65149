//! One series: observations in, forecast out.

mod restore;

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::experts::{Experts, MAX_FEATURES, Seen, WAKING_GROWTH};
use crate::horizon::Horizon;
use crate::level::Level;
use crate::score::usable;
use crate::sight::{Came, Sight, phases, stride};
use crate::signals::Signals;
use crate::window::{MAX_VALUE, Window};
use crate::{Forecast, HorizonForecast, HorizonScore, Score, SeriesSpec};

/// Half-life of the largest recent rate.
const PEAK_HALF_LIFE_MS: f64 = 600_000.0;
/// The least of it for long steps.
const PEAK_HALF_LIFE_STEPS: f64 = 200.0;
/// Changes of the level closer than this belong to the same jump.
const JUMP_STEPS: u64 = 5;

/// Forecasts one series, step by step.
///
/// **What is forecast.** A count over 100 ms is mostly Poisson noise, which no one can foresee and
/// no one needs to: what must be served is the rate. So the quantities forecast, scored and
/// covered by the quantiles at horizon `h` are means of the observed values over a window of
/// `max(1 s, h / 10)` (at most 1,024 steps) centred on `h`. Where half the window is longer than
/// the horizon, the window starts at the next step instead, so a forecast for 100 ms means the
/// coming second. [`level`](Self::level), "same as now", is the mean since the last change of
/// level, over at most two seconds; a jump is followed within three steps.
///
/// **How.** Simple experts predict: the level; the newest step; exponential averages over 5 s (anew
/// after a jump), 60 s and 10 min; damped Holt trends (Gardner & McKenzie 1985) answering within 1, 4
/// and 20 s; the ratio of a seasonal profile, one per known season and one for a period found by
/// autocorrelation; and per horizon one recursive least squares (Ljung & Söderström 1983) on lags,
/// trends and profiles, and another one with the regressors, if there are any. Where steps are long,
/// times count in steps instead. Per horizon the experts are mixed, learning as truths arrive, by
/// exponential weights with fixed share (Herbster & Warmuth 1998), which turn at once, and Bernstein
/// online aggregation (Wintenberger 2017), which settles; past losses choose between the two, and a
/// second Bernstein aggregation judges over a long time whether to follow that choice.
/// Quantiles come from online conformal tracking of the residuals (Angelopoulos, Candès & Tibshirani
/// 2023), scaled by a mix of what errors are like of late, at all times, at this level and in this part
/// of the season. Counts are no special case: the noise of a step is Poisson's times a dispersion that
/// is learned, so the variance grows with the mean.
///
/// **Bounds.** No mean exceeds three times the largest one-second rate of late (half-life ten
/// minutes), or the peak of a season's profile, plus what the strongest damped trend adds: demand that trebles without showing a trend
/// first is not foreseeable, and a forecast of it is a mistake of the model. No quantile exceeds
/// twice that bound plus six sigmas of noise, nor, once 20 truths are known, is it further from the
/// mean than 1.5 times the largest error of late or three sigmas. Errors of forecasts made before
/// demand came out of idleness (more than three times what was there and forecast) teach the bands
/// nothing, so those are of use within seconds of it. Outputs are finite and not negative whatever
/// the input.
///
/// **Cost.** Memory is fixed when made ([`memory_bytes`](Self::memory_bytes)): about 45 KB for
/// 4 horizons, 5 levels and a season, 4 KB more per further season, at most 600 KB for the largest spec
/// accepted. A horizon `h` of more than 48 steps is forecast anew, and learned from, every `h / 24` to
/// `h / 48` steps, and when the level changes; where steps are a second or more, of more than 128, every
/// `h / 64` to `h / 128`. They take turns, so that steps cost about the same. A step allocates nothing
/// and takes a few microseconds (`scale` in what `make bench-forecast` prints).
///
/// **Replay.** Only basic arithmetic and the correctly rounded square root are used, so equal
/// inputs give equal bits on every machine. The state never holds NaN or infinity and round-trips
/// through JSON exactly, given a parser that rounds correctly (`serde_json` with
/// `float_roundtrip`); a restored forecaster continues identically. A text that no forecaster can
/// have written is an error that names the field.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Forecaster {
    spec: SeriesSpec,
    window: Window,
    level: Level,
    experts: Experts,
    #[serde(default)]
    signals: Signals,
    horizons: Vec<Horizon>,
    forecast: Forecast,
    /// Steps processed; after a gap longer than all that is remembered, not steps passed.
    step: u64,
    /// The step at which the level last changed, and the one at which it last jumped.
    changed_at: u64,
    jumped_at: u64,
    /// Whether the last change was upwards.
    rose: bool,
    /// The step at which the level last came out of idleness; 0 when it never did.
    woke_at: u64,
    started: bool,
    peak: f64,
    /// What the peak keeps per step.
    peak_keep: f64,
    size: f64,
    /// Newest value.
    last: f64,
    second_steps: usize,
    minute_steps: usize,
}

/// What the horizons predict from: a borrow of some fields, so that others can be written.
macro_rules! sight {
    ($series:ident) => {{
        let mut features = [0.0; MAX_FEATURES];
        $series.experts.features(&$series.window, &$series.level, $series.size, &mut features);
        Sight {
            experts: &$series.experts,
            level: &$series.level,
            size: $series.size,
            peak: $series.peak,
            last: $series.last,
            step: $series.step,
            signals: &$series.signals,
            features,
            here: $series.experts.look(-$series.level.lag()),
        }
    }};
}

impl Forecaster {
    /// A forecaster that has seen nothing; the spec is repaired by [`SeriesSpec::sanitised`].
    pub fn new(spec: SeriesSpec) -> Self {
        Self::with_regressors(spec, 0)
    }

    /// The same for a series that [`observe_with`](Self::observe_with) tells of `regressors` others
    /// too, at most [`MAX_REGRESSORS`](crate::MAX_REGRESSORS).
    pub fn with_regressors(spec: SeriesSpec, regressors: usize) -> Self {
        let spec = spec.sanitised();
        let signals = Signals::new(regressors, spec.horizons_ms.len());
        let experts = Experts::new(spec.step_ms, &spec.seasons_ms, signals.count() > 0);
        let strides = spec.horizons_ms.iter().map(|ms| stride(spec.step_ms, *ms));
        let strides: Vec<u64> = strides.collect();
        let horizon = |(index, phase)| Horizon::new(&spec, index, phase, &experts, signals.count());
        let horizons: Vec<Horizon> =
            phases(&strides).into_iter().enumerate().map(horizon).collect();
        let empty = |horizon_ms: &u64| HorizonForecast {
            horizon_ms: *horizon_ms,
            mean: 0.0,
            quantiles: vec![0.0; spec.levels.len()],
        };
        let forecast = Forecast {
            levels: spec.levels.clone(),
            horizons: spec.horizons_ms.iter().map(empty).collect(),
        };
        let history = horizons.iter().map(Horizon::history_steps).max().unwrap_or(1);
        let level = Level::new(spec.step_ms);
        let steps = |ms: u64| (ms / spec.step_ms).max(1) as usize;
        let peak_steps = (PEAK_HALF_LIFE_MS / spec.step_ms as f64).max(PEAK_HALF_LIFE_STEPS);
        let (second_steps, minute_steps) = (steps(1_000), steps(60_000));
        Self {
            window: Window::new(history.max(experts.history_steps()).max(level.history_steps())),
            level,
            experts,
            signals,
            horizons,
            forecast,
            step: 0,
            changed_at: 0,
            jumped_at: 0,
            rose: false,
            woke_at: 0,
            started: false,
            peak: 0.0,
            peak_keep: 1.0 - std::f64::consts::LN_2 / peak_steps,
            size: 1.0,
            last: 0.0,
            second_steps,
            minute_steps,
            spec,
        }
    }

    /// The same, looking at its far horizons `turn` steps later; once it has seen something, as it is.
    ///
    /// Far horizons are visited every few steps (see [`Forecaster`], cost). Of many series fed in the
    /// same tick, each with a turn of its own (0, 1, 2 and so on), some visit theirs at every tick, so
    /// that ticks cost about the same.
    #[must_use]
    pub fn in_turn(mut self, turn: u64) -> Self {
        if self.step == 0 {
            self.horizons.iter_mut().for_each(|horizon| horizon.put_off(turn));
        }
        self
    }

    /// Takes the value of one step, a rate per second (for a count: count x 1000 / `step_ms`).
    ///
    /// NaN, infinite, negative and absurd (above 1e9) values count as missing: the level is held,
    /// nothing is predicted from the step, and truths that are mostly missing are not learned from.
    pub fn observe(&mut self, value: f64) {
        self.signals.forget();
        self.step_with(value);
    }

    /// The same, with the regressors given to [`with_regressors`](Self::with_regressors): one value
    /// each for this step, which may be followed, horizon by horizon, by one value each for the
    /// steps that horizon means ([`target_steps`](Self::target_steps)) where they are known ahead,
    /// as a calendar's are.
    ///
    /// NaN, infinite and missing values are unknown; more than expected are ignored. Units do not
    /// matter. Least squares with the regressors is one expert among the others: noise, constants and
    /// lies cost it its weight, and a regressor that stands still for over four times as long as ever
    /// before (and 200 steps) counts as unknown.
    pub fn observe_with(&mut self, value: f64, regressors: &[f64]) {
        self.signals.observe(regressors);
        self.step_with(value);
    }

    fn step_with(&mut self, value: f64) {
        self.touch();
        let value = Some(value).filter(|value| (0.0..=MAX_VALUE).contains(value));
        self.advance(value);
        let news = value.is_some() && (self.level.changed() || self.waking());
        self.refresh(value.is_some(), news);
    }

    /// Skips `steps` steps in which nothing was seen; any number of them in bounded time.
    pub fn observe_gap(&mut self, steps: u64) {
        if steps == 0 {
            return;
        }
        self.signals.forget();
        let farthest = self.horizons.iter().map(Horizon::reach_steps).max().unwrap_or(0);
        let memory = farthest + self.window.capacity() as u64;
        if steps <= memory {
            (0..steps).for_each(|_| self.advance(None));
        } else {
            self.experts.skip(steps);
            self.horizons.iter_mut().for_each(Horizon::abandon);
            self.window.clear();
            self.level.restart();
        }
        self.refresh(false, true);
    }

    /// Says that the clock people live by was set forward by `by_ms` (back, if negative), as when
    /// summer time begins: the known seasons go on from there. Steps must keep to a clock that is not
    /// set; a season that moves unannounced is learned anew within a few of its cycles.
    pub fn shift_clock(&mut self, by_ms: i64) {
        self.experts.shift_clock(by_ms);
        // Those that wait for their truth were made for the clock as it was.
        self.horizons.iter_mut().for_each(Horizon::abandon);
        self.refresh(false, true);
    }

    /// The current forecast, refreshed by every observation and gap.
    pub fn forecast(&self) -> &Forecast {
        &self.forecast
    }

    /// The smoothed value now, in the unit of the series; 0 before the first observation.
    pub fn level(&self) -> f64 {
        self.level.value()
    }

    /// The track record so far.
    pub fn score(&self) -> Score {
        let horizons = self.scores().cloned().collect();
        Score { levels: self.spec.levels.clone(), horizons }
    }

    /// [`Score::usable`], without copying the score.
    pub fn usable(&self) -> bool {
        usable(self.scores())
    }

    /// The sanitised spec in force.
    pub fn spec(&self) -> &SeriesSpec {
        &self.spec
    }

    /// The experts' weights at the `index`-th horizon, summing to 1, in the order of
    /// [`expert_names`](Self::expert_names). Empty past the last.
    pub fn weights(&self, index: usize) -> Vec<f64> {
        self.horizons.get(index).map_or_else(Vec::new, Horizon::weights)
    }

    /// What each expert alone forecasts at the `index`-th horizon, in the order of
    /// [`weights`](Self::weights); empty past the last. Computed anew: for looking into, not for
    /// every step.
    pub fn expert_means(&self, index: usize) -> Vec<f64> {
        let sight = sight!(self);
        self.horizons.get(index).map_or_else(Vec::new, |horizon| horizon.expert_means(&sight))
    }

    /// Names of the experts: "same as now" first, least squares last.
    pub fn expert_names(&self) -> Vec<String> {
        self.experts.names()
    }

    /// The steps whose mean is forecast at the `index`-th horizon, the next step being 1; none past
    /// the last.
    pub fn target_steps(&self, index: usize) -> Option<RangeInclusive<u64>> {
        self.horizons.get(index).map(Horizon::target_steps)
    }

    /// Heap and inline memory of this forecaster, in bytes; constant from [`new`](Self::new) on.
    pub fn memory_bytes(&self) -> usize {
        let horizons: usize = self.horizons.iter().map(Horizon::memory_bytes).sum();
        size_of::<Self>()
            + self.window.memory_bytes()
            + self.experts.memory_bytes()
            + self.signals.memory_bytes()
            + horizons
    }

    fn scores(&self) -> impl Iterator<Item = &HorizonScore> + Clone {
        self.horizons.iter().map(Horizon::score)
    }

    /// See [`touch`](crate::touch).
    fn touch(&self) {
        self.experts.touch(&self.window);
        let due = self.horizons.iter().filter(|horizon| horizon.visited(self.step + 1));
        due.for_each(Horizon::touch);
    }

    /// Lets one step pass and learns from it.
    fn advance(&mut self, value: Option<f64>) {
        self.step += 1;
        match value {
            Some(value) => self.take(value),
            None => {
                if self.started {
                    self.window.push(self.level.value(), true);
                }
                self.experts.skip(1);
            }
        }
        let came = Came {
            window: &self.window,
            levels: &self.spec.levels,
            step: self.step,
            jumped_at: self.jumped_at,
        };
        for index in 0..self.horizons.len() {
            let (shorter, rest) = self.horizons.split_at_mut(index);
            rest[0].settle(&came, shorter.last());
        }
    }

    fn take(&mut self, value: f64) {
        self.started = true;
        self.window.push(value, false);
        let before = self.level.value();
        self.level.observe(value, &self.window);
        let level = self.level.value();
        let sigma = self.level.noise.sigma(level, 1);
        let (level_steps, changed) = (self.level.steps(), self.level.changed());
        if changed {
            self.note_change(before);
        }
        let waking = self.waking();
        self.experts.observe(&Seen { value, level, level_steps, changed, waking, sigma });
        self.last = value;
        self.peak =
            (self.peak * self.peak_keep).max(self.window.mean(self.second_steps)).max(level);
        self.size = self.window.mean(self.minute_steps).max(level).max(1e-3);
    }

    /// Tells jumps from steep ramps: a ramp changes the level again and again the same way, a jump once,
    /// at most twice in a row while it passes through the short window.
    fn note_change(&mut self, before: f64) {
        if self.level.value() > WAKING_GROWTH * before {
            self.woke_at = self.step;
        }
        let since = self.step - self.changed_at;
        let rose = self.level.value() > before;
        let soon = (JUMP_STEPS..2 * self.second_steps as u64).contains(&since);
        let again = soon && rose == self.rose;
        self.rose = rose;
        self.changed_at = self.step;
        self.jumped_at = if again { 0 } else { self.step };
    }

    /// Whether the level has just come out of idleness.
    fn waking(&self) -> bool {
        self.woke_at > 0 && self.step < self.woke_at + JUMP_STEPS
    }

    /// Writes the forecast anew at the horizons that are visited now, or at `all`.
    fn refresh(&mut self, keep: bool, all: bool) {
        let due = |horizon: &Horizon| all || horizon.visited(self.step);
        if !self.horizons.iter().any(due) {
            return;
        }
        let sight = sight!(self);
        for (index, out) in self.forecast.horizons.iter_mut().enumerate() {
            let (shorter, rest) = self.horizons.split_at_mut(index);
            if keep && all {
                rest[0].notice(&sight);
            }
            if all || rest[0].visited(sight.step) {
                rest[0].predict(&sight, shorter.last(), keep, out);
            }
        }
    }
}
