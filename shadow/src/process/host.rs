//! What all process providers of one Foreshadow share: facilities, ports, output, and the
//! processes they watch.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foreshadow_control::{InstanceId, ServiceName};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::cgroup::Leaf;
use super::facilities::{CpuGroup, Facilities, Facility};
use super::logs::Logs;
use super::ports::Ports;
use super::procfs::{self, Identity};
use super::signals;
use crate::docker::Engines;
use crate::error::{ProviderError, ShadowError};
use crate::kubernetes::Clusters;
use crate::remote::{Commands, Places};
use crate::vm::Machines;

/// First and longest pause between two tries to end what a failed creation left behind.
const CLEAR_AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// Where and how processes are held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSettings {
    /// The same directory as the manager's.
    pub state_dir: PathBuf,
    /// Address instances are told to listen on.
    pub host: IpAddr,
    /// What of the machine may be used.
    pub facility: Facility,
}

impl HostSettings {
    /// Loopback, everything the machine has.
    #[must_use]
    pub fn new(state_dir: PathBuf) -> Self {
        Self { state_dir, host: IpAddr::V4(Ipv4Addr::LOCALHOST), facility: Facility::Auto }
    }
}

/// The machine as the process providers see it; one per state directory.
pub struct ProcessHost {
    pub(crate) address: IpAddr,
    pub(crate) marker: String,
    pub(crate) facilities: Facilities,
    pub(crate) ports: Ports,
    pub(crate) logs: Logs,
    pub(crate) places: Places,
    pub(crate) commands: Commands,
    pub(crate) engines: Engines,
    pub(crate) machines: Machines,
    pub(crate) clusters: Clusters,
    live: Mutex<BTreeMap<InstanceId, Arc<Live>>>,
    /// What failed creations left behind and could not be ended yet, with its service.
    unended: Mutex<BTreeMap<InstanceId, ServiceName>>,
    /// Two kinds of providers find the same processes.
    pub(super) sweeping: Mutex<()>,
    /// What earlier runs left behind and could not be ended yet.
    pub(super) left: Mutex<BTreeSet<InstanceId>>,
}

/// What the registry keeps of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessState {
    pub(crate) identity: Identity,
    pub(crate) port: u16,
    pub(crate) leaf: Leaf,
}

/// A process being watched.
pub(crate) struct Live {
    pub(crate) state: ProcessState,
    pub(crate) pidfd: Arc<OwnedFd>,
    /// How it ended, once it has.
    pub(crate) exit: watch::Receiver<Option<String>>,
}

impl ProcessHost {
    /// Probes the machine and starts following output.
    ///
    /// # Errors
    /// When the state directory cannot be used or a thread cannot be started.
    pub fn new(settings: &HostSettings) -> Result<Arc<Self>, ShadowError> {
        let marker = crate::state_dir::marker(&settings.state_dir)?;
        let logs = Logs::start(settings.state_dir.join("logs"))?;
        Ok(Arc::new(Self {
            address: settings.host,
            // Last: it makes groups, which only a host that exists takes away again.
            facilities: Facilities::probe(settings.facility, &marker),
            ports: Ports::new(settings.host),
            logs,
            places: Places::default(),
            commands: Commands::new(&marker),
            engines: Engines::default(),
            machines: Machines::new(&settings.state_dir),
            sweeping: Mutex::default(),
            left: Mutex::default(),
            clusters: Clusters::new(crate::state_dir::name(&settings.state_dir)?, marker.clone()),
            live: Mutex::default(),
            unended: Mutex::default(),
            marker,
        }))
    }

    /// Watches a process from now on. Must be called on a runtime with IO.
    pub(crate) fn watch(
        self: &Arc<Self>,
        id: InstanceId,
        state: ProcessState,
        pidfd: OwnedFd,
    ) -> Result<(), ProviderError> {
        let pidfd = Arc::new(pidfd);
        let (ended, exit) = watch::channel(None);
        let ready = signals::watched(Arc::clone(&pidfd), state.identity.pid)?;
        let leader = (!state.leaf.holds_tree()).then_some(state.identity.pid);
        tokio::spawn(async move {
            if let Err(error) = ready.readable().await {
                tracing::error!(instance = %id, %error, "the exit of a process cannot be seen");
                return;
            }
            // Until the leader is reaped its number cannot become another group's.
            if let Some(leader) = leader
                && procfs::stat(leader).is_some_and(|stat| stat.state == 'Z')
                && let Err(error) = signals::send_group(leader, Signal::KILL)
            {
                tracing::debug!(instance = %id, %error, "the rest of its group stays for now");
            }
            ended.send_replace(Some(signals::reap(ready.get_ref())));
        });
        self.lock().insert(id, Arc::new(Live { state, pidfd, exit }));
        Ok(())
    }

