//! Making a pod, step by step, and taking one over.

use std::net::SocketAddr;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, PostParams};
use serde_json::Value;
use tokio::time::Instant;

use super::body::{self, Made};
use super::clean::Remain;
use super::rollout;
use super::seen::{self, Serving, View};
use super::size;
use super::spec::PodSource;
use super::told::Trouble;
use super::{KubernetesProvider, State};
use crate::error::{Cause, ProviderError};
use crate::provider::{Adoption, CreateRequest, Handle};
use crate::remains::AT_START;

/// How often a pod that is being made is looked at, beside what the watch tells.
const LOOK: std::time::Duration = std::time::Duration::from_secs(2);

/// Why nothing was made.
pub(super) struct Failed {
    pub(super) error: ProviderError,
    /// A pod that may be there, or come to be there, all the same.
    pub(super) left: Option<Remain>,
}

impl From<ProviderError> for Failed {
    fn from(error: ProviderError) -> Self {
        Self { error, left: None }
    }
}

impl KubernetesProvider {
    pub(super) async fn make(&self, request: &CreateRequest) -> Result<Handle, Failed> {
        let (cluster, timeout) = (&self.cluster, self.spec.timeout);
        cluster.own(timeout).await?;
        cluster.learn(timeout).await;
        let template = self.template().await?;
        let of = template.as_ref().map(rollout::print);
        let made = body::pod(&self.spec, &cluster.owner, request, template);
        let mut made = made.map_err(|why| {
            Trouble::Told(Cause::Absent, why).told(cluster.asked("describe a pod"))
        })?;
        let serving = Serving { container: made.container.clone(), restarts: 0 };
        cluster.watch(request.id, serving, None);
        let created = self.create_pod(request, &made).await?;
        let uid = created.metadata.uid.unwrap_or_default();
        // As the API server has it: others may have set limits that were not asked for.
        if let Some(spec) = created.data.get("spec") {
            made.size = size::within(spec, &made.container);
        }
        self.note_size(made.size.is_some());
        cluster.watched().bind(request.id, &uid);
        let name = body::pod_name(&cluster.owner, request.id);
        let left = || Some(Remain { id: request.id, name, uid: Some(uid.clone()), spare: None });
        let begun = self.begin(request, made, uid.clone(), of).await;
        begun.map_err(|error| Failed { error, left: left() })
    }

    /// The pod template of the Deployment that is mirrored, as it is now.
    async fn template(&self) -> Result<Option<Value>, ProviderError> {
        let PodSource::Deployment(name) = &self.spec.pod else { return Ok(None) };
        self.deployment(name).await.map(|found| Some(found.template))
    }

    /// The order itself; returns the pod as the API server has made it.
    async fn create_pod(
        &self,
        request: &CreateRequest,
        made: &Made,
    ) -> Result<DynamicObject, Failed> {
        let cluster = &self.cluster;
        let name = body::pod_name(&cluster.owner, request.id);
        let left = Remain { id: request.id, name: name.clone(), uid: None, spare: None };
        let asked = || cluster.asked(format_args!("create pod {name}"));
        let mut may_clear = true;
        loop {
            let order: DynamicObject = serde_json::from_value(made.pod.clone())
                .map_err(|e| Trouble::Told(Cause::Absent, e.to_string()).told(asked()))?;
            let created = cluster.call(self.spec.timeout, |client| async move {
                let resource = ApiResource::erase::<Pod>(&());
                let all: Api<DynamicObject> =
                    Api::namespaced_with(client, &cluster.namespace, &resource);
                all.create(&PostParams::default(), &order).await
            });
            let trouble = match created.await {
                Ok(created) => return Ok(created),
                Err(trouble) => trouble,
            };
            if trouble.is_name_taken()
                && std::mem::take(&mut may_clear)
                && cluster.remove_ours(&left, self.spec.timeout).await?
            {
                continue;
            }
            let left = trouble.may_have_acted().then_some(left);
            return Err(Failed { error: trouble.told(asked()), left });
        }
    }

    /// From a pod that was made to one whose container runs.
    async fn begin(
        &self,
        request: &CreateRequest,
        made: Made,
        uid: String,
        template: Option<String>,
    ) -> Result<Handle, ProviderError> {
        let cluster = &self.cluster;
        let name = body::pod_name(&cluster.owner, request.id);
        let ip = self.started(request, &name, &made.container).await.map_err(|(cause, text)| {
            Trouble::Told(cause, text).told(cluster.asked(format_args!("run pod {name}")))
        })?;
        let state = State {
            place: cluster.place.clone(),
            pod: name,
            uid,
            container: made.container,
            restarts: 0,
            size: made.size,
            template,
        };
        let state =
            serde_json::to_string(&state).map_err(|e| ProviderError::Other(e.to_string()))?;
        let address = SocketAddr::new(ip, self.spec.port);
        let (id, service) = (request.id, request.service.clone());
        Ok(Handle { id, service, address, pid: None, state })
    }

