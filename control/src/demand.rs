//! Demand of one service: measured, smoothed, forecast, and what of the forecast is believable.

mod shortfall;

use foreshadow_predictor::{Forecaster, HorizonScore, MIN_SCORED, SeriesSpec};
use serde::{Deserialize, Serialize};

use crate::announced::Events;
use crate::dispersion::Dispersion;
use crate::long_range::LongRange;
use crate::signals::{Signalled, Signals};
use crate::{ForecastScore, HorizonView, LongRangeScore, QuantileSpec, ServiceSpec, SignalView};
use shortfall::Shortfalls;

/// What a forecaster says of a service's demand, in requests per second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DemandForecast {
    /// By increasing horizon.
    pub horizons: Vec<DemandHorizon>,
}

/// Demand at one horizon, in requests per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DemandHorizon {
    /// How far ahead.
    pub horizon_ms: u64,
    /// The lowest of [`QuantileSpec::levels`].
    pub lower_rps: f64,
    /// The median.
    pub median_rps: f64,
    /// The highest of [`QuantileSpec::levels`].
    pub upper_rps: f64,
}

/// Horizons looked at, as far as the service wants to look.
const HORIZONS_MS: [u64; 8] = [300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 600_000];
/// Time constant of the smoothed demand: Poisson noise of a few hundred requests per second falls
/// to a few per cent, and a step is seen within a second.
const SMOOTHING_MS: f64 = 500.0;
/// Time constant at which the remembered peak fades.
const PEAK_MEMORY_MS: f64 = 600_000.0;
/// A forecast above this multiple of the remembered peak says that the forecaster is broken.
const ABSURD: f64 = 100.0;
/// What is believed at most, as a multiple of the remembered peak.
const CREDIBLE: f64 = 10.0;
/// Demand allowed on top of both, so that a service that was idle may be forecast at all.
const CREDIBLE_START_RPS: f64 = 10.0;
/// A horizon whose lowest quantile was not reached this much oftener than it claims is left out:
/// it would hold capacity that nobody asks for. Being too low is harmless; the floor is below it.
const OVERSTATED: f64 = 0.4;
/// Ticks between two looks at the track record.
const REVIEW_TICKS: u32 = 10;
/// Missing steps told to the forecaster at most, about three hours: beyond, the past is past.
const LONGEST_GAP_STEPS: u64 = 100_000;

/// Demand of one service between ticks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Demand {
    forecaster: Forecaster,
    now_rps: f64,
    peak_rps: f64,
    observed_ms: u64,
    #[serde(default)]
    dispersion: Dispersion,
    /// Horizons that the track record speaks against, by increasing length.
    misleading_ms: Vec<u64>,
    until_review: u32,
    #[serde(default)]
    long_range: LongRange,
    #[serde(default)]
    signals: Signals,
    /// How far demand came to lie above medians, where an upper quantile commits.
    #[serde(default)]
    shortfalls: Option<Shortfalls>,
}

/// The forecast as the laws may use it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Outlook {
    pub(crate) now_rps: f64,
    /// What demand is at least now, as far as chance arrivals can be told from more demand.
    pub(crate) sure_rps: f64,
    /// Variance of the arrivals of one tick relative to their number; 1 when they come by chance.
    pub(crate) dispersion: f64,
    /// Time between two ticks.
    pub(crate) tick_ms: f64,
    /// By increasing horizon; empty when the forecast is not to be used.
    pub(crate) horizons: Vec<HorizonView>,
    /// Why the forecast is not used, when an operator should know.
    pub(crate) distrust: Option<&'static str>,
    /// What was announced.
    pub(crate) events: Events,
}

impl Demand {
    /// `turn` is another one for each of many services; see [`Forecaster::in_turn`].
    pub(crate) fn new(spec: &ServiceSpec, turn: u64) -> Self {
        let series = series(spec);
        let signals = Signals::new(spec, series.horizons_ms.len());
        let forecaster = Forecaster::with_regressors(series, signals.count()).in_turn(turn);
        Self {
            forecaster,
            now_rps: 0.0,
            peak_rps: 0.0,
            observed_ms: 0,
            dispersion: Dispersion::default(),
            misleading_ms: Vec::new(),
            until_review: REVIEW_TICKS,
            long_range: LongRange::default(),
            signals,
            shortfalls: None,
        }
    }

