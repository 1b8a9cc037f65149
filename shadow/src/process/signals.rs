//! Signals sent so that they can only reach the process they are meant for.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open,
    pidfd_send_signal, waitid,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::procfs;
use crate::error::ProviderError;

/// Opens a descriptor of a process that keeps naming it after its pid is used again.
pub(crate) fn open(pid: u32) -> Result<OwnedFd, ProviderError> {
    let raw = number(pid)?;
    pidfd_open(raw, PidfdFlags::NONBLOCK)
        .or_else(|error| match error {
            // Kernels before 5.10.
            Errno::INVAL => pidfd_open(raw, PidfdFlags::empty()),
            other => Err(other),
        })
        .map_err(|e| ProviderError::io("open pidfd of", format!("process {pid}"))(e.into()))
}

/// Readable once the process has ended. Must be called on a runtime with IO.
pub(crate) fn watched(
    pidfd: Arc<OwnedFd>,
    pid: u32,
) -> Result<AsyncFd<Arc<OwnedFd>>, ProviderError> {
    #[expect(unsafe_code, reason = "the only registration tokio does not deprecate")]
    // SAFETY: the value registered owns the descriptor through its `Arc`, which is never
    // replaced, so the descriptor stays open and the same until it is deregistered.
    let ready = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) };
    ready.map_err(|error| ProviderError::io("watch", format!("process {pid}"))(error.into()))
}

/// Sends to one process; one that has ended is no error.
pub(crate) fn send(pidfd: &OwnedFd, signal: Signal) -> Result<(), ProviderError> {
    match pidfd_send_signal(pidfd, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(ProviderError::io("signal", format!("{signal:?}"))(error.into())),
    }
}

/// Sends to a whole process group. The caller knows that its leader has not been reaped, so the
/// number still means that group.
pub(crate) fn send_group(leader: u32, signal: Signal) -> Result<(), ProviderError> {
    match kill_process_group(number(leader)?, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => {
            Err(ProviderError::io("signal", format!("process group {leader}"))(error.into()))
        }
    }
}

/// Kills a process just read from a control group's list.
pub(crate) fn kill_member(pid: u32) -> Result<(), ProviderError> {
    match number(pid).map(|raw| pidfd_open(raw, PidfdFlags::empty())) {
        Ok(Ok(fd)) => send(&fd, Signal::KILL),
        Ok(Err(Errno::SRCH)) | Err(_) => Ok(()),
        Ok(Err(error)) => {
            Err(ProviderError::io("open pidfd of", format!("process {pid}"))(error.into()))
        }
    }
}

/// Kills a process if its environment still says what it said when it was found.
pub(crate) fn kill_if_marked(pid: u32, state_marker: &str) -> Result<bool, ProviderError> {
    kill_if(pid, || procfs::marked_instance(pid, state_marker).is_some())
}

/// Kills a process if it still is what it was found to be.
pub(crate) fn kill_if(pid: u32, is_it: impl FnOnce() -> bool) -> Result<bool, ProviderError> {
    // Opened before the check: what is checked is then what the descriptor names.
    let Ok(fd) = open(pid) else { return Ok(false) };
    if !is_it() {
        return Ok(false);
    }
    send(&fd, Signal::KILL).map(|()| true)
}

/// Takes the exit status of a process that has ended; reaps it if it is our child.
pub(crate) fn reap(pidfd: &OwnedFd) -> String {
    // A process taken over after a restart is not our child; its status went elsewhere.
    take_status(pidfd)
        .map_or_else(|| "ended; its exit status went to another parent".to_owned(), |(_, how)| how)
}

/// The exit code, where there is one, and how it ended in words; nothing while it runs and for a
/// process that is not our child.
pub(crate) fn take_status(pidfd: &OwnedFd) -> Option<(Option<i32>, String)> {
    use std::os::fd::AsFd as _;
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    match waitid(WaitId::PidFd(pidfd.as_fd()), options) {
        Ok(Some(status)) => Some(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => (Some(code), format!("exited with code {code}")),
            (None, Some(signal)) => match Signal::from_named_raw(signal) {
                Some(name) => (None, format!("killed by signal {signal} ({name:?})")),
                None => (None, format!("killed by signal {signal}")),
            },
            (None, None) => (None, "ended".to_owned()),
        }),
        // Kernels say EAGAIN for a descriptor that does not block.
        Ok(None) | Err(Errno::CHILD | Errno::AGAIN) => None,
        Err(error) => Some((None, format!("ended; its exit status cannot be read: {error}"))),
    }
}

fn number(pid: u32) -> Result<Pid, ProviderError> {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| ProviderError::Other(format!("{pid} is not a process id")))
}
