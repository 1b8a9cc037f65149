//! How many primaries a service should have, asked of whatever scales them; shadows serve meanwhile.
//!
//! The sequence of a rise is: shadows serve (`tiers`), weights follow (`weights`), what demand has
//! needed for a while is asked for here, the scaler makes it, the new primaries warm up, and shadows
//! step back (`rollback`). When demand goes, primaries go back one by one.
//!
//! - *Out* follows what was needed for at least half of a while, at the learned lead time of the
//!   primaries themselves: a spike is left to shadows. It is ordered at once, in bounded steps.
//! - *In* follows the most that was needed over the stabilisation time, by what is measured and by
//!   what is expected, with a margin: a forecast holds primaries and never ends one. An upper quantile
//!   holds none: after an unsteady hour it would for as long as it is wide.
//! - A step in after which more requests fail or come late is taken back at once, and the next one waits
//!   longer each time.
//! - A number that somebody else sets is respected: as a floor where it is more, and by standing
//!   aside where it undoes an order. Each order that is undone doubles the time.

mod need;
mod number;
mod regret;
mod say;
mod view;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use self::need::{Ground, Lately, cold, sustain_ms};
use self::regret::Regret;
use crate::scene::{Scene, count};
use crate::{Alert, AlertKind, Capacity, Law, Reason, ServiceObservation, Tier};

pub use self::view::{ScaleOrder, ScalingPhase, ScalingSeen, ScalingSpec, ScalingView};

/// Primaries that are not ready after this multiple of their lead time are late.
const LATE_LEADS: u64 = 3;
const LATE_LEAST_MS: u64 = 60_000;
/// Lead times remembered, and the longest that is believed.
const SAMPLES: usize = 16;
const LONGEST_LEAD_MS: u64 = 3_600_000;

/// The law's memory of one service.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Scaling {
    lately: Lately,
    /// From orders to ready primaries, newest last.
    leads_ms: VecDeque<u64>,
    /// The number that is taken to be in force.
    known: Option<u32>,
    original: Option<u32>,
    /// The order that stands and was not seen to be taken.
    order: Option<Standing>,
    /// What was taken and is not ready yet.
    awaited: Option<Awaited>,
    /// Since when the number differs from ours.
    differs_since_ms: Option<u64>,
    foreign: Option<Foreign>,
    /// Orders undone by somebody else lately, and when the last one was.
    undone: u32,
    undone_ms: u64,
    stepped_down_ms: u64,
    /// Whether what was measured has needed more than the original number since the first order.
    came_true: bool,
    phase: ScalingPhase,
    /// Since when fewer are ready than are wanted.
    #[serde(default)]
    short_since_ms: Option<u64>,
    /// What became of steps in.
    #[serde(default)]
    regret: Regret,
}

/// Whether a shadow serves, or answers its last requests.
fn is_bridged(scene: &Scene<'_>) -> bool {
    scene.shadows().any(|m| matches!(m.seen.tier, Tier::Serving | Tier::Draining))
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Standing {
    order: ScaleOrder,
    since_ms: u64,
    /// Since when the scaler says that it was asked for it.
    taken_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Awaited {
    to: u32,
    from: u32,
    since_ms: u64,
}

/// A number that somebody else has set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Foreign {
    number: u32,
    until_ms: u64,
    /// It undid an order of ours: nothing is ordered.
    undid: bool,
}

/// What the law says of one tick.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) view: Option<ScalingView>,
    pub(crate) reasons: Vec<Reason>,
    pub(crate) alert: Option<Alert>,
}

impl Said {
    fn tell(&mut self, text: String) {
        self.reasons.push(Reason { law: Law::Scale, text });
    }
}

impl Scaling {
    /// The settings have changed; what is remembered of another scaler is of no use.
    pub(crate) fn configure(&mut self, before: Option<&ScalingSpec>, now: Option<&ScalingSpec>) {
        if before.is_some() && now.is_none() {
            *self = Self::default();
        }
    }

    /// Time passed unseen.
    pub(crate) fn rest(&mut self) {
        self.lately.restart();
        self.differs_since_ms = None;
        self.regret.end();
    }

