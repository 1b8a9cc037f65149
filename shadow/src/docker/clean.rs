//! Ending what earlier runs and failed creations left behind.

use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError};

use bollard::query_parameters::ListNetworksOptionsBuilder;
use foreshadow_control::{InstanceId, ServiceName};

use super::body;
use super::engine::{ASIDE, Engine, Seen};
use crate::error::ProviderError;
use crate::provider::Sweep;

/// What became of what is nobody's.
#[derive(Default)]
pub(super) struct Reaped {
    /// Containers that ran.
    ended: usize,
    /// What could not be removed, by service.
    left: Vec<(String, ProviderError)>,
}

impl Reaped {
    /// The first of what went wrong.
    pub(super) fn failed(self) -> Result<(), ProviderError> {
        self.left.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }
}

impl Engine {
    /// Notes what is to be kept of what is there; the rest is nobody's from now on.
    pub(super) async fn order(&self, what: &Sweep) {
        let mut pending = self.pending.lock().await;
        *pending = true;
        *self.stuck() = None;
        let kept: BTreeSet<InstanceId> = what.keep.iter().copied().collect();
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
    }

    fn stuck(&self) -> MutexGuard<'_, Option<BTreeSet<String>>> {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out what is still to be cleaned up; returns how many containers that ran were ended.
    /// For one service only its own remains count, once it is known whose there are.
    pub(super) async fn clean(&self, of: Option<&ServiceName>) -> Result<usize, ProviderError> {
        let spared = |stuck: &BTreeSet<String>| of.is_some_and(|s| !stuck.contains(s.as_str()));
        // Asked before the turn comes: what is stuck may take its time again.
        if self.stuck().as_ref().is_some_and(spared) {
            return Ok(0);
        }
        let mut pending = self.pending.lock().await;
        if !*pending {
            return Ok(0);
        }
        let list = self.list().await?;
        let Reaped { ended, left } = self.reap(&list).await?;
        let whose: BTreeSet<String> = left.iter().map(|(service, _)| service.clone()).collect();
        let spares = spared(&whose);
        *pending = !left.is_empty();
        *self.stuck() = (*pending).then_some(whose);
        // An order to make something may still be on its way from a run before.
        self.nudge.notify_one();
        match left.into_iter().next() {
            Some((_, error)) if !spares => Err(error),
            _ => Ok(ended),
        }
    }

    /// Removes what of a list is nobody's, and networks that nobody needs; what cannot be removed
    /// holds up nothing else.
    pub(super) async fn reap(&self, list: &[Seen]) -> Result<Reaped, ProviderError> {
        let mut reaped = Reaped::default();
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(kept) = kept else { return Ok(reaped) };
        for seen in list {
            // Read after the list was: what was made meanwhile is not on it.
            if kept.contains(&seen.id) || self.mine.has(seen.id) {
                continue;
            }
            if let Err(error) = self.remove(&seen.container, ASIDE).await {
                reaped.left.push((seen.service.clone(), error));
                continue;
            }
            tracing::info!(instance = %seen.id, container = seen.container, status = seen.status, "removed a container that nobody knew of");
            reaped.ended += usize::from(seen.runs);
        }
        self.reap_networks(&mut reaped).await?;
        Ok(reaped)
    }

    async fn reap_networks(&self, reaped: &mut Reaped) -> Result<(), ProviderError> {
        let needed = self.networks.lock().await;
        let options = ListNetworksOptionsBuilder::new()
            .filters(&body::filter(&self.owner, "network"))
            .build();
        let listed = self
            .call(ASIDE, |docker| async move { docker.list_networks(Some(options)).await })
            .await
            .map_err(|trouble| trouble.told(self.asked("list our networks")))?;
        for network in listed {
            let Some(name) = network.name.filter(|name| !needed.contains_key(name)) else {
                continue;
            };
            if let Err(error) = self.drop_network(&name).await {
                let service = network.labels.and_then(|mut labels| labels.remove(body::SERVICE));
                reaped.left.push((service.unwrap_or_default(), error));
            }
        }
        Ok(())
    }

    /// Ends what a failed creation may have made, now or later: it is nobody's from now on.
    pub(super) async fn undo(&self, id: InstanceId, service: &ServiceName) {
        let name = body::container_name(&self.owner, id);
        let removed = self.remove(&name, ASIDE).await;
        self.disown(id).await;
        if let Err(error) = removed {
            tracing::error!(
                instance = %id, %service, %error,
                "what a failed creation may have left behind cannot be removed; nothing new of its \
                 service is made there before"
            );
            let mut pending = self.pending.lock().await;
            let mut stuck = self.stuck();
            // Before a first look at what there is, all are held up anyway.
            if !*pending || stuck.is_some() {
                stuck.get_or_insert_default().insert(service.as_str().to_owned());
            }
            *pending = true;
        }
        // It may appear yet, where the order to make it was not waited for.
        self.nudge.notify_one();
    }

    /// Forgets an instance that is no more, and what was there for it alone.
    pub(super) async fn disown(&self, id: InstanceId) {
        self.watched().forget(id);
        self.mine.remove(id);
        if let Some(kept) = self.kept.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            kept.remove(&id);
        }
        if let Err(error) = self.leave_network(id).await {
            tracing::warn!(instance = %id, %error, "a network that nobody needs stays for now");
        }
    }
}
