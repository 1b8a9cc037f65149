//! One threshold that moves with what became of the steps it started.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::level::{level_of, log_odds};

/// Step per bet that was lost, and per shadow that was late, in log-odds, before they are weighed.
const BET: f64 = 0.02;
const LATE: f64 = 0.2;
/// Farthest from where it starts: twice the odds, or half.
const FARTHEST: f64 = std::f64::consts::LN_2;
/// Log-odds a threshold may move per hour, and what it may save up of that: in no hour more than
/// half of the way to a bound.
const PER_HOUR: f64 = 0.23;
const SAVED: f64 = 0.115;
/// The threshold in force follows in steps of this, so that it does not flap.
const DEAD_BAND: f64 = 0.1;
const HOUR_MS: f64 = 3_600_000.0;

/// How far a threshold is from where it starts, in log-odds.
///
/// Online gradient descent on the cost of errors (Zinkevich 2003), which for quantiles is adaptive
/// conformal inference (Gibbs and Candes 2021). Where asking for too little costs c and for too much
/// d, each bet that asked for too few shadows raises it by c / (c + d), each that asked for too many
/// lowers it by d / (c + d): it rests where too few are the share d / (c + d) of all errors.
/// c / (c + d) is what it starts at. A shadow that was late, so that requests were, raises it further.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Threshold {
    offset: f64,
    in_force: f64,
    /// What it may move yet.
    allowance: f64,
    /// Bets lost for asking too little and too much, and shadows that were late.
    pub(super) too_few: u64,
    pub(super) too_many: u64,
    pub(super) late: u64,
}

impl Default for Threshold {
    fn default() -> Self {
        Self { offset: 0.0, in_force: 0.0, allowance: SAVED, too_few: 0, too_many: 0, late: 0 }
    }
}

impl Threshold {
    /// Time passes, in which it earns what it may move.
    pub(super) fn pass(&mut self, elapsed_ms: u64) {
        let earned = PER_HOUR * elapsed_ms as f64 / HOUR_MS;
        self.allowance = (self.allowance + earned).min(SAVED);
    }

    /// Takes one settled bet. `start` is the share that asking for too little has in the cost of both
    /// errors. Returns whether the level in force changed.
    pub(super) fn settle(&mut self, asked_to_needed: Ordering, start: f64) -> bool {
        match asked_to_needed {
            Ordering::Equal => false,
            Ordering::Less => {
                self.too_few = self.too_few.saturating_add(1);
                self.shift(BET * start)
            }
            Ordering::Greater => {
                self.too_many = self.too_many.saturating_add(1);
                self.shift(-BET * (1.0 - start))
            }
        }
    }

    /// A shadow was late for want of a step that it starts.
    pub(super) fn was_late(&mut self, start: f64) -> bool {
        self.late = self.late.saturating_add(1);
        self.shift(LATE * start)
    }

    fn shift(&mut self, wanted: f64) -> bool {
        let step = wanted.clamp(-self.allowance, self.allowance);
        let next = (self.offset + step).clamp(-FARTHEST, FARTHEST);
        self.allowance = (self.allowance - (next - self.offset).abs()).max(0.0);
        self.offset = next;
        if (self.offset - self.in_force).abs() < DEAD_BAND {
            return false;
        }
        self.in_force = self.offset;
        true
    }

    /// The level in force.
    pub(super) fn level(&self, start: f64) -> f64 {
        // To the bit where nothing was learned.
        if self.in_force == 0.0 { start } else { level_of(log_odds(start) + self.in_force) }
    }

    pub(super) fn is_moved(&self) -> bool {
        self.in_force != 0.0
    }

    /// The bounds of the level.
    pub(super) fn bounds(start: f64) -> (f64, f64) {
        (level_of(log_odds(start) - FARTHEST), level_of(log_odds(start) + FARTHEST))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_rests_where_errors_stand_as_their_costs() {
        // Too little is four times as dear as too much: of five errors, one is too little.
        let start = 0.8;
        let mut threshold = Threshold::default();
        for nth in 0..5_000 {
            threshold.pass(600_000);
            let error = if nth % 5 == 0 { Ordering::Less } else { Ordering::Greater };
            threshold.settle(error, start);
        }
        assert!((threshold.level(start) - start).abs() < 0.03, "{}", threshold.level(start));
    }

    #[test]
    fn it_finds_the_level_that_is_exceeded_as_often_as_costs_say() {
        // A forecaster whose level `l` is exceeded as often as 1 - l^1.5 says: its bands are too low.
        let start = 0.9;
        let mut threshold = Threshold::default();
        let mut random = 1u64;
        let (mut exceeded, mut all) = (0u32, 0u32);
        for nth in 0..40_000 {
            threshold.pass(600_000);
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let unit = (random >> 11) as f64 / (1u64 << 53) as f64;
            let too_few = unit > libm::pow(threshold.level(start), 1.5);
            threshold.settle(if too_few { Ordering::Less } else { Ordering::Greater }, start);
            if nth >= 5_000 {
                exceeded += u32::from(too_few);
                all += 1;
            }
        }
        let share = f64::from(exceeded) / f64::from(all);
        assert!((share - 0.1).abs() < 0.02, "{share}");
    }

    #[test]
    fn errors_of_one_kind_take_it_to_its_bound() {
        for (error, expected) in [(Ordering::Less, 2.0), (Ordering::Greater, 0.5)] {
            let mut threshold = Threshold::default();
            for _ in 0..2_000 {
                threshold.pass(600_000);
                threshold.settle(error, 0.5);
            }
            let odds = threshold.level(0.5) / (1.0 - threshold.level(0.5));
            assert!((odds / expected - 1.0).abs() < 0.1, "{odds}");
        }
    }

    proptest! {
        /// Whatever is judged in whatever rhythm, it stays in its bounds and moves slowly.
        #[test]
        fn no_run_of_errors_moves_it_far_or_fast(
            start in 0.001f64..0.999,
            events in prop::collection::vec((0u8..4, 0u64..2_000_000), 1..300),
        ) {
            let (least, most) = Threshold::bounds(start);
            let mut threshold = Threshold::default();
            let mut path = vec![(0u64, 0.0)];
            let mut now_ms = 0;
            for (kind, passed_ms) in events {
                now_ms += passed_ms;
                threshold.pass(passed_ms);
                // A hundred at once, as when many wait for one truth.
                for _ in 0..100 {
                    match kind {
                        0 => threshold.settle(Ordering::Less, start),
                        1 => threshold.settle(Ordering::Greater, start),
                        2 => threshold.was_late(start),
                        _ => threshold.settle(Ordering::Equal, start),
                    };
                }
                let level = threshold.level(start);
                prop_assert!((least - 1e-9..=most + 1e-9).contains(&level), "{level}");
                path.push((now_ms, threshold.in_force));
            }
            for (at, (from_ms, before)) in path.iter().enumerate() {
                let hour = path[at..].iter().take_while(|(ms, _)| ms - from_ms <= 3_600_000);
                for (_, after) in hour {
                    let bound = PER_HOUR + SAVED + DEAD_BAND + 1e-6;
                    prop_assert!((after - before).abs() <= bound);
                }
            }
        }
    }
}
