//! The limit on requests in service, with a bounded first-come-first-served queue before it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Slots in which requests are served, for use on one thread.
#[derive(Debug)]
pub(super) struct Slots {
    semaphore: Semaphore,
    concurrency: u32,
    queue: u32,
    meter: RefCell<Meter>,
}

/// What the slots were used for so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    pub(super) in_service: u32,
    pub(super) waiting: u32,
    pub(super) peak_in_service: u32,
    pub(super) peak_waiting: u32,
    /// Slot time used since start.
    pub(super) busy: Duration,
    /// Share of the slots in use over the last full second, 0..=1.
    pub(super) utilization: f64,
}

impl Slots {
    pub(super) fn new(concurrency: u32, queue: u32, now: Instant) -> Self {
        Self {
            semaphore: Semaphore::new(concurrency as usize),
            concurrency,
            queue,
            meter: RefCell::new(Meter::new(now)),
        }
    }

    /// Waits for a slot behind those who came before. `None` at once when the queue is full.
    /// Dropping the future gives the place up.
    pub(super) async fn enter(self: &Rc<Self>) -> Option<Slot<'_>> {
        if let Ok(permit) = self.semaphore.try_acquire() {
            return Some(self.start(permit));
        }
        if self.meter.borrow().waiting >= self.queue {
            return None;
        }
        let place = Waiting::new(&self.meter);
        let permit = self.semaphore.acquire().await.ok()?;
        drop(place);
        Some(self.start(permit))
    }

    fn start<'a>(&'a self, permit: SemaphorePermit<'a>) -> Slot<'a> {
        let mut meter = self.meter.borrow_mut();
        meter.advance(Instant::now());
        meter.in_service += 1;
        meter.peak_in_service = meter.peak_in_service.max(meter.in_service);
        Slot { meter: &self.meter, _permit: permit }
    }

    pub(super) fn usage(&self, now: Instant) -> Usage {
        let mut meter = self.meter.borrow_mut();
        meter.advance(now);
        Usage {
            in_service: meter.in_service,
            waiting: meter.waiting,
            peak_in_service: meter.peak_in_service,
            peak_waiting: meter.peak_waiting,
            busy: Duration::from_secs_f64(meter.busy_s),
            utilization: meter.last_window_busy_s
                / (f64::from(self.concurrency) * WINDOW.as_secs_f64()),
        }
    }
}

/// A slot in use; dropping it frees it.
pub(super) struct Slot<'a> {
    meter: &'a RefCell<Meter>,
    _permit: SemaphorePermit<'a>,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut meter = self.meter.borrow_mut();
        meter.advance(Instant::now());
        meter.in_service -= 1;
    }
}

/// A place in the queue; dropping it leaves the queue.
struct Waiting<'a>(&'a RefCell<Meter>);

impl<'a> Waiting<'a> {
    fn new(cell: &'a RefCell<Meter>) -> Self {
        let mut meter = cell.borrow_mut();
        meter.waiting += 1;
        meter.peak_waiting = meter.peak_waiting.max(meter.waiting);
        Self(cell)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.borrow_mut().waiting -= 1;
    }
}

const WINDOW: Duration = Duration::from_secs(1);

/// Integrates the slots in use over time, in total and per window.
#[derive(Debug)]
struct Meter {
    in_service: u32,
    waiting: u32,
    peak_in_service: u32,
    peak_waiting: u32,
    at: Instant,
    window_end: Instant,
    busy_s: f64,
    window_busy_s: f64,
    last_window_busy_s: f64,
}

impl Meter {
    fn new(now: Instant) -> Self {
        Self {
            in_service: 0,
            waiting: 0,
            peak_in_service: 0,
            peak_waiting: 0,
            at: now,
            window_end: now + WINDOW,
            busy_s: 0.0,
            window_busy_s: 0.0,
            last_window_busy_s: 0.0,
        }
    }

    /// Accounts for the time up to `now`, during which nothing changed.
    fn advance(&mut self, now: Instant) {
        let slots = f64::from(self.in_service);
        if now >= self.window_end {
            let rest = self.window_end.saturating_duration_since(self.at);
            self.last_window_busy_s = self.window_busy_s + slots * rest.as_secs_f64();
            self.busy_s += slots * rest.as_secs_f64();
            self.at = self.window_end;
            let windows = (now - self.window_end).as_secs() as u32;
            if windows > 0 {
                // Whole windows went by unchanged, perhaps while the process was frozen.
                let skipped = WINDOW * windows;
                self.last_window_busy_s = slots * WINDOW.as_secs_f64();
                self.busy_s += slots * skipped.as_secs_f64();
                self.at += skipped;
            }
            self.window_end = self.at + WINDOW;
            self.window_busy_s = 0.0;
        }
        let used_s = slots * now.saturating_duration_since(self.at).as_secs_f64();
        self.window_busy_s += used_s;
        self.busy_s += used_s;
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_meter_integrates_over_window_borders() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut meter = Meter::new(start);
        meter.advance(at(500));
        meter.in_service = 2;
        meter.advance(at(1_250));
        assert!((meter.last_window_busy_s - 1.0).abs() < 1e-9);
        meter.advance(at(4_500));
        assert!((meter.last_window_busy_s - 2.0).abs() < 1e-9);
        assert!((meter.busy_s - 8.0).abs() < 1e-9);
        meter.in_service = 0;
        meter.advance(at(9_000));
        assert_eq!(meter.last_window_busy_s, 0.0);
        assert!((meter.busy_s - 8.0).abs() < 1e-9);
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_in_order() {
        let slots = Rc::new(Slots::new(1, 2, Instant::now()));
        let first = slots.enter().await.expect("a free slot");
        let mut second = Box::pin(slots.enter());
        let mut third = Box::pin(slots.enter());
        assert!(futures_poll(&mut second).await.is_none());
        assert!(futures_poll(&mut third).await.is_none());
        assert!(slots.enter().await.is_none(), "the queue holds two");
        drop(first);
        assert!(futures_poll(&mut third).await.is_none(), "the second came first");
        let slot = futures_poll(&mut second).await.flatten().expect("a slot for the second");
        drop(third);
        let usage = slots.usage(Instant::now());
        assert_eq!((usage.in_service, usage.waiting), (1, 0));
        assert_eq!((usage.peak_in_service, usage.peak_waiting), (1, 2));
        drop(slot);
        assert!(slots.enter().await.is_some(), "giving up a place loses no slot");
    }

    /// Polls once: the result if there is one already.
    async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = std::future::ready(()) => None,
        }
    }
}
