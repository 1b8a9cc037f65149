//! Scaling primaries that are the pods of a Deployment or StatefulSet, by its scale subresource.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryFutureExt as _};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::body;
use super::line::Line;
use super::seen;
use super::spec::ClusterAccess;
use super::told::Trouble;
use crate::error::{Cause, ProviderError};
use crate::scaling::{Primaries, Scaler};

/// Changes of pods come in flocks: this long after the first one it is looked.
const FLOCK: Duration = Duration::from_millis(200);
/// After this the API server is to end a watch by itself, in seconds.
const WATCH_S: u32 = 290;

/// What is scaled, by its kind and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Workload {
    /// A Deployment.
    Deployment(String),
    /// A StatefulSet.
    StatefulSet(String),
}

/// A workload whose ready pods are primaries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadSpec {
    /// How the API server is reached.
    pub access: ClusterAccess,
    /// The namespace of the workload.
    pub namespace: String,
    /// The workload.
    pub workload: Workload,
    /// The port that its pods serve on.
    pub port: u16,
    /// Longest time for one answer of the API server.
    pub timeout: Duration,
}

/// Scales a workload; its pods are known by the selector that its scale has.
pub struct WorkloadScaler {
    line: Line,
    spec: WorkloadSpec,
    /// The selector and the version of the list that was taken last, to hear of what comes after it.
    heard: Mutex<Option<(String, String)>>,
}

impl std::fmt::Display for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Deployment(name) => write!(f, "deployment {name}"),
            Self::StatefulSet(name) => write!(f, "statefulset {name}"),
        }
    }
}

impl WorkloadScaler {
    /// One for that workload; the API server is asked when something is to be known or done.
    #[must_use]
    pub fn new(spec: WorkloadSpec) -> Self {
        let line = Line::new(&spec.access, &spec.namespace);
        Self { line, spec, heard: Mutex::default() }
    }

    fn asked(&self, what: &str) -> String {
        let WorkloadSpec { access, namespace, workload, .. } = &self.spec;
        format!("namespace {namespace} of the cluster {access} to {what} {workload}")
    }

    /// Calls once, within the time for it.
    async fn call<T, F>(
        &self,
        what: &str,
        call: impl FnOnce(Client) -> F + Send,
    ) -> Result<T, ProviderError>
    where
        F: Future<Output = Result<T, kube::Error>> + Send,
    {
        let work = async {
            let client = self.line.client().await?;
            call(client).await.map_err(Trouble::from)
        };
        let patience = self.spec.timeout;
        let done = tokio::time::timeout(patience, work).await;
        done.unwrap_or(Err(Trouble::Late(patience))).map_err(|trouble| {
            self.line.doubt(&trouble);
            trouble.told(self.asked(what))
        })
    }

    async fn read(&self) -> Result<Scale, ProviderError> {
        let namespace = &self.spec.namespace;
        self.call("show the scale of", |client| async move {
            match &self.spec.workload {
                Workload::Deployment(name) => {
                    Api::<Deployment>::namespaced(client, namespace).get_scale(name).await
                }
                Workload::StatefulSet(name) => {
                    Api::<StatefulSet>::namespaced(client, namespace).get_scale(name).await
                }
            }
        })
        .await
    }

    async fn set(&self, primaries: u32) -> Result<Scale, ProviderError> {
        let namespace = &self.spec.namespace;
        let patch = Patch::Merge(json!({ "spec": { "replicas": primaries } }));
        let params = PatchParams::default();
        self.call(&format!("scale to {primaries}"), |client| async move {
            match &self.spec.workload {
                Workload::Deployment(name) => {
                    let all = Api::<Deployment>::namespaced(client, namespace);
                    all.patch_scale(name, &params, &patch).await
                }
                Workload::StatefulSet(name) => {
                    let all = Api::<StatefulSet>::namespaced(client, namespace);
                    all.patch_scale(name, &params, &patch).await
                }
            }
        })
        .await
    }

