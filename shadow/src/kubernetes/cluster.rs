//! One namespace of one cluster: how it is reached, what of it is ours, calls within bounds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foreshadow_control::InstanceId;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::{Api, Client};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::clean::Remain;
use super::lease::Claim;
use super::line::Line;
use super::spec::ClusterAccess;
use super::told::Trouble;
use super::usage::Metrics;
use super::watching::Watched;
use super::{body, seen};
use crate::error::{Cause, ProviderError};
use crate::hash::fnv1a;
use crate::mine::Mine;
use crate::remains::Remains;

/// Calls under way at the same time over all services; further ones wait within their own time.
const AT_ONCE: usize = 16;
/// For what is asked beside the steps of an instance.
pub(super) const ASIDE: Duration = Duration::from_secs(30);
/// First and longest pause between two looks at what is being deleted.
const LOOKS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// The shortest grace: with none, a pod is forgotten before its node has ended it.
const LEAST_GRACE_S: u64 = 1;

/// The namespaces that providers of this process lead to.
pub(crate) struct Clusters {
    known: Mutex<BTreeMap<String, Arc<Cluster>>>,
    mine: Arc<Mine>,
    owner: String,
    marker: String,
}

impl Clusters {
    /// Notes what a start keeps, wherever that is.
    pub(crate) fn keep(&self, ids: &[InstanceId]) {
        self.mine.keep(ids);
    }

    /// `owner` is the name of the state directory, which goes where it goes; `marker` names where that is.
    pub(crate) fn new(owner: String, marker: String) -> Self {
        Self { known: Mutex::default(), mine: Arc::default(), owner, marker }
    }

    pub(super) fn at(
        &self,
        access: &ClusterAccess,
        namespace: &str,
        lease: Duration,
    ) -> Arc<Cluster> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("namespace {namespace} of the cluster {access}");
        let cluster = known.entry(name.clone()).or_insert_with(|| {
            Arc::new(Cluster {
                place: fnv1a(name.bytes()),
                name,
                namespace: namespace.to_owned(),
                owner: self.owner.clone(),
                mine: Arc::clone(&self.mine),
                line: Line::new(access, namespace),
                calls: Semaphore::new(AT_ONCE),
                watched: Mutex::default(),
                nudge: Arc::default(),
                // One that is named first after a start may have something of an earlier run, too.
                remains: match self.mine.is_known() {
                    true => Remains::unseen(),
                    false => Remains::default(),
                },
                claim: Claim::new(lease, &self.marker),
                resizes: Mutex::default(),
                metrics: Metrics::default(),
            })
        });
        Arc::clone(cluster)
    }
}

/// One namespace, however many providers lead there.
pub(crate) struct Cluster {
    pub(super) name: String,
    /// Its name in handles and sweeps.
    pub(super) place: String,
    pub(super) namespace: String,
    pub(super) owner: String,
    pub(super) mine: Arc<Mine>,
    pub(super) line: Line,
    calls: Semaphore,
    pub(super) watched: Mutex<Watched>,
    /// Something may be there that nobody knows of: look sooner.
    pub(super) nudge: Arc<Notify>,
    pub(super) remains: Remains<Remain>,
    pub(super) claim: Claim,
    /// Whether the API server can resize pods in place; absent before it was asked.
    resizes: Mutex<Option<bool>>,
    pub(super) metrics: Metrics,
}

/// A pod of ours.
pub(super) struct Seen {
    pub(super) id: InstanceId,
    pub(super) name: String,
    pub(super) uid: String,
    /// Empty where nothing says it any more.
    pub(super) service: String,
    /// Whether it has not ended.
    pub(super) runs: bool,
}

impl Seen {
    fn of(pod: &Pod) -> Option<Self> {
        let labels = pod.metadata.labels.as_ref()?;
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let annotations = pod.metadata.annotations.as_ref();
        let service = annotations.and_then(|all| all.get(body::SERVICE));
        Some(Self {
            id: seen::instance(pod)?,
            name: pod.metadata.name.clone()?,
            uid: pod.metadata.uid.clone()?,
            service: service.or_else(|| labels.get(body::SERVICE)).cloned().unwrap_or_default(),
            runs: !matches!(phase, Some("Failed" | "Succeeded")),
        })
    }
}

impl Cluster {
    pub(super) fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How an order to it begins in an error.
    pub(super) fn asked(&self, what: impl std::fmt::Display) -> String {
        format!("{} to {what}", self.name)
    }

