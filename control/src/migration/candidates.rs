//! Who could move, and where to: what it would cost, what it would save, what speaks against it.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::paced::Paced;
use super::target::reserve;
use super::{Facts, held};
use crate::fleet::Member;
use crate::loss::state_text;
use crate::place::Spot;
use crate::scene::{Scene, count, shadows_text};
use crate::{
    InstanceId, MigrationChoice, MigrationOrder, MigrationSchedule, PlaceName, QuantileSpec,
    RiskAssessment, Role, Tier,
};

/// One that could move.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) choice: MigrationChoice,
    pub(super) is_primary: bool,
    /// Why it never can, as things are set.
    never: Option<String>,
    /// What moving it saves, in seconds of a full shadow; of no meaning where no place has a cost.
    worth_s: f64,
    /// Position of the place, best first.
    place: usize,
}

/// What speaks against a migration.
struct Objection {
    text: String,
    /// It does not pass by itself.
    lasts: bool,
}

fn for_now(text: impl Into<String>) -> Objection {
    Objection { text: text.into(), lasts: false }
}

fn for_good(text: impl Into<String>) -> Objection {
    Objection { text: text.into(), lasts: true }
}

/// Every pair of an instance and a place, best first; `only` leaves out others than these. Of instances
/// that are not named those that carry nothing are left out, of places that in which a shadow stands
/// already.
pub(super) fn all(
    scene: &Scene<'_>,
    facts: &Facts<'_>,
    blocked: &BTreeMap<InstanceId, (bool, String)>,
    only: (Option<InstanceId>, Option<&PlaceName>),
) -> Vec<Candidate> {
    if scene.spec.pool.is_none() {
        return Vec::new();
    }
    let (instance, place) = only;
    let general = general(scene, facts);
    let ranked = scene.places.ranked();
    let mut found = Vec::new();
    for member in &scene.members {
        let named = instance == Some(member.id());
        if !named && (instance.is_some() || !carries(member)) {
            continue;
        }
        let of_instance = of_instance(member, facts, blocked);
        for (rank, spot) in ranked.iter().enumerate() {
            let named = place == Some(&spot.spec.name);
            let is_there = stands_in(member, &spot.spec.name);
            if !named && (place.is_some() || is_there) {
                continue;
            }
            let of_place = of_place(scene, facts, member, spot);
            let objections = general.iter().chain(&of_instance).chain(&of_place);
            found.push(candidate(scene, facts, (member, spot, rank), objections));
        }
    }
    rank(&mut found, scene);
    found
}

/// The first that may move now, else the first that may later. An error is why none ever can; of none at
/// all there is nothing to say.
pub(super) fn best(ranked: &[Candidate]) -> Result<&Candidate, Option<&str>> {
    let now = ranked.iter().find(|candidate| candidate.choice.objections.is_empty());
    let later = || ranked.iter().find(|candidate| candidate.never.is_none());
    let never = || ranked.first().and_then(|candidate| candidate.never.as_deref());
    now.or_else(later).ok_or_else(never)
}

/// Best first: where places have costs by what moving saves, else by risk, then by load, then by place.
pub(super) fn rank(found: &mut [Candidate], scene: &Scene<'_>) {
    let priced = dearest(scene) > 0.0;
    found.sort_by(|a, b| {
        let (first, second) = (&a.choice, &b.choice);
        let by_worth = if priced { b.worth_s.total_cmp(&a.worth_s) } else { Ordering::Equal };
        by_worth
            .then_with(|| second.risk.total_cmp(&first.risk))
            .then_with(|| second.load_rps.total_cmp(&first.load_rps))
            .then_with(|| first.schedule.instance.cmp(&second.schedule.instance))
            .then_with(|| a.place.cmp(&b.place))
    });
}

