//! Exponentially weighted moving average.

use serde::{Deserialize, Serialize};

use super::{Seen, WAKING_GROWTH};
use crate::check::{self, Checked};

/// When an average starts anew at the level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Restart {
    /// At any change of the level.
    Change,
    /// When the level comes out of idleness.
    Waking,
    /// Not at all.
    Never,
}

/// Simple exponential smoothing: `m <- m + (x - m) / n`, the forecast is `m` at every horizon
/// (Brown 1956; Hyndman & Athanasopoulos, "Forecasting: Principles and Practice", section 8.1).
///
/// The gain starts as that of a plain mean and falls to `1 / memory`, so the first value does not
/// weigh for ever.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ewma {
    mean: f64,
    memory_steps: u64,
    seen: u64,
    restart: Restart,
}

impl Ewma {
    pub(crate) fn new(memory_steps: u64, restart: Restart) -> Self {
        Self { mean: 0.0, memory_steps: memory_steps.max(1), seen: 0, restart }
    }

    pub(crate) fn observe(&mut self, seen: &Seen) {
        let woke = seen.level > WAKING_GROWTH * self.mean;
        let anew = match self.restart {
            Restart::Change => true,
            Restart::Waking => woke,
            Restart::Never => false,
        };
        if seen.changed && anew {
            (self.mean, self.seen) = (seen.level, seen.level_steps);
            return;
        }
        self.seen = (self.seen + 1).min(self.memory_steps);
        self.mean += (seen.value - self.mean) / self.seen as f64;
    }

    pub(crate) fn name(&self) -> String {
        format!("average over {} steps", self.memory_steps)
    }

    pub(crate) fn predict(&self) -> f64 {
        self.mean
    }
}

impl Ewma {
    pub(crate) fn check(&self) -> Checked {
        check::within("mean", self.mean, 0.0, check::MOST)?;
        check::count("memory_steps", self.memory_steps, 1, 1 << 20)?;
        check::count("seen", self.seen, 0, check::MOST_STEPS)
    }
}
