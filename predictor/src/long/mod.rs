//! Forecasts from minutes to weeks ahead, refitted off the tick from kept history.
//!
//! [`Model::fit`] takes a [`History`] of any step, the series known to move with it
//! ([`Regressor`]) and what was or will be announced ([`Event`]); [`Model::forecast`] then reads
//! quantile curves from it. Neither knows a clock: time comes in as a value.
//!
//! Seasons are counted in whole steps of unix time. Nothing is known here of time zones: a day
//! begins where the data says it does, and a change to or from daylight saving time looks like
//! what it is in the data, a shift of the daily shape by an hour that the recent days teach.
//!
//! One fit of eight weeks of hours takes less than a millisecond (`make bench-forecast`), so that
//! it can be repeated whenever an hour is over. A model keeps at most eight tables of its longest
//! season, whatever the length of the history.
//!
//! ```
//! use foreshadow_predictor::long::{Event, History, LongSpec, Model};
//!
//! const HOUR_MS: u64 = 3_600_000;
//! let requests = |hour: usize| if hour % 24 < 8 { 10.0 } else { 80.0 };
//! let history = History {
//!     start_ms: 480_000 * HOUR_MS,
//!     step_ms: HOUR_MS,
//!     values: (0..500).map(|hour| Some(requests(hour))).collect(),
//! };
//! let campaign = Event {
//!     kind: "campaign".to_owned(),
//!     start_ms: history.end_ms() + 2 * HOUR_MS,
//!     end_ms: history.end_ms() + 4 * HOUR_MS,
//!     expected_lift: Some(1.5),
//! };
//! let model = Model::fit(&history, &LongSpec::default(), &[], &[campaign])?;
//! let ahead = model.forecast(history.end_ms(), 24);
//! assert!((ahead.mean[1] - 80.0).abs() < 1.0 && (ahead.mean[2] - 120.0).abs() < 1.0);
//! # Ok::<(), foreshadow_predictor::long::FitError>(())
//! ```

mod category;
mod clean;
mod curve;
mod effects;
mod extra;
mod forecast;
mod input;
mod interact;
mod interval;
mod mix;
mod profile;
mod season;
mod seats;
mod signal;
mod spec;

use serde::{Deserialize, Serialize};

pub use category::{Category, Shape};
pub use effects::Lift;
pub use extra::Extra;
pub use forecast::LongForecast;
pub use input::{Event, History, Regressor};
pub use seats::Belonging;
pub use spec::{FitError, LongSpec};

use clean::Series;
use curve::{Ahead, Curve};
use effects::{Effects, Grid};
use interval::Spread;
use mix::Weights;
use profile::Tables;
use season::Seasons;
use seats::Seat;

/// Farthest step ahead at which the experts are tried; beyond it they keep their weights.
const MAX_TRIED: usize = 2_016;
/// Bounds of a forecast, in units of the largest value of the history.
const HIGHEST: f64 = 5.0;

/// A series fitted to its history; small, and independent of how long that history was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    origin_ms: u64,
    step_ms: u64,
    levels: Vec<f64>,
    seasons: Vec<usize>,
    scale: f64,
    bounds: (f64, f64),
    unit: usize,
    tables: Tables,
    curves: Vec<Curve>,
    weights: Weights,
    spread: Spread,
    effects: Effects,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    extra: Option<Result<f64, String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    seats: Vec<Seat>,
}

/// Who takes part in a fit beside the model's own experts.
#[derive(Clone, Copy, Default)]
pub struct Guests<'a> {
    /// One more expert; [`Model::extra`] says what became of it.
    pub extra: Option<&'a dyn Extra>,
    /// What other series of the same kind have in common, the closest kind first, four at most; of use
    /// while the series has less than two weeks of its own. [`Model::belongings`] says how far they count.
    pub categories: &'a [Category],
}

impl Model {
    /// Most steps one forecast describes: a week of minutes.
    pub const MAX_STEPS: usize = 10_080;

    /// Fits a model to the history.
    ///
    /// # Errors
    ///
    /// [`FitError`] when there is no value to learn from or the step makes no sense. Values that
    /// are NaN or infinite count as gaps.
    pub fn fit(
        history: &History,
        spec: &LongSpec,
        regressors: &[Regressor],
        events: &[Event],
    ) -> Result<Self, FitError> {
        Self::fit_with(history, spec, regressors, events, None)
    }

