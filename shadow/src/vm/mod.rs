//! Instances as virtual machines: an emulator (QEMU) each, which is a process of this machine and is
//! held as one, and is told by the machine protocol what to do with what runs in it.

mod making;
mod place;
mod qcow2;
mod qmp;
mod saving;
mod seen;
mod spec;
mod told;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use foreshadow_control::InstanceId;
use serde_json::Value;

pub use self::spec::{Accel, VmSpec};

use self::place::Place;
use self::qmp::Monitor;
use crate::error::ProviderError;
use crate::fault::{self, Fault};
use crate::process::{ProcessHost, ProcessState, blocking, usage};
use crate::provider::{
    Adoption, Capabilities, CpuShare, CreateRequest, Diagnosis, ExitDetail, Handle, Provider,
    Snapshot, Sweep, Usage,
};

/// Time an emulator has to end when it is told to, and its last words to be read.
const QUIT: Duration = Duration::from_secs(2);

/// What may be the matter with a machine that writes nothing.
const SILENT: &str = "its console is silent; where /dev/kvm is there but of no use, as within some \
                      virtual machines, set `accel: tcg`, and `console=ttyS0` for a kernel";

/// Makes instances of one service as virtual machines on this machine.
pub struct VmProvider {
    host: Arc<ProcessHost>,
    spec: VmSpec,
}

/// The machines that run, and the directory that their files are in.
pub(crate) struct Machines {
    place: Place,
    all: Mutex<BTreeMap<InstanceId, Arc<Monitor>>>,
}

impl Machines {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { place: Place::new(state_dir), all: Mutex::default() }
    }

    /// Removes what is there of a machine that has ended; an instance that is none has nothing.
    /// Blocks.
    pub(crate) fn forget(&self, id: InstanceId) {
        self.lock().remove(&id);
        if let Err(error) = place::remove(&self.place.machine(id)) {
            tracing::error!(instance = %id, %error, "its files stay until the next start");
        }
    }

    /// Removes what is there of machines that are not in `keep`, none of which runs; returns what
    /// cannot be. Blocks.
    pub(crate) fn sweep(&self, keep: &[InstanceId]) -> Vec<(InstanceId, ProviderError)> {
        self.place.sweep(keep)
    }

    /// Removes what is there of one that does not run. Blocks.
    pub(crate) fn remove(&self, id: InstanceId) -> Result<(), ProviderError> {
        place::remove(&self.place.machine(id))
    }

    fn get(&self, id: InstanceId) -> Option<Arc<Monitor>> {
        self.lock().get(&id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Arc<Monitor>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl VmProvider {
    /// A provider for one service; `host` is that of the process providers.
    #[must_use]
    pub fn new(host: Arc<ProcessHost>, spec: VmSpec) -> Self {
        Self { host, spec: spec.absolute() }
    }

    /// A provider that only takes over, ends and sweeps machines made in earlier runs.
    #[must_use]
    pub fn janitor(host: Arc<ProcessHost>) -> Self {
        Self::new(host, VmSpec::default())
    }

    /// Gives the emulator of an instance an order.
    async fn tell(&self, id: InstanceId, order: &'static str) -> Result<Value, ProviderError> {
        let problem = || "no such machine is watched; it has ended or was never made".to_owned();
        let monitor = self.host.machines.get(id);
        let monitor =
            monitor.ok_or_else(|| ProviderError::Handle { instance: id, problem: problem() })?;
        let said = monitor.call(order, Value::Null, self.spec.timeout).await;
        said.map_err(|trouble| trouble.told(id, order))
    }

    /// Presses the power button of a machine, then pulls the plug; what goes wrong on the way is said,
    /// since the process can be killed all the same.
    async fn ask_to_end(&self, handle: &Handle, state: &ProcessState, grace: Duration) {
        let Some(live) = self.host.live(handle.id) else { return };
        let mut exit = live.exit.clone();
        let leaf = state.leaf.clone();
        let asked = async {
            // It hears the button only while it runs, and should not take long about it.
            blocking(move || leaf.set_share(CpuShare::Unlimited)).await?;
            self.tell(handle.id, "cont").await?;
            self.tell(handle.id, "system_powerdown").await?;
            Ok::<_, ProviderError>(())
        };
        let ended = tokio::time::timeout(grace, async {
            tokio::select! {
                biased;
                _ = exit.wait_for(Option::is_some) => return true,
                asked = asked => if let Err(error) = asked {
                    tracing::info!(instance = %handle.id, %error, "its power button does not work");
                    return false;
                },
            }
            exit.wait_for(Option::is_some).await.is_ok()
        });
        if ended.await.is_ok_and(|ended| ended) {
            return;
        }
        tracing::info!(
            service = %handle.service, instance = %handle.id,
            grace_ms = grace.as_millis(), "did not power off when asked; ending its emulator"
        );
        let quit = async {
            self.tell(handle.id, "quit").await?;
            exit.wait_for(Option::is_some).await.map(drop).unwrap_or_default();
            Ok::<_, ProviderError>(())
        };
        match tokio::time::timeout(QUIT, quit).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::info!(instance = %handle.id, %error, "killing its emulator");
            }
            Err(_) => tracing::info!(instance = %handle.id, "killing its emulator"),
        }
    }
}