    /// Decides on what was seen; nothing where the service has no scaler.
    pub(crate) fn tick(
        &mut self,
        scene: &Scene<'_>,
        service: &ServiceObservation,
        saturated: bool,
    ) -> Said {
        let mut said = Said::default();
        let (Some(spec), Some(seen)) = (scene.spec.scaling, &service.scaling) else { return said };
        let lead_ms = self.lead_ms(&spec);
        let listed: Vec<_> = seen.ready.iter().chain(&seen.leaving).copied().collect();
        let ground = Ground::of(scene, &spec, &listed, saturated);
        let needs = ground.needs(scene, lead_ms);
        let sustain_ms = sustain_ms(scene, lead_ms);
        self.lately.push(scene.now_ms, needs, sustain_ms, spec.stabilisation_ms);
        let Some(wanted) = seen.wanted else {
            said.alert = self.trouble(scene, seen, lead_ms);
            said.view = Some(self.view(scene, seen, None, lead_ms));
            return said;
        };
        let is_short = count(seen.ready.iter()) < wanted;
        self.short_since_ms = is_short.then(|| self.short_since_ms.unwrap_or(scene.now_ms));
        self.learn_number(scene, &spec, seen, wanted, &mut said);
        self.await_ready(scene, seen, lead_ms, &mut said);
        self.regret.look(scene, &spec, service.unserved);
        let original = self.original.unwrap_or(wanted);
        self.came_true |= ground.firm && needs.measured > original;
        let needed = self.lately.sustained(scene.now_ms, sustain_ms).filter(|_| ground.firm);
        let needed = needed.map(|need| need.max(spec.min.unwrap_or(0)).min(spec.max));
        let goal = self.goal(scene, &spec, seen, needed);
        self.aim(scene, seen, &ground, (goal, needed), lead_ms, &mut said);
        self.follow_phase(scene, seen, &mut said);
        said.alert = self.trouble(scene, seen, lead_ms);
        said.view = Some(self.view(scene, seen, needed, lead_ms));
        said
    }

    fn lead_ms(&self, spec: &ScalingSpec) -> u64 {
        let mut sorted: Vec<u64> = self.leads_ms.iter().copied().collect();
        sorted.sort_unstable();
        let p90 = sorted.get((sorted.len() * 9).div_ceil(10).saturating_sub(1)).copied();
        p90.unwrap_or(spec.lead_time_ms).clamp(1_000, LONGEST_LEAD_MS)
    }

    fn await_ready(
        &mut self,
        scene: &Scene<'_>,
        seen: &ScalingSeen,
        lead_ms: u64,
        said: &mut Said,
    ) {
        let ready = count(seen.ready.iter());
        let Some(awaited) = self.awaited.filter(|awaited| ready >= awaited.to) else { return };
        self.awaited = None;
        let took_ms = scene.now_ms.saturating_sub(awaited.since_ms);
        if took_ms <= LONGEST_LEAD_MS {
            if self.leads_ms.len() == SAMPLES {
                self.leads_ms.pop_front();
            }
            self.leads_ms.push_back(took_ms);
        }
        said.tell(say::ready(scene, awaited.to, took_ms, lead_ms));
    }

    /// The number there should be now, before anything is said of it.
    fn goal(
        &self,
        scene: &Scene<'_>,
        spec: &ScalingSpec,
        seen: &ScalingSeen,
        needed: Option<u32>,
    ) -> u32 {
        let known = self.known.unwrap_or(0);
        if self.foreign.is_some_and(|foreign| foreign.undid) || self.differs_since_ms.is_some() {
            return known;
        }
        let least = spec.min.or(self.original).unwrap_or(known);
        let missed = self.regret.missed();
        let least = missed.map_or(least, |missed| least.max(missed.number));
        let from = self.awaited.map_or(known, |awaited| awaited.from);
        let most = from.saturating_add(spec.max_step).max(known);
        match needed {
            Some(needed) if needed > known => needed.min(most),
            _ if known < least.min(spec.max) => least.min(spec.max).min(most),
            _ => self.step_down(scene, spec, seen, least),
        }
    }

    fn step_down(
        &self,
        scene: &Scene<'_>,
        spec: &ScalingSpec,
        seen: &ScalingSeen,
        least: u32,
    ) -> u32 {
        let known = self.known.unwrap_or(0);
        if self.regret.is_uneasy() {
            return known;
        }
        let floor = self.foreign.map_or(least, |foreign| least.max(foreign.number));
        // On a guess at capacity there are never fewer than were found: latency alone does not show where
        // a limit lies.
        let is_sure = scene.supply.measured || matches!(scene.spec.capacity, Capacity::Pinned(_));
        let floor = if is_sure { floor } else { floor.max(self.original.unwrap_or(known)) };
        let resting = scene.now_ms.saturating_sub(self.stepped_down_ms) < spec.cooldown_ms
            && self.stepped_down_ms > 0;
        let busy = !seen.leaving.is_empty() || scene.committed() > 0;
        let lost = scene.supply.lost_primaries > 0;
        let held = self.lately.held(scene.now_ms, spec.stabilisation_ms);
        let Some([held, _]) = held.filter(|_| !resting && !busy && !lost) else { return known };
        // One of ten at a time: whoever is right about the rest is so in the next step, too.
        let step = (known / 10).max(1).min(spec.max_step);
        known.min(held.max(floor).max(known.saturating_sub(step)))
    }