    /// The same with one more expert; [`extra`](Self::extra) says what became of it.
    ///
    /// # Errors
    ///
    /// Those of [`fit`](Self::fit); an expert that fails is no error.
    pub fn fit_with(
        history: &History,
        spec: &LongSpec,
        regressors: &[Regressor],
        events: &[Event],
        extra: Option<&dyn Extra>,
    ) -> Result<Self, FitError> {
        Self::fit_among(history, spec, regressors, events, Guests { extra, ..Guests::default() })
    }

    /// The same among others.
    ///
    /// # Errors
    ///
    /// Those of [`fit`](Self::fit); a guest that fails or is of no use is no error.
    pub fn fit_among(
        history: &History,
        spec: &LongSpec,
        regressors: &[Regressor],
        events: &[Event],
        guests: Guests<'_>,
    ) -> Result<Self, FitError> {
        if history.step_ms == 0 {
            return Err(FitError::Step);
        }
        let empty = FitError::Empty { steps: history.values.len() };
        let mut series = Series::of(history, spec.non_negative).ok_or(empty)?;
        series.fill(1);
        let seasons = Seasons::of(&series.values, history.step_ms, &spec.seasons_ms);
        let unit = match seasons.short {
            1 => (series.len() / 8).clamp(1, 24),
            short => short,
        };
        let grid = Grid {
            start_ms: history
                .end_ms()
                .saturating_sub(history.step_ms.saturating_mul(series.len() as u64)),
            step_ms: history.step_ms,
            length: series.len(),
            periods: [seasons.long.unwrap_or(seasons.short), unit],
        };
        // What was measured bounds what is forecast, not what an event's lift made of it.
        let highest = series.values.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
        let told = (regressors, events, spec.interactions);
        let effects = Effects::take_out(&mut series, grid, unit, told);
        series.distrust(seasons.short);
        series.fill(unit);

        let horizon =
            usize::try_from(spec.sane_horizon_ms() / history.step_ms).unwrap_or(MAX_TRIED);
        let horizon = horizon.clamp(1, MAX_TRIED);
        let levels = spec.sane_levels();
        let mut rolled = mix::roll(&series, seasons, unit, horizon);
        let seats = seats::seat(guests.categories, (&series, grid), unit, &mut rolled);
        let joined = guests.extra.map(|extra| mix::join(extra, &series, &mut rolled));
        let (origins, tables, curves) = rolled;
        let prior = seats::prior(&seats, curves.len());
        let ahead = Ahead::new(unit, 0, horizon);
        let floor = if spec.non_negative { 0.0 } else { f64::NEG_INFINITY };
        let tries = (&origins[..], prior.as_deref());
        let weights = Weights::learn(&series, tries, &ahead, unit, floor);
        let last = curves.len() - 1..curves.len();
        let extra = joined.map(|joined| joined.map(|()| weights.most_of(last)));
        let tried = (&origins[..], &weights);
        let spread = Spread::learn(&series, tried, (seasons.short, &ahead), horizon, &levels);
        let lowest = if spec.non_negative { 0.0 } else { -HIGHEST * highest };
        let lift = seats.iter().map(|seat| seat.lift(&weights)).fold(1.0, f64::max);
        Ok(Self {
            origin_ms: history.end_ms(),
            step_ms: history.step_ms,
            levels,
            seasons: [Some(seasons.short).filter(|short| *short > 1), seasons.long]
                .into_iter()
                .flatten()
                .collect(),
            scale: series.scale,
            bounds: (lowest, HIGHEST * highest * lift),
            unit,
            tables,
            curves,
            weights,
            spread,
            effects,
            extra,
            seats,
        })
    }

