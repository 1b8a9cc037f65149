//! How much it takes for an alarm, so that false ones keep to a rate.
//!
//! A false alarm raises what it takes by a step, and time lowers it by as many steps as false alarms
//! are allowed in it. As long as no bound is reached, false alarms therefore come at the rate allowed,
//! whatever the scores are like: by arithmetic, not by assumption, as in the online control of
//! coverage by Gibbs and Candes (2021, "Adaptive conformal inference under distribution shift").

use serde::{Deserialize, Serialize};

/// What one false alarm adds.
const STEP: f64 = 0.25;
const DAY_MS: f64 = 86_400_000.0;

/// What is added to a threshold, on a logarithmic scale.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlarmLevel {
    added: f64,
    least: f64,
    most: f64,
}

impl AlarmLevel {
    /// Nothing is added yet; never less than `least` or more than `most` is.
    #[must_use]
    pub fn new(least: f64, most: f64) -> Self {
        Self { added: 0.0, least: least.min(0.0), most: most.max(0.0) }
    }

    /// What is added to the threshold now.
    #[must_use]
    pub fn added(&self) -> f64 {
        self.added
    }

    /// Time passes in which false alarms come at `per_day` where they are as many as allowed.
    pub fn pass(&mut self, elapsed_ms: u64, per_day: f64) {
        let allowed = per_day * elapsed_ms as f64 / DAY_MS;
        self.add(if allowed.is_finite() { -STEP * allowed.max(0.0) } else { 0.0 });
    }

    /// An alarm came to nothing.
    pub fn false_alarm(&mut self) {
        self.add(STEP);
    }

    fn add(&mut self, more: f64) {
        // The bounds may have been read from a file.
        self.added = (self.added + more).min(self.most).max(self.least);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn false_alarms_come_at_the_rate_allowed() {
        // Scores of noise, of which higher ones are rarer; two false alarms a day are allowed.
        let mut level = AlarmLevel::new(-10.0, 10.0);
        let (mut state, mut alarms) = (7_u64, 0);
        for _ in 0..100 * 1_440 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let unit = ((state >> 33) as f64 + 0.5) / (1_u64 << 31) as f64;
            level.pass(60_000, 2.0);
            // An exponential variable.
            if -unit.ln() >= 1.0 + level.added() {
                level.false_alarm();
                alarms += 1;
            }
        }
        assert!((180..=240).contains(&alarms), "{alarms} in 100 days, {level:?}");
    }

    proptest! {
        #[test]
        fn the_bounds_hold_whatever_happens(
            events in prop::collection::vec((any::<bool>(), any::<u64>(), any::<f64>()), 0..200),
        ) {
            let mut level = AlarmLevel::new(0.0, 2.0);
            for (is_false, elapsed_ms, per_day) in events {
                if is_false { level.false_alarm() } else { level.pass(elapsed_ms, per_day) }
                prop_assert!((0.0..=2.0).contains(&level.added()), "{level:?}");
            }
        }
    }
}
