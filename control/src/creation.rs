//! When a new shadow is made, and where.

use crate::announced::Asked;
use crate::fleet::Member;
use crate::scene::{Scene, asked_text, count, shadows_text};
use crate::tiers::{Floor, floor_text, resting_at};
use crate::{Action, Health, Law, PlannedAction, Reason, Step, Tier};

/// What is known of creations besides the shadows that exist.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Creations {
    /// Ordered and not yet visible.
    pub(crate) pending: u32,
    /// Shadows lost and not made again yet.
    pub(crate) lost: u32,
}

/// How many shadows each law wants to exist, and how many there are.
struct Wanted {
    asked: Asked,
    by_upper: u32,
    by_pool: u32,
    by_rule: u32,
    /// Kept in reserve, of `by_pool`.
    kept: u32,
    /// All of them together, those in place of lost primaries left out.
    all: u32,
    have: u32,
}

/// Makes new shadows: what the upper quantile prepares for, and what the pool lacks. Returns how many of
/// them no place has room for.
pub(crate) fn create(scene: &mut Scene<'_>, floor: Floor, creations: Creations) -> u32 {
    for id in resting_at(scene, Tier::Cold, u32::MAX) {
        let place = scene.shadows().find(|m| m.id() == id).map(|m| &m.seen.place);
        if place.is_some_and(|place| scene.places.may_ask(place)) {
            let text = format!("{id} to shadow: a step that failed left it cold");
            scene.order(id, Some(Tier::Shadow), Law::Pool, text);
        }
    }
    let wanted = wanted(scene, floor, creations.pending);
    let pool = scene.pool;
    let exist = count(scene.shadows()).saturating_add(creations.pending);
    let replacing = scene.supply.lost_primaries;
    let missing = wanted.all.saturating_add(replacing).saturating_sub(wanted.have);
    let missing = missing.min(pool.max.saturating_sub(exist));
    for nth in 0..missing {
        let Ok(chosen) = scene.places.take() else { return missing - nth };
        let (law, text) = reason(scene, floor, creations, &wanted, nth);
        let text = text + &chosen.why;
        let action = Action::Create { tier: Tier::Shadow, place: chosen.place };
        scene.actions.push(PlannedAction { action, reason: Reason { law, text } });
    }
    if missing == 0 {
        replace(scene, &wanted, exist);
    }
    cover_failures(scene, floor, creations, &wanted);
    0
}

/// One more where one was made under settings that have changed, before that one goes. Where there is no
/// room for both nobody is told of a shortage: that one makes room first.
fn replace(scene: &mut Scene<'_>, wanted: &Wanted, exist: u32) {
    let outdated = scene.replaced(Tier::Shadow);
    let needed = wanted.all.saturating_add(scene.supply.lost_primaries);
    let is_enough = wanted.have.saturating_sub(outdated) >= needed;
    if outdated == 0 || is_enough || exist >= scene.pool.max {
        return;
    }
    let Ok(chosen) = scene.places.take() else { return };
    let text = format!(
        "a shadow was made under settings that have changed: one more is made, and it goes when that is as \
         ready{}",
        chosen.why
    );
    let action = Action::Create { tier: Tier::Shadow, place: chosen.place };
    scene.actions.push(PlannedAction { action, reason: Reason { law: Law::Pool, text } });
}

