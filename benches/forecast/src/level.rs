//! How much it takes for an alarm, so that false ones keep to a rate.
//!
//! A false alarm raises what it takes by a step, and time lowers it by as many steps as false alarms
//! are allowed in it. As long as no bound is reached, false alarms therefore come at the rate allowed,
//! whatever the scores are like: by arithmetic, not by assumption, as in the online control of
//! coverage by Gibbs and Candes (2021, "Adaptive conformal inference under distribution shift").

/// What one false alarm adds.
const STEP: f64 = 0.25;
const DAY_MS: f64 = 86_400_000.0;

/// What is added to a threshold, on a logarithmic scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct AlarmLevel {
    added: f64,
    least: f64,
    most: f64,
}

impl AlarmLevel {
    /// Nothing is added yet; never less than `least` or more than `most` is.
    pub(crate) fn new(least: f64, most: f64) -> Self {
        Self { added: 0.0, least: least.min(0.0), most: most.max(0.0) }
    }

    /// What is added to the threshold now.
    pub(crate) fn added(&self) -> f64 {
        self.added
    }

    /// Time passes in which false alarms come at `per_day` where they are as many as allowed.
    pub(crate) fn pass(&mut self, elapsed_ms: u64, per_day: f64) {
        let allowed = per_day * elapsed_ms as f64 / DAY_MS;
        self.add(if allowed.is_finite() { -STEP * allowed.max(0.0) } else { 0.0 });
    }

    /// An alarm came to nothing.
    pub(crate) fn false_alarm(&mut self) {
        self.add(STEP);
    }

    fn add(&mut self, more: f64) {
        self.added = (self.added + more).min(self.most).max(self.least);
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn the_bounds_hold() {
        let mut level = AlarmLevel::new(-1.0, 2.0);
        (0..100).for_each(|_| level.false_alarm());
        assert_eq!(level.added(), 2.0);
        level.pass(u64::MAX, f64::NAN);
        assert_eq!(level.added(), 2.0);
        level.pass(u64::MAX, 1.0);
        assert_eq!(level.added(), -1.0);
    }
}
