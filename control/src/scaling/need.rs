//! How many primaries demand needs: in this tick, for a while by now, and at most for a long while.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::ScalingSpec;
use crate::announced::Asked;
use crate::fleet::Member;
use crate::rolling::RollingMax;
use crate::scene::{Scene, count};
use crate::{InstanceId, Step, Tier};

/// Demand must fall this far below what a number of primaries carries before one of them, or a
/// shadow beside them, goes: that of a rollback.
const MARGIN: f64 = crate::rollback::MARGIN;
/// Parts of the time over which demand must have been sustained.
const PARTS: u64 = 30;
/// Demand is not looked at for longer than this before primaries are added, however long they take.
const LONGEST_SUSTAIN_MS: u64 = 120_000;
/// No service has more primaries.
const MOST: f64 = 100_000.0;

/// What primaries that the scaler makes carry, and what others do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ground {
    /// One of them, at the target.
    pub(super) each_rps: f64,
    /// Primaries that the scaler does not list, all together, at the target.
    pub(super) others_rps: f64,
    /// Both again, of each no more than it was seen to carry: what a primary may go for.
    surely: [f64; 2],
    /// Whether enough is known of capacity for a number to mean anything: it was measured, or it
    /// is exceeded, or shadows serve since it was found to be.
    pub(super) firm: bool,
}

/// Needs of one tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    /// What asks for more.
    pub(super) up: u32,
    /// What keeps what is there: never less than what is measured now needs.
    pub(super) hold: u32,
    /// By what is measured alone.
    pub(super) measured: u32,
}

impl Ground {
    pub(super) fn of(
        scene: &Scene<'_>,
        spec: &ScalingSpec,
        listed: &[InstanceId],
        saturated: bool,
    ) -> Self {
        let is_listed = |id: InstanceId| listed.contains(&id);
        let primaries = || scene.members.iter().filter(|m| m.is_primary() && m.eligible);
        let mean = |of: &dyn Fn(InstanceId) -> bool| {
            let rps: Vec<f64> = primaries().filter(|m| of(m.id())).map(|m| m.rps).collect();
            (!rps.is_empty()).then(|| rps.iter().sum::<f64>() / rps.len() as f64)
        };
        let each = mean(&is_listed).or_else(|| mean(&|_| true));
        let each = each.unwrap_or(scene.supply.shadow_rps / scene.supply.target.max(1e-3));
        let others = || primaries().filter(|m| !is_listed(m.id()));
        let seen_rps = |m: &Member<'_>| match (m.pinned, m.belief) {
            (true, _) => m.rps,
            (false, Some(belief)) => belief.lower_rps.min(m.rps),
            (false, None) => 0.0,
        };
        let each_seen: Vec<f64> = primaries().filter(|m| is_listed(m.id())).map(seen_rps).collect();
        let each_seen_rps = each_seen.iter().sum::<f64>() / each_seen.len().max(1) as f64;
        let surely = [
            (spec.target * each_seen_rps).max(1e-3),
            others().fold(0.0, |sum, m| sum + spec.target * m.trust.part * seen_rps(m)),
        ];
        let bears = scene.supply.measured || saturated || scene.committed() > 0;
        Self {
            each_rps: (spec.target * each).max(1e-3),
            others_rps: others().fold(0.0, |sum, m| sum + spec.target * m.trust.part * m.rps),
            surely,
            firm: scene.supply.known && bears,
        }
    }

    /// Primaries of the scaler's without which this is not carried at the target.
    fn number(&self, scene: &Scene<'_>, asked: Asked) -> u32 {
        let beyond_rps = scene.supply.with_headroom(asked) - self.others_rps;
        // As in a shadow's case: no part of a primary is needed for a rounding error.
        (beyond_rps / self.each_rps - 1e-9).ceil().clamp(0.0, MOST) as u32
    }

    /// The same, by what they were seen to carry.
    fn surely(&self, scene: &Scene<'_>, asked: Asked) -> u32 {
        let [each_rps, others_rps] = self.surely;
        Self { each_rps, others_rps, ..*self }.number(scene, asked)
    }

    pub(super) fn needs(&self, scene: &Scene<'_>, lead_ms: u64) -> Needs {
        let with_margin = |asked: Asked| Asked { rps: asked.rps / MARGIN, ..asked };
        let in_force = scene.in_force;
        let soon = scene.commit_asked(Tier::Warm);
        let later = scene.outlook.asked(lead_ms, |h| in_force.commit(h).max(h.median_rps));
        let later = scene.holding(later, Step::Commit, lead_ms);
        let now = Asked::of(scene.outlook.now_rps, None);
        // A shadow that serves goes only with the margin, so that much is to be carried without it.
        let bridged = scene.committed() > 0;
        let up =
            |asked: Asked| self.number(scene, if bridged { with_margin(asked) } else { asked });
        let hold = |asked: Asked| self.surely(scene, with_margin(asked));
        Needs {
            up: up(soon).max(self.number(scene, later)),
            hold: hold(soon).max(hold(later)).max(hold(now)),
            measured: self.number(scene, Asked::of(scene.outlook.sure_rps, None)),
        }
    }
}

