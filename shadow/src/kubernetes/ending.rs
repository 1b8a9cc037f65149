//! Ending pods: within a grace, by their own name in the cluster, and not what the cluster ends itself.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Preconditions};
use tokio::time::Instant;

use super::clean::Remain;
use super::cluster::{Cluster, Seen};
use super::seen;
use super::told::Trouble;
use crate::error::{Cause, ProviderError};

/// First and longest pause between two looks at what is being deleted.
const LOOKS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// The shortest grace: with none, a pod is forgotten before its node has ended it.
pub(super) const LEAST_GRACE_S: u32 = 1;
/// The grace of a pod that is being deleted and does not say with which (Kubernetes,
/// `pkg/apis/core/v1/defaults`).
const DEFAULT_GRACE_S: i64 = 30;

/// A pod whose deletion was begun here.
pub(super) struct Ending {
    name: String,
    /// Whether it was accepted, and the pod is there all the same after its grace.
    is_late: bool,
}

/// How long a pod has to end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Grace {
    /// No longer than that.
    AtMost(Duration),
    /// Or as long as it wants itself, if that is longer.
    OrItsOwn(Duration),
}

impl Grace {
    pub(super) const NONE: Self = Self::AtMost(Duration::ZERO);

    fn seconds(self, pod: &Pod) -> u32 {
        let whole = |grace: Duration| grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
        let own = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
        let own = own.and_then(|own| u64::try_from(own).ok()).unwrap_or(0);
        let seconds = match self {
            Self::AtMost(grace) => whole(grace),
            Self::OrItsOwn(grace) => whole(grace).max(own),
        };
        u32::try_from(seconds.max(u64::from(LEAST_GRACE_S))).unwrap_or(u32::MAX)
    }
}

impl Cluster {
    fn ending(&self) -> MutexGuard<'_, BTreeMap<String, Ending>> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a pod was to be gone by now, and its deletion has been accepted.
    pub(super) fn is_given_up(&self, uid: &str) -> bool {
        self.ending().get(uid).is_some_and(|ending| ending.is_late)
    }

    /// The same of one whose UID may not be known.
    pub(super) fn is_given_up_by_name(&self, name: &str) -> bool {
        self.ending().values().any(|ending| ending.is_late && ending.name == name)
    }

    /// Takes a list of all that is there.
    pub(super) fn forget_gone(&self, list: &[Seen]) {
        self.ending()
            .retain(|uid, ending| !ending.is_late || list.iter().any(|seen| seen.uid == *uid));
    }

    /// Ends what has the name of a pod of ours, if it is that one by its labels: what an order came to
    /// whose answer was lost. Says whether the name is free.
    pub(super) async fn remove_ours(
        &self,
        what: &Remain,
        patience: Duration,
    ) -> Result<bool, ProviderError> {
        let name = what.name.as_str();
        let found = self.pods(patience, |pods| async move { pods.get_opt(name).await }).await;
        let found = found.map_err(|t| t.told(self.asked(format_args!("show pod {name}"))))?;
        let Some(found) = found else { return Ok(true) };
        let is_ours = seen::owner(&found) == Some(self.owner.as_str())
            && seen::instance(&found) == Some(what.id);
        let uid = found.metadata.uid.unwrap_or_default();
        if !is_ours || what.uid.as_ref().is_some_and(|meant| *meant != uid) {
            return Ok(false);
        }
        self.remove(name, &uid, Grace::NONE, patience).await.map(|()| true)
    }

    /// Ends a pod within `grace` and waits until it is gone; one that is not there, or another one
    /// of that name, is no error. What the cluster is ending already keeps the grace that it has there.
    pub(super) async fn remove(
        &self,
        name: &str,
        uid: &str,
        grace: Grace,
        patience: Duration,
    ) -> Result<(), ProviderError> {
        let asked = || self.asked(format_args!("delete pod {name}"));
        let told = |trouble: Trouble| trouble.told(asked());
        let Some(pod) = self.same(name, uid, patience).await.map_err(told)? else {
            return Ok(());
        };
        let is_theirs =
            pod.metadata.deletion_timestamp.is_some() && !self.ending().contains_key(uid);
        let seconds = if is_theirs {
            let given = pod.metadata.deletion_grace_period_seconds.unwrap_or(DEFAULT_GRACE_S);
            u32::try_from(given).unwrap_or(0)
        } else {
            let seconds = grace.seconds(&pod);
            let ending = Ending { name: name.to_owned(), is_late: false };
            self.ending().entry(uid.to_owned()).or_insert(ending);
            self.delete(name, uid, seconds, patience).await.map_err(told)?;
            seconds
        };
        let gone = self.gone(name, uid, Duration::from_secs(u64::from(seconds)) + patience).await;
        match gone {
            Ok(()) => drop(self.ending().remove(uid)),
            Err(Trouble::Told(Cause::Late, _)) => {
                if let Some(ending) = self.ending().get_mut(uid) {
                    ending.is_late = true;
                }
            }
            Err(_) => {}
        }
        gone.map_err(told)
    }

    /// The pod of that name, if it is that one.
    async fn same(
        &self,
        name: &str,
        uid: &str,
        patience: Duration,
    ) -> Result<Option<Pod>, Trouble> {
        let found = self.pods(patience, |pods| async move { pods.get_opt(name).await }).await?;
        Ok(found.filter(|pod| pod.metadata.uid.as_deref() == Some(uid)))
    }

    pub(super) async fn delete(
        &self,
        name: &str,
        uid: &str,
        seconds: u32,
        patience: Duration,
    ) -> Result<(), Trouble> {
        let only = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let params = DeleteParams::default().grace_period(seconds).preconditions(only);
        let deleted =
            self.pods(patience, |pods| async move { pods.delete(name, &params).await.map(drop) });
        match deleted.await {
            Err(trouble) if trouble.is_absent() => Ok(()),
            // Another pod has the name by now; or somebody does not let it be deleted.
            Err(trouble) if trouble.is_another() => match self.same(name, uid, patience).await? {
                None => Ok(()),
                Some(_) => Err(trouble),
            },
            done => done,
        }
    }

    async fn gone(&self, name: &str, uid: &str, within: Duration) -> Result<(), Trouble> {
        let end = Instant::now() + within;
        let mut pause = LOOKS.0;
        while self.same(name, uid, within).await?.is_some() {
            if Instant::now() > end {
                let text = format!(
                    "it is still there {} s after it was to end; is its node away?",
                    within.as_secs()
                );
                return Err(Trouble::Told(Cause::Late, text));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOKS.1);
        }
        Ok(())
    }
}