/// Why an order finds nobody at all.
pub(super) fn nobody(scene: &Scene<'_>, facts: &Facts<'_>, order: &MigrationOrder) -> String {
    if scene.spec.pool.is_none() {
        return "the service has no pool of shadows; give it `shadows` with a provider".to_owned();
    }
    let known = |id: &InstanceId| facts.seen.instances.iter().any(|i| i.instance == *id);
    if let Some(id) = order.instance.filter(|id| !known(id)) {
        return format!("there is no instance {id} of this service");
    }
    let names = || {
        let names = scene.places.ranked().into_iter().map(|spot| spot.spec.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    match (&order.to, order.instance) {
        (Some(to), _) if scene.places.get(to).is_none() => {
            format!("there is no place {to}; there are: {}", names())
        }
        (Some(to), None) => format!("nobody serves that could move to {to}"),
        (None, Some(id)) => {
            format!("{id} stands in the only place there is ({}); add another", names())
        }
        _ => "nobody serves that could move".to_owned(),
    }
}

fn carries(member: &Member<'_>) -> bool {
    let in_hand = member.part.hidden && !member.part.stands;
    member.able && !member.part.replaced && !in_hand
}

fn stands_in(member: &Member<'_>, place: &PlaceName) -> bool {
    member.seen.role == Role::Shadow && member.seen.place == *place
}

fn general(scene: &Scene<'_>, facts: &Facts<'_>) -> Vec<Objection> {
    let mut objections = Vec::new();
    if !facts.act {
        objections.push(for_now(held(facts)));
    }
    let committed = scene.committed();
    if facts.floor.shadows > committed {
        objections.push(for_now(format!(
            "the service is short: {} should serve, {committed} do",
            shadows_text(facts.floor.shadows)
        )));
    }
    let is_meant_to_serve =
        |m: &&Member<'_>| m.is_primary() || matches!(m.heading, Some(Tier::Serving));
    let lost = scene.members.iter().filter(is_meant_to_serve);
    if let Some(lost) = lost.filter(|m| m.is_lost() && !m.part.replaced).map(|m| m.seen).next() {
        objections.push(for_now(format!("{}: what is lost comes first", state_text(lost))));
    }
    objections
}

fn of_instance(
    member: &Member<'_>,
    facts: &Facts<'_>,
    blocked: &BTreeMap<InstanceId, (bool, String)>,
) -> Vec<Objection> {
    let id = member.id();
    let mut objections = Vec::new();
    if let Some((lasts, text)) = blocked.get(&id) {
        objections.push(Objection { text: text.clone(), lasts: *lasts });
    } else if member.seen.role == Role::Shadow && member.seen.tier != Tier::Serving {
        objections.push(for_good(format!(
            "{id} is a {} shadow and carries nothing; only what serves is moved",
            member.seen.tier
        )));
    } else if !member.able {
        objections.push(for_now(state_text(member.seen)));
    } else if facts.returning == Some(id) || member.busy {
        objections.push(for_now(format!("a step of {id} is under way")));
    }
    objections
}

fn of_place(
    scene: &Scene<'_>,
    facts: &Facts<'_>,
    member: &Member<'_>,
    spot: &Spot<'_>,
) -> Vec<Objection> {
    let place = &spot.spec.name;
    if stands_in(member, place) {
        return vec![for_good(format!("{} already is in {place}", member.id()))];
    }
    if spot.spec.max == Some(0) || scene.spec.pool.is_some_and(|pool| pool.max == 0) {
        return vec![for_good(format!("{place} may hold no shadow: its max or the pool's is 0"))];
    }
    if reserve(scene, place, member.id(), (false, facts.floor)).is_some() {
        return Vec::new();
    }
    let mut objections = Vec::new();
    objections.extend(spot.objection().map(|why| for_now(format!("{place} {why}"))));
    let exist = count(scene.shadows()).saturating_add(scene.providers.pending());
    if exist >= scene.pool.max {
        objections.push(for_now(format!(
            "no reserve stands in {place} and the pool has its max of {}: raise `max` or wait until \
             one ends",
            scene.pool.max
        )));
    }
    objections
}

/// The dearest place, per hour.
fn dearest(scene: &Scene<'_>) -> f64 {
    let costs = scene.places.ranked().into_iter().map(|spot| price(spot.spec.cost_per_hour));
    costs.fold(0.0, f64::max)
}

fn price(cost: f64) -> f64 {
    if cost.is_finite() { cost.max(0.0) } else { 0.0 }
}

fn candidate<'a>(
    scene: &Scene<'_>,
    facts: &Facts<'_>,
    (member, spot, place): (&Member<'_>, &Spot<'_>, usize),
    objections: impl Iterator<Item = &'a Objection>,
) -> Candidate {
    let id = member.id();
    let risk = facts.risk.likely(id);
    let load_rps = facts.share(id) * scene.outlook.now_rps;
    let duration_ms = duration_ms(scene, facts, member, spot);
    let cost_per_hour = price(spot.spec.cost_per_hour) - cost_here(scene, member);
    let outage_s = (spot.leads.ms(Tier::Cold, Tier::Serving) + scene.warm_up_ms) as f64 / 1_000.0;
    let filled = (load_rps / (scene.supply.target * member.rps).max(1e-3)).min(10.0);
    let saved_s = risk * filled * violation_cost(&scene.spec.quantiles) * outage_s;
    let horizon_s = RiskAssessment::HORIZON_MS as f64 / 1_000.0;
    let extra_s = cost_per_hour / dearest(scene).max(1e-9) * horizon_s;
    let worth_s = saved_s - extra_s - duration_ms as f64 / 1_000.0;
    let mut text = format!(
        "{id} fails within {horizon_s:.0} s with a probability of {:.0}% and carries {load_rps:.0} \
         rps",
        risk * 100.0
    );
    if dearest(scene) > 0.0 {
        text += &format!(
            "; where a replacement takes {outage_s:.1} s, moving it in time saves {saved_s:.0} s of \
             a full shadow, and costs {extra_s:.0} s for the place and {:.0} s beside each other",
            duration_ms as f64 / 1_000.0
        );
    }
    text += &format!("; {} is number {} of the places", spot.text(), place + 1);
    let mut never = None;
    let mut said = Vec::new();
    for objection in objections {
        if objection.lasts {
            never.get_or_insert_with(|| objection.text.clone());
        }
        said.push(objection.text.clone());
    }
    let schedule = MigrationSchedule {
        instance: id,
        target: spot.spec.name.clone(),
        start_ms: facts.observation.at_ms,
        estimated_duration_ms: duration_ms,
    };
    let free_rps = free_rps(scene, spot);
    let choice = MigrationChoice {
        schedule,
        risk,
        load_rps,
        free_rps,
        cost_per_hour,
        objections: said,
        text,
    };
    Candidate { choice, is_primary: member.is_primary(), never, worth_s, place }
}

/// What a second without a shadow that is needed costs, in seconds of a full one: as the commit quantile
/// has it, and what is taken where nothing is said of costs.
fn violation_cost(quantiles: &QuantileSpec) -> f64 {
    let commit = quantiles.commit;
    if commit > 0.5 && commit < 1.0 {
        commit / (1.0 - commit)
    } else {
        QuantileSpec::VIOLATION_COST
    }
}

/// What the instance costs where it is: of a primary, what the cheapest place of its zone does.
fn cost_here(scene: &Scene<'_>, member: &Member<'_>) -> f64 {
    let spots = scene.places.ranked();
    let here = spots.iter().filter(|spot| match member.seen.role {
        Role::Shadow => spot.spec.name == member.seen.place,
        Role::Primary => !member.seen.zone.is_empty() && spot.spec.zone == member.seen.zone,
    });
    here.map(|spot| price(spot.spec.cost_per_hour)).min_by(f64::total_cmp).unwrap_or(0.0)
}

/// Lead times of the place, every step's time, and the drain.
fn duration_ms(scene: &Scene<'_>, facts: &Facts<'_>, member: &Member<'_>, spot: &Spot<'_>) -> u64 {
    let paced = Paced::of(scene, &spot.spec.name);
    let spec = &*paced.spec(&scene.spec.migration);
    let ready = reserve(scene, &spot.spec.name, member.id(), (false, facts.floor));
    let lead_ms = match ready.map(|(_, tier)| tier) {
        Some(Tier::Serving) => 0,
        Some(tier) => spot.leads.ms(tier, Tier::Serving),
        None => spot.leads.ms(Tier::Cold, Tier::Serving),
    };
    let slew_per_s = scene.spec.weights.slew_per_s.max(0.01);
    let slew_ms = (facts.share(member.id()) / slew_per_s * 1_000.0) as u64;
    let verify_ms = spec.verify_ms.saturating_mul(spec.count() as u64);
    [lead_ms, scene.warm_up_ms, slew_ms, verify_ms, spec.drain_ms]
        .into_iter()
        .fold(0, u64::saturating_add)
}

/// Requests per second that ready shadows of a place, and more where it has room, could carry.
fn free_rps(scene: &Scene<'_>, spot: &Spot<'_>) -> Option<f64> {
    if !scene.supply.known {
        return None;
    }
    let rests = |m: &&Member<'_>| {
        m.seen.place == spot.spec.name
            && !m.is_lost()
            && m.heading.is_some_and(|to| to < Tier::Serving)
    };
    let most = spot.spec.max.or(spot.spec.spare)?;
    let ready = count(scene.shadows().filter(rests));
    let room = most.saturating_sub(spot.exist).min(scene.pool.max);
    Some(f64::from(ready.saturating_add(room)) * scene.supply.shadow_rps)
}