    /// The process of an instance, while it is watched.
    pub(crate) fn live(&self, id: InstanceId) -> Option<Arc<Live>> {
        self.lock().get(&id).cloned()
    }

    /// Ends every process of an instance and removes its groups. Blocks.
    pub(crate) fn kill_tree(&self, id: InstanceId, leaf: &Leaf) -> Result<(), ProviderError> {
        leaf.kill()?;
        if !leaf.holds_tree() {
            self.kill_marked(|found| found == id)?;
        }
        leaf.remove()
    }

    /// Kills every process of an instance and leaves all else as it is: whoever watches it sees it end.
    pub(crate) async fn fell(self: &Arc<Self>, id: InstanceId) -> Result<(), ProviderError> {
        let (live, host) = (self.found(id)?, Arc::clone(self));
        super::blocking(move || {
            live.state.leaf.kill()?;
            signals::send(&live.pidfd, Signal::KILL)?;
            if live.state.leaf.holds_tree() {
                return Ok(());
            }
            host.kill_marked(|found| found == id).map(drop)
        })
        .await
    }

    /// Ends what a failed creation left behind, and gives back what it held.
    pub(crate) async fn clear(
        self: &Arc<Self>,
        id: InstanceId,
        port: u16,
    ) -> Result<(), ProviderError> {
        let host = Arc::clone(self);
        super::blocking(move || {
            host.kill_tree(id, &Leaf::of(&host.facilities, id))?;
            host.forget(id, port);
            Ok(())
        })
        .await
    }

    /// Refuses to make more of a service while what it left behind cannot be ended: each failure could
    /// leave one more.
    pub(crate) fn check_unended(&self, service: &ServiceName) -> Result<(), ProviderError> {
        let unended = self.unended();
        let left = unended.iter().find(|(_, of)| *of == service).map(|(id, _)| *id);
        left.map_or(Ok(()), |id| {
            let problem = "it could not be made, and what it left behind cannot be ended yet; no \
                           more are made for this service before (see the log)";
            Err(ProviderError::Handle { instance: id, problem: problem.to_owned() })
        })
    }

    /// The same, again and again until it succeeds: what may still run must keep its port, and
    /// nobody else knows of it before the sweep of the next start.
    pub(crate) fn clear_later(self: &Arc<Self>, id: InstanceId, service: ServiceName, port: u16) {
        self.unended().insert(id, service);
        tokio::spawn(Arc::clone(self).clear_until_done(id, port));
    }

