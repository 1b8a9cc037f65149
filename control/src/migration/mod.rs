//! The law of migration: an instance moves elsewhere, a part of its requests at a time.
//!
//! A migration moves one primary or serving shadow to a shadow in a chosen place; of a service one at a
//! time. It is asked for by an order, or begins by itself where `risk` is set: within a window, and for
//! an instance whose probability of failing has been above it for some seconds.
//!
//! 1. *Prepare*: the readiest reserve of the place, or a shadow made there, is brought to full size,
//!    verified, and then to serving, still without weight. The pool's laws neither count nor touch it, so
//!    what demand asks for comes beside it.
//! 2. *Shift*: step by step a part of the source's requests goes to the target. When the weights are in
//!    force the step is watched: the target must stay up, and must not fail or answer late more than the
//!    objective allows and more than the source and its peers do (`tally`). The source keeps whatever
//!    neither the target nor the others can carry: a spike holds the step.
//! 3. *Drain*: the source has weight 0 and answers its last requests. A shadow then ends; a primary stays
//!    at weight 0 until the node drains it for good, and as long as it does, a shadow stands for it: it
//!    is counted and filled like the primary.
//!
//! Whatever fails sends all requests back to the source at once; a target that failed a check ends, one
//! that was called off goes back by way of draining. What failed does not begin again by itself for ten
//! minutes, then for twice as long each time. A source that is lost meanwhile is not returned to: its
//! target takes all. Outside mode `act` and under the kill switch everything stays as it stands.
//!
//! What is under way is kept with what else is known of the service. If that is lost in a crash, an order
//! that is told again begins anew: a shadow that already stands in the place, serving without need or in
//! reserve, is the target again, so no second one is made. Who was moved for good the node tells
//! ([`MigrationsSeen::moved`]).

mod begin;
mod candidates;
mod checks;
mod paced;
mod part;
mod running;
mod settled;
mod steps;
mod tally;
mod target;
mod view;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(crate) use self::part::{Part, Shift};
pub use self::view::{
    MigrationCheck, MigrationChoice, MigrationOrder, MigrationPhase, MigrationSchedule,
    MigrationSpec, MigrationView, MigrationsSeen,
};

use self::running::{Running, Turn};
use self::settled::Settled;
use crate::fleet::{Known, Member};
use crate::risk::Risk;
use crate::scene::{Scene, count};
use crate::tiers::Floor;
use crate::{
    InstanceId, Law, Observation, PlaceName, Reason, ServiceObservation, ServiceSpec, ShiftOutcome,
};

/// The law's memory of one service.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Migration {
    running: Option<Running>,
    /// Primaries that moved, and who stands for them.
    #[serde(default)]
    settled: Settled,
    /// Those that ended, until that was seen.
    ended: Vec<Ended>,
    /// Since when instances have been above the bound of risk.
    #[serde(with = "crate::as_pairs")]
    above: BTreeMap<InstanceId, u64>,
    /// How often moving an instance failed, and until when it is not tried again by itself.
    #[serde(with = "crate::as_pairs")]
    rests: BTreeMap<InstanceId, (u32, u64)>,
    /// Time passed unseen.
    #[serde(default)]
    rested: bool,
    /// Asked who could move, in a copy that decides nothing.
    #[serde(skip)]
    pub(crate) asked: Option<Vec<MigrationChoice>>,
    /// What became in this tick of one that shifted.
    #[serde(skip)]
    outcome: Option<(PlaceName, ShiftOutcome)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Ended {
    view: MigrationView,
    told: u32,
}

/// What the law says of one tick.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) views: Vec<MigrationView>,
    pub(crate) reasons: Vec<Reason>,
}

impl Said {
    fn tell(&mut self, text: String) {
        self.reasons.push(Reason { law: Law::Migrate, text });
    }
}

/// What the law looks at beside the scene.
pub(crate) struct Facts<'a> {
    pub(crate) seen: &'a ServiceObservation,
    pub(crate) observation: &'a Observation,
    pub(crate) act: bool,
    pub(crate) known: &'a BTreeMap<InstanceId, Known>,
    pub(crate) risk: &'a Risk,
    pub(crate) floor: Floor,
    /// The shadow whose weight is being taken back.
    pub(crate) returning: Option<InstanceId>,
}

