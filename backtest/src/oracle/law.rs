//! What the world does with a number of instances, without the instances.

use crate::fleet::warm_part;
use crate::ledger::counts;
use crate::{Setup, Trace};

/// The law by which the fleet serves. Shadows have warmed up, which those have that are started so
/// much earlier; those that are there from the beginning do so then.
pub(super) struct Law<'a> {
    pub(super) trace: &'a Trace,
    setup: &'a Setup,
    /// Requests that so many instances can do in a tick, added up as the fleet does.
    rooms: Vec<f64>,
}

impl<'a> Law<'a> {
    pub(super) fn new(trace: &'a Trace, setup: &'a Setup) -> Self {
        let tick_s = trace.tick_ms as f64 / 1_000.0;
        let each = setup.capacity_rps * tick_s;
        let mut room = 0.0;
        let rooms = (0..=most(setup)).map(|instances| {
            room += if instances == 0 { 0.0 } else { each };
            room
        });
        Self { trace, setup, rooms: rooms.collect() }
    }

    /// One tick of `serving` instances: what waits after it, and whether it is one of violation.
    pub(super) fn step(&self, tick: usize, serving: u32, backlog: f64) -> (f64, bool) {
        let tick_s = self.trace.tick_ms as f64 / 1_000.0;
        let arrivals = self.trace.arrivals(tick) as f64;
        let at = usize::try_from(serving).unwrap_or(usize::MAX).min(self.rooms.len() - 1);
        let room = self.rooms[at] - self.cold(tick, serving);
        let work = backlog + arrivals;
        let left = work - work.min(room);
        let waits = room / tick_s * self.setup.wait_ms as f64 / 1_000.0;
        let violated = (left - waits).clamp(0.0, arrivals);
        let backlog = if self.setup.carry { left } else { left.min(waits) };
        let is_over = violated > self.setup.allowed_share * arrivals && arrivals > 0.0;
        (backlog, is_over && counts(self.trace, self.setup, tick))
    }

    /// Requests of a tick at the beginning that shadows cannot do yet.
    fn cold(&self, tick: usize, serving: u32) -> f64 {
        let middle_ms = tick as u64 * self.trace.tick_ms + self.trace.tick_ms / 2;
        if middle_ms >= self.setup.warm_up_ms {
            return 0.0;
        }
        let shadows = f64::from(serving.saturating_sub(self.setup.primaries));
        let missing = 1.0 - warm_part(middle_ms, self.setup.warm_up_ms);
        shadows * missing * self.setup.capacity_rps * self.trace.tick_ms as f64 / 1_000.0
    }

    /// Ticks of violation of a number of instances by tick.
    pub(super) fn violated(&self, serving: impl Fn(usize) -> u32) -> impl Iterator<Item = usize> {
        let mut backlog = 0.0;
        (0..self.trace.ticks()).filter(move |tick| {
            let (left, is_over) = self.step(*tick, serving(*tick), backlog);
            backlog = left;
            is_over
        })
    }

    /// Fewer instances than this cannot be without violation, whenever they serve: what arrived in any
    /// time and is neither done nor waits is violated, and only the allowed share of it may be.
    fn least(&self, instances: u32) -> bool {
        let tick_s = self.trace.tick_ms as f64 / 1_000.0;
        let room = f64::from(instances) * self.setup.capacity_rps * tick_s;
        let waits = room / tick_s * self.setup.wait_ms as f64 / 1_000.0;
        let mut backlog = 0.0_f64;
        (0..self.trace.ticks()).all(|tick| {
            if !counts(self.trace, self.setup, tick) {
                backlog = 0.0;
                return true;
            }
            let due = (1.0 - self.setup.allowed_share) * self.trace.arrivals(tick) as f64;
            // A hair below, since sums differ in their last digits.
            backlog = (backlog + due - room).max(0.0);
            backlog <= waits + 1e-6 * (1.0 + waits)
        })
    }

    /// The smallest number of instances that, always there, violates nothing; all that may be where
    /// none does.
    pub(super) fn least_constant(&self) -> u32 {
        let (mut below, mut enough) = (self.setup.primaries, most(self.setup));
        while below < enough {
            let middle = below + (enough - below) / 2;
            if self.least(middle) { enough = middle } else { below = middle + 1 }
        }
        // More instances do not always do better: what they keep waiting others would have dropped.
        let never = |instances: &u32| self.violated(|_| *instances).next().is_none();
        (enough..=most(self.setup)).take(64).find(never).unwrap_or_else(|| {
            let (mut below, mut enough) = (enough, most(self.setup));
            while below < enough {
                let middle = below + (enough - below) / 2;
                if never(&middle) { enough = middle } else { below = middle + 1 }
            }
            enough
        })
    }
}

/// Most instances that may be.
pub(super) fn most(setup: &Setup) -> u32 {
    setup.max_instances.max(setup.primaries)
}
