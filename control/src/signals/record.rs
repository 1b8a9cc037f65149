//! What a signal said of one horizon when it spoke up, and what came.

use serde::{Deserialize, Serialize};

use crate::SignalScore;
use crate::awaited::{Awaited, Pending};

/// Occasions that the record remembers.
const MEMORY: u32 = 4;
/// Occasions before there is a record.
const LEAST_OCCASIONS: u32 = 2;
/// Truths that make an occasion, and those after which a longer one counts as several.
const LEAST_TRUTHS: u32 = 3;
const MOST_TRUTHS: u32 = 120;
/// An error of at most this share of the forecaster's own is worth hearing.
const WORTH: f64 = 0.7;
/// Predictions that wait for their truth.
const MOST_PENDING: u64 = 64;

/// One horizon.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    /// The horizon and what is said of it now, if anything is.
    pub(super) told: Option<(u64, f64)>,
    pending: Pending<Said>,
    /// The occasion under way.
    open: Occasion,
    occasions: u32,
    /// Mean absolute errors over the last occasions: of the signal and of the forecaster.
    error: f64,
    error_without: f64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Said {
    due_ms: u64,
    rps: f64,
    without_rps: f64,
}

impl Awaited for Said {
    fn due_ms(&self) -> u64 {
        self.due_ms
    }
}

/// Sums over the truths of one occasion.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Occasion {
    truths: u32,
    error: f64,
    error_without: f64,
}

/// How far what a signal says of a horizon is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Voice {
    /// The record speaks against it.
    None,
    /// There is none yet: it may prepare.
    Unproven,
    Full,
}

impl Record {
    /// Keeps what is said of `horizon_ms` from now, if anything is, and what the forecaster says.
    pub(super) fn tell(
        &mut self,
        now_ms: u64,
        horizon_ms: u64,
        said_rps: Option<f64>,
        without_rps: f64,
    ) {
        self.told = said_rps.map(|rps| (horizon_ms, rps));
        let Some(rps) = said_rps else { return };
        let due_ms = now_ms.saturating_add(horizon_ms);
        self.pending.keep(Said { due_ms, rps, without_rps }, horizon_ms / MOST_PENDING);
    }

    /// Compares what was said of now, the end of a step of `step_ms` or a little more, with the demand
    /// that came.
    pub(super) fn settle(&mut self, now_ms: u64, step_ms: u64, truth_rps: f64) {
        while let Some(due) = self.pending.next_due(now_ms, step_ms.saturating_mul(2)) {
            self.open.truths = self.open.truths.saturating_add(1);
            self.open.error += (truth_rps - due.rps).abs();
            self.open.error_without += (truth_rps - due.without_rps).abs();
        }
        if self.open.truths >= MOST_TRUTHS || (self.pending.is_empty() && self.told.is_none()) {
            self.close();
        }
    }

    fn close(&mut self) {
        let Occasion { truths, error, error_without } = std::mem::take(&mut self.open);
        if truths < LEAST_TRUTHS || !(error + error_without).is_finite() {
            return;
        }
        self.occasions = self.occasions.saturating_add(1);
        let gain = 1.0 / f64::from(self.occasions.min(MEMORY));
        self.error += gain * (error / f64::from(truths) - self.error);
        self.error_without += gain * (error_without / f64::from(truths) - self.error_without);
    }

    pub(super) fn voice(&self) -> Voice {
        let wrong_now =
            self.open.truths >= LEAST_TRUTHS && self.open.error > self.open.error_without;
        if wrong_now {
            Voice::None
        } else if self.occasions < LEAST_OCCASIONS {
            Voice::Unproven
        } else if self.error <= WORTH * self.error_without {
            Voice::Full
        } else {
            Voice::None
        }
    }

    /// How far off it is when it speaks up.
    pub(super) fn error_rps(&self) -> f64 {
        self.error.max(0.0)
    }

    /// Time passed unseen.
    pub(super) fn rest(&mut self) {
        self.pending.clear();
        self.told = None;
        self.open = Occasion::default();
    }

    pub(super) fn score(&self, horizon_ms: u64) -> SignalScore {
        SignalScore {
            horizon_ms,
            occasions: u64::from(self.occasions),
            error_rps: self.error,
            error_without_rps: self.error_without,
            heard: self.voice() == Voice::Full,
        }
    }
}
