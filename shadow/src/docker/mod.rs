//! Instances as containers of a Docker Engine.

mod body;
mod clean;
mod engine;
mod making;
mod network;
mod pulls;
mod spec;
mod steps;
mod told;
mod usage;
mod watching;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use foreshadow_control::InstanceId;
use serde::{Deserialize, Serialize};

pub(crate) use self::engine::Engines;
pub use self::spec::{
    ContainerLimits, DockerSpec, EngineEndpoint, LogSpec, MountSpec, NetworkSpec, Pull, TlsFiles,
};

use self::engine::Engine;
use self::network::Joined;
use crate::error::ProviderError;
use crate::fault::{self, Fault};
use crate::process::ProcessHost;
use crate::provider::{
    Adoption, Capabilities, CpuShare, CreateRequest, Diagnosis, ExitDetail, Handle, Provider,
    Snapshot, Sweep, Usage,
};
use crate::remains::{self, AT_START};

/// Makes instances of one service as containers.
pub struct DockerProvider {
    engine: Arc<Engine>,
    spec: DockerSpec,
    /// Networks of the primary as last seen: it may be gone when its shadow takes its place.
    seen: Mutex<Option<Joined>>,
}

/// What the registry keeps of a container.
#[derive(Serialize, Deserialize)]
struct State {
    place: String,
    /// The engine's id.
    container: String,
    /// The network that it is alone with its like in, until it is activated.
    #[serde(default)]
    isolation: Option<String>,
    /// The networks it joins when it is activated, as they were when it was made.
    #[serde(default)]
    joins: Joined,
}

impl DockerProvider {
    /// A provider for one service; `host` is that of the process providers. The engine is asked
    /// when something is to be done.
    #[must_use]
    pub fn new(host: &Arc<ProcessHost>, spec: DockerSpec) -> Self {
        let engine = host.engines.at(&spec.endpoint, spec.tls.clone(), &host.marker);
        Self { engine, spec, seen: Mutex::default() }
    }

    fn state(handle: &Handle) -> Result<State, ProviderError> {
        serde_json::from_str(&handle.state).map_err(|error| {
            let problem = format!("its record was not written by this kind of provider: {error}");
            ProviderError::Handle { instance: handle.id, problem }
        })
    }

    /// The networks of an activated instance: as they are now, or as they were last seen.
    async fn networks(&self, before: Option<&Joined>) -> Result<Joined, ProviderError> {
        let found = self.engine.wanted_networks(&self.spec.network, self.spec.timeout).await;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match found {
            Ok(found) => Ok(seen.insert(found).clone()),
            Err(error) => match seen.as_ref().or(before) {
                Some(known) => {
                    tracing::warn!(%error, "the primary's networks are taken as they were last seen");
                    Ok(known.clone())
                }
                None => Err(error),
            },
        }
    }

    fn watch(&self, id: InstanceId, container: &str) {
        Engine::watch(&self.engine, id, container.to_owned());
    }
}

#[async_trait]
impl Provider for DockerProvider {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn fingerprint(&self) -> String {
        self.spec.fingerprint()
    }

    /// A snapshot holds files, not memory: engines restore memory only as an experiment.
    fn capabilities(&self) -> Capabilities {
        Capabilities { freeze: true, resize: true, snapshot: true }
    }

    fn place(&self) -> String {
        self.engine.place.clone()
    }

    async fn create(&self, request: &CreateRequest) -> Result<Handle, ProviderError> {
        self.engine.clean(Some(&request.service)).await?;
        self.engine.mine.add(request.id);
        match self.make(request).await {
            Ok(handle) => Ok(handle),
            Err(failed) => {
                if failed.may_be_there {
                    self.engine.undo(request.id, &request.service).await;
                } else {
                    self.engine.disown(request.id).await;
                }
                Err(failed.error)
            }
        }
    }

    fn can_call_off(&self) -> bool {
        true
    }

