//! Instances as pods of a Kubernetes cluster.
//!
//! Each instance is one bare pod, made as such or taken out of a Deployment. It runs from the start, since the API has no pause, and is parked by a
//! readiness gate: Services of the cluster do not route to it before it is activated, while Foreshadow
//! reaches it by its own address.

mod body;
mod claiming;
mod clean;
mod cluster;
mod ending;
mod lease;
mod line;
mod making;
mod owed;
mod rollout;
mod seen;
mod size;
mod spec;
mod steps;
mod told;
mod usage;
mod watching;
mod workload;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub(crate) use self::cluster::Clusters;
pub use self::spec::{ClusterAccess, KubernetesSpec, PodImage, PodSource};
pub use self::workload::{Workload, WorkloadScaler, WorkloadSpec};

use self::clean::Remain;
use self::cluster::Cluster;
use self::ending::{Grace, LEAST_GRACE_S};
use crate::error::ProviderError;
use crate::fault::{self, Fault};
use crate::process::ProcessHost;
use crate::provider::{
    Adoption, Capabilities, CpuShare, CreateRequest, Diagnosis, ExitDetail, Handle, Provider,
    Sweep, Usage,
};
use crate::remains::{self, AT_START};

/// How long an end waits for what is given back.
const AT_END: Duration = Duration::from_secs(2);

/// Makes instances of one service as pods.
pub struct KubernetesProvider {
    cluster: Arc<Cluster>,
    spec: KubernetesSpec,
    /// Whether the pods have no limit of processor time, and so no size to go back to.
    boundless: AtomicBool,
    rollout: rollout::Rollout,
    pool: claiming::Shared,
}

/// What the registry keeps of a pod.
#[derive(Serialize, Deserialize)]
struct State {
    place: String,
    /// Its name.
    pod: String,
    /// The cluster's own name for it, never given twice.
    uid: String,
    /// The container that serves.
    container: String,
    /// How often that had been started again when it became an instance.
    #[serde(default)]
    restarts: i32,
    /// Its processor time at full size; absent where nothing limits it.
    #[serde(default)]
    size: Option<size::Size>,
    /// The template of its Deployment when it was made, hashed; absent where it has none.
    #[serde(default)]
    template: Option<String>,
}

impl State {
    fn serving(&self) -> seen::Serving {
        seen::Serving { container: self.container.clone(), restarts: self.restarts }
    }
}

impl KubernetesProvider {
    /// A provider for one service; `host` is that of the process providers. The API server is asked
    /// when something is to be done.
    #[must_use]
    pub fn new(host: &Arc<ProcessHost>, spec: KubernetesSpec) -> Self {
        let cluster = host.clusters.at(&spec.access, &spec.namespace, spec.lease);
        Self {
            cluster,
            spec,
            boundless: AtomicBool::new(false),
            rollout: rollout::Rollout::default(),
            pool: claiming::Shared::default(),
        }
    }

    fn state(handle: &Handle) -> Result<State, ProviderError> {
        serde_json::from_str(&handle.state).map_err(|error| {
            let problem = format!("its record was not written by this kind of provider: {error}");
            ProviderError::Handle { instance: handle.id, problem }
        })
    }

    /// Notes whether pods have a size that can be changed, and says so where they have none.
    fn note_size(&self, is_bounded: bool) {
        if !self.boundless.swap(!is_bounded, Ordering::AcqRel) && !is_bounded {
            tracing::warn!(
                cluster = self.cluster.name,
                "pods are not resized, so warm shadows have full size: their container has no limit of \
                 CPU to go back to"
            );
        }
    }
}

#[async_trait]
impl Provider for KubernetesProvider {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    fn fingerprint(&self) -> String {
        self.spec.fingerprint()
    }

    /// The API has no pause. Whether it resizes is known when it was asked for the first time, which
    /// comes before any instance; until then it is taken to.
    fn capabilities(&self) -> Capabilities {
        let bounded = !self.boundless.load(Ordering::Acquire);
        let resize = bounded && self.cluster.resizes().unwrap_or(true);
        Capabilities { freeze: false, resize, snapshot: false }
    }

    fn place(&self) -> String {
        self.cluster.place.clone()
    }

    async fn create(&self, request: &CreateRequest) -> Result<Handle, ProviderError> {
        if request.from.is_some() {
            return Err(ProviderError::unsupported(self.name(), "snapshot"));
        }
        self.cluster.clean(Some(&request.service), self.spec.timeout).await?;
        self.cluster.mine.add(request.id);
        let made = match &self.spec.pod {
            PodSource::Claim(deployment) => self.claim(request, deployment).await,
            _ => self.make(request).await,
        };
        match made {
            Ok(handle) => Ok(handle),
            Err(failed) => {
                match failed.left {
                    Some(left) => {
                        self.cluster.undo(left, &request.service, self.spec.timeout).await;
                    }
                    None => self.cluster.disown(request.id),
                }
                Err(failed.error)
            }
        }
    }

