//! Signals that demand is forecast with: the backlog of a broker, the reach of a campaign.
//!
//! A signal often moves before demand does. By how much is learned ([`lead`]), and the forecaster is
//! told the signal of so long ago, and at each horizon the one of so much later, as if it were known
//! ahead; where it is known what the signal will be, that is told beyond its lead. Least squares with
//! these is one of the forecaster's experts. Most of the time no signal has anything to say, and an
//! expert that is no better than others then has little weight when it matters.
//!
//! So each signal is also heard by itself when it speaks up, that is when by its own regression it
//! expects clearly more than the forecaster does, and as far as it was right on such occasions
//! ([`record`]): a specialist that sleeps otherwise (Freund, Schapire, Singer and Warmuth 1997, "Using
//! and combining predictors that specialize"). It only ever adds: what it says can raise a forecast,
//! never lower it.

mod lead;
mod record;

use std::collections::BTreeMap;

use foreshadow_predictor::{Forecaster, MAX_REGRESSORS};
use serde::{Deserialize, Serialize};

use crate::{HorizonView, Planned, ServiceSpec, SignalView, is_metric_value};
use lead::{Departure, Lead};
use record::Voice;

/// Most signals that the demand of one service is forecast with.
pub const MAX_DEMAND_SIGNALS: usize = MAX_REGRESSORS;

/// What is learned of signals steps at least so long.
const LEAST_STEP_MS: u64 = 1_000;
/// More than the forecaster's median by this share and by so many requests per second is clearly more.
const CLEARLY_SHARE: f64 = 0.15;
const CLEARLY_RPS: f64 = 1.0;

/// Changes to come of one signal that are looked at: the soonest.
const MOST_PLANNED: usize = 64;

/// What is told of a service in one tick.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signalled<'a> {
    /// Values now, by name.
    pub(crate) now: &'a BTreeMap<String, f64>,
    /// Changes that are known beforehand, by name, soonest first.
    pub(crate) planned: &'a BTreeMap<String, Vec<Planned>>,
}

#[cfg(test)]
impl Signalled<'static> {
    /// Nothing is told.
    pub(crate) fn nothing() -> Self {
        static NOW: BTreeMap<String, f64> = BTreeMap::new();
        static PLANNED: BTreeMap<String, Vec<Planned>> = BTreeMap::new();
        Self { now: &NOW, planned: &PLANNED }
    }
}

/// The signals of one service between ticks.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Signals {
    step_ms: u64,
    leads: Vec<Lead>,
    /// Of the step under way: time that passed, and requests in it.
    passed_ms: u64,
    requests: f64,
    demand: Departure,
    /// Time since the start.
    now_ms: u64,
}

impl Signals {
    pub(crate) fn new(spec: &ServiceSpec, horizons: usize) -> Self {
        let leads = names(spec).into_iter().map(|name| Lead::new(name, horizons)).collect();
        Self { step_ms: spec.tick_ms.max(LEAST_STEP_MS), leads, ..Self::default() }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.leads.len()
    }

    /// Whether they are those of `spec`.
    pub(crate) fn are_of(&self, spec: &ServiceSpec) -> bool {
        self.leads.iter().map(|lead| lead.name.as_str()).eq(names(spec))
    }

    /// What is told in this tick, after `missing_ms` in which nothing was; for
    /// [`Forecaster::observe_with`], with horizons of `horizons_ms`.
    pub(crate) fn hear(
        &mut self,
        told: &Signalled<'_>,
        missing_ms: u64,
        horizons_ms: &[u64],
    ) -> Vec<f64> {
        let step_ms = self.step_ms.max(1);
        for lead in &mut self.leads {
            lead.miss(missing_ms / step_ms);
            let now = told.now.get(&lead.name).copied().filter(|value| is_metric_value(*value));
            let planned = told.planned.get(&lead.name).map_or(&[][..], Vec::as_slice);
            lead.hear(now, &planned[..planned.len().min(MOST_PLANNED)], step_ms);
        }
        let ahead = [0].iter().chain(horizons_ms);
        let known = |ahead_ms: &u64| {
            let steps = steps(*ahead_ms, step_ms);
            self.leads.iter().map(move |lead| lead.ahead(steps).unwrap_or(f64::NAN))
        };
        ahead.flat_map(known).collect()
    }

