//! Looks at reservations from time to time, and puts on record what changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use foreshadow_control::ServiceName;
use serde_json::Value;
use tokio::time::MissedTickBehavior;

use super::news::{Told, is_news, shown, told};
use super::{Expected, FARTHEST_MS, expected};
use crate::node::Shared;
use crate::node::audit::{Actor, Entry};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(10);
/// So long a service is left alone after a change that was told: a curve that cannot decide is not told all
/// the time.
const REST_MS: u64 = 900_000;

/// What was told of a service, and when.
#[derive(Default)]
struct Last {
    told: Vec<Told>,
    at_ms: Option<u64>,
}

/// Looks until the node is gone.
pub(crate) fn start(shared: &Arc<Shared>) {
    let shared = Arc::downgrade(shared);
    tokio::spawn(async move {
        let mut last: BTreeMap<ServiceName, Last> = BTreeMap::new();
        let mut turns = tokio::time::interval(EVERY);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            let Some(shared) = shared.upgrade() else { return };
            if shared.is_draining() {
                return;
            }
            let (looking, now_ms) = (Arc::clone(&shared), shared.clock.now_ms());
            let look = move || expected(&looking, None, (now_ms, FARTHEST_MS));
            match tokio::task::spawn_blocking(look).await {
                Ok(all) => take(&shared, all, &mut last, now_ms),
                Err(error) => {
                    tracing::error!(%error, "reservations were not reckoned; please report this")
                }
            }
        }
    });
}

fn take(
    shared: &Shared,
    all: BTreeMap<ServiceName, Expected>,
    last: &mut BTreeMap<ServiceName, Last>,
    now_ms: u64,
) {
    last.retain(|service, _| all.contains_key(service));
    for (service, expected) in &all {
        // Of what nothing is known nothing has changed.
        if expected.seen_until_ms.is_none() {
            continue;
        }
        let new = told(expected, now_ms);
        let known = last.entry(service.clone()).or_default();
        let rests =
            known.at_ms.is_some_and(|at| now_ms.saturating_sub(at) < REST_MS && at <= now_ms);
        if rests || !is_news(&known.told, &new, now_ms) {
            continue;
        }
        let before = if known.at_ms.is_some() { shown(&known.told) } else { Value::Null };
        let entry = Entry::new(now_ms, Actor::Node, "reservations").of(service.as_str());
        shared.audit.record(entry.changed(before, shown(&new)));
        shared.reservations.changes.fetch_add(1, Ordering::Relaxed);
        tracing::info!(%service, reservations = new.len(), "what will be needed has changed");
        *known = Last { told: new, at_ms: Some(now_ms) };
    }
    let all = all.into_iter().map(|(service, one)| (service, Arc::new(one))).collect();
    shared.reservations.last.store(Arc::new(all));
}
