//! What is remembered of one instance.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::drift::{Drift, DriftSpec};
use super::evidence::{DRIFTS, DriftKind};
use super::relief::Relief;
use super::reported::Reported;
use super::resources::{Basis, Known};
use super::tally::{Failures, Tally, Values};
use super::trend::Trend;
use crate::{ResourceSample, RiskAssessment};

/// Values a drift is told from, and blocks of as many that make up its past: ten minutes.
const BLOCK: usize = 5;
const PAST: usize = 120;
/// The same of what comes slowly: a minute against an hour.
const SLOW_BLOCK: usize = 60;
const SLOW_PAST: usize = 60;

/// Scores whose outcome is not known: when, log-odds far and soon, and whether load was moved.
pub(super) type Open = (u64, f64, f64, bool);

/// What is remembered of one instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Watch {
    pub(super) tally: Tally,
    pub(super) failures: Failures,
    /// Latency, time in the instance, requests per answer, segments sent again.
    pub(super) drifts: [Drift; 4],
    /// The same over longer times.
    #[serde(default = "slow_drifts")]
    pub(super) slow_drifts: [Drift; 4],
    pub(super) memory: Trend,
    pub(super) disk: Trend,
    pub(super) resources: Option<ResourceSample>,
    /// How the samples of memory and disk came about.
    #[serde(default)]
    memory_basis: Basis,
    #[serde(default)]
    disk_basis: Basis,
    #[serde(default)]
    pub(super) reported: Reported,
    /// Times it was lost and came back, fading.
    pub(super) flaps: f64,
    pub(super) lost: bool,
    pub(super) open: VecDeque<Open>,
    pub(super) assessment: Option<RiskAssessment>,
    /// Measured evidence in log-odds, and whether it needs no requests to be seen.
    pub(super) measured: f64,
    pub(super) seen_idle: bool,
    pub(super) relief: Relief,
    /// When the alarm that is not judged yet began, and whether load was moved since.
    #[serde(default)]
    pub(super) alarm: Option<(u64, bool)>,
}

fn drifts(block: usize, past: usize) -> [Drift; 4] {
    DRIFTS.each_ref().map(|kind: &DriftKind| {
        let least_spread = kind.least_spread;
        Drift::new(DriftSpec { block, past, least_spread, heeds_tails: false })
    })
}

fn slow_drifts() -> [Drift; 4] {
    drifts(SLOW_BLOCK, SLOW_PAST)
}

impl Watch {
    pub(super) fn new() -> Self {
        Self {
            tally: Tally::default(),
            failures: Failures::default(),
            drifts: drifts(BLOCK, PAST),
            slow_drifts: slow_drifts(),
            memory: Trend::default(),
            disk: Trend::default(),
            resources: None,
            memory_basis: Basis::None,
            disk_basis: Basis::None,
            reported: Reported::default(),
            flaps: 0.0,
            lost: false,
            open: VecDeque::new(),
            assessment: None,
            measured: 0.0,
            seen_idle: false,
            relief: Relief::default(),
            alarm: None,
        }
    }

    pub(super) fn drift(&mut self, values: Values) {
        let values = [values.latency, values.residence, values.unanswered, values.retransmits];
        for ((drift, slow), value) in self.drifts.iter_mut().zip(&mut self.slow_drifts).zip(values)
        {
            if let Some(value) = value {
                drift.observe(value);
                slow.observe(value);
            }
        }
    }

    /// Drops the newest values: what produced them is gone.
    pub(super) fn interrupt(&mut self) {
        self.drifts.iter_mut().chain(&mut self.slow_drifts).for_each(Drift::interrupt);
        self.reported.interrupt();
        self.tally = Tally::default();
    }

    /// Takes what the instance uses; the trends keep one sample in 5 s.
    pub(super) fn uses(&mut self, known: Known, now_ms: u64) {
        self.resources = known.sample;
        let Some(resources) = known.sample else { return };
        let restart = |trend: &mut Trend, basis: &mut Basis, now: Basis| {
            if now != Basis::None && *basis != now {
                if *basis != Basis::None {
                    *trend = Trend::default();
                }
                *basis = now;
            }
        };
        restart(&mut self.memory, &mut self.memory_basis, known.memory);
        restart(&mut self.disk, &mut self.disk_basis, known.disk);
        if let Some(used) = resources.memory_bytes {
            self.memory.observe(now_ms, used as f64);
        }
        if let Some(used) = resources.disk_bytes {
            self.disk.observe(now_ms, used as f64);
        }
    }
}
