//! What can go wrong when the data plane is set up.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

/// Errors of starting the data plane or changing its listeners.
#[derive(Debug, Error)]
pub enum ProxyError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address} for listener {listener:?}: {source}{}; {}",
            holder.as_deref().map(|who| format!(" (held by {who})")).unwrap_or_default(),
            bind_remedy(source))]
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

fn bind_remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => "choose another address, or stop what uses it",
        io::ErrorKind::AddrNotAvailable => "choose an address that this machine has",
        io::ErrorKind::PermissionDenied => {
            "choose a port from 1024 up, or give the process CAP_NET_BIND_SERVICE"
        }
        _ => "choose another address",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_bind_says_what_to_do_about_its_cause() {
        let message = |kind: io::ErrorKind, holder: Option<&str>| {
            let address = SocketAddr::from(([192, 0, 2, 1], 80));
            let holder = holder.map(str::to_owned);
            ProxyError::Bind { listener: "l".to_owned(), address, holder, source: kind.into() }
                .to_string()
        };
        let busy = message(io::ErrorKind::AddrInUse, Some("nginx (pid 1)"));
        assert!(busy.contains("(held by nginx (pid 1)); choose another address"), "{busy}");
        assert!(message(io::ErrorKind::AddrNotAvailable, None).ends_with("this machine has"));
        assert!(message(io::ErrorKind::PermissionDenied, None).contains("CAP_NET_BIND_SERVICE"));
    }
}
