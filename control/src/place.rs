//! Where a new shadow is made: the places of a service, ranked, with what speaks against each.
//!
//! First come places that have not refused lately and have room to spare, then the zones of the primaries
//! that need it, those that lost some first; then what does not fail every third time, what costs less, what
//! is nearer, what is faster, tries that fail counted in. A place that is full or asks not to be asked is
//! passed over, which is said with the choice.

use std::cmp::Ordering;

use crate::alerts::Refusal;
use crate::fleet::Member;
use crate::lead_time::LeadTimes;
use crate::learning::{Learning, Outcomes};
use crate::providers::Providers;
use crate::scene::{count, shadows_text};
use crate::warm_up::WarmUp;
use crate::{PlaceName, PlaceSpec, Role, Tier};

/// One place in this tick.
#[derive(Clone, Debug)]
pub(crate) struct Spot<'a> {
    pub(crate) spec: PlaceSpec,
    pub(crate) leads: &'a LeadTimes,
    /// Shadows there, those being made or ordered now included.
    pub(crate) exist: u32,
    /// Primaries of its zone that are lost, less the shadows there.
    short: u32,
    /// Whether a primary runs in its zone.
    near: bool,
    /// Nothing could be made there lately.
    shunned: bool,
    /// For how long nothing may be asked of it, and what it said.
    blocked_ms: u64,
    refusal: Option<Refusal<'a>>,
    /// What became of creations here, where a failure is remembered.
    outcomes: Option<&'a Outcomes>,
}

/// All places of a service in this tick, in the order of its spec.
#[derive(Clone, Debug)]
pub(crate) struct Places<'a> {
    spots: Vec<Spot<'a>>,
    learned: Option<(&'a Learning, &'a WarmUp)>,
}

/// Where a shadow is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) place: PlaceName,
    /// Why there, to follow the reason of the creation; empty where there is only one place.
    pub(crate) why: String,
}

impl<'a> Places<'a> {
    pub(crate) fn of(
        specs: &[PlaceSpec],
        members: &[Member<'_>],
        providers: &'a Providers,
        now_ms: u64,
    ) -> Self {
        let only = [PlaceSpec::new(PlaceName::default())];
        let specs = if specs.is_empty() { &only[..] } else { specs };
        let spot = |spec: &PlaceSpec| {
            let view = providers.of(&spec.name);
            let is_shadow = |m: &&Member<'_>| m.seen.role == Role::Shadow;
            let here = members.iter().filter(is_shadow).filter(|m| m.seen.place == spec.name);
            let pending = view.map_or(0, |view| view.pending());
            let exist = count(here).saturating_add(pending);
            let of_zone = || members.iter().filter(|m| m.is_primary() && m.seen.zone == spec.zone);
            Spot {
                leads: providers.leads(&spec.name),
                exist,
                short: count(of_zone().filter(|m| m.is_lost())).saturating_sub(exist),
                near: of_zone().next().is_some(),
                shunned: view.is_some_and(|view| view.is_shunned(now_ms)),
                blocked_ms: view.map_or(0, |view| view.blocked_ms(now_ms)),
                refusal: view.and_then(|view| view.refusal(now_ms)),
                outcomes: None,
                spec: spec.clone(),
            }
        };
        Self { spots: specs.iter().map(spot).collect(), learned: None }
    }

    /// The same with what became of earlier creations in each, and how long shadows warmed up there.
    pub(crate) fn knowing(mut self, learning: &'a Learning, warm_up: &'a WarmUp) -> Self {
        for spot in &mut self.spots {
            let outcomes = learning.of(&spot.spec.name);
            spot.outcomes = outcomes.filter(|outcomes| outcomes.made.tells());
        }
        Self { learned: Some((learning, warm_up)), ..self }
    }

    /// What became of what was done in each.
    pub(crate) fn learning(&self) -> Option<&'a Learning> {
        self.learned.map(|(learning, _)| learning)
    }

    /// From an instance's first request to its usual speed in a place, or where the next would be made.
    pub(crate) fn warm_up_ms(&self, place: Option<&PlaceName>, prior_ms: u64) -> Option<u64> {
        let place = place.or_else(|| self.next().map(|spot| &spot.spec.name))?;
        Some(self.learned?.1.ms_in(place, prior_ms))
    }

