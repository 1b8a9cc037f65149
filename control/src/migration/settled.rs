//! Primaries that moved for good, and the shadows that stand for them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fleet::Member;
use crate::scene::count;
use crate::{InstanceId, PlaceName, ServiceObservation};

/// All primaries of a service that have moved and are drained since, or soon will be.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Settled(Vec<Moved>);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Moved {
    primary: InstanceId,
    place: PlaceName,
    /// The shadow that is filled in its place; none while that one is lost.
    target: Option<InstanceId>,
    /// The node has drained it: when it does so no longer, somebody has taken it back.
    drained: bool,
}

impl Settled {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A primary has moved.
    pub(super) fn add(
        &mut self,
        primary: InstanceId,
        place: PlaceName,
        target: Option<InstanceId>,
    ) {
        self.0.retain(|moved| moved.primary != primary);
        self.0.push(Moved { primary, place, target, drained: false });
    }

    /// A shadow that stands for a primary has moved, too.
    pub(super) fn replace(&mut self, shadow: InstanceId, by: Option<InstanceId>) {
        for moved in self.0.iter_mut().filter(|moved| moved.target == Some(shadow)) {
            moved.target = by;
        }
    }

    /// Lets the laws of this tick see what has just ended so.
    pub(super) fn show(
        &self,
        members: &mut [Member<'_>],
        source: InstanceId,
        target: Option<InstanceId>,
    ) {
        let stands = |id| self.0.iter().any(|moved| moved.target == Some(id));
        let is_primary = self.0.iter().any(|moved| moved.primary == source);
        for member in members {
            let id = member.id();
            if id == source && is_primary {
                member.part.replaced = true;
                (member.able, member.eligible) = (false, false);
            } else if id == source {
                member.part.stands = false;
                member.part.hidden = false;
            } else if Some(id) == target {
                (member.part.hidden, member.part.stands) = (stands(id), stands(id));
            }
        }
    }

    /// Why those it holds cannot be moved; whether for good.
    pub(super) fn blocked(&self) -> BTreeMap<InstanceId, (bool, String)> {
        let text = |id| (true, format!("{id} has moved already and carries nothing"));
        self.0.iter().map(|moved| (moved.primary, text(moved.primary))).collect()
    }

    /// Follows who is drained and who stands for whom, and marks both. `pair` is the migration under way.
    /// Returns for how many nobody stands.
    pub(super) fn mark(
        &mut self,
        members: &mut [Member<'_>],
        seen: &ServiceObservation,
        pair: Option<(InstanceId, Option<InstanceId>)>,
    ) -> u32 {
        self.hear(members, seen);
        let primaries: Vec<InstanceId> = self.0.iter().map(|moved| moved.primary).collect();
        let is_moved = |m: &Member<'_>| primaries.contains(&m.id());
        let in_hand = |id| pair.is_some_and(|(from, to)| id == from || Some(id) == to);
        for at in 0..self.0.len() {
            let taken: Vec<InstanceId> = self.0.iter().filter_map(|moved| moved.target).collect();
            let moved = &mut self.0[at];
            let serves = |m: &&Member<'_>| m.is_shadow() && m.able;
            let stands = members.iter().filter(serves).any(|m| Some(m.id()) == moved.target);
            if !stands {
                let free = members
                    .iter()
                    .filter(serves)
                    .filter(|m| !in_hand(m.id()) && !taken.contains(&m.id()) && !m.busy);
                let near = free.min_by_key(|m| (m.seen.place != moved.place, m.id()));
                moved.target = near.map(Member::id);
            }
            let target = members.iter_mut().find(|m| Some(m.id()) == moved.target);
            if let Some(target) = target {
                (target.part.hidden, target.part.stands) = (true, true);
            }
        }
        let others_serve = members.iter().any(|m| m.able && !is_moved(m));
        for member in members.iter_mut().filter(|m| is_moved(m)) {
            member.part.replaced = true;
            if others_serve {
                (member.able, member.eligible) = (false, false);
            }
        }
        count(self.0.iter().filter(|moved| moved.target.is_none()))
    }

    /// Takes what the node says of those it drains for good, and forgets who was taken back.
    fn hear(&mut self, members: &[Member<'_>], seen: &ServiceObservation) {
        let told = &seen.migrations.moved;
        for primary in told {
            if !self.0.iter().any(|moved| moved.primary == *primary) {
                let (primary, place) = (*primary, PlaceName::default());
                self.0.push(Moved { primary, place, target: None, drained: true });
            }
        }
        self.0.retain_mut(|moved| {
            let member = members.iter().find(|m| m.id() == moved.primary && m.is_primary());
            let is_drained = member.is_some_and(|m| m.seen.drained);
            moved.drained |= is_drained;
            let taken_back = moved.drained && !is_drained && !told.contains(&moved.primary);
            member.is_some() && !taken_back
        });
    }
}
