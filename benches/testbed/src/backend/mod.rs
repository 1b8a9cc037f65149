//! A real HTTP/1.1 backend process with limited concurrency, tunable service times and faults.
//!
//! `GET /healthz` is its health, `GET /_testbed/stats` its numbers (for Prometheus
//! `/_testbed/metrics`), `POST /_testbed/fault` sets
//! faults while it runs, and every other path is work.

mod app;
mod args;
mod fault;
mod report;
mod server;
mod service;
mod slots;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::sync::watch;

pub use app::Stats;
pub use args::{Args, Distribution};
pub use fault::{FaultError, FaultKind, FaultSpec};
pub use report::LoadReport;

/// Why a backend could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The port could not be opened.
    #[error("cannot listen on {address}: {source}; choose another with --port")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The memory to be held is not there.
    #[error("cannot hold {bytes} bytes of memory; lower --memory")]
    Memory {
        /// The size asked for.
        bytes: usize,
    },
    /// The runtime or its thread could not be made.
    #[error("cannot start the backend: {0}; check the limits on threads and open files")]
    Start(#[from] std::io::Error),
    /// The thread of an in-process backend ended without an answer.
    #[error("the backend panicked; its message stands above")]
    Ended,
}

/// Runs a backend until SIGTERM or SIGINT, then lets the requests in flight finish. Must not be
/// called from within an asynchronous runtime.
///
/// Once the port is open, one line `listening on IP:PORT` goes to standard output.
///
/// # Errors
/// [`BackendError`] when it cannot start, or cannot open its port again after a `refuse` fault.
pub fn run(args: Args) -> anyhow::Result<()> {
    let announce = |address: SocketAddr| {
        let mut out = std::io::stdout().lock();
        if let Err(error) = writeln!(out, "listening on {address}").and_then(|()| out.flush()) {
            tracing::debug!(%error, "standard output is closed");
        }
    };
    server::run(args, server::signalled(), announce)?;
    Ok(())
}

/// A backend in a thread of this process, for tests.
///
/// Dropping it stops it without waiting. Its `crash` fault kills the whole process.
#[derive(Debug)]
pub struct BackendHandle {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: JoinHandle<Result<(), BackendError>>,
}

/// Starts a backend in a thread of this process and waits until its port is open.
///
/// # Errors
/// [`BackendError`] when it cannot start.
pub fn spawn(args: Args) -> Result<BackendHandle, BackendError> {
    let (stop, mut stopped) = watch::channel(false);
    let (ready_tx, ready_rx) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("backend".to_owned()).spawn(move || {
        // A dropped handle stops the backend, too, so both results mean the same.
        let stop = async move {
            while stopped.changed().await.is_ok() && !*stopped.borrow() {}
            Ok(())
        };
        server::run(args, stop, move |address| {
            if ready_tx.send(address).is_err() {
                tracing::debug!("nobody waits for the backend any more");
            }
        })
    })?;
    match ready_rx.recv() {
        Ok(address) => Ok(BackendHandle { address, stop, thread }),
        Err(mpsc::RecvError) => match thread.join() {
            Ok(Err(error)) => Err(error),
            Ok(Ok(())) | Err(_) => Err(BackendError::Ended),
        },
    }
}

impl BackendHandle {
    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops it and waits for the requests in flight, up to the drain time.
    ///
    /// # Errors
    /// [`BackendError`] when it had failed before.
    pub fn stop(self) -> Result<(), BackendError> {
        self.stop.send_replace(true);
        self.thread.join().map_err(|_| BackendError::Ended)?
    }
}
