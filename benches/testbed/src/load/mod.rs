//! An open-loop load generator without coordinated omission.
//!
//! Requests are due at times drawn beforehand and are issued then, whether or not earlier ones
//! were answered. Latency counts from the time a request was due, so waiting for a connection, a
//! stalled target and even a late generator all show. One run lives in one thread of its own.

mod args;
mod arrivals;
mod connection;
mod engine;
mod profile;
mod recorder;
mod report;
mod spec;
mod timer;

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

pub use args::{Args, run};
pub use arrivals::{Arrivals, Spread};
pub use profile::{MAX_PROFILE, Profile, ProfileError, Step};
pub use report::{
    FailureCounts, FailureEvent, FailureKind, InstanceSeen, Latency, LoadReport, SecondStats,
    Totals,
};
pub use spec::{LoadError, LoadSpec};

use recorder::Shared;

/// Starts the load in a thread of its own and returns at once.
///
/// Times in the results are Unix milliseconds of a clock that is read once, here, and runs on
/// monotonically from there: they are in order even when the system clock is set.
///
/// # Errors
/// [`LoadError`] when the target is not an `http://` address that resolves, a setting is out of
/// range, or the thread or its timer cannot be made. A target that does not answer is no error:
/// its requests fail.
pub fn start(spec: LoadSpec) -> Result<LoadHandle, LoadError> {
    let target = spec.checked()?;
    let started = Instant::now();
    let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let shared = Arc::new(Shared::new(&spec, started, unix_ms as u64));
    let (stop, stopped) = watch::channel(false);
    let (ready_tx, ready_rx) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new()
        .name("load".to_owned())
        .spawn({
            let shared = Arc::clone(&shared);
            move || engine::run(spec, target, shared, stopped, ready_tx)
        })
        .map_err(LoadError::Thread)?;
    match ready_rx.recv() {
        Ok(Ok(())) => Ok(LoadHandle { shared, stop, thread }),
        Ok(Err(error)) => Err(LoadError::Thread(error)),
        Err(mpsc::RecvError) => Err(LoadError::Ended),
    }
}

/// A running load. Dropping it stops the load without waiting for its end.
#[derive(Debug)]
pub struct LoadHandle {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl LoadHandle {
    /// All seconds so far; see [`LoadHandle::snapshot_from`].
    #[must_use]
    pub fn snapshot(&self) -> Vec<SecondStats> {
        self.snapshot_from(0)
    }

    /// The seconds from number `first` to the current one.
    ///
    /// The values of a second change until it is `settled`: requests are counted in the second in
    /// which they were due, however late they end.
    #[must_use]
    pub fn snapshot_from(&self, first: u32) -> Vec<SecondStats> {
        self.shared.with(|recorder| recorder.seconds(first))
    }

    /// Totals so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.shared.with(|recorder| recorder.totals())
    }

    /// Latency over the run so far.
    #[must_use]
    pub fn latency(&self) -> Latency {
        self.shared.with(|recorder| recorder.latency())
    }

    /// The failures so far from number `first` on, in order of their end.
    #[must_use]
    pub fn failures_from(&self, first: usize) -> Vec<FailureEvent> {
        self.shared.with(|recorder| recorder.failures(first))
    }

    /// Start of the load in Unix milliseconds.
    #[must_use]
    pub fn started_unix_ms(&self) -> u64 {
        self.shared.started_unix_ms
    }

    /// Time since the start of the load.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// Whether every request of the profile has had its outcome.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Issues no more requests; those in flight still get their outcome.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits for the end of the load: the profile's length and at most one timeout more.
    ///
    /// # Errors
    /// [`LoadError::Ended`] when the load thread panicked, which is a defect of this program.
    pub fn join(self) -> Result<LoadReport, LoadError> {
        self.thread.join().map_err(|_| LoadError::Ended)?;
        Ok(self.shared.with(|recorder| recorder.report()))
    }
}