    /// A claim is waited for: which pod it may have taken is not known by name.
    fn can_call_off(&self) -> bool {
        !matches!(self.spec.pod, PodSource::Claim(_))
    }

    async fn call_off(&self, request: &CreateRequest) {
        let name = body::pod_name(&self.cluster.owner, request.id);
        let left = Remain { id: request.id, name, uid: None, spare: None };
        self.cluster.undo(left, &request.service, self.spec.timeout).await;
    }

    async fn freeze(&self, _handle: &Handle) -> Result<(), ProviderError> {
        Err(ProviderError::unsupported(self.name(), "freeze"))
    }

    async fn thaw(&self, _handle: &Handle) -> Result<(), ProviderError> {
        Err(ProviderError::unsupported(self.name(), "freeze"))
    }

    async fn set_share(&self, handle: &Handle, share: CpuShare) -> Result<(), ProviderError> {
        self.resize(handle, &Self::state(handle)?, share).await
    }

    async fn set_activated(&self, handle: &Handle, activated: bool) -> Result<(), ProviderError> {
        self.gate(handle, &Self::state(handle)?, activated).await
    }

    /// A pod cannot be paused.
    fn can_disturb(&self, fault: Fault) -> Result<(), ProviderError> {
        fault::by_steps(self, fault)
    }

    async fn disturb(&self, handle: &Handle, fault: Fault) -> Result<(), ProviderError> {
        self.can_disturb(fault)?;
        let state = Self::state(handle)?;
        match fault {
            Fault::Slow { cpu_percent } => {
                self.resize(handle, &state, CpuShare::Percent(cpu_percent)).await
            }
            // As somebody else would delete it, with the least time it can have: the watch hears of it.
            Fault::Kill | Fault::Hang => {
                let (grace, patience) = (LEAST_GRACE_S, self.spec.timeout);
                let deleted = self.cluster.delete(&state.pod, &state.uid, grace, patience);
                let asked = || self.cluster.asked(format_args!("delete pod {}", state.pod));
                deleted.await.map_err(|trouble| trouble.told(asked()))
            }
        }
    }

    async fn destroy(&self, handle: &Handle, grace: Duration) -> Result<(), ProviderError> {
        let state = Self::state(handle)?;
        // What a template says, it says with reason; an image of ours has no other time than ours.
        let grace = match &self.spec.pod {
            PodSource::Image(_) => Grace::AtMost(grace),
            _ if grace.is_zero() => Grace::NONE,
            _ => Grace::OrItsOwn(grace),
        };
        self.cluster.remove(&state.pod, &state.uid, grace, self.spec.timeout).await?;
        self.cluster.disown(handle.id);
        Ok(())
    }

    async fn adopt(&self, handle: &Handle) -> Result<Adoption, ProviderError> {
        self.take_over(handle, Self::state(handle)?).await
    }

    async fn exited(&self, handle: &Handle) -> ExitDetail {
        let view = self.cluster.watched().view(handle.id);
        let Some(mut view) = view else { return ExitDetail("ended".to_owned()) };
        let seen = view.wait_for(|view| view.ended.is_some()).await;
        // Forgotten while it was waited for: it was ended on purpose.
        let text = seen.ok().and_then(|view| view.ended.clone());
        ExitDetail(text.unwrap_or_else(|| "ended".to_owned()))
    }

    async fn diagnose(&self, handle: &Handle) -> Diagnosis {
        let last_lines = match Self::state(handle) {
            Ok(state) => self.why(handle, &state).await,
            Err(error) => vec![error.to_string()],
        };
        Diagnosis { last_lines, collision: false }
    }

    async fn usage(&self, handle: &Handle) -> Usage {
        match Self::state(handle) {
            Ok(state) => self.cluster.usage(&state.pod),
            Err(_) => Usage::default(),
        }
    }

    async fn sweep(&self, what: &Sweep) -> Result<usize, ProviderError> {
        self.cluster.order(what).await;
        self.cluster.follow();
        let (cluster, patience) = (Arc::clone(&self.cluster), self.spec.timeout);
        let clean = async move { cluster.clean(None, patience).await };
        Ok(remains::at_start(self.name(), AT_START, clean).await.unwrap_or_default())
    }

    async fn is_outdated(&self, handle: &Handle) -> bool {
        self.is_of_older(handle).await
    }

    async fn leave(&self) {
        if let Err(error) = self.cluster.release(self.spec.timeout.min(AT_END)).await {
            tracing::warn!(%error, "the lease on our pods is not given back; it runs out");
        }
    }

    fn is_swept(&self) -> bool {
        self.cluster.remains.is_clear()
    }
}
