//! Migrations as operators meet them: asked for, waiting for their time, under way, and what became of
//! them (docs/migration.md). The law itself is in the controller.

mod ask;
mod due;
mod follow;
mod keep;
mod record;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foreshadow_control::{MigrationChoice, ServiceName};
use tokio::sync::{Notify, oneshot};

use super::Shared;
use super::operator::Orders;
use super::view::View;

pub(crate) use ask::{Ask, Refused, Scene, Sound};
pub(crate) use due::{Due, take_back};
pub(crate) use follow::Follower;
pub(super) use keep::without_ended;
pub(crate) use record::{Record, Standing, State};

/// Migrations that may wait or be under way at once, on the whole node.
pub(crate) const MOST_STANDING: usize = 64;
/// Migrations that are over and remembered; the oldest go first.
pub(crate) const KEPT: usize = 100;
/// Those of them that may wait for the disk; beyond, the oldest are not kept.
const MOST_UNKEPT: usize = 256;
/// Dry runs that may wait for a tick.
pub(crate) const DRY_RUNS: usize = 16;

/// Somebody who wants to know who could move, and where to; the tick answers.
#[derive(Debug)]
pub(crate) struct DryRun {
    /// The service.
    pub(crate) service: ServiceName,
    /// Where the answer goes.
    pub(crate) done: oneshot::Sender<Vec<MigrationChoice>>,
}

/// What became of migrations, for the admin interface and the next start.
#[derive(Debug, Default)]
pub(crate) struct Migrations {
    past: Mutex<Past>,
    changed: Notify,
}

/// Locked by the tick and the admin interface, for moments.
#[derive(Debug, Default)]
struct Past {
    /// Those that are over, oldest first.
    over: VecDeque<Record>,
    /// Of them, those that the disk has not taken yet.
    unkept: VecDeque<Record>,
    counts: BTreeMap<(ServiceName, State), u64>,
}

impl Migrations {
    /// With what earlier runs left, oldest first.
    pub(super) fn new(over: Vec<Record>) -> Self {
        let past = Past { over: over.into(), ..Past::default() };
        Self { past: Mutex::new(past), changed: Notify::new() }
    }

    /// Those that ended since the node started, by service and what became of them.
    pub(crate) fn counts(&self) -> BTreeMap<(ServiceName, State), u64> {
        self.lock().counts.clone()
    }

    /// Takes what is over, before the standing orders are shown without it: whoever looks finds it among
    /// the one or the other.
    pub(super) fn ended(&self, record: Record) {
        let mut past = self.lock();
        *past.counts.entry((record.service.clone(), record.state)).or_default() += 1;
        if past.over.len() >= KEPT {
            past.over.pop_front();
        }
        if past.unkept.len() >= MOST_UNKEPT {
            past.unkept.pop_front();
            tracing::error!("a migration that is over is not kept: the disk takes nothing");
        }
        past.over.push_back(record.clone());
        past.unkept.push_back(record);
    }

    /// Has what is over and the standing orders kept.
    pub(super) fn keep(&self) {
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// All that are known: those waiting or under way by number, then those that are over, the newest
    /// first.
    pub(crate) fn all_migrations(&self) -> Vec<Record> {
        // Orders before what is over: one that ends in between is found in both rather than in none.
        let orders = self.orders.load_full();
        let mut all = standing(&orders, self.view().as_deref());
        let past = self.migrations.lock();
        all.retain(|known| known.id.is_none() || past.over.iter().all(|over| over.id != known.id));
        all.extend(past.over.iter().rev().cloned());
        all
    }

    /// The one of this number.
    pub(crate) fn migration(&self, id: u64) -> Option<Record> {
        self.all_migrations().into_iter().find(|record| record.id == Some(id))
    }

    /// Whether a drill of the service is under way: no migration begins meanwhile.
    pub(super) fn is_drilled(&self, service: &ServiceName) -> bool {
        self.drills.is_under_way_of(service)
    }
}

/// Those that wait or are under way, also those that the law began by itself, as of the last tick.
fn standing(orders: &Orders, view: Option<&View>) -> Vec<Record> {
    let told = |standing: &Standing| {
        let record = Record::of(standing);
        let Some(view) = view else { return record };
        let plan = view.plan.services.iter().find(|plan| plan.service == standing.service);
        let mut views = plan.into_iter().flat_map(|plan| &plan.migrations);
        match views.find(|told| told.id == Some(standing.id)) {
            Some(told) => record.told(told, view.plan.at_ms, view.now_ms),
            None => record,
        }
    };
    let mut all: Vec<Record> = orders.migrations.values().map(told).collect();
    let Some(view) = view else { return all };
    for plan in &view.plan.services {
        let own = plan.migrations.iter().filter(|told| told.id.is_none() && !told.phase.is_over());
        all.extend(
            own.map(|told| Record::of_law(&plan.service).told(told, view.plan.at_ms, view.now_ms)),
        );
    }
    all
}

/// Keeps what is over and the standing orders whenever they change, for as long as the node runs.
pub(super) fn start(shared: &Arc<Shared>) {
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        loop {
            shared.migrations.changed.notified().await;
            while !keep::keep_now(&shared).await {
                tokio::time::sleep(keep::AGAIN).await;
            }
        }
    });
}