    /// Whether the forecaster was made for other horizons, levels, seasons or signals than `spec` asks
    /// for.
    pub(crate) fn must_restart_for(&self, spec: &ServiceSpec) -> bool {
        *self.forecaster.spec() != series(spec).sanitised() || !self.signals.are_of(spec)
    }

    /// Takes the arrivals of `interval_ms`, after `missing_ms` in which nothing was counted, and what
    /// is told of the service.
    pub(crate) fn observe(
        &mut self,
        arrivals: u64,
        interval_ms: u64,
        missing_ms: u64,
        signals: &Signalled<'_>,
    ) {
        if interval_ms == 0 {
            return;
        }
        let rps = arrivals as f64 * 1_000.0 / interval_ms as f64;
        let step_ms = self.forecaster.spec().step_ms;
        let steps = (interval_ms + missing_ms).div_ceil(step_ms).min(LONGEST_GAP_STEPS);
        if interval_ms + missing_ms >= step_ms * 3 / 2 && steps > 1 {
            self.forecaster.observe_gap(steps - 1);
        }
        let told = self.signals.hear(signals, missing_ms, &self.forecaster.spec().horizons_ms);
        self.forecaster.observe_with(rps, &told);
        self.signals.learn(rps, interval_ms + missing_ms, &self.forecaster);
        self.dispersion.observe(arrivals as f64, interval_ms as f64);
        let elapsed_ms = (interval_ms + missing_ms) as f64;
        if self.observed_ms == 0 {
            self.now_rps = rps;
        } else {
            self.now_rps += (1.0 - libm::exp(-elapsed_ms / SMOOTHING_MS)) * (rps - self.now_rps);
        }
        let faded = self.peak_rps * libm::exp(-elapsed_ms / PEAK_MEMORY_MS);
        self.peak_rps = faded.max(self.now_rps);
        self.observed_ms = self.observed_ms.saturating_add(interval_ms + missing_ms);
        self.until_review = self.until_review.saturating_sub(1);
        if self.until_review == 0 {
            self.until_review = REVIEW_TICKS;
            self.review();
        }
    }

    /// Takes what models of kept history say of the time to come, after the arrivals of the tick.
    pub(crate) fn hear(
        &mut self,
        told: &[DemandHorizon],
        now_ms: u64,
        elapsed_ms: u64,
        spec: &ServiceSpec,
    ) {
        let levels = spec.quantiles.levels();
        // A lower bound commits for what is sure; there no spike is reckoned with.
        let by_record = spec.quantiles.commit > 0.5;
        self.long_range.set(spec.tick_ms, by_record);
        self.long_range.vary(&levels, self.dispersion.ratio);
        if by_record {
            let shortfalls = self.shortfalls.get_or_insert_default();
            shortfalls.observe(now_ms, self.now_rps, elapsed_ms, spec.tick_ms);
        } else {
            self.shortfalls = None;
        }
        self.long_range.observe(now_ms, self.now_rps, elapsed_ms, told, &levels);
    }

    /// Time passed unseen, any length of it: what is measured begins anew, what was learned stays.
    pub(crate) fn rest(&mut self, gap_ms: u64) {
        self.forecaster.observe_gap(gap_ms / self.forecaster.spec().step_ms);
        self.observed_ms = 0;
        self.long_range.rest();
        self.signals.rest();
        self.shortfalls.iter_mut().for_each(Shortfalls::rest);
    }

    fn review(&mut self) {
        let score = self.forecaster.score();
        let Some(lowest) = score.levels.first() else { return };
        let overstated = |h: &&HorizonScore| {
            h.scored >= MIN_SCORED && h.coverage.first().is_some_and(|c| c - lowest > OVERSTATED)
        };
        self.misleading_ms =
            score.horizons.iter().filter(overstated).map(|h| h.horizon_ms).collect();
    }

    /// How forecasts turned out: those of the tick, and those from kept history.
    pub(crate) fn scores(&self) -> (Vec<ForecastScore>, Vec<LongRangeScore>) {
        let score = self.forecaster.score();
        let near = score.horizons.into_iter().map(|h| ForecastScore {
            heard: !self.misleading_ms.contains(&h.horizon_ms),
            horizon_ms: h.horizon_ms,
            scored: h.scored,
            mae_rps: h.mae,
            naive_mae_rps: h.naive_mae,
            levels: score.levels.clone(),
            coverage: h.coverage,
            loss_rps: h.pinball,
            naive_loss_rps: h.naive_pinball,
        });
        (near.collect(), self.long_range.scores())
    }

