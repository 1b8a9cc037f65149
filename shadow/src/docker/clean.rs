//! Ending what earlier runs and failed creations left behind.

use std::time::Duration;

use bollard::query_parameters::ListNetworksOptionsBuilder;
use foreshadow_control::{InstanceId, ServiceName};

use super::body;
use super::engine::{ASIDE, Engine, Seen};
use crate::error::ProviderError;
use crate::provider::Sweep;

/// Longest time for networks that nobody needs, once containers are gone.
const NETWORKS: Duration = Duration::from_secs(10);

/// What is to be removed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Remain {
    /// By the engine's id, or by our name.
    Container(String),
    /// By our name.
    Network(String),
}

impl Engine {
    /// Notes what is to be kept of what is there; the rest is nobody's from now on.
    pub(super) async fn order(&self, what: &Sweep) {
        self.remains.order(|| self.mine.keep(&what.keep)).await;
    }

    /// Carries out what is still to be cleaned up; returns how many containers that ran were ended.
    /// For one service only its own remains count, once it is known whose there are.
    pub(super) async fn clean(&self, of: Option<&ServiceName>) -> Result<usize, ProviderError> {
        let pass = async {
            let list = self.list().await?;
            let ended = self.reap(&list).await;
            // An order to make something may still be on its way from a run before.
            self.nudge.notify_one();
            Ok(ended)
        };
        self.remains.clear(of, pass).await
    }

    /// Removes what of a list is nobody's, what could not be removed before, and networks that nobody
    /// needs; returns how many containers that ran were among it.
    pub(super) async fn reap(&self, list: &[Seen]) -> usize {
        // Read after the list was: what was made meanwhile is not on it.
        let nobodys = |seen: &&Seen| self.mine.is_nobodys(seen.id);
        self.remains.found(list.iter().filter(nobodys).map(|seen| {
            let whose = Some(seen.service.clone()).filter(|service| !service.is_empty());
            (Remain::Container(seen.container.clone()), whose)
        }));
        let containers = |what: &Remain| matches!(what, Remain::Container(_));
        let removed = self.remains.end(ASIDE, containers, |what| self.end_remain(what)).await;
        let mut ended = 0;
        for seen in list {
            if removed.contains(&Remain::Container(seen.container.clone())) {
                tracing::info!(instance = %seen.id, container = seen.container, status = seen.status, "removed a container that nobody knew of");
                ended += usize::from(seen.runs);
            }
        }
        if self.mine.is_known()
            && let Err(error) = self.find_networks().await
        {
            tracing::warn!(%error, "networks that nobody needs stay for now");
        }
        let networks = |what: &Remain| matches!(what, Remain::Network(_));
        self.remains.end(NETWORKS, networks, |what| self.end_remain(what)).await;
        ended
    }

    async fn end_remain(&self, what: Remain) -> Result<(), ProviderError> {
        match what {
            Remain::Container(container) => self.remove(&container, ASIDE).await,
            Remain::Network(name) => {
                let needed = self.networks.lock().await;
                if needed.contains_key(&name) { Ok(()) } else { self.drop_network(&name).await }
            }
        }
    }

    async fn find_networks(&self) -> Result<(), ProviderError> {
        let options = ListNetworksOptionsBuilder::new()
            .filters(&body::filter(&self.owner, "network"))
            .build();
        let listed = self
            .call(NETWORKS, |docker| async move { docker.list_networks(Some(options)).await })
            .await
            .map_err(|trouble| trouble.told(self.asked("list our networks")))?;
        let needed = self.networks.lock().await;
        self.remains.found(listed.into_iter().filter_map(|network| {
            let name = network.name.filter(|name| !needed.contains_key(name))?;
            let whose = network.labels.and_then(|mut labels| labels.remove(body::SERVICE));
            Some((Remain::Network(name), whose))
        }));
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
            self.remains.add(Remain::Container(name), service, &error);
        }
        // It may appear yet, where the order to make it was not waited for.
        self.nudge.notify_one();
    }

    /// Forgets an instance that is no more, and what was there for it alone.
    pub(super) async fn disown(&self, id: InstanceId) {
        self.watched().forget(id);
        self.mine.remove(id);
        if let Err(error) = self.leave_network(id).await {
            tracing::warn!(instance = %id, %error, "a network that nobody needs stays for now");
        }
    }
}
