//! One namespace of one cluster: how it is reached, what of it is ours, calls within bounds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foreshadow_control::InstanceId;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::clean::Remain;
use super::ending::Ending;
use super::lease::Claim;
use super::line::Line;
use super::owed::Owed;
use super::spec::ClusterAccess;
use super::told::Trouble;
use super::usage::Metrics;
use super::watching::Watched;
use super::{body, seen};
use crate::error::ProviderError;
use crate::hash::fnv1a;
use crate::mine::Mine;
use crate::remains::Remains;

/// Calls under way at the same time over all services; further ones wait within their own time.
const AT_ONCE: usize = 16;
/// For what is asked beside the steps of an instance.
pub(super) const ASIDE: Duration = Duration::from_secs(30);
/// What an API server can do is taken to stay so for this long.
const LEARNED: Duration = Duration::from_secs(600);

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
                owed: Owed::default(),
                ending: Mutex::default(),
            })
        });
        if cluster.claim.is_other(lease) {
            tracing::warn!(
                cluster = cluster.name,
                "services of one namespace have different values of `lease`, or it was changed while \
                 running; the first one is kept until the next start"
            );
        }
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
    /// Whether the API server can resize pods in place, and until when that is taken to be so; absent
    /// before it was asked.
    resizes: Mutex<Option<(bool, Instant)>>,
    pub(super) metrics: Metrics,
    pub(super) owed: Owed,
    /// UIDs of pods whose deletion was begun here: it may be hurried.
    pub(super) ending: Mutex<BTreeMap<String, Ending>>,
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

    /// Asks the API server whether it can resize pods in place (1.33 and newer), and again after a while:
    /// it may be another version by then. Where it does not say, that is found out by trying.
    pub(super) async fn learn(&self, patience: Duration) {
        if self.resizes_lock().is_some_and(|(_, until)| Instant::now() < until) {
            return;
        }
        let asked =
            self.call(patience, |client| async move { client.list_core_api_resources("v1").await });
        match asked.await {
            Ok(known) if known.resources.iter().any(|one| one.name == "pods/resize") => {
                *self.resizes_lock() = Some((true, Instant::now() + LEARNED));
            }
            Ok(_) => self.cannot_resize(),
            Err(trouble) => {
                let error = trouble.told(self.asked("tell what it can do"));
                tracing::debug!(%error, "whether pods can be resized is not known");
            }
        }
    }

    /// Notes that its API server cannot resize pods, and says so once.
    pub(super) fn cannot_resize(&self) {
        let known = self.resizes_lock().replace((false, Instant::now() + LEARNED));
        if known.is_none_or(|(can, _)| can) {
            tracing::warn!(
                cluster = self.name,
                "its API server cannot resize pods in place, which came with Kubernetes 1.33: warm \
                 shadows have full size there"
            );
        }
    }

    fn resizes_lock(&self) -> MutexGuard<'_, Option<(bool, Instant)>> {
        self.resizes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether pods can be resized in place; absent before the API server was asked.
    pub(super) fn resizes(&self) -> Option<bool> {
        self.resizes_lock().map(|(can, _)| can)
    }
}
