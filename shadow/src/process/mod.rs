//! The default provider: an instance is a plain process, with everything it forks, in its own
//! control group.

mod birth;
mod cgroup;
mod confine;
mod facilities;
mod host;
mod left;
mod logs;
mod ports;
pub(crate) mod procfs;
pub(crate) mod signals;
mod spawn;
pub(crate) mod usage;
mod user;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rustix::process::Signal;

pub use self::confine::Confinement;
pub use self::facilities::Facility;
pub use self::host::{HostSettings, ProcessHost};
pub use self::logs::OutputBounds;
pub use self::spawn::ProcessSpec;

pub(crate) use self::host::ProcessState;

use self::host::Live;
use crate::error::ProviderError;
use crate::fault::{self, Fault};
use crate::hash::fnv1a;
use crate::provider::{
    Adoption, Capabilities, CpuShare, CreateRequest, Diagnosis, ExitDetail, Handle, Provider,
    Sweep, Usage,
};

/// Time a killed process has to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// Makes instances of one service as processes on this machine.
pub struct ProcessProvider {
    host: Arc<ProcessHost>,
    spec: ProcessSpec,
}

impl ProcessProvider {
    /// A provider for one service.
    #[must_use]
    pub fn new(host: Arc<ProcessHost>, spec: ProcessSpec) -> Self {
        Self { host, spec }
    }

    /// A provider that only takes over, ends and sweeps processes made in earlier runs.
    #[must_use]
    pub fn janitor(host: Arc<ProcessHost>) -> Self {
        Self { host, spec: ProcessSpec::default() }
    }
}

#[async_trait]
impl Provider for ProcessProvider {
    fn name(&self) -> &'static str {
        "process"
    }

    fn fingerprint(&self) -> String {
        // Hashed, since it is kept in the database and the environment may hold secrets.
        // How much of its output is kept is no property of an instance.
        let spec = ProcessSpec { output: OutputBounds::default(), ..self.spec.clone() };
        fnv1a(format!("{:?}", (&spec, self.host.address)).into_bytes())
    }

    fn capabilities(&self) -> Capabilities {
        // Without a control group signals freeze; only the processor needs a controller.
        Capabilities { freeze: true, resize: self.host.facilities.cpu.is_some(), snapshot: false }
    }

    fn is_work_here(&self) -> bool {
        true
    }

    async fn create(&self, request: &CreateRequest) -> Result<Handle, ProviderError> {
        if request.from.is_some() {
            return Err(ProviderError::unsupported(self.name(), "begin from a snapshot"));
        }
        self.host.check_unended(&request.service)?;
        let (host, ports) = (Arc::clone(&self.host), self.spec.ports.clone());
        let port = blocking(move || host.ports.reserve(&ports)).await?;
        let state = self.host.begin(&self.spec, request, port, None).await?;
        Ok(Handle {
            id: request.id,
            service: request.service.clone(),
            address: SocketAddr::new(self.host.address, port),
            pid: Some(state.identity.pid),
            state: encode(&state)?,
        })
    }

    async fn freeze(&self, handle: &Handle) -> Result<(), ProviderError> {
        let live = self.host.found(handle.id)?;
        blocking(move || {
            if live.state.leaf.set_frozen(true)? {
                return Ok(());
            }
            let pid = live.state.identity.pid;
            if live.exit.borrow().is_none() {
                signals::send_group(pid, Signal::STOP)?;
            }
            let start = Instant::now();
            while procfs::stat(pid).is_some_and(|stat| !matches!(stat.state, 'T' | 't' | 'Z')) {
                if start.elapsed() > KILL_PATIENCE {
                    return Err(timeout("stop", pid));
                }
                std::thread::sleep(Duration::from_micros(200));
            }
            Ok(())
        })
        .await
    }

    async fn thaw(&self, handle: &Handle) -> Result<(), ProviderError> {
        let live = self.host.found(handle.id)?;
        blocking(move || resume(&live)).await
    }

    async fn set_share(&self, handle: &Handle, share: CpuShare) -> Result<(), ProviderError> {
        if !self.capabilities().resize {
            return Err(ProviderError::unsupported(self.name(), "resize"));
        }
        let live = self.host.found(handle.id)?;
        blocking(move || live.state.leaf.set_share(share)).await
    }

    fn can_disturb(&self, fault: Fault) -> Result<(), ProviderError> {
        fault::by_steps(self, fault)
    }

    async fn disturb(&self, handle: &Handle, fault: Fault) -> Result<(), ProviderError> {
        self.can_disturb(fault)?;
        match fault {
            Fault::Kill => self.host.fell(handle.id).await,
            Fault::Hang => self.freeze(handle).await,
            Fault::Slow { cpu_percent } => {
                self.set_share(handle, CpuShare::Percent(cpu_percent)).await
            }
        }
    }

    async fn destroy(&self, handle: &Handle, grace: Duration) -> Result<(), ProviderError> {
        let state = decode(handle)?;
        if let Some(live) = self.host.live(handle.id) {
            let mut exit = live.exit.clone();
            if !grace.is_zero() && exit.borrow().is_none() {
                let asked = Arc::clone(&live);
                blocking(move || ask_to_end(&asked)).await?;
                if tokio::time::timeout(grace, exit.wait_for(Option::is_some)).await.is_err() {
                    tracing::info!(
                        service = %handle.service, instance = %handle.id,
                        grace_ms = grace.as_millis(), "did not end when asked; killing it"
                    );
                }
            }
        }
        self.host.end(handle.id, &state).await
    }

    async fn adopt(&self, handle: &Handle) -> Result<Adoption, ProviderError> {
        let state = decode(handle)?;
        let bounds = self.spec.output;
        if self.host.take_over(handle.id, &handle.service, &state, bounds).await? {
            return Ok(Adoption::Running);
        }
        let pid = state.identity.pid;
        Ok(Adoption::Gone(format!("process {pid} ended while foreshadow was away")))
    }

    async fn exited(&self, handle: &Handle) -> ExitDetail {
        let Some(live) = self.host.live(handle.id) else {
            return ExitDetail("ended".to_owned());
        };
        let mut exit = live.exit.clone();
        let ended = exit.wait_for(Option::is_some).await.ok().and_then(|text| text.clone());
        ExitDetail(ended.unwrap_or_else(|| "its exit cannot be watched".to_owned()))
    }

    async fn diagnose(&self, handle: &Handle) -> Diagnosis {
        let (host, id, port) = (Arc::clone(&self.host), handle.id, handle.address.port());
        let ended = self.host.live(id).is_none_or(|live| live.exit.borrow().is_some());
        let look = blocking(move || {
            let last_lines = host.logs.last_lines(id);
            // Once the instance has ended, whoever holds the port is someone else.
            Ok(Diagnosis { last_lines, collision: ended && !host.ports.is_free(port) })
        });
        look.await.unwrap_or_default()
    }

    async fn usage(&self, handle: &Handle) -> Usage {
        let Some(live) = self.host.live(handle.id) else { return Usage::default() };
        let look =
            blocking(move || Ok(usage::read(&live.state.leaf, live.state.identity.pid))).await;
        look.unwrap_or_default()
    }

    async fn sweep(&self, what: &Sweep) -> Result<usize, ProviderError> {
        // An engine or cluster that is named first by a reload has no sweep of its own.
        self.host.engines.keep(&what.keep);
        self.host.clusters.keep(&what.keep);
        self.host.sweep(&what.keep).await
    }

    fn is_swept(&self) -> bool {
        self.host.is_swept()
    }
}