    /// Hours ahead: as if no shadow existed, no primary were lost and nothing had failed. `is_near` tells
    /// whether primaries run in a zone.
    pub(crate) fn ahead(
        specs: &[PlaceSpec],
        is_near: impl Fn(&str) -> bool,
        providers: &'a Providers,
    ) -> Self {
        let only = [PlaceSpec::new(PlaceName::default())];
        let specs = if specs.is_empty() { &only[..] } else { specs };
        let spot = |spec: &PlaceSpec| Spot {
            leads: providers.leads(&spec.name),
            exist: 0,
            short: 0,
            near: is_near(&spec.zone),
            shunned: false,
            blocked_ms: 0,
            refusal: None,
            outcomes: None,
            spec: spec.clone(),
        };
        Self { spots: specs.iter().map(spot).collect(), learned: None }
    }

    pub(crate) fn are_many(&self) -> bool {
        self.spots.len() > 1
    }

    /// A place by its name, unless it is not configured any more.
    pub(crate) fn get(&self, name: &PlaceName) -> Option<&Spot<'a>> {
        self.spots.iter().find(|spot| spot.spec.name == *name)
    }

    /// What providers could not do lately, by place.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = (&PlaceName, &Refusal<'a>)> {
        self.spots.iter().filter_map(|spot| Some((&spot.spec.name, spot.refusal.as_ref()?)))
    }

    /// Whether steps of shadows in a place may be asked for now.
    pub(crate) fn may_ask(&self, name: &PlaceName) -> bool {
        self.get(name).is_some_and(|spot| spot.blocked_ms == 0)
    }

    /// Where the next shadow would be made, or where it would be if there were room.
    pub(crate) fn next(&self) -> Option<&Spot<'a>> {
        let ranked = self.ranked();
        let able = ranked.iter().find(|spot| spot.objection().is_none());
        able.or(ranked.first()).copied()
    }

    /// How long steps take there.
    pub(crate) fn next_leads(&self) -> &'a LeadTimes {
        static NONE: LeadTimes = LeadTimes::NONE;
        self.next().map_or(&NONE, |spot| spot.leads)
    }

    /// Takes room for one more shadow in the best place that has some.
    ///
    /// # Errors
    /// What speaks against each place, where none has room.
    pub(crate) fn take(&mut self) -> Result<Chosen, String> {
        let ranked = self.ranked();
        let mut passed = Vec::new();
        let mut chosen = None;
        for spot in ranked {
            match spot.objection() {
                None => {
                    chosen = Some(spot.spec.name.clone());
                    break;
                }
                Some(why) => passed.push(self.named(spot, &why)),
            }
        }
        let Some(place) = chosen else { return Err(passed.join("; ")) };
        passed.extend(self.gone_round(&place));
        let many = self.are_many();
        let Some(spot) = self.spots.iter_mut().find(|spot| spot.spec.name == place) else {
            return Err(String::new());
        };
        let mut why = String::new();
        if many {
            why = format!("; it is made in {}", spot.text());
            if !passed.is_empty() {
                why += &format!(" in place of another: {}", passed.join("; "));
            }
        } else if let Some(fails) = spot.fails_text() {
            why = format!("; {fails}");
        }
        spot.exist = spot.exist.saturating_add(1);
        spot.short = spot.short.saturating_sub(1);
        Ok(Chosen { place, why })
    }

    /// Takes room for one more shadow in a named place; says why there, as a creation's reason does.
    ///
    /// # Errors
    /// What speaks against it.
    pub(crate) fn take_in(&mut self, name: &PlaceName) -> Result<String, String> {
        let many = self.are_many();
        let Some(spot) = self.spots.iter_mut().find(|spot| spot.spec.name == *name) else {
            return Err("is no place of this service any more".to_owned());
        };
        if let Some(why) = spot.objection() {
            return Err(why);
        }
        let why = if many { format!("; it is made in {}", spot.text()) } else { String::new() };
        spot.exist = spot.exist.saturating_add(1);
        Ok(why)
    }

    /// Places that would come before one if nothing had failed there lately.
    fn gone_round(&self, chosen: &PlaceName) -> Vec<String> {
        let calm = |spot: &Spot<'a>| Spot { shunned: false, ..spot.clone() };
        let steady = |spot: &Spot<'a>| Spot { outcomes: None, ..calm(spot) };
        let Some(chosen) = self.get(chosen) else { return Vec::new() };
        let said = |spot: &Spot<'a>| {
            if spot.objection().is_some() {
                None
            } else if spot.shunned && calm(spot).order(&calm(chosen)).is_lt() {
                Some(format!("{} failed lately", spot.spec.name))
            } else if spot.outcomes.is_some() && steady(spot).order(&steady(chosen)).is_lt() {
                Some(format!("{}: {}", spot.spec.name, spot.fails_text()?))
            } else {
                None
            }
        };
        self.spots
            .iter()
            .filter(|spot| spot.spec.name != chosen.spec.name)
            .filter_map(said)
            .collect()
    }

    /// Why nothing more can be made in any of them.
    pub(crate) fn shortage(&self) -> String {
        let objections = self.spots.iter().filter_map(|s| Some(self.named(s, &s.objection()?)));
        objections.collect::<Vec<_>>().join("; ")
    }

    /// The places that can be asked, by name.
    pub(crate) fn able(&self) -> Vec<&str> {
        let able = self.ranked().into_iter().filter(|spot| spot.objection().is_none());
        able.map(|spot| spot.spec.name.as_str()).collect()
    }

    fn named(&self, spot: &Spot<'_>, why: &str) -> String {
        if self.are_many() { format!("{} {why}", spot.spec.name) } else { format!("it {why}") }
    }

    /// Best first.
    pub(crate) fn ranked(&self) -> Vec<&Spot<'a>> {
        let mut ranked: Vec<&Spot<'a>> = self.spots.iter().collect();
        // Stable: of equals the first of the spec.
        ranked.sort_by(|a, b| a.order(b));
        ranked
    }
}

