//! Ending what earlier runs and failed creations left behind.

use std::sync::Arc;
use std::time::Duration;

use foreshadow_control::{InstanceId, ServiceName};
use kube::api::{Patch, PatchParams};

use super::cluster::{ASIDE, Cluster, Seen};
use super::told::Trouble;
use super::{body, seen};
use crate::error::{Cause, ProviderError};
use crate::provider::Sweep;

/// How long one pod has to be gone. One whose node answers takes less; what is slow leaves room in its
/// pass for others, and is looked at again in the next.
const GONE: Duration = Duration::from_secs(10);

/// A pod that nobody is to have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Remain {
    pub(super) id: InstanceId,
    pub(super) name: String,
    /// Absent where the answer that named it was lost.
    pub(super) uid: Option<String>,
    /// Its UID where it was somebody else's, and an order to take it may come to be carried out yet.
    pub(super) spare: Option<String>,
}

impl Remain {
    fn of(seen: &Seen) -> Self {
        Self { id: seen.id, name: seen.name.clone(), uid: Some(seen.uid.clone()), spare: None }
    }
}

impl Cluster {
    /// Notes what is to be kept of what is there; the rest is nobody's from now on.
    pub(super) async fn order(&self, what: &Sweep) {
        self.remains.order(|| self.mine.keep(&what.keep)).await;
    }

    /// Carries out what is still to be cleaned up, as far as the lease allows; returns how many pods
    /// that ran were ended. For one service only its own remains count, once it is known whose there
    /// are.
    pub(super) async fn clean(
        self: &Arc<Self>,
        of: Option<&ServiceName>,
        patience: Duration,
    ) -> Result<usize, ProviderError> {
        let pass = async {
            self.own(patience).await?;
            let (_, list, _) = self.list().await.map_err(|trouble| self.listing(trouble))?;
            let ended = self.reap(&list).await;
            // An order to make something may still be on its way from a run before.
            self.nudge.notify_one();
            ended
        };
        self.remains.clear(of, pass).await
    }

    /// Removes what of a list is nobody's, and what could not be removed before; returns how many pods
    /// that ran were among it.
    pub(super) async fn reap(&self, list: &[Seen]) -> Result<usize, ProviderError> {
        self.still_owned()?;
        // Read after the list was: what was made meanwhile is not on it.
        self.forget_gone(list);
        // What the cluster has been told to delete it deletes as soon as it can, whatever keeps it from
        // that now; a dead node must not hold up what is to stand in for it.
        let nobodys = |seen: &&Seen| self.mine.is_nobodys(seen.id) && !self.is_given_up(&seen.uid);
        self.remains.found(list.iter().filter(nobodys).map(|seen| {
            let whose = Some(seen.service.clone()).filter(|service| !service.is_empty());
            (Remain::of(seen), whose)
        }));
        let removed = self.remains.end(ASIDE, |_| true, |what| self.end_remain(what)).await;
        let mut ended = 0;
        for seen in list {
            if removed.contains(&Remain::of(seen)) {
                tracing::info!(instance = %seen.id, pod = seen.name, "removed a pod that nobody knew of");
                ended += usize::from(seen.runs);
            }
        }
        Ok(ended)
    }

    async fn end_remain(&self, what: Remain) -> Result<(), ProviderError> {
        // A pass may outlast it, and what was seen in an earlier one may be somebody's by now.
        self.still_owned()?;
        if self.mine.has(what.id) {
            return Ok(());
        }
        let removed = self.remove_ours(&what, GONE).await.map(drop);
        self.or_given_up(&what, removed)
    }

    /// A pod whose deletion was accepted, and whose end is late, holds nothing up.
    fn or_given_up(
        &self,
        what: &Remain,
        removed: Result<(), ProviderError>,
    ) -> Result<(), ProviderError> {
        match removed {
            Err(error) if self.is_given_up_by_name(&what.name) => {
                tracing::warn!(
                    instance = %what.id, %error,
                    "its cluster has been told to delete it and has not done so yet; it is not waited for"
                );
                Ok(())
            }
            removed => removed,
        }
    }

    /// Without the lease nothing is cleaned up: what looks like nobody's may be another's.
    fn still_owned(&self) -> Result<(), ProviderError> {
        if self.claim.is_held() {
            return Ok(());
        }
        let text = "the lease on our pods is not ours any more".to_owned();
        Err(Trouble::Told(Cause::NotOwned, text).told(self.asked("clean up")))
    }

    /// Ends what a failed creation may have made, now or later: it is nobody's from now on. What does
    /// not say that it is ours is left to whom it belongs.
    pub(super) async fn undo(&self, left: Remain, service: &ServiceName, patience: Duration) {
        let patience = patience.min(ASIDE);
        let removed = match &left.spare {
            Some(uid) => self.let_go(&left, uid, patience).await,
            None => self.remove_ours(&left, patience).await.map(drop),
        };
        self.disown(left.id);
        if let Err(error) = self.or_given_up(&left, removed) {
            tracing::error!(
                instance = %left.id, %service, %error,
                "what a failed creation may have left behind cannot be removed; nothing new of its \
                 service is made there before"
            );
            self.remains.add(left, service, &error);
        }
        // It may appear yet, where the order to make it was not waited for.
        self.nudge.notify_one();
    }

    /// Ends a pod that was to be taken if it was. One that still is nobody's gets another version, which
    /// the order to take it, should it still be on its way, does not fit.
    async fn let_go(
        &self,
        what: &Remain,
        uid: &str,
        patience: Duration,
    ) -> Result<(), ProviderError> {
        let name = what.name.as_str();
        loop {
            if self.remove_ours(what, patience).await? {
                return Ok(());
            }
            let found = self.pods(patience, |pods| async move { pods.get_opt(name).await }).await;
            let asked = || self.asked(format_args!("leave pod {name} as it is"));
            let found = found.map_err(|trouble| trouble.told(asked()))?;
            let free = found.filter(|pod| {
                pod.metadata.uid.as_deref() == Some(uid) && seen::owner(pod).is_none()
            });
            let Some(free) = free else { return Ok(()) };
            let version = free.metadata.resource_version.unwrap_or_default();
            let patch = Patch::Merge(body::pass_over(uid, &version, what.id));
            let passed = self.pods(patience, |pods| async move {
                pods.patch(name, &PatchParams::default(), &patch).await.map(drop)
            });
            match passed.await {
                Ok(()) => return Ok(()),
                Err(trouble) if trouble.is_absent() => return Ok(()),
                // It has changed meanwhile, perhaps by that very order.
                Err(trouble) if trouble.is_another() => {}
                Err(trouble) => return Err(trouble.told(asked())),
            }
        }
    }

    /// Forgets an instance that is no more.
    pub(super) fn disown(&self, id: InstanceId) {
        self.owed.forget(id);
        self.watched().forget(id);
        self.mine.remove(id);
    }
}
