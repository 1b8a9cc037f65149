//! What became of what was done in each place, and what follows from it.
//!
//! Creations, steps and losses are counted by place, the older ones less (`outcomes`, `beta`). A place of
//! which failures are remembered is asked earlier, for more where demand needs them, and after places that
//! cost no more and fail less. Until a failure is remembered nothing is decided otherwise than without
//! learning; without [`LearningSpec::outcomes`] nothing is remembered.
//!
//! Migrations to a place may shift by one of three plans (`pace`), chosen by what became of earlier ones
//! (`shifts`), where [`LearningSpec::steps`] says so.

mod beta;
mod outcomes;
mod pace;
mod shifts;
mod spec;
#[cfg(test)]
mod trials;
mod view;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fleet::may_take_requests;
use crate::{
    Fact, Health, InstanceId, PlaceName, PlaceSpec, Role, ServiceObservation, ServiceSpec, Tier,
};

pub(crate) use outcomes::Outcomes;
pub use pace::{Pace, Shift, ShiftOutcome};
use shifts::Shifts;
pub use shifts::most_failures;
pub use spec::LearningSpec;
pub use view::{ArmView, LearningView, OutcomeView, PlaceShifts, PlaceView, RungView};

/// Steps under way that are remembered at most.
const MOST_MOVES: usize = 10_000;

/// What is known of one service's places.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Learning {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    places: BTreeMap<PlaceName, Outcomes>,
    /// Shadows that serve, and steps under way with their begin.
    #[serde(with = "crate::as_pairs", skip_serializing_if = "BTreeMap::is_empty")]
    watched: BTreeMap<InstanceId, Watched>,
    /// By the place that instances moved to.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    shifts: BTreeMap<PlaceName, Shifts>,
}

/// What is remembered of a shadow from tick to tick.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Watched {
    #[serde(default, skip_serializing_if = "PlaceName::is_default")]
    place: PlaceName,
    tier: Tier,
    moving_to: Option<Tier>,
    /// Since when it is moved there.
    since_ms: u64,
    serves: bool,
}

/// A creation or step that failed after a while: it would have taken longer than that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CutShort {
    pub(crate) place: PlaceName,
    pub(crate) from: Tier,
    pub(crate) to: Tier,
    pub(crate) after_ms: u64,
}

impl Learning {
    /// Whether nothing is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty() && self.watched.is_empty() && self.shifts.is_empty()
    }

    /// Forgets what is not to be learned any more.
    pub(crate) fn configure(&mut self, spec: &LearningSpec) {
        if !spec.outcomes {
            self.places.clear();
            self.watched.clear();
        }
        if !spec.steps {
            self.shifts.clear();
        }
    }

    /// How the next migration to a place shifts; as configured where nothing is learned of it.
    pub(crate) fn choose(&self, place: &PlaceName, spec: &ServiceSpec) -> Shift {
        if !spec.learning.steps {
            return Shift {
                pace: Pace::Normal,
                steps: spec.migration.steps.clone(),
                verify_ms: spec.migration.verify_ms,
                text: String::new(),
            };
        }
        let fresh = Shifts::default();
        self.shifts.get(place).unwrap_or(&fresh).choose(spec.learning, &spec.migration)
    }

    /// Takes what became of a migration to a place.
    pub(crate) fn learn_shift(
        &mut self,
        place: &PlaceName,
        outcome: ShiftOutcome,
        spec: &ServiceSpec,
    ) {
        let is_there = place.is_default() || spec.places.iter().any(|spec| spec.name == *place);
        if spec.learning.steps && is_there {
            self.shifts.entry(place.clone()).or_default().learn(outcome, spec.learning);
        }
    }

    /// What became of what was done in a place.
    pub(crate) fn of(&self, place: &PlaceName) -> Option<&Outcomes> {
        self.places.get(place)
    }

    /// Takes one tick; returns the steps that failed, with how long they were under way.
    pub(crate) fn observe(
        &mut self,
        seen: &ServiceObservation,
        specs: &[PlaceSpec],
        now_ms: u64,
        elapsed_ms: u64,
    ) -> Vec<CutShort> {
        self.places.values_mut().for_each(|outcomes| outcomes.age(now_ms));
        let cut_short =
            seen.facts.iter().filter_map(|fact| self.take(fact, seen, now_ms)).collect();
        self.watch(seen, now_ms, elapsed_ms);
        self.places.retain(|name, outcomes| {
            let is_there = name.is_default() || specs.iter().any(|spec| spec.name == *name);
            is_there && !outcomes.is_forgotten()
        });
        cut_short
    }

    fn take(&mut self, fact: &Fact, seen: &ServiceObservation, now_ms: u64) -> Option<CutShort> {
        match fact {
            Fact::TierReached { instance, from, tier, .. } => {
                let there = seen.instances.iter().find(|i| i.instance == *instance);
                let known = || self.watched.get(instance).map(|watched| watched.place.clone());
                let place = there.map(|i| i.place.clone()).or_else(known)?;
                self.at(place, now_ms).worked(*from, *tier);
                None
            }
            Fact::StepFailed { instance, to, retry_in_ms, place, .. } => {
                let until_ms = now_ms.saturating_add(*retry_in_ms);
                self.at(place.clone(), now_ms).failed(*to, now_ms, until_ms);
                let id = (*instance)?;
                let watched = self.watched.get_mut(&id)?;
                let was_moved = watched.moving_to == Some(*to);
                let (from, since_ms) = (watched.tier, watched.since_ms);
                // Where it is tried again at once that is another try.
                watched.since_ms = now_ms;
                was_moved.then(|| CutShort {
                    place: place.clone(),
                    from,
                    to: *to,
                    after_ms: now_ms.saturating_sub(since_ms),
                })
            }
            Fact::Exited { instance, .. } => {
                let watched = self.watched.remove(instance)?;
                if watched.serves {
                    self.at(watched.place, now_ms).lost += 1.0;
                }
                None
            }
            Fact::Adopted { .. } => None,
        }
    }

    fn at(&mut self, place: PlaceName, now_ms: u64) -> &mut Outcomes {
        let outcomes = self.places.entry(place).or_default();
        outcomes.age(now_ms);
        outcomes
    }

    /// Follows the shadows there are.
    fn watch(&mut self, seen: &ServiceObservation, now_ms: u64, elapsed_ms: u64) {
        let mut before = std::mem::take(&mut self.watched);
        for shadow in seen.instances.iter().filter(|i| i.role == Role::Shadow) {
            if self.watched.len() >= MOST_MOVES {
                break;
            }
            let known = before.remove(&shadow.instance);
            let serves = may_take_requests(shadow);
            let went_down = known.as_ref().is_some_and(|known| known.serves)
                && shadow.tier == Tier::Serving
                && matches!(shadow.health, Health::Down(_));
            if went_down {
                self.at(shadow.place.clone(), now_ms).lost += 1.0;
            }
            if serves {
                self.at(shadow.place.clone(), now_ms).served_ms += elapsed_ms as f64;
            }
            if !serves && shadow.moving_to.is_none() {
                continue;
            }
            let same =
                |known: &Watched| known.moving_to == shadow.moving_to && known.tier == shadow.tier;
            let since_ms = known.filter(same).map_or(now_ms, |known| known.since_ms);
            let watched = Watched {
                place: shadow.place.clone(),
                tier: shadow.tier,
                moving_to: shadow.moving_to,
                since_ms,
                serves,
            };
            self.watched.insert(shadow.instance, watched);
        }
    }
}
