//! Takes requests back from a backend that has fallen while they wait for its answer.
//!
//! Nothing wakes those who wait: a list of them would be locked by every request. They look every
//! now and then, at one number as long as no backend has fallen.

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use foreshadow_control::InstanceId;
use tokio::time::Instant;

use crate::Backend;
use crate::alarm::Alarm;
use crate::connection::Connection;
use crate::plane::Shared;

/// How often a request that waits looks.
const EVERY: Duration = Duration::from_millis(200);

/// How often any backend has fallen: was found down by checks, or was ejected.
#[derive(Clone, Debug, Default)]
pub(crate) struct Falls(Arc<AtomicU64>);

impl Falls {
    /// One more. What it says is known by then of that backend, too.
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Release);
    }

    fn count(&self) -> u64 {
        self.0.load(Acquire)
    }
}

/// What was known when a request was sent to a backend.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    instance: InstanceId,
    fallen: u32,
    falls: u64,
}

impl Sent {
    pub(crate) fn to(backend: &Backend, falls: &Falls) -> Self {
        // The sum first: a fall between the two is looked into once for nothing.
        let falls = falls.count();
        Self { instance: backend.id(), fallen: backend.fallen(), falls }
    }
}

/// What the request of a connection waits for; written by the engine, read by the stream, both of
/// them parts of one task.
#[derive(Default)]
pub(crate) struct Watch {
    shared: OnceLock<Arc<Shared>>,
    /// Microseconds after the connection was opened at which the wait began; 0 for no wait.
    since_us: AtomicU64,
    instance: AtomicU64,
    fallen: AtomicU32,
    falls: AtomicU64,
}

impl Watch {
    /// From now on the request may be taken back.
    pub(crate) fn start(&self, shared: &Arc<Shared>, sent: Sent, since_us: u64) {
        self.shared.get_or_init(|| Arc::clone(shared));
        self.instance.store(sent.instance.0, Relaxed);
        self.fallen.store(sent.fallen, Relaxed);
        self.falls.store(sent.falls, Relaxed);
        self.since_us.store(since_us, Relaxed);
    }

    /// It may not be taken back any more.
    pub(crate) fn stop(&self) {
        self.since_us.store(0, Relaxed);
    }

    fn since_us(&self) -> Option<u64> {
        Some(self.since_us.load(Relaxed)).filter(|&us| us > 0)
    }

    /// Whether the backend has fallen since and another could take the request now. As long as none
    /// can, the request is better off where it is: what fails a check may still answer.
    fn is_lost(&self) -> bool {
        let Some(shared) = self.shared.get() else { return false };
        let falls = shared.falls.count();
        if falls == self.falls.load(Relaxed) {
            return false;
        }
        let instance = InstanceId(self.instance.load(Relaxed));
        let table = shared.table.load();
        let found = table.services().iter().find_map(|service| {
            let backend = service.backends().iter().find(|backend| backend.id() == instance)?;
            Some((service, backend))
        });
        let Some((service, backend)) = found else { return false };
        if backend.fallen() == self.fallen.load(Relaxed) {
            self.falls.store(falls, Relaxed);
            return false;
        }
        service.can_take_over(instance)
    }
}

/// The looks of one connection at its [`Watch`].
#[derive(Debug, Default)]
pub(crate) struct Recall {
    next: Option<Instant>,
    alarm: Alarm,
}

impl Recall {
    /// Ready when the request should be sent elsewhere; otherwise wakes the task for the next look.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, connection: &Connection) -> Poll<()> {
        let Some(since_us) = connection.watch().since_us() else { return Poll::Pending };
        let first = connection.at(since_us) + EVERY;
        loop {
            let next = self.next.map_or(first, |next| next.max(first));
            ready!(self.alarm.poll_until(cx, next));
            if connection.watch().is_lost() {
                return Poll::Ready(());
            }
            self.next = Some(Instant::now() + EVERY);
        }
    }
}
