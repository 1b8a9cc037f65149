//! The target of a migration: who it is, and how it is made ready.

use super::running::{Running, Turn};
use super::{Facts, Said};
use crate::fleet::Member;
use crate::loss::state_text;
use crate::scene::{Scene, count};
use crate::tiers::Floor;
use crate::verification::Verdict;
use crate::{
    Action, Health, InstanceId, Law, MigrationPhase, PlaceName, PlannedAction, Reason, Tier,
};

/// A target whose checks fail is given so long to come back while it gets no requests.
const PATIENCE_MS: u64 = 2_000;

impl Running {
    pub(super) fn prepare(
        &mut self,
        scene: &mut Scene<'_>,
        facts: &Facts<'_>,
        said: &mut Said,
    ) -> Turn {
        let spec = &scene.spec.migration;
        let waited_ms = scene.now_ms.saturating_sub(self.since_ms);
        if waited_ms >= spec.ready_ms {
            let text = format!(
                "{}: no target was ready within {} ms: {}",
                self.name(),
                spec.ready_ms,
                self.text
            );
            self.is_fault = true;
            return Turn::Over(MigrationPhase::RolledBack, text);
        }
        if self.target.is_none() {
            self.find_target(scene, facts.floor, said);
        }
        let Some(id) = self.target else { return Turn::On };
        match target_state(scene, id) {
            TargetState::Lost(why) if self.replaced => {
                let text = format!("{}: a second target was lost: {why}", self.name());
                self.is_fault = true;
                return Turn::Over(MigrationPhase::RolledBack, text);
            }
            TargetState::Lost(why) => {
                let text =
                    format!("{}: the target was lost: {why}; another takes its place", self.name());
                if scene.members.iter().any(|m| m.id() == id && !m.busy) {
                    scene.order(id, None, Law::Migrate, text.clone());
                }
                (self.target, self.replaced) = (None, true);
                said.tell(text.clone());
                self.text = text;
            }
            TargetState::Coming => {
                self.text = format!("{}: {id} is made ready", self.name());
            }
            TargetState::At(tier) => self.raise(scene, id, tier),
            TargetState::Serves => {
                let part = self.paced.spec(spec).part(0) * 100.0;
                let text = format!(
                    "{}: {id} is verified and serves: {part:.0}% of the requests move first",
                    self.name()
                );
                self.go(MigrationPhase::Shifting, scene.now_ms, text, said);
            }
        }
        Turn::On
    }

    /// The next tier of a target that stands still.
    fn raise(&mut self, scene: &mut Scene<'_>, id: InstanceId, tier: Tier) {
        let to = if tier < Tier::Full { Tier::Full } else { Tier::Serving };
        let text = match to {
            Tier::Full => {
                format!("{id} to full: {} moves to {}", self.source(), self.schedule.target)
            }
            _ => format!(
                "{id} to serving: it is at full size and up, and {} moves to it",
                self.source()
            ),
        };
        self.text = text.clone();
        scene.order(id, Some(to), Law::Migrate, text);
    }

    /// The readiest shadow of the place that nobody needs; where there is none, one is made.
    fn find_target(&mut self, scene: &mut Scene<'_>, floor: Floor, said: &mut Said) {
        let place = self.schedule.target.clone();
        let awaited = self.awaited_ms.is_some();
        if let Some((id, tier)) = reserve(scene, &place, self.source(), (awaited, floor)) {
            self.target = Some(id);
            self.text = format!("{}: {id}, which is {tier} there, takes over", self.name());
            said.tell(self.text.clone());
            hide(scene, id, awaited);
            self.awaited_ms = None;
            return;
        }
        let pending = scene.providers.of(&place).map_or(0, |view| view.pending());
        if awaited && pending > 0 {
            self.text = format!("{}: a shadow is being made there", self.name());
            return;
        }
        if awaited {
            // What was ordered came to nothing; the room it would have taken is free again.
            self.awaited_ms = None;
            scene.pool.max = scene.pool.max.saturating_add(1);
        }
        let exist = count(scene.shadows()).saturating_add(scene.providers.pending());
        if exist >= scene.pool.max {
            self.text = format!(
                "{}: no shadow stands there and the pool has its max of {}",
                self.name(),
                scene.pool.max
            );
            return;
        }
        match scene.places.take_in(&place) {
            Ok(why) => {
                self.text =
                    format!("a shadow is made for {}: no reserve stands there{why}", self.name());
                let reason = Reason { law: Law::Migrate, text: self.text.clone() };
                let action = Action::Create { tier: Tier::Full, place };
                scene.actions.push(PlannedAction { action, reason });
                scene.pool.max = scene.pool.max.saturating_sub(1);
                self.awaited_ms = Some(scene.now_ms);
            }
            Err(why) => self.text = format!("{}: {place} {why}", self.name()),
        }
    }
}

enum TargetState {
    Lost(String),
    /// A step is under way or refused for now.
    Coming,
    At(Tier),
    Serves,
}

fn target_state(scene: &Scene<'_>, id: InstanceId) -> TargetState {
    let Some(member) = scene.members.iter().find(|m| m.id() == id) else {
        return TargetState::Lost(format!("{id} is gone"));
    };
    let lasting = member.lost_ms.is_some_and(|ms| ms >= PATIENCE_MS);
    if lasting || member.heading.is_none() || member.seen.drained {
        return TargetState::Lost(state_text(member.seen));
    }
    if member.verdict != Verdict::Fit && member.seen.tier < Tier::Serving {
        return TargetState::Lost(format!(
            "{id} disagrees with the primaries on mirrored requests"
        ));
    }
    match member.seen.tier {
        _ if member.busy => TargetState::Coming,
        Tier::Serving if member.able => TargetState::Serves,
        Tier::Serving => TargetState::Coming,
        Tier::Full if member.seen.health != Health::Up => TargetState::Coming,
        tier => TargetState::At(tier),
    }
}

/// The readiest shadow of a place that may be taken, with its tier: one that serves and is not needed
/// first, as the target of a migration that was forgotten in a crash does. `awaited`: one that is still
/// being made counts.
pub(super) fn reserve(
    scene: &Scene<'_>,
    place: &PlaceName,
    source: InstanceId,
    (awaited, floor): (bool, Floor),
) -> Option<(InstanceId, Tier)> {
    let resting = |m: &Member<'_>| !m.busy && m.heading == Some(m.seen.tier);
    let spare = scene.committed() > floor.shadows;
    let may = |m: &&Member<'_>| {
        let is_well = !m.is_lost() && !m.seen.drained && m.verdict == Verdict::Fit;
        let is_free = match m.seen.tier {
            Tier::Serving => resting(m) && spare && m.able,
            Tier::Draining => false,
            Tier::Cold => awaited && m.heading.is_some(),
            _ => resting(m) || (awaited && m.heading == Some(Tier::Full)),
        };
        m.id() != source && m.seen.place == *place && is_well && is_free
    };
    scene
        .shadows()
        .filter(may)
        .min_by_key(|m| {
            (std::cmp::Reverse(m.seen.tier), std::cmp::Reverse(m.seen.tier_age_ms), m.id())
        })
        .map(|m| (m.id(), m.seen.tier))
}

/// Takes a shadow out of the sight of the laws that follow in this tick.
fn hide(scene: &mut Scene<'_>, id: InstanceId, counted: bool) {
    if let Some(member) = scene.members.iter_mut().find(|m| m.id() == id) {
        member.part.hidden = true;
    }
    if !counted {
        scene.pool.max = scene.pool.max.saturating_sub(1);
    }
}