    /// The pods that a scale counts, as primaries.
    async fn primaries(&self, scale: Scale) -> Result<Primaries, ProviderError> {
        let malformed = |text: &str| {
            let asked = self.asked("show the scale of");
            Trouble::Told(Cause::Malformed, text.to_owned()).told(asked)
        };
        let wanted = scale.spec.and_then(|spec| spec.replicas).unwrap_or(0);
        let wanted = u32::try_from(wanted).map_err(|_| malformed("fewer than no replicas"))?;
        let selector = scale.status.and_then(|status| status.selector).unwrap_or_default();
        if selector.is_empty() {
            return Err(malformed("a scale without a selector of its pods"));
        }
        let params = ListParams::default().labels(&selector);
        let namespace = &self.spec.namespace;
        let listed = self
            .call("list the pods of", |client| async move {
                Api::<Pod>::namespaced(client, namespace).list(&params).await
            })
            .await?;
        let version = listed.metadata.resource_version.unwrap_or_default();
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some((selector, version));
        let mut found = Primaries { wanted, ready: Vec::new(), leaving: Vec::new() };
        for pod in listed.items.iter().filter(|pod| self.is_of(pod)) {
            let status = pod.status.as_ref();
            let ip = status.and_then(|status| status.pod_ip.as_ref()?.parse().ok());
            let Some(ip) = ip else { continue };
            let address = SocketAddr::new(ip, self.spec.port);
            let phase = status.and_then(|status| status.phase.as_deref());
            match &pod.metadata.deletion_timestamp {
                _ if phase != Some("Running") => {}
                Some(_) => found.leaving.push(address),
                None if seen::is_ready(pod) => found.ready.push(address),
                None => {}
            }
        }
        Ok(found)
    }

    /// Whether a pod is the workload's own: what mirrors it has its labels, too.
    fn is_of(&self, pod: &Pod) -> bool {
        let is_shadow =
            pod.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(body::OWNER));
        let owners = pod.metadata.owner_references.iter().flatten();
        let is_owned =
            owners.filter(|owner| owner.controller == Some(true)).any(|owner| {
                match &self.spec.workload {
                    Workload::Deployment(name) => {
                        let of = owner.name.strip_prefix(name.as_str());
                        owner.kind == "ReplicaSet" && of.is_some_and(|rest| rest.starts_with('-'))
                    }
                    Workload::StatefulSet(name) => {
                        owner.kind == "StatefulSet" && owner.name == *name
                    }
                }
            });
        !is_shadow && is_owned
    }

    /// Returns once something has happened to its pods since they were listed; an error where that
    /// cannot be heard.
    async fn hear(&self) -> Result<(), Trouble> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let none = || Trouble::Told(Cause::Failed, "nothing was listed yet".to_owned());
        let (selector, version) = heard.ok_or_else(none)?;
        let client = self.line.client().await?;
        let pods: Api<Pod> = Api::namespaced(client, &self.spec.namespace);
        let params = WatchParams::default().labels(&selector).timeout(WATCH_S);
        let mut stream = std::pin::pin!(pods.watch(&params, &version).try_flatten_stream());
        match stream.next().await {
            Some(Ok(WatchEvent::Error(status))) => Err(Trouble::Api(status)),
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(error.into()),
            None => Err(Trouble::Told(Cause::Unreachable, "its watch ended".to_owned())),
        }
    }
}

#[async_trait]
impl Scaler for WorkloadScaler {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    fn place(&self) -> String {
        let WorkloadSpec { access, namespace, workload, port, .. } = &self.spec;
        format!("{access} {namespace} {workload} {port}")
    }

    async fn look(&self) -> Result<Primaries, ProviderError> {
        self.line.refresh();
        let scale = self.read().await?;
        self.primaries(scale).await
    }

    async fn scale(&self, primaries: u32) -> Result<Primaries, ProviderError> {
        let scale = self.set(primaries).await?;
        self.primaries(scale).await
    }

    async fn changed(&self) {
        match self.hear().await {
            Ok(()) => {
                // The same would be heard again at once, until there is a newer list.
                *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = None;
                tokio::time::sleep(FLOCK).await;
            }
            Err(trouble) => {
                let error = trouble.told(self.asked("watch the pods of"));
                tracing::debug!(%error, "primaries are looked at from time to time only");
                // The next look, which comes in its time, is the next try.
                std::future::pending().await
            }
        }
    }
}