impl Spot<'_> {
    fn order(&self, other: &Self) -> Ordering {
        let beyond_spare = |spot: &Self| spot.spec.spare.is_some_and(|spare| spot.exist >= spare);
        let lead_ms =
            |spot: &Self| spot.leads.ms(Tier::Cold, Tier::Serving).saturating_add(spot.again_ms());
        let often_fails = |spot: &Self| spot.outcomes.is_some_and(Outcomes::often_fails);
        let plain = |spot: &Self| {
            let short = std::cmp::Reverse(spot.short);
            (spot.shunned, beyond_spare(spot), short, !spot.near, often_fails(spot))
        };
        plain(self)
            .cmp(&plain(other))
            .then_with(|| self.spec.cost_per_hour.total_cmp(&other.spec.cost_per_hour))
            .then_with(|| self.spec.latency_ms.total_cmp(&other.spec.latency_ms))
            .then_with(|| lead_ms(self).cmp(&lead_ms(other)))
    }

    /// Time that creations which fail are expected to take before one works; 0 where no failure is remembered.
    pub(crate) fn again_ms(&self) -> u64 {
        let tries = self.outcomes.map_or(1.0, |outcomes| outcomes.made.expected());
        ((tries - 1.0) * self.leads.ms(Tier::Cold, Tier::Shadow) as f64) as u64
    }

    /// Creations to begin so that `wanted` of them work with probability `sure`.
    pub(crate) fn tries_for(&self, wanted: u32, sure: f64) -> u32 {
        self.outcomes.map_or(wanted, |outcomes| outcomes.made.tries_for(wanted, sure))
    }

    /// "of 12 creations 5 failed lately, 1.6 tries are reckoned with".
    pub(crate) fn fails_text(&self) -> Option<String> {
        let made = self.outcomes?.made;
        let (count, failed) = (made.count(), made.failures());
        let tries = made.expected();
        Some(format!(
            "of {count:.1} creations {failed:.1} failed lately (older ones count less), so {tries:.1} \
             tries are reckoned with"
        ))
    }

    /// What keeps a shadow from being made here now.
    pub(crate) fn objection(&self) -> Option<String> {
        if let Some(max) = self.spec.max.filter(|max| self.exist >= *max) {
            return Some(format!("has {} and its max is {max}", shadows_text(self.exist)));
        }
        if self.blocked_ms == 0 {
            return None;
        }
        let error = self.refusal.map_or("it refused", |refusal| refusal.error);
        Some(format!("is not asked for {} ms more: {error}", self.blocked_ms))
    }

    /// The place with what it was chosen for.
    pub(crate) fn text(&self) -> String {
        let PlaceSpec { name, zone, cost_per_hour, latency_ms, spare, .. } = &self.spec;
        let mut text = name.to_string();
        let mut says = Vec::new();
        if !zone.is_empty() {
            let near = if self.near { "of primaries" } else { "without primaries" };
            says.push(format!("zone {zone}, {near}"));
        }
        if *cost_per_hour > 0.0 {
            says.push(format!("{cost_per_hour} per hour"));
        }
        if *latency_ms > 0.0 {
            says.push(format!("{latency_ms} ms away"));
        }
        if let Some(spare) = spare.filter(|spare| self.exist >= *spare) {
            says.push(format!("beyond its spare room for {spare}"));
        }
        if self.shunned {
            says.push("though it failed lately".to_owned());
        }
        says.extend(self.fails_text());
        if !says.is_empty() {
            text += &format!(" ({})", says.join(", "));
        }
        text
    }
}
