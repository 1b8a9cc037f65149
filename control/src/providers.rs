//! The providers of one service, one for each place.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::lead_time::LeadTimes;
use crate::learning::CutShort;
use crate::provider::ProviderView;
use crate::{Fact, InstanceId, InstanceObservation, PlaceName, PlaceSpec, Role, Tier};

/// What is known of the provider in each place. That of the place without a name is written as the one
/// provider of a service was before there were places.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Providers {
    #[serde(flatten)]
    unnamed: ProviderView,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    elsewhere: BTreeMap<PlaceName, ProviderView>,
}

/// Of a place that was never heard of.
static NO_LEADS: LeadTimes = LeadTimes::NONE;

impl Providers {
    fn view(&self, place: &PlaceName) -> Option<&ProviderView> {
        if place.is_default() { Some(&self.unnamed) } else { self.elsewhere.get(place) }
    }

    fn view_mut(&mut self, place: &PlaceName) -> &mut ProviderView {
        if place.is_default() {
            return &mut self.unnamed;
        }
        self.elsewhere.entry(place.clone()).or_default()
    }

    fn all(&self) -> impl Iterator<Item = &ProviderView> {
        std::iter::once(&self.unnamed).chain(self.elsewhere.values())
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut ProviderView> {
        std::iter::once(&mut self.unnamed).chain(self.elsewhere.values_mut())
    }

    /// Forgets places that are neither configured nor have shadows.
    pub(crate) fn retain(&mut self, places: &[PlaceSpec], instances: &[InstanceObservation]) {
        self.elsewhere.retain(|name, _| {
            let has_shadow = |i: &InstanceObservation| i.role == Role::Shadow && i.place == *name;
            places.iter().any(|place| place.name == *name) || instances.iter().any(has_shadow)
        });
    }

    /// Takes one fact; see [`ProviderView::learn`]. `place_of` says where an instance is, as far as it was
    /// ever seen; what nobody saw is taken to be where a creation is under way.
    pub(crate) fn learn(
        &mut self,
        fact: &Fact,
        now_ms: u64,
        place_of: impl Fn(InstanceId) -> Option<PlaceName>,
        is_there: impl Fn(InstanceId) -> bool,
    ) -> Option<(InstanceId, u64)> {
        let place = match fact {
            Fact::StepFailed { place, .. } => place.clone(),
            Fact::TierReached { instance, .. }
            | Fact::Exited { instance, .. }
            | Fact::Adopted { instance, .. } => {
                place_of(*instance).unwrap_or_else(|| self.awaiting())
            }
        };
        self.view_mut(&place).learn(fact, now_ms, is_there)
    }

    /// A step in a place failed after a while.
    pub(crate) fn learn_failed(&mut self, cut: &CutShort) {
        self.view_mut(&cut.place).leads.learn_failed(cut.from, cut.to, cut.after_ms);
    }

    /// Forgets how long steps were under way that failed.
    pub(crate) fn forget_failed(&mut self) {
        self.all_mut().for_each(|view| view.leads.forget_failed());
    }

    /// The first place where a creation is under way.
    fn awaiting(&self) -> PlaceName {
        let awaits =
            |(name, view): (&PlaceName, &ProviderView)| view.awaits().then(|| name.clone());
        let elsewhere = || self.elsewhere.iter().find_map(awaits);
        (!self.unnamed.awaits()).then(elsewhere).flatten().unwrap_or_default()
    }

    /// See [`ProviderView::remember_settled`].
    pub(crate) fn remember_settled(&mut self, place: &PlaceName, id: InstanceId) {
        self.view_mut(place).remember_settled(id);
    }

    /// See [`ProviderView::was_awaited`].
    pub(crate) fn was_awaited(&self, place: &PlaceName, id: InstanceId) -> bool {
        self.view(place).is_none_or(|view| view.was_awaited(id))
    }

    /// Creations that became visible, or never will, are no longer under way; `new_shadows` of each place
    /// have become visible.
    pub(crate) fn settle(&mut self, new_shadows: &BTreeMap<PlaceName, u32>, now_ms: u64) {
        for (place, count) in new_shadows {
            self.view_mut(place).settle(*count, now_ms);
        }
        for view in self.all_mut() {
            view.settle(0, now_ms);
        }
    }

    /// Failures that were not repeated are forgotten, but not where the next attempt is under way.
    pub(crate) fn forgive(&mut self, now_ms: u64, instances: &[InstanceObservation]) {
        let is_made = |i: &InstanceObservation| {
            i.role == Role::Shadow && i.tier == Tier::Cold && i.moving_to != Some(Tier::Cold)
        };
        let tries = |at: &PlaceName| instances.iter().any(|i| is_made(i) && i.place == *at);
        self.unnamed.forgive(now_ms, tries(&PlaceName::default()));
        for (place, view) in &mut self.elsewhere {
            view.forgive(now_ms, tries(place));
        }
    }

    /// A creation was ordered.
    pub(crate) fn ordered(&mut self, place: &PlaceName, now_ms: u64) {
        self.view_mut(place).ordered(now_ms);
    }

    /// When an order for a step given now is taken for lost.
    pub(crate) fn expiry_ms(
        &self,
        place: &PlaceName,
        (from, to): (Tier, Tier),
        now_ms: u64,
    ) -> u64 {
        self.view(place).unwrap_or(&self.unnamed).expiry_ms(from, to, now_ms)
    }

    /// Creations under way that are not visible yet, in all places.
    pub(crate) fn pending(&self) -> u32 {
        self.all().map(ProviderView::pending).fold(0, u32::saturating_add)
    }

    /// Of one place.
    pub(crate) fn of(&self, place: &PlaceName) -> Option<&ProviderView> {
        self.view(place)
    }

    /// How long steps take in a place.
    pub(crate) fn leads(&self, place: &PlaceName) -> &LeadTimes {
        self.view(place).map_or(&NO_LEADS, |view| &view.leads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(id: u64, took_ms: u64) -> Fact {
        Fact::TierReached {
            instance: InstanceId(id),
            from: Tier::Cold,
            tier: Tier::Shadow,
            took_ms,
        }
    }

    #[test]
    fn each_place_has_lead_times_and_refusals_of_its_own() {
        let mut providers = Providers::default();
        let (near, far) = (PlaceName::from("near"), PlaceName::from("far"));
        let place_of = |id: InstanceId| Some(if id.0 == 1 { near.clone() } else { far.clone() });
        providers.learn(&reached(1, 400), 0, place_of, |_| true);
        providers.learn(&reached(2, 90_000), 0, place_of, |_| true);
        let failed = Fact::StepFailed {
            instance: None,
            to: Tier::Shadow,
            error: "no quota".to_owned(),
            retry_in_ms: 700,
            place: far.clone(),
        };
        providers.learn(&failed, 100, place_of, |_| true);
        assert_eq!(providers.leads(&near).ms(Tier::Cold, Tier::Shadow), 400);
        assert_eq!(providers.leads(&far).ms(Tier::Cold, Tier::Shadow), 90_000);
        let blocked = |place| providers.of(place).map(|view| view.blocked_ms(700));
        assert_eq!((blocked(&near), blocked(&far)), (Some(0), Some(100)));
        let refused = providers.of(&far).and_then(|view| view.refusal(700));
        assert_eq!(refused.map(|refusal| refusal.error), Some("no quota"));
    }

    #[test]
    fn what_a_release_without_places_kept_is_read() {
        let mut old = ProviderView::default();
        old.ordered(0);
        let json = serde_json::to_string(&old).expect("plain values have a form in JSON");
        let providers: Providers = serde_json::from_str(&json).expect("an older layout");
        assert_eq!(providers.pending(), 1);
        assert_eq!(serde_json::to_string(&providers).expect("plain"), json, "and written alike");
    }
}
