//! New settings: what goes, what stays, and the gradual replacement of outdated shadows.
//!
//! Outdated shadows go one at a time. Where there is room for one more, the controller sees them and has another
//! made; when that is as ready as one of them, that one is ended, so that the reserve is never less than it
//! was. Where there is no room one is ended at once, and one more each time a fresh one has become ready. A new
//! command that does not work therefore costs one shadow at most, not the pool. What is not replaced, since
//! there are more than enough, nothing new carries on: after a while without news and without failures one more
//! is ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use foreshadow_control::{InstanceId, ServiceName, Tier};
use tokio::time::Instant;

use super::{Inner, State, Where, steps};
use crate::settings::ServiceShadows;

/// So long nothing new may come before one more is ended.
const QUIET: Duration = Duration::from_secs(30);

/// How far the replacement of a service's outdated shadows has come.
#[derive(Default)]
pub(super) struct Replacing {
    /// Outdated shadows that may be ended now, whether or not another is there.
    allowed: u32,
    /// Shadows made since under the new settings, each for one that has not been ended yet.
    fresh: Vec<InstanceId>,
    /// When it began, the last one was ended, or a fresh one was made.
    last: Option<Instant>,
}

impl Replacing {
    /// One is ended at once only where there is no room for another beside it.
    pub(super) fn begin(&mut self, has_room: bool) {
        let last = Some(Instant::now());
        *self = Self { allowed: u32::from(!has_room), last, ..Self::default() };
    }

    /// Lets one of `tier` go, if one may.
    fn let_go(&mut self, tier: Tier, tier_of: impl Fn(InstanceId) -> Option<Tier>) -> bool {
        self.fresh.retain(|id| tier_of(*id).is_some());
        let stands_in = |id: &InstanceId| tier_of(*id).is_some_and(|fresh| fresh >= tier);
        if let Some(nth) = self.fresh.iter().position(stands_in) {
            self.fresh.remove(nth);
        } else if self.allowed > 0 {
            self.allowed -= 1;
        } else {
            return false;
        }
        self.last = Some(Instant::now());
        true
    }
}

/// A shadow that serves requests of a service that is gone.
#[derive(Clone, Debug)]
pub struct Leaving {
    /// The shadow.
    pub id: InstanceId,
    /// How long its requests may take, by its service's last settings.
    pub stop_timeout: Duration,
    since: Instant,
}

pub(super) fn reconfigure(inner: &Inner, services: Vec<ServiceShadows>) -> Vec<Leaving> {
    let now = Instant::now();
    let mut leaving = Vec::new();
    let new: BTreeMap<Where, Arc<ServiceShadows>> =
        services.into_iter().map(|s| ((s.service.clone(), s.place.clone()), Arc::new(s))).collect();
    let prints: BTreeMap<&Where, String> =
        new.iter().map(|(at, settings)| (at, settings.provider.fingerprint())).collect();
    let remaining: BTreeSet<&ServiceName> = new.keys().map(|(service, _)| service).collect();
    let mut state = inner.lock();
    for entry in state.entries.values_mut() {
        if !remaining.contains(&entry.view.service) {
            let ending = entry.order.borrow().target == Tier::Cold;
            if ending || !matches!(entry.view.tier, Tier::Serving | Tier::Draining) {
                entry.order.send_modify(|order| order.target = Tier::Cold);
                entry.view.moving_to = Some(Tier::Cold);
                continue;
            }
            let since = *entry.left.get_or_insert(now);
            entry.order.send_modify(|order| order.target = Tier::Draining);
            entry.view.moving_to = (entry.view.tier != Tier::Draining).then_some(Tier::Draining);
            let stop_timeout = entry.order.borrow().settings.stop_timeout;
            leaving.push(Leaving { id: entry.view.id, stop_timeout, since });
            continue;
        };
        entry.left = None;
        let at = (entry.view.service.clone(), entry.view.place.clone());
        entry.view.outdated = prints.get(&at) != Some(&entry.fingerprint);
        // Of a place that is gone it goes on under the settings it has, until it is replaced elsewhere.
        let Some(settings) = new.get(&at) else { continue };
        entry.view.zone.clone_from(&settings.zone);
        entry.order.send_modify(|order| {
            // A shadow stays with the provider that made it; all else applies at once.
            let provider = Arc::clone(&order.settings.provider);
            order.settings = Arc::new(ServiceShadows { provider, ..(**settings).clone() });
        });
    }
    let print = |settings: &Arc<ServiceShadows>| settings.provider.fingerprint();
    let changed: Vec<Where> = new
        .iter()
        .filter(|(at, settings)| state.services.get(*at).map(print) != Some(print(settings)))
        .map(|(at, _)| at.clone())
        .collect();
    let gone = state.services.keys().filter(|at| !new.contains_key(*at));
    let gone = gone.map(|(service, _)| service).filter(|service| remaining.contains(service));
    let mut services: BTreeSet<ServiceName> = gone.cloned().collect();
    services.extend(changed.iter().map(|(service, _)| service.clone()));
    state.services = new;
    for (service, place) in changed {
        let at = (service, place);
        state.services.get(&at).into_iter().for_each(|new| steps::tell_gaps(new));
        // The new settings may be the cure: they need not wait out the failures of the old.
        state.pools.entry(at.0).or_default().backoff(&at.1).succeeded();
    }
    for service in services {
        begin(&mut state, &service);
        retire(&mut state, &service);
    }
    leaving
}

