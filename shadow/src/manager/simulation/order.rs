//! What must be so once the world is calm.

use std::collections::BTreeMap;

use foreshadow_control::{AlertKind, InstanceId, Tier};

use super::life::Life;
use super::nature::Nature;
use super::world::Machine;

/// Why the pools are not in order yet; nothing once they are.
pub(super) fn disorder(life: &Life, natures: &[Nature]) -> Option<String> {
    let shadows = life.manager.snapshot();
    let world = life.link.world();
    let running: BTreeMap<InstanceId, &Machine> = world.running().collect();
    let known: Vec<InstanceId> = shadows.iter().map(|one| one.id).collect();
    if let Some(id) = running.keys().find(|id| !known.contains(id)) {
        return Some(format!("leaked: {id} runs and nobody knows of it"));
    }
    for one in &shadows {
        let Some(machine) = running.get(&one.id) else {
            return Some(format!("forgotten: {} is known and does not run: {one:?}", one.id));
        };
        if one.moving_to.is_some() || one.tier == Tier::Cold {
            return Some(format!("not settled: {one:?}"));
        }
        let nature = natures.iter().find(|nature| nature.service() == one.service);
        let as_asked = nature.is_none_or(|nature| {
            let frozen = nature.can.freeze && one.tier == Tier::Shadow;
            // An order that comes too late for anybody to know is undone by the next parked check.
            machine.frozen == frozen || machine.disturbed && nature.parked_check.is_none()
        });
        if !as_asked {
            return Some(format!("not as its tier asks for: {machine:?} of {one:?}"));
        }
        if one.outdated {
            return Some(format!("outdated still: {one:?}"));
        }
    }
    natures.iter().filter(|nature| nature.present).find_map(|nature| {
        let service = nature.service();
        let at = |tier| {
            let all = shadows.iter().filter(|one| one.service == service && one.tier == tier);
            u32::try_from(all.count()).unwrap_or(u32::MAX)
        };
        let total: u32 = Tier::ALL.into_iter().map(at).sum();
        if total != nature.kept() || at(Tier::Shadow) != nature.pool.shadow {
            let tiers: Vec<u32> = Tier::ALL.into_iter().map(at).collect();
            return Some(format!("{service} is to keep {:?}, has by tier {tiers:?}", nature.pool));
        }
        let alerts = life.alerts.get(&service)?;
        let stands = |alert: &&foreshadow_control::Alert| alert.kind == AlertKind::ProviderFailing;
        alerts.iter().find(stands).map(|alert| format!("an alert stands: {}", alert.text))
    })
}