    /// As after a call without an answer: what was ordered may be there now, or come to be there.
    async fn call_off(&self, request: &CreateRequest) {
        self.engine.undo(request.id, &request.service).await;
    }

    async fn freeze(&self, handle: &Handle) -> Result<(), ProviderError> {
        self.pause(&Self::state(handle)?.container, true).await
    }

    async fn thaw(&self, handle: &Handle) -> Result<(), ProviderError> {
        self.pause(&Self::state(handle)?.container, false).await
    }

    async fn set_share(&self, handle: &Handle, share: CpuShare) -> Result<(), ProviderError> {
        self.resize(handle.id, &Self::state(handle)?.container, share).await
    }

    fn can_disturb(&self, fault: Fault) -> Result<(), ProviderError> {
        fault::by_steps(self, fault)
    }

    async fn disturb(&self, handle: &Handle, fault: Fault) -> Result<(), ProviderError> {
        match fault {
            Fault::Kill => self.kill(&Self::state(handle)?.container).await,
            Fault::Hang => self.freeze(handle).await,
            Fault::Slow { cpu_percent } => {
                let share = CpuShare::Percent(cpu_percent);
                let container = Self::state(handle)?.container;
                self.update(&container, body::cpu(&self.spec, share)).await
            }
        }
    }

    async fn set_activated(&self, handle: &Handle, activated: bool) -> Result<(), ProviderError> {
        let state = Self::state(handle)?;
        // What was made without a network of its own is in the others for good.
        let Some(isolation) = state.isolation else { return Ok(()) };
        if !activated {
            return self.engine.part(&state.container, &isolation, self.spec.timeout).await;
        }
        for (network, aliases) in self.networks(Some(&state.joins)).await? {
            self.engine.join(&state.container, &network, &aliases, self.spec.timeout).await?;
        }
        Ok(())
    }

    async fn snapshot(&self, handle: &Handle) -> Result<Snapshot, ProviderError> {
        self.commit(handle, &Self::state(handle)?.container).await
    }

    async fn discard(&self, snapshot: &Snapshot) -> Result<(), ProviderError> {
        self.remove_image(snapshot).await
    }

    async fn destroy(&self, handle: &Handle, grace: Duration) -> Result<(), ProviderError> {
        self.end(&Self::state(handle)?.container, grace).await?;
        self.engine.disown(handle.id).await;
        Ok(())
    }

    async fn adopt(&self, handle: &Handle) -> Result<Adoption, ProviderError> {
        self.take_over(handle, Self::state(handle)?).await
    }

    async fn exited(&self, handle: &Handle) -> ExitDetail {
        let ended = self.engine.watched().ended(handle.id);
        let Some(mut ended) = ended else { return ExitDetail("ended".to_owned()) };
        let text = ended.wait_for(Option::is_some).await.ok().and_then(|text| text.clone());
        // Forgotten while it was waited for: it was ended on purpose.
        ExitDetail(text.unwrap_or_else(|| "ended".to_owned()))
    }

    async fn diagnose(&self, handle: &Handle) -> Diagnosis {
        let last_lines = match Self::state(handle) {
            Ok(state) => self.last_words(&state.container).await,
            Err(error) => vec![error.to_string()],
        };
        Diagnosis { last_lines, collision: false }
    }

    async fn usage(&self, handle: &Handle) -> Usage {
        let (Some(pid), Ok(state)) = (handle.pid, Self::state(handle)) else {
            return Usage::default();
        };
        let read = tokio::task::spawn_blocking(move || usage::read(pid, &state.container));
        read.await.unwrap_or_default()
    }

    async fn sweep(&self, what: &Sweep) -> Result<usize, ProviderError> {
        self.engine.order(what).await;
        Engine::follow(&self.engine);
        let engine = Arc::clone(&self.engine);
        let clean = async move { engine.clean(None).await };
        Ok(remains::at_start(self.name(), AT_START, clean).await.unwrap_or_default())
    }

    fn is_swept(&self) -> bool {
        self.engine.remains.is_clear()
    }
}
