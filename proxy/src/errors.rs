//! What can go wrong when the data plane is set up.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

/// Errors of starting the data plane or changing its listeners.
#[derive(Debug, Error)]
pub enum ProxyError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address} for listener {listener:?}: {source}{}; choose another \
             address, or stop what uses it", holder.as_deref().map(|who| format!(" (held by {who})")).unwrap_or_default())]
    Bind {
        /// The listener's name.
        listener: String,
        /// The address asked for.
        address: SocketAddr,
        /// Which process listens there, where the system tells.
        holder: Option<String>,
        /// The system's reason.
        source: io::Error,
    },
    /// Two listeners of one configuration ask for the same address.
    #[error("listeners {first:?} and {second:?} both ask for {address}; give each its own address")]
    DuplicateAddress {
        /// The address.
        address: SocketAddr,
        /// The listener that keeps it.
        first: String,
        /// The listener that was refused.
        second: String,
    },
    /// A worker thread cannot be started.
    #[error("cannot start worker {worker}: {source}; check the limits on threads and open files")]
    Worker {
        /// Index of the worker.
        worker: usize,
        /// The system's reason.
        source: io::Error,
    },
    /// A worker has ended or does not take commands.
    #[error("worker {worker} does not respond; restart the process")]
    WorkerGone {
        /// Index of the worker.
        worker: usize,
    },
    /// A setting is out of range.
    #[error("{setting} is {value}, expected {expected}")]
    Setting {
        /// Name of the setting.
        setting: &'static str,
        /// The value given.
        value: u64,
        /// What is allowed.
        expected: &'static str,
    },
}