/// Where creations fail lately, begins as many more of those that demand asks for that enough of them work with
/// the probability that the prepare quantile stands for: at most twice as many, within the pool.
fn cover_failures(scene: &mut Scene<'_>, floor: Floor, creations: Creations, wanted: &Wanted) {
    let Some((tries, fails)) = scene.places.next().and_then(|spot| {
        let fails = spot.fails_text()?;
        let by_demand = wanted.by_upper.max(floor.shadows);
        let is_made = |m: &&Member<'_>| m.seen.tier == Tier::Cold && m.heading.is_some();
        let there = scene.shadows().filter(|m| m.heading.is_some() && !is_down(&m.seen.health));
        let lacking = by_demand.saturating_sub(count(there.filter(|m| !is_made(m))));
        Some((spot.tries_for(lacking, scene.in_force.sure(Step::Prepare)), fails))
    }) else {
        return;
    };
    let is_made = |m: &&Member<'_>| m.seen.tier == Tier::Cold && m.heading.is_some();
    let ordered = |planned: &&PlannedAction| matches!(planned.action, Action::Create { .. });
    let begun = count(scene.shadows().filter(is_made))
        .saturating_add(creations.pending)
        .saturating_add(count(scene.actions.iter().filter(ordered)));
    let exist = count(scene.shadows())
        .saturating_add(creations.pending)
        .saturating_add(count(scene.actions.iter().filter(ordered)));
    let more = tries.saturating_sub(begun).min(scene.pool.max.saturating_sub(exist));
    for _ in 0..more {
        let Ok(chosen) = scene.places.take() else { return };
        let text = format!(
            "{begun} are being made, and some may fail: {fails}; {tries} are begun in all{}",
            if scene.places.are_many() { chosen.why.as_str() } else { "" }
        );
        let action = Action::Create { tier: Tier::Shadow, place: chosen.place };
        scene.actions.push(PlannedAction { action, reason: Reason { law: Law::Prepare, text } });
    }
}

fn wanted(scene: &Scene<'_>, floor: Floor, pending: u32) -> Wanted {
    let pool = scene.pool;
    let asked = scene.prepare_asked();
    let by_upper = scene.supply.shadows_asked(asked).min(pool.max);
    let serving = floor.shadows.max(scene.committed());
    let reserve = pool.shadow.saturating_add(pool.warm).saturating_add(pool.full);
    // Those that serve count towards the least there may be.
    let kept = reserve.max(scene.least.saturating_sub(serving));
    let by_pool = serving.saturating_add(kept);
    let by_rule = scene.claims.existing().min(pool.max);
    let usable = count(scene.shadows().filter(|m| m.heading.is_some() && !is_down(&m.seen.health)));
    let all = by_upper.max(by_pool).max(by_rule);
    Wanted { asked, by_upper, by_pool, by_rule, kept, all, have: usable.saturating_add(pending) }
}

/// Why the `nth` of those missing is made.
fn reason(
    scene: &Scene<'_>,
    floor: Floor,
    creations: Creations,
    wanted: &Wanted,
    nth: u32,
) -> (Law, String) {
    let have = wanted.have + nth;
    if nth < creations.lost {
        let text = format!(
            "{} lost or faulty, not replaced yet: one is made in its place",
            shadows_text(creations.lost)
        );
        (Law::Recreate, text)
    } else if have < floor.shadows {
        (floor.law, floor_text(scene, floor, scene.committed()))
    } else if have >= wanted.all {
        (Law::Failover, replacement_text(scene))
    } else if have >= wanted.by_upper.max(wanted.by_pool) {
        let text = format!(
            "{}: {} should exist, {have} do: one more is made",
            scene.claims.existing_text(),
            shadows_text(wanted.by_rule),
        );
        (Law::Rule, text)
    } else if have >= wanted.by_pool {
        let text = format!(
            "{}, {} may be needed, {have} exist: one more is made",
            asked_text(wanted.asked, &scene.in_force.text(Step::Prepare), scene.prepare_lead_ms()),
            shadows_text(wanted.by_upper),
        );
        (Law::Prepare, text)
    } else {
        let text = format!(
            "the pool keeps {} in reserve besides {} that serve or should, {have} exist: one \
             more is made",
            wanted.kept,
            wanted.by_pool - wanted.kept,
        );
        (Law::Pool, text)
    }
}

/// A lost primary takes its capacity along for an unknown time. Whether shadows had to take over or
/// had room enough, one more is made in its place, so that the next loss finds what this one found.
fn replacement_text(scene: &Scene<'_>) -> String {
    let loss = if scene.loss.is_empty() { "" } else { " (" };
    let end = if scene.loss.is_empty() { "" } else { ")" };
    format!(
        "primaries down or ejected: {}{loss}{}{end}: a shadow is made in place of each until it \
         is back",
        scene.supply.lost_primaries, scene.loss
    )
}

fn is_down(health: &Health) -> bool {
    matches!(health, Health::Down(_))
}
