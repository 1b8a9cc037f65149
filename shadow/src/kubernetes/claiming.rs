//! Taking running pods out of a Deployment: its replicas are what is kept ready, and it makes others in the
//! place of those that are taken.
//!
//! A ReplicaSet owns the pods that its selector picks by the label `pod-template-hash`. Taking that label
//! from a pod makes the ReplicaSet let go of it and make another (Kubernetes,
//! `pkg/controller/controller_ref_manager`), so one change of labels, refused where the pod has changed
//! meanwhile, is the whole of it: two never get the same pod.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::{Expression, Selector};
use tokio::time::Instant;

use super::clean::Remain;
use super::making::Failed;
use super::seen::{self, Serving};
use super::told::Trouble;
use super::{KubernetesProvider, State, body, rollout, size};
use crate::error::{Cause, ProviderError};
use crate::provider::{CreateRequest, Handle};

/// First and longest pause before it is looked again whether a pod is there to be taken.
const LOOKS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(2));

/// What was seen last, for all who want a pod of it.
#[derive(Default)]
pub(super) struct Shared(tokio::sync::Mutex<Option<Arc<Pool>>>);

/// A Deployment and those of its pods that can be taken.
struct Pool {
    at: Instant,
    deployment: Deployment,
    /// Its template, hashed.
    template: String,
    spares: Vec<Spare>,
    /// UIDs of those that somebody of us has gone for.
    tried: Mutex<BTreeSet<String>>,
}

impl Pool {
    /// Pods that nobody of us has gone for yet.
    fn next(&self) -> Option<Spare> {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let spare = self.spares.iter().find(|spare| !tried.contains(&spare.uid))?;
        tried.insert(spare.uid.clone());
        Some(spare.clone())
    }
}

/// A pod that can be taken.
#[derive(Clone)]
struct Spare {
    name: String,
    uid: String,
    version: String,
    ip: IpAddr,
    serving: Serving,
    size: Option<size::Size>,
}

impl KubernetesProvider {
    /// Takes a running pod of the Deployment, and waits for one where none is there.
    pub(super) async fn claim(
        &self,
        request: &CreateRequest,
        from: &str,
    ) -> Result<Handle, Failed> {
        let (cluster, timeout) = (&self.cluster, self.spec.timeout);
        cluster.own(timeout).await?;
        cluster.learn(timeout).await;
        let end = Instant::now() + self.spec.schedule_timeout;
        let mut pause = LOOKS.0;
        loop {
            let pool = self.pool(from, pause).await?;
            while let Some(spare) = pool.next() {
                match self.take(request, spare, &pool.template).await {
                    Ok(Some(handle)) => return Ok(handle),
                    Ok(None) => {}
                    Err(failed) => {
                        // The next one looks anew: that pod may be free still, as another version.
                        *self.pool.0.lock().await = None;
                        return Err(failed);
                    }
                }
            }
            if Instant::now() >= end {
                let asked = cluster.asked(format_args!("give a running pod of deployment {from}"));
                let shown = shown(&pool.deployment);
                return Err(Trouble::Told(Cause::NoRoom, shown).told(asked).into());
            }
            tokio::time::sleep_until((Instant::now() + pause).min(end)).await;
            pause = (pause * 2).min(LOOKS.1);
        }
    }