#[async_trait]
impl Provider for VmProvider {
    fn name(&self) -> &'static str {
        "vm"
    }

    fn fingerprint(&self) -> String {
        self.spec.fingerprint()
    }

    fn is_work_here(&self) -> bool {
        true
    }

    /// A snapshot holds memory and disk.
    fn capabilities(&self) -> Capabilities {
        Capabilities { freeze: true, resize: self.host.facilities.cpu.is_some(), snapshot: true }
    }

    async fn create(&self, request: &CreateRequest) -> Result<Handle, ProviderError> {
        self.make(request).await
    }

    async fn freeze(&self, handle: &Handle) -> Result<(), ProviderError> {
        self.tell(handle.id, "stop").await.map(drop)
    }

    async fn thaw(&self, handle: &Handle) -> Result<(), ProviderError> {
        self.tell(handle.id, "cont").await.map(drop)
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
            // Its emulator: the plug is pulled.
            Fault::Kill => self.host.fell(handle.id).await,
            Fault::Hang => self.freeze(handle).await,
            Fault::Slow { cpu_percent } => {
                self.set_share(handle, CpuShare::Percent(cpu_percent)).await
            }
        }
    }

    async fn snapshot(&self, handle: &Handle) -> Result<Snapshot, ProviderError> {
        self.save(handle.id).await
    }

    async fn discard(&self, snapshot: &Snapshot) -> Result<(), ProviderError> {
        let Some(dir) = self.host.machines.place.snapshot(snapshot) else { return Ok(()) };
        blocking(move || place::remove(&dir)).await
    }

    async fn destroy(&self, handle: &Handle, grace: Duration) -> Result<(), ProviderError> {
        let state = decode(handle)?;
        if !grace.is_zero() {
            self.ask_to_end(handle, &state, grace).await;
        }
        self.host.end(handle.id, &state).await
    }

    async fn adopt(&self, handle: &Handle) -> Result<Adoption, ProviderError> {
        let (id, state) = (handle.id, decode(handle)?);
        if !self.host.take_over(id, &handle.service, &state, self.spec.output).await? {
            let pid = state.identity.pid;
            return Ok(Adoption::Gone(format!("emulator {pid} ended while foreshadow was away")));
        }
        self.attend(id)?;
        self.finish_saving(id).await?;
        Ok(Adoption::Running)
    }

    async fn exited(&self, handle: &Handle) -> ExitDetail {
        let Some(live) = self.host.live(handle.id) else {
            return ExitDetail("ended".to_owned());
        };
        let monitor = self.host.machines.get(handle.id);
        let mut exit = live.exit.clone();
        let ended = exit.wait_for(Option::is_some).await.ok().and_then(|text| text.clone());
        let Some(process) = ended else {
            return ExitDetail("its exit cannot be watched".to_owned());
        };
        let Some(mut seen) = monitor.map(|monitor| monitor.seen()) else {
            return ExitDetail(process);
        };
        // Its last words may still be on their way.
        let words = tokio::time::timeout(QUIT, seen.wait_for(|seen| seen.closed)).await;
        let seen = words.ok().and_then(|words| words.ok().map(|seen| seen.clone()));
        ExitDetail(seen.unwrap_or_default().ending(&process))
    }

    async fn diagnose(&self, handle: &Handle) -> Diagnosis {
        let complaints = self.host.machines.get(handle.id).map(|m| m.seen().borrow().complaints());
        let (host, id) = (Arc::clone(&self.host), handle.id);
        let lines = blocking(move || Ok(host.logs.last_lines(id))).await;
        let mut last_lines = lines.unwrap_or_default();
        if last_lines.is_empty() && self.spec.accel != Accel::Tcg {
            last_lines.push(SILENT.to_owned());
        }
        last_lines.extend(complaints.into_iter().flatten());
        Diagnosis { last_lines, collision: false }
    }

    async fn usage(&self, handle: &Handle) -> Usage {
        let Some(live) = self.host.live(handle.id) else { return Usage::default() };
        let look = blocking(move || Ok(usage::read(&live.state.leaf, live.state.identity.pid)));
        look.await.unwrap_or_default()
    }

    async fn sweep(&self, what: &Sweep) -> Result<usize, ProviderError> {
        self.host.sweep(&what.keep).await
    }

    fn is_swept(&self) -> bool {
        self.host.is_swept()
    }
}

fn encode(state: &ProcessState) -> Result<String, ProviderError> {
    serde_json::to_string(state).map_err(|e| ProviderError::Other(e.to_string()))
}

fn decode(handle: &Handle) -> Result<ProcessState, ProviderError> {
    serde_json::from_str(&handle.state).map_err(|error| ProviderError::Handle {
        instance: handle.id,
        problem: format!("its record was not written by the vm provider: {error}"),
    })
}
