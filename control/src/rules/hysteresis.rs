//! When a rule begins to fire and when it lets go.
//!
//! ```text
//!            holds                 lasted
//! inactive --------> pending --------------> firing
//!    ^  ^               |                      |
//!    |  '--- fails -----'                      |
//!    '--------- ended for as long as asked ----'
//! ```
//!
//! Without figures it is `no_data` in place of inactive or pending; a firing rule without figures
//! ends as if its condition failed.

use serde::{Deserialize, Serialize};

use super::ast::{Lasting, Rule};
use super::view::RuleState;

/// How a rule stands between ticks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Hysteresis {
    pub(super) state: RuleState,
    /// When it came to stand so, as the time of an observation.
    pub(super) since_at_ms: u64,
    /// The same by the controller's clock.
    pub(super) since_ms: u64,
    /// Ticks in a row in which the condition held, and when that began.
    held_ticks: u32,
    held_since_ms: u64,
    /// Since when it could end.
    ending_since_ms: Option<u64>,
}

/// A tick's time, twice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time {
    /// By the controller's clock.
    pub(super) now_ms: u64,
    /// Of the observation.
    pub(super) at_ms: u64,
}

/// A change that is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Fires,
    Clears,
}

impl Hysteresis {
    pub(super) fn new() -> Self {
        Self {
            state: RuleState::Inactive,
            since_at_ms: 0,
            since_ms: 0,
            held_ticks: 0,
            held_since_ms: 0,
            ending_since_ms: None,
        }
    }

    /// Begins to count anew how long the condition has held or its end has lasted, after time in
    /// which neither was seen.
    pub(super) fn interrupt(&mut self) {
        (self.held_ticks, self.ending_since_ms) = (0, None);
    }

    /// Takes whether the condition holds, and whether what ends the rule does where it has such.
    pub(super) fn step(
        &mut self,
        rule: &Rule,
        holds: Option<bool>,
        ends: Option<Option<bool>>,
        time: Time,
    ) -> Option<Turn> {
        if self.since_at_ms == 0 {
            (self.since_at_ms, self.since_ms) = (time.at_ms, time.now_ms);
        }
        if self.state == RuleState::Firing {
            return self.step_firing(rule, holds, ends, time);
        }
        match holds {
            Some(true) => {
                if self.held_ticks == 0 {
                    self.held_since_ms = time.now_ms;
                }
                self.held_ticks = self.held_ticks.saturating_add(1);
                let held_ms = time.now_ms.saturating_sub(self.held_since_ms);
                let lasted = match rule.lasting {
                    None => true,
                    Some(Lasting::Ticks(ticks)) => self.held_ticks >= ticks,
                    Some(Lasting::Time(ms)) => held_ms >= ms,
                };
                self.go(if lasted { RuleState::Firing } else { RuleState::Pending }, time);
                lasted.then_some(Turn::Fires)
            }
            Some(false) | None => {
                self.rest(holds, time);
                None
            }
        }
    }

    fn step_firing(
        &mut self,
        rule: &Rule,
        holds: Option<bool>,
        ends: Option<Option<bool>>,
        time: Time,
    ) -> Option<Turn> {
        let ending = match (holds, ends) {
            // Figures that are gone end nothing but what they would have kept up.
            (None, Some(None)) => true,
            (_, Some(ends)) => ends == Some(true),
            (holds, None) => holds != Some(true),
        };
        if !ending {
            self.ending_since_ms = None;
            return None;
        }
        let since_ms = *self.ending_since_ms.get_or_insert(time.now_ms);
        if time.now_ms.saturating_sub(since_ms) < rule.clear_after_ms {
            return None;
        }
        self.rest(holds.filter(|_| ends != Some(None)), time);
        Some(Turn::Clears)
    }

    fn rest(&mut self, holds: Option<bool>, time: Time) {
        self.interrupt();
        self.go(if holds.is_some() { RuleState::Inactive } else { RuleState::NoData }, time);
    }

    fn go(&mut self, state: RuleState, time: Time) {
        if self.state != state {
            self.state = state;
            (self.since_at_ms, self.since_ms) = (time.at_ms, time.now_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ticks at which the rule fires (+) and clears (-), 100 ms apart; `.` fails, `x` holds, `?` is
    /// without figures, `e` ends.
    fn turns(rule: &str, ticks: &str) -> String {
        let rule: Rule = rule.parse().unwrap();
        let mut hysteresis = Hysteresis::new();
        let mut told = String::new();
        for (tick, sign) in (1_u64..).zip(ticks.chars()) {
            let holds = match sign {
                'x' => Some(true),
                '.' | 'e' => Some(false),
                _ => None,
            };
            let ends = rule.until.is_some().then(|| (sign != '?').then_some(sign == 'e'));
            let time = Time { now_ms: tick * 100, at_ms: 7_000 + tick * 100 };
            match hysteresis.step(&rule, holds, ends, time) {
                Some(Turn::Fires) => told.push_str(&format!("+{tick}")),
                Some(Turn::Clears) => told.push_str(&format!("-{tick}")),
                None => {}
            }
        }
        told
    }

    /// Each rule, how its condition stands in every tick, and when it fires and clears.
    const COURSES: [(&str, &str, &str); 12] = [
        // It fires when the condition has lasted.
        ("cpu > 80% -> hold", "..x.xx.", "+3-4+5-7"),
        ("cpu > 80% for 3 ticks -> hold", "xx.xxx.", "+6-7"),
        ("cpu > 80% for 3 ticks -> hold", "xx?xx.xxx", "+9"),
        ("cpu > 80% for 300ms -> hold", "xxx.xxxx.", "+8-9"),
        // It lets go when its end has lasted.
        ("cpu > 80% clear after 300ms -> hold", "x..x....", "+1-8"),
        ("cpu > 80% until < 70% -> hold", "x....e", "+1-6"),
        ("cpu > 80% until < 70% -> hold", "x....ex", "+1-6+7"),
        ("cpu > 80% until < 70% clear after 200ms -> hold", "xee.eee", "+1-7"),
        ("cpu > 80% for 2 ticks until < 70% -> hold", "xx..exx", "+2-5+7"),
        // Without figures it does not fire, and lets go.
        ("cpu > 80% -> hold", "??x?", "+3-4"),
        ("cpu > 80% clear after 200ms -> hold", "x??x???", "+1-7"),
        ("cpu > 80% until < 70% -> hold", "x.?", "+1-3"),
    ];

    #[test]
    fn it_fires_and_lets_go_when_what_is_asked_has_lasted() {
        for (rule, course, expected) in COURSES {
            assert_eq!(turns(rule, course), expected, "{rule} on {course}");
        }
    }

    #[test]
    fn it_says_how_it_stands_and_since_when() {
        let rule: Rule = "cpu > 80% for 2 ticks -> hold".parse().unwrap();
        let mut hysteresis = Hysteresis::new();
        let mut stands = Vec::new();
        for (tick, holds) in (1..).zip([None, Some(false), Some(true), Some(true), Some(true)]) {
            let time = Time { now_ms: tick * 100, at_ms: 1_000 + tick };
            hysteresis.step(&rule, holds, None, time);
            stands.push((hysteresis.state, hysteresis.since_at_ms));
        }
        use RuleState::{Firing, Inactive, NoData, Pending};
        let expected = [
            (NoData, 1_001),
            (Inactive, 1_002),
            (Pending, 1_003),
            (Firing, 1_004),
            (Firing, 1_004),
        ];
        assert_eq!(stands, expected);
    }
}
