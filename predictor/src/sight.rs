//! What a horizon looks at: which steps it means, when, and from where.

use serde::{Deserialize, Serialize};

use crate::experts::{Experts, Look, MAX_FEATURES, MAX_LOOKS, Now};
use crate::level::Level;
use crate::signals::Signals;
use crate::window::Window;

/// At least so many predictions of one horizon wait at the same time, at most about twice as many,
/// where the horizon is that many steps long.
const WAITING: u64 = 24;
/// The same of slow steps, where there is time to learn from more of them.
const SLOW_WAITING: u64 = 64;
const SLOW_STEP_MS: u64 = 1_000;
/// Most steps whose mean a horizon means.
const MAX_TARGET: u64 = 1024;
/// What all horizons of a series predict from.
pub(crate) struct Sight<'a> {
    pub(crate) experts: &'a Experts,
    pub(crate) level: &'a Level,
    /// Size of the series, positive: what least squares measures departures in.
    pub(crate) size: f64,
    /// Largest recent rate.
    pub(crate) peak: f64,
    /// Number of the newest step.
    pub(crate) step: u64,
    pub(crate) signals: &'a Signals,
    /// Newest value.
    pub(crate) last: f64,
    /// What least squares sees at every horizon; those of the seasons are not filled in.
    pub(crate) features: [f64; MAX_FEATURES],
    /// What the seasons say of where the level is.
    pub(crate) here: [Look; MAX_LOOKS],
}

impl Sight<'_> {
    pub(crate) fn now(&self) -> Now {
        Now { level: self.level.value(), last: self.last }
    }
}

/// What all horizons of a series learn from.
pub(crate) struct Came<'a> {
    pub(crate) window: &'a Window,
    pub(crate) levels: &'a [f64],
    /// Number of the newest step.
    pub(crate) step: u64,
    /// Number of the last step at which the level jumped; 0 when it did not, or was a ramp after all.
    pub(crate) jumped_at: u64,
}

/// The steps, counted from now, whose mean rate a horizon means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Target {
    /// Last step of the window.
    pub(crate) end: u64,
    /// Length of the window.
    pub(crate) steps: usize,
    /// Middle of the window, rounded up.
    pub(crate) centre: u64,
}

impl Target {
    /// One second or a tenth of the horizon, whichever is longer, centred on the horizon but not
    /// reaching back to steps already seen.
    pub(crate) fn new(step_ms: u64, horizon_ms: u64) -> Self {
        let horizon = (horizon_ms / step_ms).max(1);
        let steps = ((horizon_ms / 10).max(1_000) / step_ms).clamp(1, MAX_TARGET);
        let start = horizon.saturating_sub(steps.saturating_sub(1) / 2).max(1);
        let end = start + steps - 1;
        Self { end, steps: steps as usize, centre: (start + end).div_ceil(2) }
    }
}

/// Steps between two visits: what is far ahead need not be looked at, nor learned from, at every
/// step.
pub(crate) fn stride(step_ms: u64, horizon_ms: u64) -> u64 {
    let waiting = if step_ms < SLOW_STEP_MS { WAITING } else { SLOW_WAITING };
    let most = (horizon_ms / step_ms / waiting).max(1);
    1 << most.ilog2()
}

/// When each horizon of a series is visited: one phase per stride (ascending powers of two), so that as
/// few as possible are visited at one step.
pub(crate) fn phases(strides: &[u64]) -> Vec<u64> {
    let mut phases: Vec<u64> = Vec::with_capacity(strides.len());
    for stride in strides {
        let meets = |phase: &u64| {
            let others = strides.iter().zip(&phases).filter(|(other, _)| **other > 1);
            others.filter(|(other, taken)| phase % **other == **taken).count()
        };
        let fewest = (0..*stride).min_by_key(meets).unwrap_or(0);
        phases.push(fewest);
    }
    phases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn horizons_take_turns() {
        assert_eq!(phases(&[1, 2, 8, 32]), [0, 0, 1, 3]);
        assert_eq!(phases(&[1, 1, 4, 4, 4]), [0, 0, 0, 1, 2]);
    }

    #[test]
    fn targets_are_centred_and_lie_ahead() {
        let near = Target::new(100, 100);
        assert_eq!((near.end, near.steps, near.centre), (10, 10, 6));
        let mid = Target::new(100, 2_000);
        assert_eq!((mid.end, mid.steps, mid.centre), (25, 10, 21));
        let far = Target::new(100, 600_000);
        assert_eq!((far.steps, far.centre), (600, 6_001));
        let coarse = Target::new(60_000, 60_000);
        assert_eq!((coarse.end, coarse.steps, coarse.centre), (1, 1, 1));
    }
}
