//! One signal: what it was of late, and by how much it leads demand.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::record::Record;
use crate::{Planned, SignalState, SignalView, is_metric_value};

/// Leads that are compared, in steps; from ten on a twelfth apart.
const LEADS: [usize; 60] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 22, 24, 26, 28, 30, 33,
    36, 39, 42, 45, 49, 53, 57, 62, 67, 73, 79, 86, 93, 101, 109, 118, 128, 139, 150, 163, 176,
    191, 207, 224, 243, 263, 285, 309, 335, 363, 400, 450, 520, 600,
];
/// Steps that are remembered.
const REACH: usize = LEADS[LEADS.len() - 1];
/// Steps that a mean remembers: what is usual of late, of which swings are told.
const MEAN_MEMORY: u64 = 900;
/// Steps that spreads and what two have in common remember.
const SPREAD_MEMORY: u64 = 10_800;
/// Steps before anything is said of a lead.
const LEAST_STEPS: u64 = 60;
/// Correlation below which a lead is chance, and how much better another one must be.
const TELLING: f64 = 0.3;
const BETTER: f64 = 0.02;
/// A signal that stood still this many times longer than ever before, and for so many steps at
/// least, has stopped arriving, whatever is sent.
const STILL_FACTOR: u64 = 4;
const LEAST_STILL_STEPS: u64 = 60;

/// How far a series is from what is usual of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Departure {
    mean: f64,
    /// Mean square of departures.
    square: f64,
    seen: u64,
}

impl Departure {
    /// Takes the value of a step; how far it is from the mean, itself counted in.
    pub(super) fn take(&mut self, value: f64) -> f64 {
        if !(self.mean.is_finite() && self.square.is_finite()) {
            *self = Self::default();
        }
        self.seen = self.seen.saturating_add(1);
        self.mean += (value - self.mean) / self.seen.min(MEAN_MEMORY) as f64;
        let departure = value - self.mean;
        self.square += (departure * departure - self.square) / self.seen.min(SPREAD_MEMORY) as f64;
        departure
    }

    /// What is usual.
    pub(super) fn mean(&self) -> f64 {
        self.mean
    }

    /// Root of the mean square.
    pub(super) fn spread(&self) -> f64 {
        self.square.max(0.0).sqrt()
    }
}

/// One signal between ticks.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Lead {
    pub(super) name: String,
    /// Its value in this tick, if any.
    now: Option<f64>,
    /// What is known of it beforehand: from so many steps on, until the next.
    planned: Vec<(usize, Option<f64>)>,
    /// Those at the ends of steps, the newest last.
    past: VecDeque<Option<f64>>,
    departure: Departure,
    /// By lead: mean product of its departure and, so much later, that of demand.
    shared: Vec<f64>,
    /// By which it leads, of [`LEADS`], and how much both have in common then.
    chosen: usize,
    correlation: f64,
    last: Option<f64>,
    still_steps: u64,
    longest_still_steps: u64,
    /// By horizon of the forecaster.
    pub(super) records: Vec<Record>,
}

impl Lead {
    pub(super) fn new(name: &str, horizons: usize) -> Self {
        Self {
            name: name.to_owned(),
            shared: vec![0.0; LEADS.len()],
            records: vec![Record::default(); horizons],
            ..Self::default()
        }
    }

    /// Steps pass in which nothing was told.
    pub(super) fn miss(&mut self, steps: u64) {
        (0..steps.min(REACH as u64)).for_each(|_| self.push(None));
    }

    /// Takes the value of a tick.
    pub(super) fn hear(&mut self, value: Option<f64>, planned: &[Planned], step_ms: u64) {
        self.now = value;
        let steps = |in_ms: u64| usize::try_from(in_ms.div_ceil(step_ms)).unwrap_or(usize::MAX);
        let sane = |value: Option<f64>| value.filter(|value| is_metric_value(*value));
        self.planned.clear();
        self.planned.extend(planned.iter().map(|it| (steps(it.in_ms), sane(it.value))));
        // Whoever tells it may have it in any order; of two of one time the later counts.
        self.planned.sort_by_key(|(steps, _)| *steps);
    }