    /// Gives, changes or withdraws the order that stands.
    fn aim(
        &mut self,
        scene: &Scene<'_>,
        seen: &ScalingSeen,
        ground: &Ground,
        (goal, needed): (u32, Option<u32>),
        lead_ms: u64,
        said: &mut Said,
    ) {
        let known = self.known.unwrap_or(goal);
        let before = self.order.as_ref().map(|standing| standing.order.primaries);
        if goal == known {
            // One that was taken is to be seen to have come about, or not.
            let taken = self.order.as_ref().is_some_and(|standing| standing.taken_ms.is_some());
            if let Some(before) = before.filter(|_| !taken) {
                said.tell(say::withdrawn(scene, before, known));
                self.order = None;
            }
            return;
        }
        // An order that nobody has taken yet is only made larger, not smaller by every wave.
        let goal =
            before.filter(|before| *before > known && goal > known).map_or(goal, |b| b.max(goal));
        if before == Some(goal) {
            return;
        }
        let text = if goal > known {
            let missed = self.regret.missed();
            match missed.filter(|_| needed.is_none_or(|needed| needed <= known)) {
                Some(missed) => say::again(known, goal, &missed.text),
                None => say::out(scene, ground, (known, goal, needed), lead_ms),
            }
        } else {
            let held = self.lately.held(scene.now_ms, self.stabilisation_ms(scene));
            say::back(scene, (known, goal), held, self.came_true)
        };
        said.tell(text.clone());
        let original = self.original.unwrap_or(known);
        let order = ScaleOrder { primaries: goal, was: known, original, text };
        let since_ms = scene.now_ms;
        let taken_ms = (seen.asked == Some(goal) && seen.wanted == Some(goal)).then_some(since_ms);
        self.order = Some(Standing { order, since_ms, taken_ms });
    }

    fn stabilisation_ms(&self, scene: &Scene<'_>) -> u64 {
        scene.spec.scaling.map_or(0, |spec| spec.stabilisation_ms)
    }

    /// Follows the sequence and says each turn of it once.
    fn follow_phase(&mut self, scene: &Scene<'_>, seen: &ScalingSeen, said: &mut Said) {
        let known = self.known.unwrap_or(0);
        let ordered = self.order.as_ref().map(|standing| standing.order.primaries);
        let bridging = matches!(
            self.phase,
            ScalingPhase::ScalingOut | ScalingPhase::WarmingUp | ScalingPhase::SteppingBack
        );
        let phase = if ordered.is_some_and(|to| to > known) || self.awaited.is_some() {
            ScalingPhase::ScalingOut
        } else if self.foreign.is_some_and(|foreign| foreign.undid) {
            ScalingPhase::StandingAside
        } else if ordered.is_some() || !seen.leaving.is_empty() {
            ScalingPhase::ScalingIn
        } else if bridging && cold(scene) > 0 {
            ScalingPhase::WarmingUp
        } else if bridging && (scene.committed() > 0 || is_bridged(scene)) {
            ScalingPhase::SteppingBack
        } else {
            ScalingPhase::Steady
        };
        let before = std::mem::replace(&mut self.phase, phase);
        match (before, phase) {
            (ScalingPhase::SteppingBack, ScalingPhase::SteppingBack) => {}
            (_, ScalingPhase::SteppingBack) => said.tell(say::warm(scene)),
            (
                ScalingPhase::ScalingOut | ScalingPhase::WarmingUp | ScalingPhase::SteppingBack,
                ScalingPhase::Steady,
            ) if self.known > self.original => said.tell(say::alone(scene, known)),
            _ => {}
        }
    }

    fn trouble(&self, scene: &Scene<'_>, seen: &ScalingSeen, lead_ms: u64) -> Option<Alert> {
        let late_ms = lead_ms.saturating_mul(LATE_LEADS).max(LATE_LEAST_MS);
        let asked = self.awaited.map(|awaited| (awaited.to, awaited.since_ms));
        let short =
            self.short_since_ms.zip(seen.wanted).map(|(since_ms, wanted)| (wanted, since_ms));
        let waited_ms = |(to, since_ms): (u32, u64)| (to, scene.now_ms.saturating_sub(since_ms));
        let late = asked.or(short).map(waited_ms).filter(|(_, waited_ms)| *waited_ms > late_ms);
        let text = match (&seen.trouble, late) {
            (Some(trouble), _) => say::trouble(scene, trouble),
            (None, Some((to, waited_ms))) => {
                say::late(scene, count(seen.ready.iter()), to, waited_ms)
            }
            (None, None) => return None,
        };
        Some(Alert { kind: AlertKind::ScalingFailing, text, rule: None })
    }

    fn view(
        &self,
        scene: &Scene<'_>,
        seen: &ScalingSeen,
        needed: Option<u32>,
        lead_ms: u64,
    ) -> ScalingView {
        let left = |foreign: Foreign| foreign.until_ms.saturating_sub(scene.now_ms);
        ScalingView {
            phase: self.phase,
            needed,
            wanted: seen.wanted,
            asked: seen.asked,
            original: self.original,
            ready: count(seen.ready.iter()),
            leaving: count(seen.leaving.iter()),
            lead_ms,
            respected_for_ms: self.foreign.map(left),
            trouble: seen.trouble.clone(),
            order: self.order.as_ref().map(|standing| standing.order.clone()),
        }
    }
}