    /// Takes the requests of the tick, once `forecaster` has seen them: a step's demand teaches leads
    /// and records, and what the signals say is asked anew.
    pub(crate) fn learn(&mut self, rps: f64, elapsed_ms: u64, forecaster: &Forecaster) {
        if self.leads.is_empty() {
            return;
        }
        self.now_ms = self.now_ms.saturating_add(elapsed_ms);
        self.requests += rps * elapsed_ms as f64;
        self.passed_ms = self.passed_ms.saturating_add(elapsed_ms);
        if self.passed_ms < self.step_ms {
            return;
        }
        let rps = self.requests / self.passed_ms as f64;
        (self.requests, self.passed_ms) = (0.0, 0);
        if !rps.is_finite() {
            return;
        }
        let departure = self.demand.take(rps);
        for lead in &mut self.leads {
            lead.learn(departure, self.demand.spread());
            for (index, horizon) in forecaster.forecast().horizons.iter().enumerate() {
                let without_rps = forecaster.forecast().quantile(horizon.horizon_ms, 0.5);
                let steps = steps(horizon.horizon_ms, self.step_ms);
                let said = lead.says(steps, forecaster.level(), self.demand.mean());
                let clearly = |rps: &f64| *rps > (1.0 + CLEARLY_SHARE) * without_rps + CLEARLY_RPS;
                let Some(record) = lead.records.get_mut(index) else { continue };
                record.settle(self.now_ms, self.step_ms, rps);
                record.tell(self.now_ms, horizon.horizon_ms, said.filter(clearly), without_rps);
            }
            lead.end_step();
        }
    }

    /// Raises the forecast of each horizon to what the signals say of it, as far as that is believed,
    /// up to `most_rps`.
    pub(crate) fn raise(&self, horizons: &mut [HorizonView], most_rps: f64) {
        for record in self.leads.iter().flat_map(|lead| &lead.records) {
            let Some((horizon_ms, said_rps)) = record.told else { continue };
            let Some(view) = horizons.iter_mut().find(|h| h.horizon_ms == horizon_ms) else {
                continue;
            };
            let (said_rps, error_rps) = (said_rps.min(most_rps), record.error_rps());
            match record.voice() {
                Voice::None => {}
                Voice::Unproven => view.upper_rps = view.upper_rps.max(said_rps),
                Voice::Full => {
                    view.lower_rps = view.lower_rps.max(said_rps - error_rps);
                    view.median_rps = view.median_rps.max(said_rps);
                    let upper_rps = (said_rps + error_rps).min(most_rps);
                    view.upper_rps = view.upper_rps.max(upper_rps);
                }
            }
        }
    }

    /// Time passed unseen: what waits for a truth in it will not meet one.
    pub(crate) fn rest(&mut self) {
        (self.requests, self.passed_ms) = (0.0, 0);
        self.leads.iter_mut().for_each(Lead::rest);
    }

    /// What is known of each signal, and how what it said turned out.
    pub(crate) fn views(&self, horizons_ms: &[u64]) -> Vec<SignalView> {
        self.leads.iter().map(|lead| lead.view(self.step_ms, horizons_ms)).collect()
    }
}

/// Steps in a time.
fn steps(ms: u64, step_ms: u64) -> usize {
    usize::try_from(ms / step_ms.max(1)).unwrap_or(usize::MAX)
}

/// The signals of `spec`, each once, as many as count.
fn names(spec: &ServiceSpec) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for name in &spec.signals {
        if names.len() < MAX_DEMAND_SIGNALS && !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests;