impl Facts<'_> {
    /// Share of the requests that an instance has by the weights in force.
    fn share(&self, id: InstanceId) -> f64 {
        self.known.get(&id).map_or(0.0, |known| known.share)
    }

    /// What all but the target counted in this tick.
    fn tally_others(&self, target: InstanceId) -> tally::Tally {
        let mut sum = tally::Tally::default();
        let others = self.seen.instances.iter().filter(|i| i.instance != target);
        others.for_each(|other| sum.add(&other.meters));
        sum
    }
}

impl Migration {
    /// Whether nothing moves, has moved, or is asked to.
    fn is_idle(&self, spec: &ServiceSpec, seen: &ServiceObservation) -> bool {
        self.running.is_none()
            && self.settled.is_empty()
            && self.ended.is_empty()
            && self.asked.is_none()
            && seen.migrations.orders.is_empty()
            && seen.migrations.moved.is_empty()
            && spec.migration.risk.is_none()
    }

    /// Time passed unseen: what is watched is watched anew.
    pub(crate) fn rest(&mut self) {
        self.rested = true;
        self.above.clear();
    }

    /// Tells the other laws what they may not count or touch. Returns primaries that moved and that
    /// nobody stands for now.
    pub(crate) fn mark(
        &mut self,
        members: &mut [Member<'_>],
        spec: &ServiceSpec,
        seen: &ServiceObservation,
        act: bool,
        known: &BTreeMap<InstanceId, Known>,
    ) -> u32 {
        if self.is_idle(spec, seen) {
            return 0;
        }
        let pair = self.running.as_ref().map(|r| (r.source(), r.target));
        // Without a pool nobody can stand for those that moved.
        let vacant = if spec.pool.is_some() {
            self.settled.mark(members, seen, pair)
        } else {
            self.settled = Settled::default();
            0
        };
        let Some(running) = &self.running else { return vacant };
        let find = |members: &[Member<'_>], id| members.iter().position(|m| m.id() == id);
        let target = running.target.and_then(|id| find(members, id));
        if let Some(at) = target {
            members[at].part.hidden = true;
        }
        let Some(at) = find(members, running.source()) else { return vacant };
        if members[at].is_shadow() {
            // The pool's laws leave it alone, and go on counting it.
            members[at].busy = true;
        }
        let Some(target) = target.filter(|target| members[*target].able) else { return vacant };
        let takes_over = running.phase == MigrationPhase::Shifting && !members[at].able;
        if (running.is_last(&spec.migration) || takes_over) && members[at].is_base() {
            members[at].part.replaced = true;
            members[target].part.stands = true;
        }
        let has_none = known.get(&running.source()).is_none_or(|known| known.weight == 0);
        if !act && has_none && running.is_last(&spec.migration) {
            members[at].able = false;
        }
        vacant
    }

    /// What became in this tick of a migration that shifted by a plan that is learned, and where it went.
    pub(crate) fn take_outcome(&mut self) -> Option<(PlaceName, ShiftOutcome)> {
        self.outcome.take()
    }

    /// Shadows of the pool's bound that its laws do not see.
    pub(crate) fn beside(&self, members: &[Member<'_>]) -> u32 {
        let hidden = count(members.iter().filter(|m| m.part.hidden));
        let awaited = self.running.as_ref().is_some_and(|running| running.awaited_ms.is_some());
        hidden.saturating_add(u32::from(awaited))
    }

    /// Creations under way that the pool does not count.
    pub(crate) fn pending(&self, now_ms: u64) -> u32 {
        let awaited = self.running.as_ref().and_then(|running| running.awaited_ms);
        u32::from(awaited.is_some_and(|at_ms| at_ms < now_ms))
    }

    /// Begins, goes on with and ends migrations.
    pub(crate) fn step(&mut self, scene: &mut Scene<'_>, facts: &Facts<'_>) -> Said {
        let mut said = Said::default();
        if self.is_idle(scene.spec, facts.seen) {
            return said;
        }
        if self.asked.is_some() {
            let all = candidates::all(scene, facts, &self.blocked(), (None, None));
            self.asked = Some(all.into_iter().map(|candidate| candidate.choice).collect());
            return said;
        }
        let orders = &facts.seen.migrations.orders;
        self.ended.retain(|ended| {
            let stands = orders.iter().any(|order| Some(order.id) == ended.view.id);
            ended.told < 2 || stands
        });
        self.go_on(scene, facts, &mut said);
        for order in orders {
            self.follow(order, scene, facts, &mut said);
        }
        self.follow_risk(scene, facts, &mut said);
        if let Some(running) = &self.running {
            said.views.push(running.view(scene.now_ms));
            scene.shift = running.shift(&scene.spec.migration);
        }
        for ended in &mut self.ended {
            ended.told = ended.told.saturating_add(1);
            said.views.push(ended.view.clone());
        }
        said
    }

    fn go_on(&mut self, scene: &mut Scene<'_>, facts: &Facts<'_>, said: &mut Said) {
        let rested = std::mem::take(&mut self.rested);
        let Some(mut running) = self.running.take() else { return };
        if rested {
            running.pause(scene.now_ms, u64::MAX);
        }
        if !facts.act {
            running.pause(scene.now_ms, facts.observation.interval_ms);
            running.text =
                format!("{}: {}, so it is held as it stands", running.name(), held(facts));
            self.running = Some(running);
            return;
        }
        let order = facts.seen.migrations.orders.iter().find(|order| Some(order.id) == running.id);
        let cancelled = running.id.is_some() && order.is_none_or(|order| order.cancelled);
        match running.step(scene, facts, cancelled, said) {
            Turn::On => self.running = Some(running),
            Turn::Over(phase, text) => self.end(running, phase, text, scene, said),
        }
    }

    fn end(
        &mut self,
        mut running: Running,
        phase: MigrationPhase,
        text: String,
        scene: &mut Scene<'_>,
        said: &mut Said,
    ) {
        let source = running.source();
        let outcome = match running.phase {
            MigrationPhase::Draining if phase == MigrationPhase::Done => {
                running.paced.outcome(true)
            }
            MigrationPhase::RollingBack if running.is_fault => running.paced.outcome(false),
            _ => None,
        };
        self.outcome = outcome.map(|outcome| (running.schedule.target.clone(), outcome));
        if running.awaited_ms.take().is_some() {
            scene.pool.max = scene.pool.max.saturating_add(1);
        }
        running.go(phase, scene.now_ms, text.clone(), said);
        if phase == MigrationPhase::Done {
            running.moved = 1.0;
            self.rests.remove(&source);
            let target = running.target;
            if running.is_primary {
                self.settled.add(source, running.schedule.target.clone(), target);
            } else {
                self.settled.replace(source, target);
                let stands = |m: &Member<'_>| m.id() == source && m.heading.is_some();
                if scene.members.iter().any(stands) {
                    scene.order(source, None, Law::Migrate, format!("{source} ends: {text}"));
                }
            }
            self.settled.show(&mut scene.members, source, target);
        } else {
            running.moved = 0.0;
            if scene.spec.migration.risk.is_some() {
                self.rest_from(source, scene.now_ms);
            }
            self.release(&mut scene.members, running.target, source);
        }
        self.ended.push(Ended { view: running.view(scene.now_ms), told: 0 });
    }

    /// The target belongs to the pool from this tick on, the source is as it was.
    fn release(&self, members: &mut [Member<'_>], target: Option<InstanceId>, source: InstanceId) {
        for member in members {
            if Some(member.id()) == target {
                member.part = Part::default();
            } else if member.id() == source {
                member.part.replaced = false;
            }
        }
    }

    /// Instances that cannot be moved for what this law does with them, with the reason.
    fn blocked(&self) -> BTreeMap<InstanceId, (bool, String)> {
        let mut blocked = self.settled.blocked();
        if let Some(running) = &self.running {
            let text = format!("{} is under way, one moves at a time", running.name());
            blocked.insert(running.source(), (false, text.clone()));
            blocked.extend(running.target.map(|id| (id, (false, text))));
        }
        blocked
    }
}

/// Why nothing may be done.
fn held(facts: &Facts<'_>) -> String {
    match facts.seen.mode {
        crate::Mode::Act => "the kill switch is on".to_owned(),
        mode => format!("the service is in mode {mode}"),
    }
}