fn resume(live: &Live) -> Result<(), ProviderError> {
    if !live.state.leaf.set_frozen(false)? && live.exit.borrow().is_none() {
        signals::send_group(live.state.identity.pid, Signal::CONT)?;
    }
    Ok(())
}

/// Wakes a process, lets it run freely so that it can end in time, and sends SIGTERM to it and
/// what it started.
fn ask_to_end(live: &Live) -> Result<(), ProviderError> {
    live.state.leaf.set_share(CpuShare::Unlimited)?;
    resume(live)?;
    if live.exit.borrow().is_none() {
        signals::send_group(live.state.identity.pid, Signal::TERM)?;
    }
    signals::send(&live.pidfd, Signal::TERM)
}

fn timeout(operation: &'static str, pid: u32) -> ProviderError {
    let waited_ms = u64::try_from(KILL_PATIENCE.as_millis()).unwrap_or(u64::MAX);
    ProviderError::Timeout { operation, subject: format!("process {pid}"), waited_ms }
}

fn encode(state: &ProcessState) -> Result<String, ProviderError> {
    serde_json::to_string(state).map_err(|e| ProviderError::Other(e.to_string()))
}

fn decode(handle: &Handle) -> Result<ProcessState, ProviderError> {
    serde_json::from_str(&handle.state).map_err(|error| ProviderError::Handle {
        instance: handle.id,
        problem: format!("its record was not written by the process provider: {error}"),
    })
}

/// Runs system calls that may block away from the runtime's workers.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ProviderError> + Send + 'static,
) -> Result<T, ProviderError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(ProviderError::Other(format!("the operation was abandoned: {error}"))),
    }
}
