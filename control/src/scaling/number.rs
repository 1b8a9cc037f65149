//! The number in force: whether it is ours, and what becomes of one that somebody else has set.

use super::{Awaited, Foreign, Said, Scaling, ScalingSeen, ScalingSpec, say};
use crate::scene::Scene;

/// A number that differs from ours for less than this may be an answer that is late.
const SETTLE_MS: u64 = 5_000;
/// A number is respected no longer, however often orders are undone.
const LONGEST_RESPECT_MS: u64 = 3_600_000;

impl Scaling {
    /// Takes the number in force, and finds out who set it.
    pub(super) fn learn_number(
        &mut self,
        scene: &Scene<'_>,
        spec: &ScalingSpec,
        seen: &ScalingSeen,
        wanted: u32,
        said: &mut Said,
    ) {
        let now_ms = scene.now_ms;
        self.foreign.take_if(|foreign| now_ms >= foreign.until_ms);
        if self.undone > 0 && now_ms.saturating_sub(self.undone_ms) > 2 * LONGEST_RESPECT_MS {
            self.undone = 0;
        }
        let Some(known) = self.known else {
            self.known = Some(seen.asked.unwrap_or(wanted));
            let ours = seen.original.filter(|_| seen.asked == Some(wanted));
            self.original = Some(ours.unwrap_or(wanted));
            return;
        };
        if let Some(standing) = &mut self.order
            && seen.asked == Some(standing.order.primaries)
        {
            standing.taken_ms.get_or_insert(now_ms);
        }
        let taken = self.order.as_ref().is_some_and(|standing| standing.taken_ms.is_some());
        let ours = seen.asked == Some(wanted);
        if wanted != known && ours {
            self.take(wanted, known, now_ms);
            return;
        }
        // Neither the number before nor the one asked for, or asked for and not what came of it.
        if wanted == known && !taken {
            self.differs_since_ms = None;
            return;
        }
        let since_ms = *self.differs_since_ms.get_or_insert(now_ms);
        if now_ms.saturating_sub(since_ms) < SETTLE_MS {
            return;
        }
        self.respect(scene, spec, seen, (known, wanted), said);
    }

    /// The number is somebody else's.
    fn respect(
        &mut self,
        scene: &Scene<'_>,
        spec: &ScalingSpec,
        seen: &ScalingSeen,
        (known, wanted): (u32, u32),
        said: &mut Said,
    ) {
        let now_ms = scene.now_ms;
        let taken = self.order.as_ref().is_some_and(|standing| standing.taken_ms.is_some());
        self.differs_since_ms = None;
        let asked = self.order.as_ref().map(|standing| standing.order.primaries);
        let undid = asked.is_some() && taken || seen.asked.is_some() && wanted < known;
        let mut respect_ms = spec.respect_ms;
        if undid {
            self.undone = self.undone.saturating_add(1);
            self.undone_ms = now_ms;
            let times = 1_u64 << (self.undone - 1).min(10);
            let longest_ms = LONGEST_RESPECT_MS.max(spec.respect_ms);
            respect_ms = respect_ms.saturating_mul(times).min(longest_ms);
        }
        let until_ms = now_ms.saturating_add(respect_ms);
        let foreign = Foreign { number: wanted, until_ms, undid };
        said.tell(say::foreign(known, asked.filter(|_| taken), foreign, respect_ms));
        self.foreign = Some(foreign);
        self.known = Some(wanted);
        self.original = Some(wanted);
        (self.order, self.awaited, self.came_true) = (None, None, false);
        self.regret.yield_to_others();
    }

    /// The scaler wants what it was asked for.
    fn take(&mut self, number: u32, before: u32, now_ms: u64) {
        self.differs_since_ms = None;
        self.known = Some(number);
        let since_ms = self.order.as_ref().map_or(now_ms, |standing| standing.since_ms);
        self.order.take_if(|standing| standing.order.primaries == number);
        if number > before {
            // What is awaited still is not there: the step began where that one began.
            let from = self.awaited.map_or(before, |awaited| awaited.from.min(before));
            self.awaited = Some(Awaited { to: number, from, since_ms });
        } else {
            self.awaited = None;
            self.stepped_down_ms = now_ms;
            self.regret.begin(before, number, now_ms);
        }
    }
}