    /// What is known of signals, and how what they said turned out.
    pub(crate) fn signals(&self) -> Vec<SignalView> {
        self.signals.views(&self.forecaster.spec().horizons_ms)
    }

    /// What the forecaster says at the levels of `quantiles`.
    pub(crate) fn forecast(&self, quantiles: &QuantileSpec) -> DemandForecast {
        let quantiles = quantiles.levels();
        let forecast = self.forecaster.forecast();
        let at = |horizon_ms: u64| DemandHorizon {
            horizon_ms,
            lower_rps: forecast.quantile(horizon_ms, quantiles.commit),
            median_rps: forecast.quantile(horizon_ms, quantiles.warm),
            upper_rps: forecast.quantile(horizon_ms, quantiles.prepare),
        };
        DemandForecast { horizons: forecast.horizons.iter().map(|h| at(h.horizon_ms)).collect() }
    }

    /// What may be believed of `told`, whoever told it.
    pub(crate) fn outlook(&mut self, told: &DemandForecast) -> Outlook {
        let tick_ms = self.forecaster.spec().step_ms as f64;
        // Variance of an exponentially smoothed Poisson rate: rate / (2 x time constant).
        let chance_rps = (self.now_rps * per_s(SMOOTHING_MS, tick_ms)).sqrt();
        let sure_rps = (self.now_rps - 1.5 * chance_rps).max(0.0);
        let dispersion = self.dispersion.ratio;
        let mut outlook =
            Outlook { now_rps: self.now_rps, sure_rps, dispersion, tick_ms, ..Outlook::default() };
        if let Some(fault) = self.fault_of(told) {
            outlook.distrust = Some(fault);
            self.long_range.extend(&mut outlook.horizons);
            return outlook;
        }
        let most = CREDIBLE * self.peak_rps + CREDIBLE_START_RPS;
        outlook.horizons = told
            .horizons
            .iter()
            .filter(|h| !self.misleading_ms.contains(&h.horizon_ms))
            .map(|h| {
                let lower_rps = h.lower_rps.min(most);
                let median_rps = h.median_rps.min(most).max(lower_rps);
                let upper_rps = h.upper_rps.min(most).max(median_rps);
                HorizonView { horizon_ms: h.horizon_ms, lower_rps, median_rps, upper_rps }
            })
            .collect();
        outlook.horizons.sort_by_key(|h| h.horizon_ms);
        self.signals.raise(&mut outlook.horizons, most);
        let level = self.forecaster.spec().levels.last().copied().unwrap_or(1.0);
        if let Some(shortfalls) = &mut self.shortfalls {
            shortfalls.raise(&mut outlook.horizons, level, most);
        }
        if outlook.horizons.is_empty() {
            outlook.distrust = Some("demand stayed below its lowest quantile too often");
        }
        self.long_range.extend(&mut outlook.horizons);
        outlook
    }

    fn fault_of(&self, told: &DemandForecast) -> Option<&'static str> {
        let mut values =
            told.horizons.iter().flat_map(|h| [h.lower_rps, h.median_rps, h.upper_rps]);
        if told.horizons.is_empty() {
            return Some("it has no horizons");
        }
        if values.clone().any(|rps| !rps.is_finite() || rps < 0.0) {
            return Some("it holds values that are negative, infinite or no numbers");
        }
        let absurd = ABSURD * (self.peak_rps + CREDIBLE_START_RPS);
        values
            .any(|rps| rps > absurd)
            .then_some("it is more than 100 times the highest demand of the last ten minutes")
    }
}

impl Outlook {
    /// Standard deviation of [`Outlook::now_rps`] around demand of `rps`, by chance alone.
    pub(crate) fn chance_rps(&self, rps: f64) -> f64 {
        self.chance_over_rps(rps, SMOOTHING_MS)
    }

