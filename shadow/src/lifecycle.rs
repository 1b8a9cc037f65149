//! The tiers of one shadow as a state machine: which step comes next, and what a step's outcome
//! means.
//!
//! ```text
//! cold -> shadow <-> warm <-> full -> serving <-> draining
//!                      ^        ^-----------------------|
//!                      `--------------------------------'
//! any -> cold: ended
//! ```

use foreshadow_control::Tier;

/// Where one shadow stands and where it should stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifecycle {
    tier: Tier,
    target: Tier,
    step: Option<Tier>,
}

/// What a failed step does to the shadow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It stays at the tier it has; the step may be tried again.
    Stays,
    /// It cannot be relied on and must be ended.
    Lost,
}

impl Lifecycle {
    /// A shadow to be made for `target`.
    #[must_use]
    pub fn new(target: Tier) -> Self {
        Self { tier: Tier::Cold, target: normal(Tier::Cold, target), step: None }
    }

    /// A shadow found running at `tier` after a restart.
    #[must_use]
    pub fn adopted(tier: Tier) -> Self {
        Self { tier, target: tier, step: None }
    }

    /// The tier reached.
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Where it is going, while it is not there.
    #[must_use]
    pub fn moving_to(&self) -> Option<Tier> {
        (self.step.is_some() || self.tier != self.target).then_some(self.target)
    }

    /// Whether nothing runs and nothing is to be made.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.tier == Tier::Cold && self.target == Tier::Cold
    }

    /// Sets where it should stand; the newest target wins, and a shadow that is to be ended stays
    /// so. Takes effect after the step under way.
    pub fn aim(&mut self, target: Tier) {
        let ending = self.target == Tier::Cold && self.tier != Tier::Cold;
        if !ending && !self.is_over() {
            self.target = normal(self.tier, target);
        }
    }

    /// Starts the next step towards the target and returns the tier it leads to; `None` when
    /// there is nothing to do or a step is under way.
    pub fn begin(&mut self) -> Option<Tier> {
        if self.step.is_some() {
            return None;
        }
        self.step = next(self.tier, self.target);
        self.step
    }

    /// The step under way succeeded; returns the tier it came from.
    pub fn complete(&mut self) -> Tier {
        let from = self.tier;
        if let Some(tier) = self.step.take() {
            self.tier = tier;
        }
        from
    }

    /// The step under way failed.
    pub fn fail(&mut self, failure: Failure) {
        self.step = None;
        if failure == Failure::Lost {
            self.target = Tier::Cold;
        }
    }
}

/// What a target means for a shadow at `tier`: there is nothing to drain in one that cannot serve,
/// so draining it means leaving it where it is.
fn normal(tier: Tier, target: Tier) -> Tier {
    let nothing_to_drain =
        target == Tier::Draining && matches!(tier, Tier::Cold | Tier::Shadow | Tier::Warm);
    match (nothing_to_drain, tier) {
        (true, Tier::Cold) => Tier::Shadow,
        (true, tier) => tier,
        (false, _) => target,
    }
}

