//! One instance that gets copies: its queue, its worker and what its answers said.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foreshadow_control::{InstanceId, MirrorSummary};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};

use crate::copy::Pool;
use crate::mirrorer::Original;
use crate::policy::MirrorPolicy;

/// Counters of all targets together.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) offered: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) failed: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the answers of one instance said, since it was started.
///
/// A mutex rather than atomics: the four figures belong together, and neither side is on the
/// request path.
#[derive(Default)]
pub(crate) struct Tally(Mutex<MirrorSummary>);

impl Tally {
    pub(crate) fn summary(&self) -> MirrorSummary {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, agreed: bool, original_ms: f64, copy_ms: f64) {
        let mut summary = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        summary.compared += 1;
        summary.agreed += u64::from(agreed);
        // A sum that once held NaN would say nothing ever after; `max` takes NaN for 0.
        summary.original_sum_ms += original_ms.max(0.0);
        summary.copy_sum_ms += copy_ms;
    }
}

/// An instance that gets copies. Its worker and the copies under way end with it.
pub(crate) struct Target {
    instance: InstanceId,
    address: SocketAddr,
    queue: mpsc::Sender<Arc<Original>>,
    worker: AbortHandle,
}

impl Target {
    pub(crate) fn spawn(
        instance: InstanceId,
        address: SocketAddr,
        policy: &MirrorPolicy,
        tally: Arc<Tally>,
        counters: Arc<Counters>,
        runtime: &Handle,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(policy.queue.max(1));
        let shared = Arc::new(Shared {
            instance,
            pool: Pool::new(address),
            timeout: policy.timeout,
            tally,
            counters,
        });
        let worker =
            runtime.spawn(work(shared, waiting, policy.max_in_flight.max(1))).abort_handle();
        Self { instance, address, queue, worker }
    }

    pub(crate) fn key(&self) -> (InstanceId, SocketAddr) {
        (self.instance, self.address)
    }

    /// Puts a copy into the queue unless that is full; never waits.
    pub(crate) fn offer(&self, original: Arc<Original>) -> bool {
        self.queue.try_send(original).is_ok()
    }

    /// Abandons everything that waits or is under way, uncounted: an instance that is no longer a
    /// target may be frozen a moment later, and its silence then says nothing about it.
    pub(crate) fn stop(&self) {
        self.worker.abort();
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Shared {
    instance: InstanceId,
    pool: Pool,
    timeout: Duration,
    tally: Arc<Tally>,
    counters: Arc<Counters>,
}

async fn work(shared: Arc<Shared>, mut waiting: mpsc::Receiver<Arc<Original>>, limit: usize) {
    // Dropped with this task, which ends the copies under way too.
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            Some(done) = under_way.join_next() => {
                if let Err(error) = done {
                    tracing::warn!(%error, "a mirroring task failed; please report this");
                }
            }
            next = waiting.recv(), if under_way.len() < limit => {
                let Some(original) = next else { return };
                under_way.spawn(send(Arc::clone(&shared), original));
            }
        }
    }
}

async fn send(shared: Arc<Shared>, original: Arc<Original>) {
    Counters::add(&shared.counters.sent);
    let started = Instant::now();
    let outcome = timeout(shared.timeout, shared.pool.exchange(&original)).await;
    let copy_ms = started.elapsed().as_secs_f64() * 1e3;
    let agreed = match outcome {
        Ok(Ok(status)) => same_class(original.status, status.as_u16()),
        Ok(Err(error)) => {
            Counters::add(&shared.counters.failed);
            tracing::debug!(instance = %shared.instance, %error, "a mirrored copy failed");
            false
        }
        Err(_) => {
            Counters::add(&shared.counters.failed);
            tracing::debug!(instance = %shared.instance, copy_ms, "a mirrored copy timed out");
            false
        }
    };
    shared.tally.record(agreed, original.latency_ms, copy_ms);
}

/// Whether two statuses tell the same story. "Not modified" is a success like 200: which of the
/// two a conditional request gets depends on validators, which may differ between equal copies.
fn same_class(original: u16, copy: u16) -> bool {
    let class = |status| if status == 304 { 2 } else { status / 100 };
    class(original) == class(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_that_is_no_number_does_not_spoil_the_sums() {
        let tally = Tally::default();
        for original_ms in [f64::NAN, -1.0, 4.0] {
            tally.record(true, original_ms, 2.0);
        }
        let expected =
            MirrorSummary { compared: 3, agreed: 3, original_sum_ms: 4.0, copy_sum_ms: 6.0 };
        assert_eq!(tally.summary(), expected);
    }

    #[test]
    fn statuses_agree_by_class() {
        for (original, copy) in [(200, 204), (302, 301), (404, 410), (503, 500), (304, 200)] {
            assert!(same_class(original, copy), "{original} {copy}");
        }
        for (original, copy) in [(200, 500), (200, 404), (304, 302), (200, 302), (404, 500)] {
            assert!(!same_class(original, copy), "{original} {copy}");
        }
    }
}
