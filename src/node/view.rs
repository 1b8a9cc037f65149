//! What the admin interface reads: one immutable view per tick, swapped whole.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use foreshadow_control::{
    FeedbackView, InstanceId, Observation, Plan, ReservationBasis, ServiceName, Tier, Workload,
};
use serde::Serialize;

/// The last tick as everybody outside the loop sees it.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// Unix time of it, by the wall clock; the times in the observation and plan are steady.
    pub(crate) now_ms: u64,
    /// What was seen.
    pub(crate) observation: Observation,
    /// What was decided.
    pub(crate) plan: Plan,
    /// Where instances listen.
    pub(crate) addresses: BTreeMap<InstanceId, SocketAddr>,
    /// What became of shadows since start.
    pub(crate) shadow_counts: BTreeMap<ServiceName, ShadowCounts>,
    /// What requests of each service lately said about copying them.
    pub(crate) workloads: BTreeMap<ServiceName, Workload>,
    /// How decisions turned out, at most a second ago.
    pub(crate) feedback: Arc<BTreeMap<ServiceName, FeedbackView>>,
    /// What reservations are reckoned with, at most a second old.
    pub(crate) bases: Arc<BTreeMap<ServiceName, ReservationBasis>>,
}

/// What became of a service's shadows since start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct ShadowCounts {
    /// Provider steps finished, by tier reached.
    pub(crate) steps: BTreeMap<Tier, u64>,
    /// Provider steps that failed.
    pub(crate) steps_failed: u64,
    /// Shadows whose process ended by itself.
    pub(crate) exits: u64,
    /// Shadows taken over from the run before.
    pub(crate) adopted: u64,
}

/// How the loop itself does; written by the tick, read by metrics and API.
#[derive(Debug, Default)]
pub(crate) struct TickStats {
    ticks: AtomicU64,
    skipped: AtomicU64,
    last_us: AtomicU64,
    max_us: AtomicU64,
    ended: AtomicBool,
}

impl TickStats {
    /// Counts a tick that took `took_us` and came after `skipped` missed ones.
    pub(crate) fn ticked(&self, took_us: u64, skipped: u64) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
        self.skipped.fetch_add(skipped, Ordering::Relaxed);
        self.last_us.store(took_us, Ordering::Relaxed);
        self.max_us.fetch_max(took_us, Ordering::Relaxed);
    }

    /// The loop's thread has ended; there will be no more ticks.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Whether the loop's thread has ended.
    pub(crate) fn ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// The figures now.
    pub(crate) fn read(&self) -> TickFigures {
        TickFigures {
            ticks: self.ticks.load(Ordering::Relaxed),
            skipped: self.skipped.load(Ordering::Relaxed),
            last_us: self.last_us.load(Ordering::Relaxed),
            max_us: self.max_us.load(Ordering::Relaxed),
        }
    }
}

/// Figures of the loop.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct TickFigures {
    /// Ticks done.
    pub(crate) ticks: u64,
    /// Ticks left out because the one before ran late.
    pub(crate) skipped: u64,
    /// Time the last one took.
    pub(crate) last_us: u64,
    /// Time the longest one took.
    pub(crate) max_us: u64,
}