    /// What is there to be taken, as it was seen no longer ago than that, by whomever.
    async fn pool(&self, name: &str, age: Duration) -> Result<Arc<Pool>, ProviderError> {
        let mut known = self.pool.0.lock().await;
        if let Some(pool) = known.as_ref().filter(|pool| pool.at.elapsed() < age) {
            return Ok(Arc::clone(pool));
        }
        let at = Instant::now();
        let found = self.deployment(name).await?;
        let asked = || self.cluster.asked(format_args!("show deployment {name}"));
        let template = rollout::print(&found.template);
        let deployment = serde_json::to_value(&found.whole).and_then(serde_json::from_value);
        let deployment: Deployment = deployment
            .map_err(|error| Trouble::Told(Cause::Malformed, error.to_string()).told(asked()))?;
        if !is_gated(deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref())) {
            let text = format!(
                "its template has no readiness gate {}, so Services would meet pods that are kept ready",
                body::ACTIVE
            );
            return Err(Trouble::Told(Cause::Absent, text).told(asked()));
        }
        let spares = self.spares(name, &deployment).await?;
        let pool = Arc::new(Pool { at, deployment, template, spares, tried: Mutex::default() });
        Ok(Arc::clone(known.insert(pool)))
    }

    /// The pods of a Deployment that run and that nobody has taken, the longest there first.
    async fn spares(&self, name: &str, of: &Deployment) -> Result<Vec<Spare>, ProviderError> {
        let asked = || self.cluster.asked(format_args!("list the pods of deployment {name}"));
        let selector = of.spec.as_ref().map(|spec| Selector::try_from(spec.selector.clone()));
        let selector = selector.and_then(Result::ok).filter(|selector| !selector.selects_all());
        let mut selector = selector.ok_or_else(|| {
            let text = "its selector says nothing, or nothing that is known here".to_owned();
            Trouble::Told(Cause::Absent, text).told(asked())
        })?;
        selector.extend([Expression::DoesNotExist(body::INSTANCE.to_owned())]);
        // Of what the API server has at hand: one that has changed since is not taken.
        let running = ListParams::default().fields("status.phase=Running").match_any();
        let params = running.labels_from(&selector);
        let listed =
            self.cluster.pods(self.spec.timeout, |pods| async move { pods.list(&params).await });
        let mut pods = listed.await.map_err(|trouble| trouble.told(asked()))?.items;
        pods.retain(|pod| is_of(pod, name) && is_gated(pod.spec.as_ref()));
        // Those of the newest template first, as far as images tell.
        pods.sort_by_key(|pod| (!is_as(pod, of), pod.metadata.creation_timestamp.clone()));
        Ok(pods.iter().filter_map(|pod| self.spare(pod)).collect())
    }

    fn spare(&self, pod: &Pod) -> Option<Spare> {
        let containers = &pod.spec.as_ref()?.containers;
        let container = match &self.spec.container {
            Some(name) => containers.iter().find(|one| one.name == *name),
            None => containers.first(),
        }?;
        let serving = Serving {
            container: container.name.clone(),
            restarts: seen::restarts(pod, &container.name),
        };
        let view = seen::view(pod, &serving);
        let ip = view.ip.filter(|_| view.runs && view.ended.is_none())?;
        let size = serde_json::to_value(container).ok();
        Some(Spare {
            name: pod.metadata.name.clone()?,
            uid: pod.metadata.uid.clone()?,
            version: pod.metadata.resource_version.clone()?,
            ip,
            serving,
            size: size.and_then(|container| size::of(container.as_object()?)),
        })
    }

    /// Takes one; nothing where it is another's by now, or gone.
    async fn take(
        &self,
        request: &CreateRequest,
        spare: Spare,
        template: &str,
    ) -> Result<Option<Handle>, Failed> {
        let (cluster, name) = (&self.cluster, &spare.name);
        let labels = body::claim(&self.spec, &cluster.owner, request, &spare.uid, &spare.version);
        let patch = Patch::Merge(labels);
        let taken = cluster.pods(self.spec.timeout, |pods| async move {
            pods.patch(name, &PatchParams::default(), &patch).await
        });
        let pod = match taken.await {
            Ok(pod) => pod,
            Err(trouble) if trouble.is_another() || trouble.is_absent() => return Ok(None),
            Err(trouble) => {
                let asked = cluster.asked(format_args!("take pod {name}"));
                let left = trouble.may_have_acted().then_some(Remain {
                    id: request.id,
                    name: spare.name,
                    uid: Some(spare.uid.clone()),
                    spare: Some(spare.uid),
                });
                return Err(Failed { error: trouble.told(asked), left });
            }
        };
        self.note_size(spare.size.is_some());
        cluster.watch(request.id, spare.serving.clone(), Some(spare.uid.clone()));
        cluster.watched().hear(&pod, false);
        let state = State {
            place: cluster.place.clone(),
            pod: spare.name,
            uid: spare.uid,
            container: spare.serving.container,
            restarts: spare.serving.restarts,
            size: spare.size,
            template: Some(template.to_owned()),
        };
        let state =
            serde_json::to_string(&state).map_err(|e| ProviderError::Other(e.to_string()))?;
        let address = SocketAddr::new(spare.ip, self.spec.port);
        let (id, service) = (request.id, request.service.clone());
        Ok(Some(Handle { id, service, address, pid: None, state }))
    }
}

/// Whether Services of the cluster do not meet such a pod before it is activated.
fn is_gated(pod: Option<&PodSpec>) -> bool {
    let mut gates = pod.into_iter().flat_map(|pod| pod.readiness_gates.iter().flatten());
    gates.any(|gate| gate.condition_type == body::ACTIVE)
}

/// Whether a pod is of that Deployment. Others may have the labels that it selects by. Its ReplicaSets
/// have its name with the hash that each writes on its own pods (Kubernetes,
/// `pkg/controller/deployment/sync.go`).
fn is_of(pod: &Pod, deployment: &str) -> bool {
    let hash = pod.metadata.labels.as_ref().and_then(|labels| labels.get(body::TEMPLATE_HASH));
    let Some(hash) = hash else { return false };
    let mut owners = pod.metadata.owner_references.iter().flatten();
    owners.any(|owner| {
        owner.kind == "ReplicaSet"
            && owner.controller == Some(true)
            && owner.name.strip_prefix(deployment).and_then(|rest| rest.strip_prefix('-'))
                == Some(hash)
    })
}

/// Whether the containers of a pod have the images that the Deployment gives them now.
fn is_as(pod: &Pod, deployment: &Deployment) -> bool {
    let template = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let mut wanted = template.into_iter().flat_map(|template| &template.containers);
    wanted.all(|wanted| {
        let mut has = pod.spec.iter().flat_map(|spec| &spec.containers);
        has.any(|one| one.name == wanted.name && one.image == wanted.image)
    })
}

/// What a Deployment says of itself, where none of its pods can be taken.
fn shown(deployment: &Deployment) -> String {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = deployment.status.as_ref();
    let there = status.and_then(|status| status.replicas).unwrap_or(0);
    let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let wrong = conditions.filter(|one| match one.type_.as_str() {
        "ReplicaFailure" => one.status == "True",
        "Progressing" => one.status == "False",
        _ => false,
    });
    let words: Vec<String> = wrong.filter_map(|one| one.message.clone()).collect();
    let words = if words.is_empty() { String::new() } else { format!(": {}", words.join("; ")) };
    format!("none of its pods runs and is free; it wants {wanted} and has {there}{words}")
}