    /// Waits until the container that serves runs; returns the pod's address.
    async fn started(
        &self,
        request: &CreateRequest,
        name: &str,
        container: &str,
    ) -> Result<std::net::IpAddr, (Cause, String)> {
        let patience = self.spec.schedule_timeout;
        let end = Instant::now() + patience;
        let gone = || (Cause::Failed, "it was ended meanwhile".to_owned());
        let mut views = self.cluster.watched().view(request.id).ok_or_else(gone)?;
        loop {
            let view: View = views.borrow_and_update().clone();
            // Says more than that it ended, which is part of it.
            if let Some(held_up) = view.held_up.as_ref().filter(|held_up| held_up.for_good) {
                return Err((held_up.cause, held_up.text.clone()));
            }
            if let Some(how) = view.ended {
                let words = self.last_words(name, container).await;
                let said = if words.is_empty() { "nothing".to_owned() } else { words.join(" | ") };
                return Err((Cause::Failed, format!("{how}; it wrote: {said}")));
            }
            match (view.ip, view.runs, view.held_up) {
                (Some(ip), true, _) => return Ok(ip),
                (_, _, Some(held_up)) if Instant::now() >= end => {
                    return Err((held_up.cause, held_up.text));
                }
                _ if Instant::now() >= end => {
                    let text = "its container was not started, and no reason is given".to_owned();
                    let waited = format!("{text}, within {} ms", patience.as_millis());
                    return Err((Cause::Late, waited));
                }
                _ => {}
            }
            let look = (Instant::now() + LOOK).min(end);
            tokio::select! {
                changed = views.changed() => changed.map_err(|_| gone())?,
                () = tokio::time::sleep_until(look) => self.look_at(name).await,
            }
        }
    }

    /// Looks at one pod, for what the watch has not told.
    pub(super) async fn look_at(&self, name: &str) {
        let patience = self.spec.timeout.min(LOOK);
        let found =
            self.cluster.pods(patience, |pods| async move { pods.get_opt(name).await }).await;
        match found {
            Ok(Some(pod)) => self.cluster.watched().hear(&pod, false),
            // The watch tells of its end, and says how.
            Ok(None) => self.cluster.nudge.notify_one(),
            Err(trouble) => {
                let error = trouble.told(self.cluster.asked(format_args!("show pod {name}")));
                tracing::debug!(%error, "a pod that is being made cannot be seen");
            }
        }
    }

    pub(super) async fn take_over(
        &self,
        handle: &Handle,
        state: State,
    ) -> Result<Adoption, ProviderError> {
        let cluster = &self.cluster;
        let elsewhere = state.place != cluster.place;
        let patience = self.spec.timeout.min(AT_START);
        let name = &state.pod;
        let found = cluster.pods(patience, |pods| async move { pods.get_opt(name).await }).await;
        let pod = match found {
            Ok(pod) => pod.filter(|pod| pod.metadata.uid.as_ref() == Some(&state.uid)),
            Err(trouble) => {
                let error = trouble.told(cluster.asked(format_args!("show pod {name}")));
                if elsewhere {
                    return Ok(Adoption::OutOfReach(error.to_string()));
                }
                // It ran when it was last seen; its health check and the next look will tell.
                tracing::warn!(instance = %handle.id, %error, "taken over unseen");
                self.hold(handle, &state);
                return Ok(Adoption::Running);
            }
        };
        let Some(pod) = pod else {
            return Ok(match elsewhere {
                false => Adoption::Gone("its cluster does not know its pod".to_owned()),
                true => Adoption::OutOfReach(
                    "it was made in another namespace or cluster than the one configured now; set \
                     `kubeconfig`, `context` and `namespace` back for one more start, or end it by \
                     hand"
                        .to_owned(),
                ),
            });
        };
        let view = seen::view(&pod, &state.serving());
        if let Some(how) = view.ended {
            return Ok(Adoption::Gone(how));
        }
        if view.ip.is_some_and(|ip| ip != handle.address.ip()) {
            let text = format!("its address was {}, now {:?}", handle.address, view.ip);
            return Ok(Adoption::Gone(text));
        }
        self.hold(handle, &state);
        cluster.watched().hear(&pod, false);
        cluster.learn(patience).await;
        Ok(Adoption::Running)
    }

    fn hold(&self, handle: &Handle, state: &State) {
        self.cluster.mine.add(handle.id);
        self.note_size(state.size.is_some());
        self.cluster.watch(handle.id, state.serving(), Some(state.uid.clone()));
    }
}
