//! From an order to a process that is watched, and to one that is gone: what providers share whose
//! instances are processes of this machine.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::fchown;
use std::sync::Arc;

use foreshadow_control::{InstanceId, ServiceName};
use rustix::process::Signal;

use super::cgroup::Leaf;
use super::host::{Live, ProcessHost, ProcessState};
use super::logs::OutputBounds;
use super::procfs::Identity;
use super::spawn::{self, Birth, ProcessSpec};
use super::{KILL_PATIENCE, blocking, signals, timeout};
use crate::error::ProviderError;
use crate::provider::CreateRequest;

impl ProcessHost {
    /// The process of an instance that is to be acted on.
    pub(crate) fn found(&self, id: InstanceId) -> Result<Arc<Live>, ProviderError> {
        let problem = || "no such process is watched; it has ended or was never made".to_owned();
        self.live(id).ok_or_else(|| ProviderError::Handle { instance: id, problem: problem() })
    }

    /// Starts the process of a new instance on a port that is reserved for it; it is watched and its
    /// output followed. `input` is what it reads. On an error nothing of it stays, the port included.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        spec: &ProcessSpec,
        request: &CreateRequest,
        port: u16,
        input: Option<File>,
    ) -> Result<ProcessState, ProviderError> {
        let (host, wanted, order) = (Arc::clone(self), request.clone(), spec.clone());
        let made = blocking(move || {
            let leaf = Leaf::create(&host.facilities, wanted.id, order.confinement.groups())?;
            let identity = host.spawn(&order, &wanted, port, &leaf, input)?;
            Ok(ProcessState { identity, port, leaf })
        })
        .await;
        let watched = made.and_then(|state| {
            let pidfd = signals::open(state.identity.pid)?;
            self.watch(request.id, state.clone(), pidfd)?;
            Ok(state)
        });
        let followed = match watched {
            Ok(state) => {
                let followed = self.follow(request.id, &request.service, spec.output, true).await;
                followed.map(|()| state)
            }
            Err(error) => Err(error),
        };
        if followed.is_err() {
            self.undo(request, port).await;
        }
        followed
    }

    /// Everything of [`ProcessHost::begin`] that touches the file system or forks.
    fn spawn(
        &self,
        spec: &ProcessSpec,
        request: &CreateRequest,
        port: u16,
        leaf: &Leaf,
        input: Option<File>,
    ) -> Result<Identity, ProviderError> {
        let output =
            self.logs.open(request.id).map_err(ProviderError::io("open", "its output file"))?;
        if spec.owns_output
            && let Some((uid, gid)) = spec.confinement.owner()?
        {
            fchown(&output, Some(uid), Some(gid))
                .map_err(ProviderError::io("give to its user", "its output file"))?;
        }
        let birth = Birth {
            id: request.id,
            service: &request.service,
            address: SocketAddr::new(self.address, port),
            state_marker: &self.marker,
            entrances: leaf.entrances()?,
            in_group: leaf.holds_tree(),
            input,
            output,
        };
        let pid = spawn::spawn(spec, birth)?;
        // The child is not reaped before it is watched, so the pid is still its own.
        Identity::of(pid).ok_or_else(|| {
            ProviderError::Other(format!("process {pid} cannot be found in /proc; is it mounted?"))
        })
    }

    /// Ends what a failed creation left behind, now or as soon as that is possible.
    pub(crate) async fn undo(self: &Arc<Self>, request: &CreateRequest, port: u16) {
        if let Err(left) = self.clear(request.id, port).await {
            tracing::error!(
                service = %request.service, instance = %request.id, error = %left,
                "what a failed creation left behind cannot be ended; trying again"
            );
            self.clear_later(request.id, request.service.clone(), port);
        }
    }

    async fn follow(
        self: &Arc<Self>,
        id: InstanceId,
        service: &ServiceName,
        bounds: OutputBounds,
        from_start: bool,
    ) -> Result<(), ProviderError> {
        let (host, service) = (Arc::clone(self), service.clone());
        blocking(move || {
            host.logs.follow(id, &service, bounds, from_start);
            Ok(())
        })
        .await
    }

    /// Kills everything of an instance, waits until none of it runs, and gives back what it held.
    pub(crate) async fn end(
        self: &Arc<Self>,
        id: InstanceId,
        state: &ProcessState,
    ) -> Result<(), ProviderError> {
        let live = self.live(id);
        if let Some(live) = &live {
            if !state.leaf.holds_tree() && live.exit.borrow().is_none() {
                signals::send_group(state.identity.pid, Signal::KILL)?;
            }
            signals::send(&live.pidfd, Signal::KILL)?;
        }
        let (host, leaf) = (Arc::clone(self), state.leaf.clone());
        blocking(move || host.kill_tree(id, &leaf)).await?;
        if let Some(live) = live {
            let mut exit = live.exit.clone();
            let gone = tokio::time::timeout(KILL_PATIENCE, exit.wait_for(Option::is_some)).await;
            if gone.is_err() {
                return Err(timeout("kill", state.identity.pid));
            }
        }
        let (host, port) = (Arc::clone(self), state.port);
        blocking(move || {
            host.forget(id, port);
            Ok(())
        })
        .await
    }

    /// Watches a process that was begun before a restart; false when it has ended, after which
    /// nothing of it is left.
    pub(crate) async fn take_over(
        self: &Arc<Self>,
        id: InstanceId,
        service: &ServiceName,
        state: &ProcessState,
        bounds: OutputBounds,
    ) -> Result<bool, ProviderError> {
        // Opened before the check: what is checked is then what the descriptor names.
        let pidfd = signals::open(state.identity.pid);
        if !state.identity.is_alive() {
            self.end(id, state).await?;
            return Ok(false);
        }
        // It runs; that it cannot be watched, as for want of descriptors, is no end of it.
        let pidfd = pidfd?;
        self.ports.adopt(state.port);
        self.watch(id, state.clone(), pidfd)?;
        self.follow(id, service, bounds, false).await?;
        Ok(true)
    }
}
