//! Ending what earlier runs and failed creations left behind.

use std::collections::BTreeSet;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use foreshadow_control::{InstanceId, ServiceName};

use super::cluster::{ASIDE, Cluster, Seen};
use super::making::Left;
use crate::error::ProviderError;
use crate::provider::Sweep;

/// What became of what is nobody's.
#[derive(Default)]
pub(super) struct Reaped {
    /// Pods that ran.
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

impl Cluster {
    /// Notes what is to be kept of what is there; the rest is nobody's from now on.
    pub(super) async fn order(&self, what: &Sweep) {
        let mut pending = self.pending.lock().await;
        *pending = true;
        *self.stuck() = None;
        let kept: BTreeSet<InstanceId> = what.keep.iter().copied().collect();
        *self.kept() = Some(kept);
    }

    fn stuck(&self) -> MutexGuard<'_, Option<BTreeSet<String>>> {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> MutexGuard<'_, Option<BTreeSet<InstanceId>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out what is still to be cleaned up, as far as the lease allows; returns how many pods
    /// that ran were ended. For one service only its own remains count, once it is known whose there
    /// are.
    pub(super) async fn clean(
        self: &Arc<Self>,
        of: Option<&ServiceName>,
        patience: Duration,
    ) -> Result<usize, ProviderError> {
        let spared = |stuck: &BTreeSet<String>| of.is_some_and(|s| !stuck.contains(s.as_str()));
        // Asked before the turn comes: what is stuck may take its time again.
        if self.stuck().as_ref().is_some_and(spared) {
            return Ok(0);
        }
        let mut pending = self.pending.lock().await;
        if !*pending {
            return Ok(0);
        }
        self.own(patience).await?;
        let (_, list, _) = self.list().await.map_err(|trouble| self.listing(trouble))?;
        let Reaped { ended, left } = self.reap(&list).await;
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

    /// Removes what of a list is nobody's, all at once; what cannot be removed holds up nothing else.
    /// Without the lease nothing is: what looks like nobody's may be another's.
    pub(super) async fn reap(&self, list: &[Seen]) -> Reaped {
        let mut reaped = Reaped::default();
        let kept = self.kept().clone();
        let Some(kept) = kept.filter(|_| self.claim.is_held()) else { return reaped };
        // Read after the list was: what was made meanwhile is not on it.
        let doomed = list.iter().filter(|s| !kept.contains(&s.id) && !self.mine.has(s.id));
        let removals = doomed.map(|seen| async move {
            let removed = self.remove(&seen.name, &seen.uid, Duration::ZERO, ASIDE).await;
            (seen, removed)
        });
        for (seen, removed) in futures_util::future::join_all(removals).await {
            if let Err(error) = removed {
                reaped.left.push((seen.service.clone(), error));
                continue;
            }
            tracing::info!(instance = %seen.id, pod = seen.name, "removed a pod that nobody knew of");
            reaped.ended += usize::from(seen.runs);
        }
        reaped
    }

    /// Ends what a failed creation may have made, now or later: it is nobody's from now on.
    pub(super) async fn undo(&self, id: InstanceId, service: &ServiceName, left: &Left) {
        let removed = match &left.uid {
            Some(uid) => self.remove(&left.name, uid, Duration::ZERO, ASIDE).await,
            None => self.remove_ours(&left.name, ASIDE).await.map(drop),
        };
        self.disown(id);
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

    /// Forgets an instance that is no more.
    pub(super) fn disown(&self, id: InstanceId) {
        self.watched().forget(id);
        self.mine.remove(id);
        if let Some(kept) = self.kept().as_mut() {
            kept.remove(&id);
        }
    }
}
