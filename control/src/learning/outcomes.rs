//! What became of creations, steps and serving shadows in one place.

use serde::{Deserialize, Serialize};

use super::beta::Tries;
use crate::Tier;

/// Half of what was seen of creations and steps is forgotten in this time, and of losses while serving in the
/// other: what keeps failing is told soon enough, and what was mended is asked again within hours.
const HALF_LIFE_MS: f64 = 3_600_000.0;
const SERVING_HALF_LIFE_MS: f64 = 24.0 * 3_600_000.0;
/// Ageing waits for so much time to have passed.
const LEAST_AGEING_MS: u64 = 60_000;
/// So little is left of everything that the place is as one never seen.
const NOTHING: f64 = 0.01;
/// Certainty with which a place must fail so often to be asked later than others.
const CERTAIN: f64 = 0.9;
const OFTEN: f64 = 1.0 / 3.0;

/// Outcomes of one place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Outcomes {
    /// Creations.
    pub(crate) made: Tries,
    /// Steps of shadows that are there: to warm, full, serving.
    pub(crate) raised: [Tries; 3],
    /// Shadows that ended or went down while they served, and the time that shadows served.
    pub(crate) lost: f64,
    pub(crate) served_ms: f64,
    /// Failures before these times are of the same trouble as the one before.
    made_again_ms: u64,
    raised_again_ms: [u64; 3],
    aged_ms: u64,
}

/// The place of a step among those of shadows that are there.
fn nth(to: Tier) -> Option<usize> {
    match to {
        Tier::Warm => Some(0),
        Tier::Full => Some(1),
        Tier::Serving => Some(2),
        Tier::Cold | Tier::Shadow | Tier::Draining => None,
    }
}

impl Outcomes {
    /// A step upwards was done.
    pub(crate) fn worked(&mut self, from: Tier, to: Tier) {
        if from == Tier::Cold {
            self.made.learn(false);
        } else if let (Some(nth), true) = (nth(to), from < to) {
            self.raised[nth].learn(false);
        }
    }

    /// A step failed and is refused for a while; what fails meanwhile is of the same trouble.
    pub(crate) fn failed(&mut self, to: Tier, now_ms: u64, until_ms: u64) {
        let (tries, again_ms) = match (to, nth(to)) {
            (Tier::Shadow, _) => (&mut self.made, &mut self.made_again_ms),
            (_, Some(nth)) => (&mut self.raised[nth], &mut self.raised_again_ms[nth]),
            _ => return,
        };
        if now_ms >= *again_ms {
            tries.learn(true);
        }
        *again_ms = (*again_ms).max(until_ms);
    }

    /// Forgets with time.
    pub(crate) fn age(&mut self, now_ms: u64) {
        let passed_ms = now_ms.saturating_sub(self.aged_ms);
        if self.aged_ms == 0 || passed_ms < LEAST_AGEING_MS {
            if self.aged_ms == 0 {
                self.aged_ms = now_ms;
            }
            return;
        }
        self.aged_ms = now_ms;
        let part = libm::exp2(-(passed_ms as f64) / HALF_LIFE_MS);
        std::iter::once(&mut self.made).chain(&mut self.raised).for_each(|tries| tries.age(part));
        let part = libm::exp2(-(passed_ms as f64) / SERVING_HALF_LIFE_MS);
        self.lost *= part;
        self.served_ms *= part;
    }

    /// Whether hardly anything is left.
    pub(crate) fn is_forgotten(&self) -> bool {
        let tries = self.made.count() + self.raised.iter().map(Tries::count).sum::<f64>();
        tries + self.lost < NOTHING && self.served_ms < 1_000.0
    }

    /// Whether it certainly fails every third creation or more.
    pub(crate) fn often_fails(&self) -> bool {
        self.made.tells() && self.made.fails_at_least(CERTAIN) >= OFTEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creations_that_fail_together_are_one_failure() {
        let mut outcomes = Outcomes::default();
        for at_ms in [0, 10, 20] {
            outcomes.failed(Tier::Shadow, at_ms, at_ms + 500);
        }
        assert!((outcomes.made.count() - 1.0).abs() < 1e-9);
        outcomes.failed(Tier::Shadow, 600, 1_600);
        assert!(outcomes.made.count() > 1.9);
    }

    #[test]
    fn steps_down_say_nothing() {
        let mut outcomes = Outcomes::default();
        outcomes.worked(Tier::Serving, Tier::Warm);
        outcomes.worked(Tier::Warm, Tier::Shadow);
        outcomes.failed(Tier::Draining, 0, 100);
        assert!(outcomes.is_forgotten());
    }

    #[test]
    fn a_place_that_failed_for_an_hour_is_asked_again_within_hours() {
        let mut outcomes = Outcomes::default();
        outcomes.age(1);
        for minute in 0..60 {
            outcomes.failed(Tier::Shadow, minute * 60_000, minute * 60_000 + 30_000);
        }
        assert!(outcomes.often_fails());
        let asked_again = (60..600_u64).find(|minute| {
            outcomes.age(minute * 60_000);
            !outcomes.often_fails()
        });
        let hours = asked_again.map(|minute| (minute - 60) / 60);
        assert!(hours.is_some_and(|hours| (1..=4).contains(&hours)), "{asked_again:?}");
        outcomes.age(48 * 3_600_000);
        assert!(outcomes.is_forgotten());
    }
}