    /// The forecast for `steps` steps, the first of which is the first on the history's grid that
    /// is at or after `from_ms` and not inside the history.
    ///
    /// At most [`MAX_STEPS`](Self::MAX_STEPS) steps are described.
    pub fn forecast(&self, from_ms: u64, steps: usize) -> LongForecast {
        let step_ms = self.step_ms.max(1);
        let skipped = from_ms.saturating_sub(self.origin_ms).div_ceil(step_ms);
        let first = usize::try_from(skipped).unwrap_or(usize::MAX).min(1 << 40);
        let steps = steps.min(Self::MAX_STEPS);
        let mut mean = vec![0.0; steps];
        let ahead = Ahead::new(self.unit, first, steps);
        self.weights.mix(&self.tables.ahead(first, steps), &self.curves, &ahead, &mut mean);
        let start_ms = self.origin_ms.saturating_add(skipped.saturating_mul(step_ms));
        let finished = |at: usize, value: f64| {
            let at_ms = start_ms.saturating_add(step_ms.saturating_mul(at as u64));
            let value = self.effects.put_on(value, first + at, at_ms, step_ms);
            value.clamp(self.bounds.0, self.bounds.1) * self.scale
        };
        let quantiles = mean.iter().enumerate().map(|(at, mean)| {
            let of = |seat: &Seat| seat.doubt(first + at, &self.weights);
            let doubt = mean.abs() * self.seats.iter().map(of).sum::<f64>();
            let row = self.spread.around((first + at, *mean), &self.levels, doubt);
            row.into_iter().map(|value| finished(at, value)).collect()
        });
        LongForecast {
            start_ms,
            step_ms,
            levels: self.levels.clone(),
            quantiles: quantiles.collect(),
            mean: mean.iter().enumerate().map(|(at, mean)| finished(at, *mean)).collect(),
        }
    }

    /// Adds an event announced after the fit; its lift is that learned of its kind, or the one it
    /// brings.
    pub fn announce(&mut self, event: &Event) {
        self.effects.announce(event);
    }

    /// Unix time in milliseconds of the first step after the history.
    pub fn origin_ms(&self) -> u64 {
        self.origin_ms
    }

    /// Seasons given or found, in milliseconds, shortest first.
    pub fn seasons_ms(&self) -> Vec<u64> {
        self.seasons.iter().map(|steps| *steps as u64 * self.step_ms).collect()
    }

    /// What became of the expert given to [`fit_with`](Self::fit_with): the largest weight it has at
    /// any distance, 0 to 1, or why it was left out. None when there was none.
    pub fn extra(&self) -> Option<Result<f64, &str>> {
        let extra = self.extra.as_ref()?;
        Some(extra.as_ref().map(|weight| *weight).map_err(String::as_str))
    }

    /// The categories that took part, in the order they were given.
    pub fn belongings(&self) -> impl Iterator<Item = Belonging<'_>> {
        self.seats.iter().map(|seat| seat.belonging(&self.weights))
    }

    /// Learned lifts of the kinds of events, in order of their names.
    pub fn lifts(&self) -> &[Lift] {
        &self.effects.lifts
    }

    /// Names of the regressors found to matter, each with the effect of one standard deviation: as
    /// a logarithm of a factor, or in units of the typical value for series that can be negative.
    pub fn regressors(&self) -> impl Iterator<Item = (&str, f64)> {
        self.effects.signals.iter().map(|signal| (signal.name.as_str(), signal.coefficient))
    }

    /// The least and the most effect of one standard deviation of a regressor, by moment of the season: the
    /// same where it was not found to depend on that.
    pub fn effect_range(&self, regressor: &str) -> Option<(f64, f64)> {
        let signal = self.effects.signals.iter().find(|signal| signal.name == regressor)?;
        Some(signal.range)
    }

    /// Time in milliseconds by which a regressor goes ahead of the series, as it was found; 0 where it is
    /// known ahead itself, and for those that do not matter.
    pub fn lead_ms(&self, regressor: &str) -> u64 {
        let signal = self.effects.signals.iter().find(|signal| signal.name == regressor);
        signal.map_or(0, |signal| self.step_ms.saturating_mul(signal.lead as u64))
    }

    /// Lets the regressors for which `is_muted` holds have no effect on forecasts from now on, as if they
    /// were as usual, and all others have theirs.
    pub fn mute(&mut self, is_muted: impl Fn(&str) -> bool) {
        for signal in &mut self.effects.signals {
            signal.muted = is_muted(&signal.name);
        }
    }
}
