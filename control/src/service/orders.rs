//! What became of orders, and those given now.

use super::Service;
use crate::fleet::{Issued, Sighted};
use crate::{Action, Fact, InstanceId, Law, PlaceName, PlannedAction, ServiceObservation, Tier};

impl Service {
    /// Takes what happened; returns the shadows that were taken over.
    pub(super) fn learn_facts(
        &mut self,
        seen: &ServiceObservation,
        sighted: &Sighted,
        now_ms: u64,
    ) -> Vec<InstanceId> {
        for (id, place) in &sighted.gone {
            self.provider.remember_settled(place, *id);
        }
        let mut adopted = Vec::new();
        for fact in &seen.facts {
            let known = &self.fleet.known;
            let place_of = |id| {
                let gone = || sighted.gone.iter().find(|(gone, _)| *gone == id);
                let there = known.get(&id).map(|known| known.place.clone());
                there.or_else(|| gone().map(|(_, place)| place.clone()))
            };
            let is_there = |id| known.contains_key(&id);
            if let Some((id, until_ms)) = self.provider.learn(fact, now_ms, place_of, is_there)
                && let Some(known) = self.fleet.known.get_mut(&id)
            {
                known.blocked_until_ms = until_ms;
                known.issued = None;
            }
            match fact {
                Fact::Exited { .. } => {
                    self.lost_shadows = self.lost_shadows.saturating_add(1);
                }
                Fact::Adopted { instance, .. } => adopted.push(*instance),
                Fact::TierReached { .. } | Fact::StepFailed { .. } => {}
            }
        }
        adopted
    }

    /// Takes what became of creations and steps, by place, where that is learned.
    pub(super) fn learn_outcomes(
        &mut self,
        seen: &ServiceObservation,
        now_ms: u64,
        elapsed_ms: u64,
    ) {
        let outcomes = self.spec.learning.outcomes;
        self.fleet.warm_up.retain(&self.spec.places, outcomes);
        if outcomes {
            let cut = self.learning.observe(seen, &self.spec.places, now_ms, elapsed_ms);
            cut.iter().for_each(|cut| self.provider.learn_failed(cut));
        }
    }

    /// Remembers the orders that are being carried out, so that none is given twice.
    pub(super) fn remember(&mut self, seen: &ServiceObservation, actions: &[PlannedAction]) {
        let now_ms = self.clock.now_ms();
        let found = |id| seen.instances.iter().find(|i| i.instance == id);
        for planned in actions {
            let (id, to) = match planned.action {
                Action::Create { ref place, .. } => {
                    self.provider.ordered(place, now_ms);
                    if planned.reason.law != Law::Migrate {
                        self.lost_shadows = self.lost_shadows.saturating_sub(1);
                    }
                    continue;
                }
                Action::Move { instance, tier } => (instance, Some(tier)),
                Action::Destroy { instance } => (instance, None),
            };
            let (from, place) =
                found(id).map_or((Tier::Cold, PlaceName::default()), |i| (i.tier, i.place.clone()));
            let step = (from, to.unwrap_or(Tier::Cold));
            let expires_ms = self.provider.expiry_ms(&place, step, now_ms);
            if let Some(known) = self.fleet.known.get_mut(&id) {
                known.issued = Some(Issued { to, expires_ms });
            }
        }
    }
}
