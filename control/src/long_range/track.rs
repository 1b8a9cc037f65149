//! The record of one horizon: what was told, what came, and how far it is believed.

use serde::{Deserialize, Serialize};

use super::spread::Spread;
use crate::awaited::{Awaited, Pending, stride_ms};
use crate::demand::DemandHorizon;
use crate::{LongRangeScore, QuantileSpec};

/// Truths before a horizon has a record.
const MIN_SCORED: u64 = 12;
/// Truths that the record remembers.
const MEMORY: u64 = 60;
/// A loss this much above that of "same as now", or less than this share of demand and this much
/// demand above it, misleads no one.
const WORST_RATIO: f64 = 1.25;
const HARMLESS_SHARE: f64 = 0.05;
const HARMLESS_RPS: f64 = 0.25;

/// The record of one horizon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Track {
    pub(super) horizon_ms: u64,
    pub(super) pending: Pending<Prediction>,
    scored: u64,
    /// Means over the last truths: loss of what was told, of "same as now", and the truth.
    loss: f64,
    naive_loss: f64,
    size_rps: f64,
    #[serde(default)]
    spread: Spread,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Prediction {
    due_ms: u64,
    told: DemandHorizon,
    naive_rps: f64,
}

impl Awaited for Prediction {
    fn due_ms(&self) -> u64 {
        self.due_ms
    }
}

/// How far a horizon is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Voice {
    /// Its record speaks against it.
    None,
    /// It has no record yet: it may prepare and warm.
    Unproven,
    Full,
}

impl Track {
    pub(super) fn new(horizon_ms: u64) -> Self {
        Self {
            horizon_ms,
            pending: Pending::default(),
            scored: 0,
            loss: 0.0,
            naive_loss: 0.0,
            size_rps: 0.0,
            spread: Spread::default(),
        }
    }

    /// The point as it is heard, its bounds moved by what came of earlier ones, to `most_rps` at most;
    /// remembers it.
    pub(super) fn say(
        &mut self,
        told: DemandHorizon,
        now_ms: u64,
        naive_rps: f64,
        most_rps: f64,
    ) -> DemandHorizon {
        let mut told = self.spread.around(told);
        told.upper_rps = told.upper_rps.min(most_rps).max(told.median_rps);
        let due_ms = now_ms.saturating_add(self.horizon_ms);
        let stride_ms = stride_ms(self.horizon_ms);
        self.pending.keep(Prediction { due_ms, told, naive_rps }, stride_ms);
        told
    }

    pub(super) fn settle(
        &mut self,
        now_ms: u64,
        tick_ms: u64,
        truth_rps: f64,
        quantiles: &QuantileSpec,
    ) {
        let seen_ms = stride_ms(self.horizon_ms).max(tick_ms);
        while let Some(due) = self.pending.next_due(now_ms, seen_ms) {
            self.spread.learn(&due.told, truth_rps, quantiles);
            let levels = [quantiles.commit, quantiles.warm, quantiles.prepare];
            let told = [due.told.lower_rps, due.told.median_rps, due.told.upper_rps];
            let loss: f64 =
                levels.iter().zip(told).map(|(q, rps)| pinball(truth_rps - rps, *q)).sum();
            let naive: f64 = levels.iter().map(|q| pinball(truth_rps - due.naive_rps, *q)).sum();
            self.scored = self.scored.saturating_add(1);
            let rate = 1.0 / self.scored.min(MEMORY) as f64;
            self.loss += rate * (loss - self.loss);
            self.naive_loss += rate * (naive - self.naive_loss);
            self.size_rps += rate * (truth_rps - self.size_rps);
        }
    }

    pub(super) fn score(&self) -> LongRangeScore {
        LongRangeScore {
            horizon_ms: self.horizon_ms,
            scored: self.scored,
            loss_rps: self.loss,
            naive_loss_rps: self.naive_loss,
            heard: self.voice() != Voice::None,
        }
    }

    pub(super) fn voice(&self) -> Voice {
        let harmless = HARMLESS_SHARE * self.size_rps + HARMLESS_RPS;
        if self.scored < MIN_SCORED {
            Voice::Unproven
        } else if self.loss > WORST_RATIO * self.naive_loss + harmless {
            Voice::None
        } else {
            Voice::Full
        }
    }
}

/// Loss of a quantile that fell `short` of the truth (negative when it lay above).
pub(super) fn pinball(short: f64, level: f64) -> f64 {
    if short > 0.0 { level * short } else { (level - 1.0) * short }
}