/// The tier that follows `tier` on the way to `target`.
fn next(tier: Tier, target: Tier) -> Option<Tier> {
    use Tier::{Cold, Draining, Full, Serving, Shadow, Warm};
    if tier == target {
        return None;
    }
    Some(match (tier, target) {
        (_, Cold) => Cold,
        (Cold, _) | (Warm, Shadow) => Shadow,
        (Shadow, _) | (Full | Draining, Shadow | Warm) => Warm,
        (Warm, _) | (Draining, Full) => Full,
        (Full | Draining, _) if target == Serving => Serving,
        (Full | Serving | Draining, _) => Draining,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn walk(mut machine: Lifecycle, target: Tier) -> Vec<Tier> {
        machine.aim(target);
        let mut seen = Vec::new();
        while let Some(tier) = machine.begin() {
            machine.complete();
            seen.push(tier);
            assert!(seen.len() < 10, "never arrives: {seen:?}");
        }
        assert_eq!(machine.moving_to(), None);
        seen
    }

    #[test]
    fn tiers_are_walked_in_order_both_ways() {
        use Tier::{Cold, Draining, Full, Serving, Shadow, Warm};
        assert_eq!(walk(Lifecycle::new(Serving), Serving), [Shadow, Warm, Full, Serving]);
        assert_eq!(walk(Lifecycle::adopted(Serving), Shadow), [Draining, Warm, Shadow]);
        assert_eq!(walk(Lifecycle::adopted(Serving), Draining), [Draining]);
        assert_eq!(walk(Lifecycle::adopted(Draining), Serving), [Serving]);
        assert_eq!(walk(Lifecycle::adopted(Full), Shadow), [Warm, Shadow]);
        assert_eq!(walk(Lifecycle::adopted(Warm), Draining), []);
        for tier in [Shadow, Warm, Full, Serving, Draining] {
            assert_eq!(walk(Lifecycle::adopted(tier), Cold), [Cold]);
        }
    }

    #[test]
    fn the_newest_target_wins_after_the_step_under_way() {
        let mut machine = Lifecycle::adopted(Tier::Shadow);
        machine.aim(Tier::Serving);
        assert_eq!(machine.begin(), Some(Tier::Warm));
        machine.aim(Tier::Shadow);
        assert_eq!(machine.begin(), None, "one step at a time");
        machine.complete();
        assert_eq!(machine.begin(), Some(Tier::Shadow));
    }

    #[test]
    fn a_shadow_that_is_being_ended_cannot_be_called_back() {
        let mut machine = Lifecycle::adopted(Tier::Warm);
        machine.aim(Tier::Cold);
        machine.aim(Tier::Serving);
        assert_eq!(machine.begin(), Some(Tier::Cold));
    }

    #[derive(Clone, Debug)]
    enum Event {
        Aim(Tier),
        Begin,
        Complete,
        Fail(Failure),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            (0..6_usize).prop_map(|i| Event::Aim(Tier::ALL[i])),
            Just(Event::Begin),
            Just(Event::Complete),
            any::<bool>().prop_map(|lost| Event::Fail(if lost {
                Failure::Lost
            } else {
                Failure::Stays
            })),
        ]
    }

    /// The arrows of the diagram above.
    fn allowed(from: Tier, to: Tier) -> bool {
        use Tier::{Cold, Draining, Full, Serving, Shadow, Warm};
        matches!(
            (from, to),
            (Cold | Warm, Shadow)
                | (Shadow | Full | Draining, Warm)
                | (Warm | Draining, Full)
                | (Full | Draining, Serving)
                | (Full | Serving, Draining)
                | (Shadow | Warm | Full | Serving | Draining, Cold)
        )
    }

    proptest! {
        #[test]
        fn only_arrows_of_the_diagram_are_taken_and_every_walk_ends(
            first in 1..6_usize,
            events in proptest::collection::vec(event(), 0..60),
        ) {
            let mut machine = Lifecycle::new(Tier::ALL[first]);
            let (mut ended, mut lost, mut ran) = (false, false, false);
            for event in events {
                let before = machine.tier();
                match event {
                    Event::Aim(tier) => machine.aim(tier),
                    Event::Begin => {
                        if let Some(to) = machine.begin() {
                            prop_assert!(!ended && allowed(before, to), "{before} -> {to}");
                            prop_assert!(!lost || to == Tier::Cold, "a lost shadow was used");
                        }
                    }
                    Event::Complete => {
                        machine.complete();
                        let after = machine.tier();
                        prop_assert!(before == after || allowed(before, after));
                        ran |= after != Tier::Cold;
                        ended |= ran && after == Tier::Cold;
                    }
                    Event::Fail(failure) => {
                        machine.fail(failure);
                        lost |= failure == Failure::Lost;
                        prop_assert_eq!(before, machine.tier(), "a failed step changes no tier");
                    }
                }
            }
            machine.complete();
            for _ in 0..8 {
                machine.begin();
                machine.complete();
            }
            prop_assert_eq!(machine.moving_to(), None, "the target is reached in bounded steps");
        }
    }
}