pub(super) fn end_leaving(inner: &Inner, leaving: &Leaving) {
    let mut state = inner.lock();
    let Some(entry) = state.entries.get_mut(&leaving.id) else { return };
    if entry.left == Some(leaving.since) {
        entry.order.send_modify(|order| order.target = Tier::Cold);
        entry.view.moving_to = Some(Tier::Cold);
    }
}

/// The replacement of what is outdated begins.
pub(super) fn begin(state: &mut State, service: &ServiceName) {
    let has_room = state.has_room_for_another(service);
    state.pools.entry(service.clone()).or_default().replacing.begin(has_room);
}

/// A shadow reached a tier: fresh ones let one that is no readier go.
pub(super) fn reached(
    state: &mut State,
    service: &ServiceName,
    (id, from): (InstanceId, Tier),
    outdated: bool,
) {
    if from == Tier::Cold && !outdated {
        let left = state.entries.values().filter(|e| e.view.service == *service && e.view.outdated);
        let left = left.count();
        if let Some(pool) = state.pools.get_mut(service) {
            let replacing = &mut pool.replacing;
            if replacing.fresh.len() < left {
                replacing.fresh.push(id);
            }
            replacing.last = Some(Instant::now());
        }
    }
    retire(state, service);
}

/// A shadow was found to be made after something that has changed since, such as a Deployment that was
/// rolled out. The first of its service lets the replacement begin; fresh ones carry it on.
pub(super) fn found(state: &mut State, id: InstanceId, service: &ServiceName) {
    let is_first = !state.entries.values().any(|e| e.view.service == *service && e.view.outdated);
    let Some(entry) = state.entries.get_mut(&id) else { return };
    if std::mem::replace(&mut entry.view.outdated, true) {
        return;
    }
    tracing::info!(%service, instance = %id, "what it was made after has changed since");
    if is_first {
        begin(state, service);
    }
    retire(state, service);
}

/// Ends one more where nothing has come for a while and nothing fails now: there are more than enough, or no room for
/// another beside it any more.
pub(super) fn carry_on(state: &mut State, service: &ServiceName, now: Duration) {
    // As long as shadows move, some may be more than enough once more; but some always do under load.
    let rests =
        |entry: &super::Entry| entry.view.moving_to.is_none() && entry.since.elapsed() >= QUIET;
    let all_rest = state.entries.values().filter(|e| e.view.service == *service).all(rests);
    let Some(pool) = state.pools.get_mut(service) else { return };
    // What is there is better than nothing.
    if pool.backoffs.values().any(|backoff| !backoff.remaining(now).is_zero()) {
        return;
    }
    let replacing = &mut pool.replacing;
    let patience = if all_rest { QUIET } else { QUIET * 2 };
    if replacing.allowed == 0 && replacing.last.is_none_or(|at| at.elapsed() >= patience) {
        replacing.allowed = 1;
        retire(state, service);
    }
}

/// Ends as many outdated shadows as may go now, least ready first; none that serves, drains, or
/// is on its way to serve.
pub(super) fn retire(state: &mut State, service: &ServiceName) {
    let tiers: BTreeMap<InstanceId, Tier> = state
        .entries
        .iter()
        .filter(|(_, entry)| entry.view.service == *service && !entry.hidden)
        .filter(|(_, entry)| entry.view.moving_to != Some(Tier::Cold))
        .map(|(id, entry)| (*id, entry.view.tier))
        .collect();
    let Some(pool) = state.pools.get_mut(service) else { return };
    let mut candidates: Vec<_> = state
        .entries
        .values_mut()
        .filter(|entry| {
            let busy = |tier| matches!(tier, Tier::Serving | Tier::Draining | Tier::Cold);
            entry.view.service == *service
                && entry.view.outdated
                && !busy(entry.view.tier)
                && !entry.view.moving_to.is_some_and(busy)
        })
        .collect();
    candidates.sort_by_key(|entry| (entry.view.tier, entry.view.id));
    for entry in candidates {
        if !pool.replacing.let_go(entry.view.tier, |id| tiers.get(&id).copied()) {
            continue;
        }
        tracing::info!(%service, instance = %entry.view.id, "made under old settings; it is ended");
        entry.order.send_modify(|order| order.target = Tier::Cold);
        entry.view.moving_to = Some(Tier::Cold);
    }
}
