//! One series: observations in, forecast out.

use std::ops::RangeInclusive;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::check::{self, Checked};
use crate::experts::{Experts, Seen, WAKING_GROWTH};
use crate::horizon::{Came, Horizon, Sight};
use crate::level::Level;
use crate::score::usable;
use crate::window::{MAX_VALUE, Window};
use crate::{Forecast, HorizonForecast, HorizonScore, Score, SeriesSpec};

/// Half-life of the largest recent rate.
const PEAK_HALF_LIFE_MS: f64 = 600_000.0;
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
/// **How.** Simple experts predict: the level; exponential averages over 5 s (anew after a jump)
/// and 60 s; damped Holt trends (Gardner & McKenzie 1985) answering within 1, 4 and 20 s; the
/// ratio of a seasonal profile, one per known season; and one recursive least squares per horizon
/// (Ljung & Söderström 1983). Per horizon they are mixed by exponential weights with fixed share
/// (Herbster & Warmuth 1998), learned when the truth arrives. Quantiles come from online conformal
/// tracking of the residuals (Angelopoulos, Candès & Tibshirani 2023).
///
/// **Bounds.** No mean exceeds three times the largest one-second rate of late (half-life ten
/// minutes) plus what the strongest damped trend adds: demand that trebles without showing a trend
/// first is not foreseeable, and a forecast of it is a mistake of the model. No quantile exceeds
/// twice that bound plus six sigmas of noise, nor, once 20 truths are known, is it further from the
/// mean than 1.5 times the largest error of late or three sigmas. Errors of forecasts made before
/// demand came out of idleness (more than three times what was there and forecast) teach the bands
/// nothing, so those are of use within seconds of it. Outputs are finite and not negative whatever
/// the input.
///
/// **Cost.** Memory is fixed when made ([`memory_bytes`](Self::memory_bytes)): about 37 KB for
/// 4 horizons and 5 levels, 3 KB more per season, at most 600 KB for the largest spec accepted.
/// Long horizons issue one prediction every `h / 64` steps that waits for its truth, so pending
/// ones are about 64 to 130 per horizon. A step allocates nothing and takes a few microseconds
/// (`cargo run --release -p foreshadow-predictor --example cost`).
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
    size: f64,
    second_steps: usize,
    minute_steps: usize,
}

impl Forecaster {
    /// A forecaster that has seen nothing; the spec is repaired by [`SeriesSpec::sanitised`].
    pub fn new(spec: SeriesSpec) -> Self {
        let spec = spec.sanitised();
        let experts = Experts::new(spec.step_ms, &spec.seasons_ms);
        let horizon = |ms: &u64| Horizon::new(spec.step_ms, *ms, &spec.levels, &experts);
        let horizons: Vec<Horizon> = spec.horizons_ms.iter().map(horizon).collect();
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
        let (second_steps, minute_steps) = (steps(1_000), steps(60_000));
        Self {
            window: Window::new(history.max(experts.history_steps()).max(level.history_steps())),
            level,
            experts,
            horizons,
            forecast,
            step: 0,
            changed_at: 0,
            jumped_at: 0,
            rose: false,
            woke_at: 0,
            started: false,
            peak: 0.0,
            size: 1.0,
            second_steps,
            minute_steps,
            spec,
        }
    }

    /// Takes the value of one step, a rate per second (for a count: count x 1000 / `step_ms`).
    ///
    /// NaN, infinite, negative and absurd (above 1e9) values count as missing: the level is held,
    /// nothing is predicted from the step, and truths that are mostly missing are not learned from.
    pub fn observe(&mut self, value: f64) {
        let value = Some(value).filter(|value| (0.0..=MAX_VALUE).contains(value));
        self.advance(value);
        self.refresh(value.is_some());
    }

    /// Skips `steps` steps in which nothing was seen; any number of them in bounded time.
    pub fn observe_gap(&mut self, steps: u64) {
        if steps == 0 {
            return;
        }
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
        self.refresh(false);
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

    /// The experts' weights at the `index`-th horizon, summing to 1: "same as now", the two
    /// averages, the three damped trends, one per season, least squares. Empty past the last.
    pub fn weights(&self, index: usize) -> &[f64] {
        self.horizons.get(index).map_or(&[], Horizon::weights)
    }

    /// What each expert alone forecasts at the `index`-th horizon, in the order of
    /// [`weights`](Self::weights); empty past the last. Computed anew: for looking into, not for
    /// every step.
    pub fn expert_means(&self, index: usize) -> Vec<f64> {
        let sight = Sight {
            experts: &self.experts,
            level: &self.level,
            size: self.size,
            peak: self.peak,
            step: self.step,
            features: self.experts.features(&self.window, &self.level, self.size),
        };
        self.horizons.get(index).map_or_else(Vec::new, |horizon| horizon.expert_means(&sight))
    }

    /// Names of the experts, in the order of [`weights`](Self::weights).
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
        size_of::<Self>() + self.window.memory_bytes() + self.experts.memory_bytes() + horizons
    }

    fn scores(&self) -> impl Iterator<Item = &HorizonScore> + Clone {
        self.horizons.iter().map(Horizon::score)
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
        let waking = self.woke_at > 0 && self.step < self.woke_at + JUMP_STEPS;
        self.experts.observe(&Seen { value, level, level_steps, changed, waking, sigma });
        let keep = 1.0 - std::f64::consts::LN_2 * self.spec.step_ms as f64 / PEAK_HALF_LIFE_MS;
        self.peak = (self.peak * keep).max(self.window.mean(self.second_steps)).max(level);
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

    /// Writes the forecast anew.
    fn refresh(&mut self, keep: bool) {
        let sight = Sight {
            experts: &self.experts,
            level: &self.level,
            size: self.size,
            peak: self.peak,
            step: self.step,
            features: self.experts.features(&self.window, &self.level, self.size),
        };
        for (index, out) in self.forecast.horizons.iter_mut().enumerate() {
            let (shorter, rest) = self.horizons.split_at_mut(index);
            rest[0].predict(&sight, shorter.last(), keep, out);
        }
    }
}

impl Serialize for Forecaster {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Forecaster {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = Self::deserialize(deserializer)?;
        let damaged = |fault| serde::de::Error::custom(format_args!("damaged forecaster: {fault}"));
        read.check().map_err(damaged).map(|()| read)
    }
}

impl Forecaster {
    fn check(&self) -> Checked {
        check::same("spec", &self.spec, &self.spec.sanitised())?;
        check::part("window", self.window.check())?;
        check::part("level", self.level.check())?;
        check::part("experts", self.experts.check(&self.spec))?;
        check::part("forecast", self.forecast.check(&self.spec))?;
        check::same("horizons.len", &self.horizons.len(), &self.spec.horizons_ms.len())?;
        for (at, horizon) in self.horizons.iter().enumerate() {
            let found = horizon.check(&self.spec.levels, self.experts.count());
            check::part(format_args!("horizons[{at}]"), found)?;
        }
        check::count("step", self.step, 0, check::MOST_STEPS)?;
        check::count("changed_at", self.changed_at, 0, self.step)?;
        check::count("jumped_at", self.jumped_at, 0, self.step)?;
        check::count("woke_at", self.woke_at, 0, self.step)?;
        check::within("peak", self.peak, 0.0, check::MOST)?;
        check::within("size", self.size, 1e-3, check::MOST)?;
        check::count("second_steps", self.second_steps as u64, 1, 1 << 20)?;
        check::count("minute_steps", self.minute_steps as u64, 1, 1 << 20)
    }
}
