//! When a migration may begin: its time, windows, drills.

use std::collections::BTreeMap;

use foreshadow_config::Migration;
use foreshadow_control::{MigrationOrder, MigrationsSeen, ServiceName};

use super::record::Standing;
use crate::node::operator::Orders;

/// While a drill is under way, the next look is this far away.
const DRILL_MS: u64 = 1_000;
/// Windows that are remembered at once.
const MOST_FOUND: usize = 256;

/// Start and end of a time in which migrations may begin.
type Window = (u64, u64);

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
