//! Making a machine, step by step.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use foreshadow_control::InstanceId;
use tokio::time::Instant;

use super::place::{self, DISK};
use super::qmp::Monitor;
use super::told::{self, Trouble};
use super::{QUIT, VmProvider, VmSpec, encode, qcow2, saving};
use crate::error::ProviderError;
use crate::process::{ProcessHost, blocking};
use crate::provider::{CreateRequest, Handle};

/// Memory is read and written in so many times the time of an answer.
pub(super) const MEMORY_TIMES: u32 = 10;
/// A disk with less room than this gets no more machines: their layers grow, beside the state of Foreshadow.
const ROOM: u64 = 256 << 20;
/// Between two looks at how far the emulator is.
pub(super) const LOOK: Duration = Duration::from_millis(2);

/// What a machine is started with.
struct Prepared {
    port: u16,
    dir: PathBuf,
    /// The memory it begins with.
    memory: Option<File>,
}

impl VmProvider {
    pub(super) async fn make(&self, request: &CreateRequest) -> Result<Handle, ProviderError> {
        self.host.check_unended(&request.service)?;
        if !self.host.address.is_ipv4() {
            let problem = "machines are reached by a port of an IPv4 address only; set the host of \
                           instances to 127.0.0.1";
            return Err(ProviderError::Other(problem.to_owned()));
        }
        let (host, spec, wanted) = (Arc::clone(&self.host), self.spec.clone(), request.clone());
        let prepared = blocking(move || prepare(&host, &spec, &wanted)).await?;
        let Prepared { port, dir, memory } = prepared;
        let address = SocketAddr::new(self.host.address, port);
        let is_restored = memory.is_some();
        let process = self.spec.process(request.id, address, &dir, &request.service, is_restored);
        let begun = self.host.begin(&process, request, port, memory).await;
        let state = begun.map_err(|error| told::explained(error, &self.spec))?;
        if let Err(error) = self.bring_up(request.id, is_restored).await {
            self.host.undo(request, port).await;
            return Err(error);
        }
        Ok(Handle {
            id: request.id,
            service: request.service.clone(),
            address,
            pid: Some(state.identity.pid),
            state: encode(&state)?,
        })
    }

    /// Connects to the emulator of an instance.
    pub(super) fn attend(&self, id: InstanceId) -> Result<Arc<Monitor>, ProviderError> {
        let machines = &self.host.machines;
        let ended = self.host.found(id)?.exit.clone();
        let monitor = Arc::new(Monitor::start(machines.place.machine(id), ended));
        machines.lock().insert(id, Arc::clone(&monitor));
        Ok(monitor)
    }

    /// From an emulator that was started to one that takes orders and runs its machine.
    async fn bring_up(&self, id: InstanceId, is_restored: bool) -> Result<(), ProviderError> {
        let mut seen = self.attend(id)?.seen();
        let patience = self.spec.timeout;
        let greeted = seen.wait_for(|seen| seen.connected || seen.closed);
        let greeted = tokio::time::timeout(patience, greeted).await;
        let connected = greeted.map(|seen| seen.is_ok_and(|seen| seen.connected));
        let Ok(connected) = connected else {
            let trouble = seen.borrow().trouble.clone();
            return Err(Trouble::Late(patience, trouble).told(id, "take orders"));
        };
        let up = match (connected, is_restored) {
            (true, true) => self.go_on(id).await,
            (true, false) => Ok(()),
            (false, _) => Err(Trouble::Gone(None).told(id, "take orders")),
        };
        match up {
            Ok(()) => Ok(()),
            Err(error) => Err(self.why_ended(id).await.unwrap_or(error)),
        }
    }

    /// Lets a machine run as soon as its memory is read.
    async fn go_on(&self, id: InstanceId) -> Result<(), ProviderError> {
        let patience = self.spec.timeout * MEMORY_TIMES;
        let end = Instant::now() + patience;
        while self.tell(id, "query-status").await?["status"] == "inmigrate" {
            if Instant::now() > end {
                return Err(Trouble::Late(patience, None).told(id, "read its memory"));
            }
            tokio::time::sleep(LOOK).await;
        }
        self.tell(id, "cont").await.map(drop)
    }

    /// What an emulator that has just ended wrote; nothing for one that runs.
    async fn why_ended(&self, id: InstanceId) -> Option<ProviderError> {
        let mut exit = self.host.live(id)?.exit.clone();
        let ended = tokio::time::timeout(QUIT, exit.wait_for(Option::is_some)).await;
        let how = ended.ok()?.ok()?.clone()?;
        let host = Arc::clone(&self.host);
        let words = blocking(move || Ok(host.logs.last_lines(id))).await.unwrap_or_default();
        Some(told::not_begun(id, &self.spec, &how, &words))
    }
}

/// Looks at the files, and makes those of the machine's own. Blocks.
fn prepare(
    host: &ProcessHost,
    spec: &VmSpec,
    request: &CreateRequest,
) -> Result<Prepared, ProviderError> {
    for (what, path) in spec.files() {
        place::opened(what, path)?;
    }
    let place = &host.machines.place;
    let saved = request.from.as_ref().map(|from| saving::opened(place, spec, from)).transpose()?;
    let port = host.ports.reserve(&spec.ports)?;
    let made = place.open(request.id).and_then(|dir| {
        place::check_room(&dir, ROOM)?;
        let disk = dir.join(DISK);
        match (&saved, &spec.image) {
            (Some(saved), Some(_)) => saving::copy(&saved.disk, &disk)?,
            (None, Some(image)) => qcow2::overlay(image, &disk)?,
            (_, None) => {}
        }
        if let Some((uid, gid)) = spec.confinement.owner()? {
            place.give(&dir, spec.image.is_some(), uid, gid)?;
        }
        Ok(dir)
    });
    match made {
        Ok(dir) => Ok(Prepared { port, dir, memory: saved.map(|saved| saved.memory) }),
        Err(error) => {
            host.forget(request.id, port);
            Err(error)
        }
    }
}
