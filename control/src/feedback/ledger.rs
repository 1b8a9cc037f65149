//! Steps ordered and not judged yet: were they needed, and were they ready before?

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Step, Verdict};
use crate::InstanceId;

/// Steps under judgement at most; more at once are left unjudged.
const MOST_OPEN: usize = 256;
/// A shadow that does not serve after this many of its lead times is the provider's matter.
const LOST_AFTER_LEADS: u64 = 3;
const LOST_AFTER_LEAST_MS: u64 = 1_000;

/// One step that was ordered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ordered {
    pub(super) step: Step,
    /// Which shadow of the service it is: demand needs it when it needs so many.
    pub(super) rank: u32,
    /// The shadow that should serve, where its readiness can be seen.
    pub(super) instance: Option<InstanceId>,
    pub(super) lead_ms: u64,
    /// Steps that, taken earlier, would have had it ready earlier.
    pub(super) blamed: [bool; 3],
}

/// What demand asks of the shadows in one tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Truth {
    pub(super) now_ms: u64,
    /// Shadows that demand needs at target utilisation.
    pub(super) needed: u32,
    /// Shadows without which requests are surely late or lost.
    pub(super) short: u32,
    /// A step that was not needed for so long after it was ready was false.
    pub(super) window_ms: u64,
}

/// A step whose worth is known.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Judged {
    pub(super) step: Step,
    pub(super) verdict: Verdict,
    /// From being ready to being needed; negative when it was late.
    pub(super) lead_ms: Option<i64>,
    pub(super) blamed: [bool; 3],
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Open {
    ordered: Ordered,
    ordered_ms: u64,
    ready_ms: Option<u64>,
    short_ms: Option<u64>,
}

/// Steps under judgement, oldest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Ledger {
    open: VecDeque<Open>,
}

impl Ledger {
    pub(super) fn order(&mut self, ordered: Ordered, now_ms: u64) {
        if self.open.len() < MOST_OPEN {
            self.open.push_back(Open {
                ordered,
                ordered_ms: now_ms,
                ready_ms: None,
                short_ms: None,
            });
        }
    }

    /// Takes one tick and returns what can be judged now. `serves` says whether a shadow serves,
    /// and nothing of one that is gone.
    pub(super) fn judge(
        &mut self,
        truth: Truth,
        serves: impl Fn(InstanceId) -> Option<bool>,
    ) -> Vec<Judged> {
        let mut judged = Vec::new();
        self.open.retain_mut(|open| {
            open.follow(truth, &serves);
            match open.verdict(truth, &serves) {
                None => true,
                Some(None) => false,
                Some(Some((verdict, lead_ms))) => {
                    let Ordered { step, blamed, .. } = open.ordered;
                    judged.push(Judged { step, verdict, lead_ms, blamed });
                    false
                }
            }
        });
        judged
    }

    /// Nothing that is open can be judged fairly.
    pub(super) fn dismiss(&mut self) {
        self.open.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}

impl Open {
    fn follow(&mut self, truth: Truth, serves: &impl Fn(InstanceId) -> Option<bool>) {
        if self.ready_ms.is_none() {
            let ready = match self.ordered.instance {
                Some(id) => serves(id) == Some(true),
                None => truth.now_ms.saturating_sub(self.ordered_ms) >= self.ordered.lead_ms,
            };
            self.ready_ms = ready.then_some(truth.now_ms);
        }
        if self.ready_ms.is_none() && truth.short >= self.ordered.rank {
            self.short_ms.get_or_insert(truth.now_ms);
        }
    }

    /// None while it cannot be said; nothing inside when it never will be.
    fn verdict(
        &self,
        truth: Truth,
        serves: &impl Fn(InstanceId) -> Option<bool>,
    ) -> Option<Option<(Verdict, Option<i64>)>> {
        let Some(ready_ms) = self.ready_ms else {
            let waited_ms = truth.now_ms.saturating_sub(self.ordered_ms);
            let longest_ms = self.ordered.lead_ms.saturating_mul(LOST_AFTER_LEADS);
            let gone = self.ordered.instance.is_some_and(|id| serves(id).is_none());
            let lost = waited_ms >= longest_ms.saturating_add(LOST_AFTER_LEAST_MS);
            return (gone || lost).then_some(None);
        };
        if let Some(short_ms) = self.short_ms {
            return Some(Some((Verdict::Late, Some(-signed(ready_ms.saturating_sub(short_ms))))));
        }
        let idle_ms = truth.now_ms.saturating_sub(ready_ms);
        if truth.needed >= self.ordered.rank {
            let early = idle_ms > truth.window_ms / 2;
            let verdict = if early { Verdict::Early } else { Verdict::Right };
            return Some(Some((verdict, Some(signed(idle_ms)))));
        }
        (idle_ms >= truth.window_ms).then_some(Some((Verdict::False, None)))
    }
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: InstanceId = InstanceId(7);

    /// Orders the second shadow at 0; it serves from 500 ms on. Demand needs `needed` shadows from
    /// one time on and is short of `short` from another on.
    fn judged(needed: (u32, u64), short: (u32, u64)) -> Option<(Verdict, Option<i64>)> {
        let mut ledger = Ledger::default();
        let ordered = Ordered {
            step: Step::Commit,
            rank: 2,
            instance: Some(ID),
            lead_ms: 400,
            blamed: [false; 3],
        };
        ledger.order(ordered, 0);
        let mut verdict = None;
        for now_ms in (0..30_000).step_by(100) {
            let asked = |(count, from_ms)| if now_ms >= from_ms { count } else { 0 };
            let (needed, short) = (asked(needed), asked(short));
            let truth = Truth { now_ms, needed, short, window_ms: 10_000 };
            for judged in ledger.judge(truth, |_| Some(now_ms >= 500)) {
                assert!(verdict.is_none(), "judged twice");
                verdict = Some((judged.verdict, judged.lead_ms));
            }
        }
        assert_eq!(ledger.len(), 0);
        verdict
    }

    #[test]
    fn steps_are_right_early_late_or_false() {
        assert_eq!(judged((2, 2_000), (0, 0)), Some((Verdict::Right, Some(1_500))));
        assert_eq!(judged((2, 0), (0, 0)), Some((Verdict::Right, Some(0))));
        assert_eq!(judged((2, 8_000), (0, 0)), Some((Verdict::Early, Some(7_500))));
        assert_eq!(judged((2, 100), (2, 200)), Some((Verdict::Late, Some(-300))));
        assert_eq!(judged((1, 0), (1, 0)), Some((Verdict::False, None)));
        assert_eq!(judged((2, 20_000), (0, 0)), Some((Verdict::False, None)));
    }

    #[test]
    fn what_never_serves_is_not_judged_and_memory_is_bounded() {
        let mut ledger = Ledger::default();
        for _ in 0..2 * MOST_OPEN {
            let ordered = Ordered {
                step: Step::Commit,
                rank: 1,
                instance: Some(ID),
                lead_ms: 400,
                blamed: [false; 3],
            };
            ledger.order(ordered, 0);
        }
        assert_eq!(ledger.len(), MOST_OPEN);
        let truth = Truth { now_ms: 10_000, needed: 1, short: 1, window_ms: 10_000 };
        assert_eq!(ledger.judge(truth, |_| Some(false)), []);
        assert_eq!(ledger.len(), 0);
    }
}
