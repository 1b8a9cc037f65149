//! Takes requests back from a backend that has fallen while they wait for its answer.
//!
//! Nothing wakes those who wait: a list of them would be locked by every request. They look every
//! now and then, at one number as long as no backend has fallen.

use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use foreshadow_control::InstanceId;
use tokio::time::Instant;

use crate::alarm::Alarm;
use crate::connection::Connection;
use crate::plane::Shared;
use crate::table::Found;
use crate::{Backend, Service};

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
    /// Whether the request was at other backends before: those kept in `rare`.
    repeated: AtomicBool,
    /// What most connections never need.
    rare: OnceLock<Box<Rare>>,
}

#[derive(Default)]
struct Rare {
    tried: ArcSwapOption<Vec<InstanceId>>,
    claim: ArcSwapOption<Claim>,
}

/// Where a request goes that is taken back; the retry is paid for.
pub(crate) struct Claim {
    /// As it is in the newest table.
    pub(crate) service: Arc<Service>,
    pub(crate) next: Arc<Backend>,
}

impl Watch {
    /// From now on the request, which was at those `tried` before, may be taken back.
    pub(crate) fn start(
        &self,
        shared: &Arc<Shared>,
        sent: Sent,
        tried: &[InstanceId],
        since_us: u64,
    ) {
        self.shared.get_or_init(|| Arc::clone(shared));
        self.instance.store(sent.instance.0, Relaxed);
        self.fallen.store(sent.fallen, Relaxed);
        self.falls.store(sent.falls, Relaxed);
        self.repeated.store(!tried.is_empty(), Relaxed);
        if !tried.is_empty() {
            self.rare().tried.store(Some(Arc::new(tried.to_vec())));
        }
        self.since_us.store(since_us, Relaxed);
    }

    /// It may not be taken back any more.
    pub(crate) fn stop(&self) {
        self.since_us.store(0, Relaxed);
    }

    /// Where the request goes that has been taken back.
    pub(crate) fn take_claim(&self) -> Option<Arc<Claim>> {
        self.rare.get()?.claim.swap(None)
    }

    fn rare(&self) -> &Rare {
        self.rare.get_or_init(Box::default)
    }

    fn since_us(&self) -> Option<u64> {
        Some(self.since_us.load(Relaxed)).filter(|&us| us > 0)
    }

    /// Claims another backend where this one has fallen since and is not well again. As long as
    /// none is to be had, the request is better off where it is: what fails a check may still
    /// answer.
    fn claim(&self, now: Instant) -> bool {
        let Some(shared) = self.shared.get() else { return false };
        let falls = shared.falls.count();
        if falls == self.falls.load(Relaxed) {
            return false;
        }
        let table = shared.table.load();
        let instance = InstanceId(self.instance.load(Relaxed));
        let Some(Found { service: Some(service), backend, listed }) = table.find(instance) else {
            // Nobody serves what it was asked for any more.
            self.falls.store(falls, Relaxed);
            return false;
        };
        let fallen = backend.fallen();
        // What is not listed is not checked either: it stays as it was found last.
        if fallen == self.fallen.load(Relaxed) || (listed && backend.is_sound()) {
            self.fallen.store(fallen, Relaxed);
            self.falls.store(falls, Relaxed);
            return false;
        }
        let tried = self.repeated.load(Relaxed).then(|| self.rare().tried.load_full()).flatten();
        let tried = tried.as_deref().map_or(&[][..], Vec::as_slice);
        let now_ms = shared.clock.at_ms(now.into_std());
        let next = service.claim_stand_in(&mut rand::rng(), instance, tried, now_ms);
        let claim = next.map(|next| Arc::new(Claim { service: Arc::clone(service), next }));
        let claimed = claim.is_some();
        if claimed {
            self.rare().claim.store(claim);
        }
        claimed
    }
}

/// The looks of one connection at its [`Watch`].
#[derive(Debug, Default)]
pub(crate) struct Recall {
    next: Option<Instant>,
    alarm: Alarm,
}

impl Recall {
    /// Ready when the request has a place elsewhere; otherwise wakes the task for the next look.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, connection: &Connection) -> Poll<()> {
        let Some(since_us) = connection.watch().since_us() else { return Poll::Pending };
        let first = connection.at(since_us) + EVERY;
        loop {
            let next = self.next.map_or(first, |next| next.max(first));
            ready!(self.alarm.poll_until(cx, next));
            let now = Instant::now();
            let in_time = connection.deadline().is_none_or(|deadline| now < deadline);
            if in_time && connection.watch().claim(now) {
                return Poll::Ready(());
            }
            self.next = Some(now + EVERY);
        }
    }
}