    /// Learns from a step that ends with the value of now, in which demand was so far from what is
    /// usual, and usually is by `spread`.
    pub(super) fn learn(&mut self, demand: f64, spread: f64) {
        if let Some(value) = self.now {
            self.move_on(value);
            self.departure.take(value);
        }
        let (mean, own) = (self.departure.mean, self.departure.spread());
        let gain = 1.0 / self.departure.seen.clamp(1, SPREAD_MEMORY) as f64;
        let (now, past) = (self.now, &self.past);
        for (shared, lead) in self.shared.iter_mut().zip(LEADS) {
            if let Some(value) = back(now, past, lead) {
                *shared += gain * ((value - mean) * demand - *shared);
            }
            if !shared.is_finite() {
                *shared = 0.0;
            }
        }
        self.choose(own * spread);
    }

    /// Ends the step, once all that is asked of it was.
    pub(super) fn end_step(&mut self) {
        self.push(self.now);
    }

    fn choose(&mut self, scale: f64) {
        if scale <= 0.0 || !scale.is_finite() || self.departure.seen < LEAST_STEPS {
            return;
        }
        let of = |shared: &f64| (shared.abs() / scale).min(1.0);
        let all = self.shared.iter().map(of).enumerate();
        let Some((best, most)) = all.max_by(|a, b| a.1.total_cmp(&b.1)) else { return };
        self.correlation = self.shared.get(self.chosen).map_or(0.0, of);
        if most >= TELLING && most > self.correlation + BETTER {
            (self.chosen, self.correlation) = (best, most);
        }
    }

    fn push(&mut self, value: Option<f64>) {
        self.past.push_back(value);
        while self.past.len() > REACH + 1 {
            self.past.pop_front();
        }
    }

    fn move_on(&mut self, value: f64) {
        if self.last.is_some_and(|last| last.to_bits() == value.to_bits()) {
            self.still_steps = self.still_steps.saturating_add(1);
        } else {
            self.longest_still_steps = self.longest_still_steps.max(self.still_steps);
            self.still_steps = 0;
        }
        self.last = Some(value);
    }

    /// The value that bears on demand `steps` steps from now: so much later than the one that bears on
    /// demand now. Where that lies ahead it is the one that is known beforehand, or else the newest.
    pub(super) fn ahead(&self, steps: usize) -> Option<f64> {
        let lead = LEADS.get(self.chosen).copied().unwrap_or(0);
        if lead > steps {
            return back(self.now, &self.past, lead - steps);
        }
        let after = self.planned.partition_point(|(from, _)| *from <= steps - lead);
        after.checked_sub(1).map_or(self.now, |last| self.planned[last].1)
    }

    /// The demand `steps` steps from now by linear regression on the signal, when it is `level_rps`
    /// now and `usual_rps` in the mean; nothing where the two have little in common. Of what follows
    /// from the change until then and from the value then, the lower counts: where demand is there
    /// already, or comes from elsewhere, nothing is to be added.
    pub(super) fn says(&self, steps: usize, level_rps: f64, usual_rps: f64) -> Option<f64> {
        if self.state() != SignalState::Arriving || self.correlation < TELLING {
            return None;
        }
        let slope = self.shared.get(self.chosen)? / self.departure.square;
        let (here, then) = (self.ahead(0)?, self.ahead(steps)?);
        let by_change = level_rps + slope * (then - here);
        let by_value = usual_rps + slope * (then - self.departure.mean);
        Some(by_change.min(by_value)).filter(|rps| rps.is_finite())
    }

    fn state(&self) -> SignalState {
        let usual = self.longest_still_steps.max(LEAST_STILL_STEPS);
        if self.now.is_none() {
            SignalState::Missing
        } else if self.still_steps > STILL_FACTOR.saturating_mul(usual) {
            SignalState::Still
        } else {
            SignalState::Arriving
        }
    }

    /// Time passed unseen.
    pub(super) fn rest(&mut self) {
        self.past.clear();
        self.planned.clear();
        self.now = None;
        self.records.iter_mut().for_each(Record::rest);
    }

    pub(super) fn view(&self, step_ms: u64, horizons_ms: &[u64]) -> SignalView {
        let lead = LEADS.get(self.chosen).copied().unwrap_or(0) as u64;
        SignalView {
            signal: self.name.clone(),
            state: self.state(),
            lead_ms: lead.saturating_mul(step_ms),
            correlation: self.correlation,
            forecasts: horizons_ms.iter().zip(&self.records).map(|(ms, r)| r.score(*ms)).collect(),
        }
    }
}

/// The value of `steps` ago, when `past` ends with the last step that is over.
fn back(now: Option<f64>, past: &VecDeque<Option<f64>>, steps: usize) -> Option<f64> {
    match steps {
        0 => now,
        steps => past.len().checked_sub(steps).and_then(|at| past[at]),
    }
}
