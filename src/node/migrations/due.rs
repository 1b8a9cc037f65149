//! When a migration may begin: its time, windows, drills.

use std::collections::BTreeMap;

use foreshadow_config::Migration;
use foreshadow_control::{
    Health, InstanceObservation, MigrationOrder, MigrationsSeen, ServiceName, Tier,
};

use super::record::Standing;
use crate::node::operator::Orders;

/// While a drill is under way, the next look is this far away.
const DRILL_MS: u64 = 1_000;
/// Windows that are remembered at once.
const MOST_FOUND: usize = 256;

/// Start and end of a time in which migrations may begin.
type Window = (u64, u64);

/// Primaries that were moved take requests again where nobody else may, or where no shadow can stand for them:
/// they were said to be in no need, not to be broken.
pub(crate) fn take_back(seen: &mut [InstanceObservation], orders: &Orders, shadowed: bool) {
    let moved = |i: &InstanceObservation| orders.moved.contains_key(&i.instance);
    let may_serve = |i: &InstanceObservation| {
        let is_lost = matches!(i.health, Health::Down(_) | Health::Ejected);
        let serves = i.tier == Tier::Serving && i.moving_to.is_none_or(|to| to == Tier::Serving);
        !is_lost && serves && !i.leaving
    };
    let others_serve = seen.iter().any(|i| !i.drained && !moved(i) && may_serve(i));
    if shadowed && others_serve {
        return;
    }
    for primary in seen.iter_mut().filter(|i| moved(i)) {
        primary.drained = false;
    }
}

/// Looks up when migrations may begin; remembers windows, since finding them takes a while.
#[derive(Debug, Default)]
pub(crate) struct Due {
    /// By service and the time looked from, 0 for now: when that was, and what was found.
    found: BTreeMap<(ServiceName, u64), (u64, Option<Window>)>,
}

impl Due {
    /// Forgets windows: the configuration has changed.
    pub(crate) fn forget(&mut self) {
        self.found.clear();
    }

    /// What a service's law is told of its migrations. `configured` is what the file says of them.
    pub(crate) fn seen(
        &mut self,
        (service, configured): (&ServiceName, Option<&Migration>),
        orders: &Orders,
        is_drilled: bool,
        now_ms: u64,
    ) -> MigrationsSeen {
        let held = |in_ms: u64| if is_drilled { in_ms.max(DRILL_MS) } else { in_ms };
        let of_service = orders.migrations.values().filter(|order| order.service == *service);
        let told: Vec<MigrationOrder> = of_service
            .map(|order| MigrationOrder {
                id: order.id,
                instance: order.instance,
                to: order.to.clone(),
                begins_in_ms: match order.began_ms {
                    Some(_) => 0,
                    None => held(self.begins_in_ms((service, configured), order, now_ms)),
                },
                cancelled: order.called_off_by.is_some(),
            })
            .collect();
        let begins_by_itself = configured.filter(|migration| migration.risk.is_some());
        let window_in_ms = begins_by_itself.and_then(|migration| {
            let (start_ms, _) = self.window((service, migration), None, now_ms)?;
            Some(held(start_ms.saturating_sub(now_ms)))
        });
        let moved = orders.moved.iter().filter(|(_, of)| *of == service).map(|(id, _)| *id);
        MigrationsSeen { orders: told, window_in_ms, moved: moved.collect() }
    }

    /// Time until the order may begin; the farthest that there is where no window comes.
    fn begins_in_ms(
        &mut self,
        (service, configured): (&ServiceName, Option<&Migration>),
        order: &Standing,
        now_ms: u64,
    ) -> u64 {
        let at_ms = order.at_ms.filter(|at_ms| *at_ms > now_ms);
        let from_ms = at_ms.unwrap_or(now_ms);
        let windowed = configured.filter(|_| !order.passes_windows);
        let start_ms = match windowed {
            None => Some(from_ms),
            Some(migration) => {
                let window = self.window((service, migration), at_ms, now_ms);
                window.map(|(start_ms, _)| start_ms.max(from_ms))
            }
        };
        start_ms.map_or(Migration::FAR_MS, |start_ms| start_ms.saturating_sub(now_ms))
    }

    /// The window that is open at `at_ms`, or now, or else the next one.
    fn window(
        &mut self,
        (service, migration): (&ServiceName, &Migration),
        at_ms: Option<u64>,
        now_ms: u64,
    ) -> Option<Window> {
        let from_ms = at_ms.unwrap_or(now_ms);
        let key = (service.clone(), at_ms.unwrap_or(0));
        if let Some((looked_ms, found)) = self.found.get(&key)
            && *looked_ms <= from_ms
            && found.is_none_or(|(_, end_ms)| from_ms < end_ms)
        {
            return *found;
        }
        if self.found.len() >= MOST_FOUND {
            self.found.clear();
        }
        let found = migration.window(from_ms);
        self.found.insert(key, (from_ms, found));
        found
    }
}

#[cfg(test)]
mod tests {
    use foreshadow_control::{InstanceId, Role};

    use super::*;
    use crate::node::operator::Order;

    #[test]
    fn a_primary_that_moved_serves_where_nobody_else_may() {
        let (moved, stand_in) = (InstanceId(1), InstanceId(2));
        let mut orders = Orders::default();
        orders.apply(&Order::Drain(moved, true));
        orders.moved.insert(moved, "shop".into());
        let seen = |health: Health, moving_to: Option<Tier>| {
            let primary = InstanceObservation::idle(moved, Role::Primary, Tier::Serving);
            let shadow = InstanceObservation::idle(stand_in, Role::Shadow, Tier::Serving);
            let primary = InstanceObservation { drained: true, ..primary };
            vec![primary, InstanceObservation { health, moving_to, ..shadow }]
        };
        let down = Health::Down("it has ended".to_owned());
        for (mut seen, shadowed, drained) in [
            (seen(Health::Up, None), true, true),
            (seen(down, None), true, false),
            (seen(Health::Up, Some(Tier::Draining)), true, false),
            (seen(Health::Up, None), false, false),
        ] {
            take_back(&mut seen, &orders, shadowed);
            assert_eq!(seen[0].drained, drained, "{seen:?}");
        }
        // What an operator drains stays drained.
        orders.moved.clear();
        let mut seen = seen(Health::Ejected, None);
        take_back(&mut seen, &orders, false);
        assert!(seen[0].drained);
    }
}
