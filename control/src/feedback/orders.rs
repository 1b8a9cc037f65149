//! The steps ordered in one tick, as they are entered into the ledger.

use super::Step;
use super::ledger::Ordered;
use crate::scene::{Scene, count};
use crate::{Action, Health, InstanceId, Law, PlannedAction, Tier};

/// Every step towards serving that demand asked for in this tick; `pending` creations were under way
/// before it.
pub(super) fn ordered(scene: &Scene<'_>, pending: u32) -> Vec<Ordered> {
    if scene.actions.is_empty() {
        return Vec::new();
    }
    let mut ordered = commits(scene);
    ordered.extend(warmings(scene));
    ordered.extend(creations(scene, pending));
    ordered
}

fn commits(scene: &Scene<'_>) -> Vec<Ordered> {
    let moves = moves(scene, Tier::Serving);
    let before = before(scene.committed(), moves.len());
    let ranked = (before + 1..).zip(moves);
    let entry = |(rank, (id, planned)): (u32, (InstanceId, &PlannedAction))| {
        let law = planned.reason.law;
        let shadow = scene.shadows().find(|m| m.id() == id)?;
        let from = shadow.seen.tier;
        // What was announced is no forecast.
        let by_event = scene.commit_asked_of(id, from).event.is_some();
        if !matches!(law, Law::Commit | Law::ReactiveFloor) || by_event {
            return None;
        }
        // One that has only just come to its tier could not have been ordered earlier.
        let rested = shadow.seen.tier_age_ms >= 2 * scene.spec.tick_ms;
        Some(Ordered {
            step: Step::Commit,
            rank,
            instance: Some(id),
            lead_ms: scene.commit_lead_ms_of(id, from),
            blamed: [false, rested && from == Tier::Shadow, rested],
        })
    };
    ranked.filter_map(entry).collect()
}

fn warmings(scene: &Scene<'_>) -> Vec<Ordered> {
    let moves = moves(scene, Tier::Warm);
    let before = before(scene.warm_or_more(), moves.len());
    let by_event = scene.warm_asked().event.is_some();
    let foreseen = |(_, (_, planned)): &(u32, (InstanceId, &PlannedAction))| {
        planned.reason.law == Law::Warm && !by_event
    };
    let entry = |(rank, _)| Ordered {
        step: Step::Warm,
        rank,
        instance: None,
        lead_ms: scene.warm_lead_ms(),
        blamed: [false, true, false],
    };
    (before + 1..).zip(moves).filter(foreseen).map(entry).collect()
}

fn creations(scene: &Scene<'_>, pending: u32) -> Vec<Ordered> {
    let down = |health: &Health| matches!(health, Health::Down(_));
    let usable = count(scene.shadows().filter(|m| m.heading.is_some() && !down(&m.seen.health)));
    let created = scene
        .actions
        .iter()
        .filter(|p| matches!(p.action, Action::Create { .. }) && p.reason.law != Law::Migrate);
    let by_event = scene.prepare_asked().event.is_some();
    let entry = |(rank, planned): (u32, &PlannedAction)| {
        let law = planned.reason.law;
        let by_demand = matches!(law, Law::Prepare | Law::ReactiveFloor) && !by_event;
        by_demand.then(|| Ordered {
            step: Step::Prepare,
            rank,
            instance: None,
            lead_ms: scene.prepare_lead_ms(),
            blamed: [true, false, false],
        })
    };
    (usable.saturating_add(pending).saturating_add(1)..).zip(created).filter_map(entry).collect()
}

fn moves<'a>(scene: &'a Scene<'_>, to: Tier) -> Vec<(InstanceId, &'a PlannedAction)> {
    let moved = |planned: &'a PlannedAction| match planned.action {
        // A migration's own are no bet on demand.
        Action::Move { instance, tier } if tier == to && planned.reason.law != Law::Migrate => {
            Some((instance, planned))
        }
        _ => None,
    };
    scene.actions.iter().filter_map(moved).collect()
}

/// How many there were before those that were ordered now.
fn before(all: u32, ordered: usize) -> u32 {
    all.saturating_sub(u32::try_from(ordered).unwrap_or(u32::MAX))
}