    fn unended(&self) -> std::sync::MutexGuard<'_, BTreeMap<InstanceId, ServiceName>> {
        self.unended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn clear_until_done(self: Arc<Self>, id: InstanceId, port: u16) {
        let (mut pause, mut failures) = (CLEAR_AGAIN.0, 0_u32);
        loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(CLEAR_AGAIN.1);
            match self.clear(id, port).await {
                Ok(()) => {
                    self.unended().remove(&id);
                    return;
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    if failures.is_power_of_two() {
                        tracing::warn!(instance = %id, %error, failures, "still cannot be ended");
                    }
                }
            }
        }
    }

    /// Gives back what an ended instance held.
    pub(crate) fn forget(&self, id: InstanceId, port: u16) {
        self.lock().remove(&id);
        self.machines.forget(id);
        self.ports.release(port);
        self.logs.end(id);
    }

    /// Kills processes by their environment until none is found any more: one that is killed may
    /// have forked since the last look.
    pub(super) fn kill_marked(
        &self,
        doomed: impl Fn(InstanceId) -> bool,
    ) -> Result<usize, ProviderError> {
        const ROUNDS: u32 = 200;
        let mut ended = 0;
        for round in 0..ROUNDS {
            let mut found = false;
            for (pid, id) in procfs::marked(&self.marker) {
                if doomed(id) {
                    found = true;
                    let killed = signals::kill_if_marked(pid, &self.marker)?;
                    ended += usize::from(killed && round == 0);
                }
            }
            if !found {
                return Ok(ended);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let subject = "processes of an ended instance".to_owned();
        Err(ProviderError::Timeout { operation: "kill", subject, waited_ms: 1_000 })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<InstanceId, Arc<Live>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ProcessHost {
    fn drop(&mut self) {
        let cpu = match self.facilities.cpu.take() {
            Some(CpuGroup::V1(dir)) => Some(dir),
            Some(CpuGroup::V2(_)) | None => None,
        };
        let bases = [self.facilities.unified.take(), self.facilities.freezer_v1.take(), cpu];
        let limits = [&self.facilities.memory, &self.facilities.pids];
        let limits = limits.map(|limiter| limiter.v1().map(Path::to_owned));
        for dir in bases.into_iter().chain(limits).flatten() {
            // Fails, as it should, while an instance that is to be adopted later is in it.
            if let Err(error) = std::fs::remove_dir(&dir) {
                tracing::debug!(?dir, %error, "the control group stays");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::cgroup;
    use crate::process::{ProcessProvider, ProcessSpec};
    use crate::provider::{CreateRequest, Provider as _};

    fn bases(facilities: &Facilities) -> Vec<PathBuf> {
        let cpu =
            facilities.cpu.as_ref().map(|(CpuGroup::V1(dir) | CpuGroup::V2(dir))| dir.clone());
        let limits = [&facilities.memory, &facilities.pids];
        [facilities.unified.clone(), facilities.freezer_v1.clone(), cpu]
            .into_iter()
            .chain(limits.map(|limiter| limiter.v1().map(Path::to_owned)))
            .flatten()
            .collect()
    }

    #[test]
    fn a_host_that_cannot_start_or_ends_leaves_no_groups() {
        for facility in [Facility::Auto, Facility::V1] {
            let dir = tempfile::tempdir().unwrap();
            let mut settings = HostSettings::new(dir.path().to_owned());
            settings.facility = facility;
            let host = ProcessHost::new(&settings).unwrap();
            let bases = bases(&host.facilities);
            assert!(bases.iter().all(|base| base.exists()));
            drop(host);
            assert!(bases.iter().all(|base| !base.exists()), "after the end: {bases:?}");
            std::fs::remove_dir_all(dir.path().join("logs")).unwrap();
            std::fs::write(dir.path().join("logs"), "in the way").unwrap();
            assert!(ProcessHost::new(&settings).is_err());
            assert!(bases.iter().all(|base| !base.exists()), "after a failure: {bases:?}");
        }
    }

    #[tokio::test]
    async fn an_instance_that_cannot_start_leaves_neither_groups_nor_its_port() {
        for facility in [Facility::Auto, Facility::V1, Facility::None] {
            let dir = tempfile::tempdir().unwrap();
            let mut settings = HostSettings::new(dir.path().to_owned());
            settings.facility = facility;
            let host = ProcessHost::new(&settings).unwrap();
            let port = host.ports.reserve(&(20_000..=29_999)).unwrap();
            host.ports.release(port);
            for command in [vec!["/no/such/program".to_owned()], Vec::new()] {
                let spec = ProcessSpec { command, ports: port..=port, ..ProcessSpec::default() };
                let provider = ProcessProvider::new(Arc::clone(&host), spec);
                let service = foreshadow_control::ServiceName::from("shop");
                let tier = foreshadow_control::Tier::Shadow;
                let request = CreateRequest { id: InstanceId(7), service, tier, from: None };
                // The second failure is the command's too: the port was given back by the first.
                let error = provider.create(&request).await.unwrap_err().to_string();
                assert!(error.contains("program"), "{error}");
                let left = cgroup::leftovers(&host.facilities);
                assert!(left.is_empty(), "{left:?}");
            }
        }
    }

    #[tokio::test]
    async fn what_a_failed_creation_left_behind_is_ended_once_that_is_possible() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = HostSettings::new(dir.path().to_owned());
        settings.facility = Facility::None;
        let mut host = ProcessHost::new(&settings).unwrap();
        // No control group: it cannot be joined, and what lies in it keeps it from being removed.
        let base = dir.path().join("groups");
        Arc::get_mut(&mut host).unwrap().facilities.unified = Some(base.clone());
        let obstacle = base.join(InstanceId(7).to_string()).join("in the way");
        std::fs::create_dir_all(obstacle.parent().unwrap()).unwrap();
        std::fs::write(&obstacle, "").unwrap();

        let port = host.ports.reserve(&(20_000..=29_999)).unwrap();
        host.ports.release(port);
        let command = vec!["sleep".to_owned(), "1000".to_owned()];
        let spec = ProcessSpec { command, ports: port..=port, ..ProcessSpec::default() };
        let provider = ProcessProvider::new(Arc::clone(&host), spec);
        let service = foreshadow_control::ServiceName::from("shop");
        let tier = foreshadow_control::Tier::Shadow;
        let request = CreateRequest { id: InstanceId(7), service, tier, from: None };
        let error = provider.create(&request).await.unwrap_err().to_string();
        assert!(error.contains("cgroup.procs"), "the cause, not what came after it: {error}");
        assert!(host.ports.reserve(&(port..=port)).is_err(), "it may still run");
        let next = CreateRequest { id: InstanceId(8), ..request };
        let other = ServiceName::from("other");
        let error = provider.create(&next).await.unwrap_err().to_string();
        assert!(error.starts_with("i7: it could not be made"), "{error}");
        host.check_unended(&other).unwrap();

        std::fs::remove_file(&obstacle).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while host.check_unended(&next.service).is_err() {
            assert!(std::time::Instant::now() < deadline, "it is ended at last");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(!obstacle.parent().unwrap().exists());
        assert!(host.ports.reserve(&(port..=port)).is_ok(), "the port is given back");
    }
}