    /// The same for a demand smoothed with another time constant. One request more or less is
    /// chance at any demand.
    pub(crate) fn chance_over_rps(&self, rps: f64, smoothing_ms: f64) -> f64 {
        let per_s = per_s(smoothing_ms, self.tick_ms);
        (self.dispersion.max(1.0) * (rps.max(0.0) + per_s) * per_s).sqrt()
    }

    /// Highest demand that `quantile` expects within `lead_ms`, at least what is surely asked now.
    pub(crate) fn within(&self, lead_ms: u64, quantile: impl Fn(&HorizonView) -> f64) -> f64 {
        let before = |h: &&HorizonView| h.horizon_ms <= lead_ms;
        let highest = self.horizons.iter().filter(before).map(&quantile).fold(0.0, f64::max);
        highest.max(self.sure_rps).max(self.at(lead_ms, quantile))
    }

    /// Demand that `quantile` expects in `ahead_ms`: between the horizons on a straight line, from
    /// what is surely asked now; beyond the last one, as there.
    pub(crate) fn at(&self, ahead_ms: u64, quantile: impl Fn(&HorizonView) -> f64) -> f64 {
        let (mut near_ms, mut near) = (0, self.sure_rps);
        for horizon in &self.horizons {
            let rps = quantile(horizon);
            if horizon.horizon_ms > ahead_ms {
                let span = (horizon.horizon_ms - near_ms).max(1) as f64;
                let share = (ahead_ms - near_ms) as f64 / span;
                return near + share * (rps - near);
            }
            (near_ms, near) = (horizon.horizon_ms, rps);
        }
        near
    }
}

/// How many independent seconds a smoothed rate is the mean of, inverted: a tick is not smoothed
/// over less than itself.
fn per_s(smoothing_ms: f64, tick_ms: f64) -> f64 {
    1_000.0 / (2.0 * smoothing_ms).max(tick_ms)
}

/// The series a service's demand is; one step is one tick.
fn series(spec: &ServiceSpec) -> SeriesSpec {
    let farthest_ms = spec.horizon_ms.max(spec.tick_ms);
    let mut horizons_ms: Vec<u64> =
        HORIZONS_MS.into_iter().filter(|ms| *ms < farthest_ms).collect();
    horizons_ms.push(farthest_ms);
    SeriesSpec {
        step_ms: spec.tick_ms,
        horizons_ms,
        levels: {
            let QuantileSpec { commit, warm, prepare } = spec.quantiles.levels();
            vec![commit, warm, prepare]
        },
        seasons_ms: spec.seasons_ms.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Capacity, DEFAULT_TICK_MS, Objective, ServiceName, WeightSpec};

    fn spec() -> ServiceSpec {
        ServiceSpec {
            name: ServiceName::from("shop"),
            tick_ms: DEFAULT_TICK_MS,
            objective: Objective { latency_ms: 150.0, latency_quantile: 0.99, error_rate: 0.01 },
            capacity: Capacity::Learned,
            target_utilisation: 0.7,
            pool: None,
            places: Vec::new(),
            sizing: crate::SizingSpec::default(),
            quantiles: QuantileSpec { prepare: 0.95, warm: 0.5, commit: 0.1 },
            weights: WeightSpec { slew_per_s: 0.5, hysteresis: 0.02 },
            horizon_ms: 10_000,
            seasons_ms: Vec::new(),
            evaluation_window_ms: 5_000,
            warm_up_ms: 3_000,
            feedback: true,
            rules: Vec::new(),
            signals: Vec::new(),
            scaling: None,
            migration: crate::MigrationSpec::default(),
            learning: crate::LearningSpec::default(),
        }
    }

    #[test]
    fn idle_and_slow_services_keep_every_horizon() {
        let spec = spec();
        // A request every so many ticks; 0 is never.
        for every in [0, 1_000, 100, 10] {
            let mut demand = Demand::new(&spec, 0);
            for tick in 1..=1_200_u64 {
                let arrived = u64::from(every > 0 && tick.is_multiple_of(every));
                demand.observe(arrived, DEFAULT_TICK_MS, 0, &Signalled::nothing());
                let outlook = demand.outlook(&demand.forecast(&spec.quantiles));
                assert_eq!(outlook.distrust, None, "every {every} ticks, tick {tick}");
                assert_eq!(outlook.horizons.len(), 4, "every {every} ticks, tick {tick}");
            }
        }
    }
}
