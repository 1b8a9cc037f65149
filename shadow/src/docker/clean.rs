//! Ending what earlier runs and failed creations left behind.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use bollard::query_parameters::ListNetworksOptionsBuilder;
use foreshadow_control::InstanceId;

use super::body;
use super::engine::{ASIDE, Engine, Seen};
use crate::error::ProviderError;
use crate::provider::Sweep;

impl Engine {
    /// Notes what is to be kept of what is there; the rest is nobody's from now on.
    pub(super) async fn order(&self, what: &Sweep) {
        *self.pending.lock().await = true;
        let kept: BTreeSet<InstanceId> = what.keep.iter().copied().collect();
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
    }

    /// Carries out what is still to be cleaned up; returns how many containers that ran were ended.
    pub(super) async fn clean(&self) -> Result<usize, ProviderError> {
        let mut pending = self.pending.lock().await;
        if !*pending {
            return Ok(0);
        }
        let list = self.list().await?;
        let ended = self.reap(&list).await?;
        *pending = false;
        // An order to make something may still be on its way from a run before.
        self.nudge.notify_one();
        Ok(ended)
    }

    /// Removes what of a list is nobody's, and networks that nobody needs.
    pub(super) async fn reap(&self, list: &[Seen]) -> Result<usize, ProviderError> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(kept) = kept else { return Ok(0) };
        let mut ended = 0;
        for seen in list {
            // Read after the list was: what was made meanwhile is not on it.
            if kept.contains(&seen.id) || self.mine.has(seen.id) {
                continue;
            }
            self.remove(&seen.container, ASIDE).await?;
            tracing::info!(instance = %seen.id, container = seen.container, status = seen.status, "removed a container that nobody knew of");
            ended += usize::from(seen.runs);
        }
        self.reap_networks().await?;
        Ok(ended)
    }

    async fn reap_networks(&self) -> Result<(), ProviderError> {
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
            self.drop_network(&name).await?;
        }
        Ok(())
    }

    /// Ends what a failed creation may have made, now or later: it is nobody's from now on.
    pub(super) async fn undo(&self, id: InstanceId) {
        let name = body::container_name(&self.owner, id);
        let removed = self.remove(&name, ASIDE).await;
        self.disown(id).await;
        if let Err(error) = removed {
            tracing::error!(
                instance = %id, %error,
                "what a failed creation may have left behind cannot be removed; nothing new is made there before"
            );
            *self.pending.lock().await = true;
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