/// How long demand must have been so before primaries are added: as long as it takes to see that
/// it is no spike, and longer where primaries come so late that a spike is over by then.
pub(super) fn sustain_ms(scene: &Scene<'_>, lead_ms: u64) -> u64 {
    (lead_ms / 2).min(LONGEST_SUSTAIN_MS).max(scene.spec.evaluation_window_ms)
}

/// What was needed lately.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Lately {
    /// Number of a part of the time, and the least need in it; oldest first.
    parts: VecDeque<(u64, u32)>,
    part_ms: u64,
    since_ms: Option<u64>,
    holding: RollingMax,
}

impl Lately {
    pub(super) fn push(
        &mut self,
        now_ms: u64,
        needs: Needs,
        sustain_ms: u64,
        stabilisation_ms: u64,
    ) {
        let part_ms = (sustain_ms / PARTS).max(1);
        if self.part_ms != part_ms {
            // Another length: what is sustained is found out anew.
            (self.parts, self.since_ms, self.part_ms) = (VecDeque::new(), None, part_ms);
        }
        self.since_ms.get_or_insert(now_ms);
        let part = now_ms / part_ms;
        match self.parts.back_mut() {
            Some((last, least)) if *last >= part => *least = needs.up.min(*least),
            _ => self.parts.push_back((part, needs.up)),
        }
        while self.parts.front().is_some_and(|(first, _)| first.saturating_add(PARTS) < part) {
            self.parts.pop_front();
        }
        self.holding.push(now_ms, stabilisation_ms, [needs.hold, needs.measured, 0]);
    }

    /// What was needed for at least half of the time by now: the median. None before that time.
    pub(super) fn sustained(&self, now_ms: u64, sustain_ms: u64) -> Option<u32> {
        if now_ms.saturating_sub(self.since_ms?) < sustain_ms {
            return None;
        }
        let mut sorted: Vec<u32> = self.parts.iter().map(|(_, need)| *need).collect();
        sorted.sort_unstable();
        // Of an even number the lower one: half of the time is not more than half.
        sorted.get(sorted.len().saturating_sub(1) / 2).copied()
    }

    /// The most that was needed over the stabilisation time, by all that holds and by what was
    /// measured; none before a whole one was seen.
    pub(super) fn held(&self, now_ms: u64, stabilisation_ms: u64) -> Option<[u32; 2]> {
        self.holding.maxima(now_ms, stabilisation_ms).map(|[hold, measured, _]| [hold, measured])
    }

    /// Time passed in which nothing was seen.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }
}

impl Member<'_> {
    /// A primary that has joined and of whose capacity nothing is known but that of its peers.
    pub(crate) fn is_new(&self) -> bool {
        self.seen.joined_ms.is_some() && self.belief.is_none()
    }

    /// Part of its capacity that may be counted on: of a primary that has joined, what its warm-up
    /// allows; the others are taken to be what they will be in a moment.
    pub(crate) fn ready_part(&self) -> f64 {
        if self.seen.joined_ms.is_some() { self.ramp } else { 1.0 }
    }
}

/// Primaries that have joined and are not warm yet.
pub(super) fn cold(scene: &Scene<'_>) -> u32 {
    let joined = |m: &&Member<'_>| {
        m.is_primary() && m.seen.joined_ms.is_some() && !m.seen.leaving && m.ramp < 1.0
    };
    count(scene.members.iter().filter(joined))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sustained(need: impl Fn(u64) -> u32) -> Vec<Option<u32>> {
        let mut lately = Lately::default();
        let mut seen = Vec::new();
        for now_ms in (0..60_000).step_by(100) {
            let needs = Needs { up: need(now_ms), hold: need(now_ms), measured: 0 };
            lately.push(now_ms, needs, 10_000, 30_000);
            seen.push(lately.sustained(now_ms, 10_000));
        }
        seen
    }

    #[test]
    fn a_spike_is_not_sustained_and_a_step_is_after_half_the_time() {
        let spike = sustained(|ms| if (20_000..24_500).contains(&ms) { 9 } else { 2 });
        assert!(spike[..100].iter().all(Option::is_none), "nothing is known at first");
        assert!(spike[100..].iter().all(|need| *need == Some(2)));
        let step = sustained(|ms| if ms >= 20_000 { 5 } else { 2 });
        let at = step.iter().position(|need| *need == Some(5)).expect("it is sustained");
        assert!((245..=260).contains(&at), "{at}");
    }

    #[test]
    fn what_was_held_is_forgotten_after_the_stabilisation_time() {
        let mut lately = Lately::default();
        let mut gone_at = None;
        for now_ms in (0..90_000).step_by(100) {
            let hold = if now_ms == 31_000 { 7 } else { 3 };
            let needs = Needs { up: 3, hold, measured: 3 };
            lately.push(now_ms, needs, 10_000, 30_000);
            let held = lately.held(now_ms, 30_000).map(|[hold, _]| hold);
            match held {
                None => assert!(now_ms < 30_000),
                Some(3) if now_ms > 31_000 => {
                    gone_at.get_or_insert(now_ms);
                }
                Some(_) => {}
            }
        }
        assert!((61_000..=63_000).contains(&gone_at.expect("it is forgotten")));
    }
}