    /// Calls once, within `patience`.
    pub(super) async fn call<T, F>(
        &self,
        patience: Duration,
        call: impl FnOnce(Client) -> F + Send,
    ) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, kube::Error>> + Send,
    {
        let work = async {
            let _permit = self.calls.acquire().await;
            let client = self.client().await?;
            call(client).await.map_err(Trouble::from)
        };
        let done = tokio::time::timeout(patience, work).await;
        let done = done.unwrap_or(Err(Trouble::Late(patience)));
        if let Err(trouble) = &done {
            self.line.doubt(trouble);
        }
        done
    }

    /// The same with the pods there.
    pub(super) async fn pods<T, F>(
        &self,
        patience: Duration,
        call: impl FnOnce(Api<Pod>) -> F + Send,
    ) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, kube::Error>> + Send,
    {
        self.call(patience, |client| call(Api::namespaced(client, &self.namespace))).await
    }

    pub(super) async fn client(&self) -> Result<Client, Trouble> {
        self.line.client().await
    }

    /// Every pod of ours, whatever its state, with the version that the list is of.
    pub(super) async fn list(&self) -> Result<(Vec<Pod>, Vec<Seen>, String), Trouble> {
        let params = ListParams::default().labels(&body::selector(&self.owner));
        let listed = self.pods(ASIDE, |pods| async move { pods.list(&params).await }).await?;
        let version = listed.metadata.resource_version.clone().unwrap_or_default();
        let seen = listed.items.iter().filter_map(Seen::of).collect();
        Ok((listed.items, seen, version))
    }

    pub(super) fn listing(&self, trouble: Trouble) -> ProviderError {
        trouble.told(self.asked("list our pods"))
    }

    /// Asks the API server once whether it can resize pods in place (1.33 and newer).
    pub(super) async fn learn(&self, patience: Duration) -> Result<(), ProviderError> {
        if self.resizes().is_some() {
            return Ok(());
        }
        let asked =
            self.call(patience, |client| async move { client.list_core_api_resources("v1").await });
        let known = asked.await.map_err(|t| t.told(self.asked("tell what it can do")))?;
        let can = known.resources.iter().any(|one| one.name == "pods/resize");
        if self.resizes_lock().replace(can).is_none() && !can {
            tracing::warn!(
                cluster = self.name,
                "its API server cannot resize pods in place, which came with Kubernetes 1.33: warm \
                 shadows have full size there"
            );
        }
        Ok(())
    }

    fn resizes_lock(&self) -> MutexGuard<'_, Option<bool>> {
        self.resizes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether pods can be resized in place; absent before the API server was asked.
    pub(super) fn resizes(&self) -> Option<bool> {
        *self.resizes_lock()
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
        self.remove(name, &uid, Duration::ZERO, patience).await.map(|()| true)
    }

    /// Ends a pod within `grace` and waits until it is gone; one that is not there, or another one
    /// of that name, is no error.
    pub(super) async fn remove(
        &self,
        name: &str,
        uid: &str,
        grace: Duration,
        patience: Duration,
    ) -> Result<(), ProviderError> {
        let whole = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
        let seconds = u32::try_from(whole.max(LEAST_GRACE_S)).unwrap_or(u32::MAX);
        let only = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let params = DeleteParams::default().grace_period(seconds).preconditions(only);
        let asked = || self.asked(format_args!("delete pod {name}"));
        let deleted =
            self.pods(patience, |pods| async move { pods.delete(name, &params).await.map(drop) });
        match deleted.await {
            Ok(()) => {}
            Err(trouble) if trouble.is_absent() || trouble.is_another() => return Ok(()),
            Err(trouble) => return Err(trouble.told(asked())),
        }
        let whole = Duration::from_secs(u64::from(seconds));
        let end = Instant::now() + whole + patience;
        let mut pause = LOOKS.0;
        loop {
            let found = self.pods(patience, |pods| async move { pods.get_opt(name).await });
            let found = found.await.map_err(|trouble| trouble.told(asked()))?;
            let there = found.and_then(|pod| pod.metadata.uid);
            if there.is_none_or(|there| there != uid) {
                return Ok(());
            }
            if Instant::now() > end {
                let text = format!(
                    "it is still there {} s after it was to end; is its node away?",
                    (whole + patience).as_secs()
                );
                return Err(Trouble::Told(Cause::Late, text).told(asked()));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOKS.1);
        }
    }
}
