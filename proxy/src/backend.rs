//! One backend: what is known of it outlives every table it is in.

mod guard;
pub(crate) mod latency;
pub(crate) mod outcome;
pub(crate) mod registry;
mod silence;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use arc_swap::ArcSwap;
use foreshadow_control::{Health, InstanceId, ServiceName};

use crate::budget::RetryBudget;
use crate::ejection::{Ejection, EjectionSlots, Verdict};
use crate::forward::Via;
use crate::health::HealthCheck;
use crate::health::verdict::{ActiveHealth, CheckFailure};
use crate::meters::{BackendMeters, Padded, ServiceMeters, WorkerId};
use crate::orca;
use crate::recall::Falls;
use crate::table::policy::UpstreamPolicy;
pub use guard::InFlightGuard;
use latency::LatencyEstimate;
use outcome::Outcome;
use silence::Silence;

/// How long a backend must have been well to be given what waits for another: one that has just come
/// back would be felled again by it, and what felled several at a time is seldom their own fault.
const SETTLED_MS: u64 = 5_000;

/// Milliseconds since the data plane started; the only clock of ejection, budget and latency.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that stands at zero now.
    #[must_use]
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Milliseconds since the start.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.at_ms(Instant::now())
    }

    /// What the clock shows at a time that was read already; zero before its start.
    #[must_use]
    pub(crate) fn at_ms(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.origin);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// What the backends of a service share across table swaps.
#[derive(Debug)]
pub(crate) struct ServiceState {
    pub(crate) name: ServiceName,
    pub(crate) policy: ArcSwap<UpstreamPolicy>,
    pub(crate) budget: Arc<RetryBudget>,
    pub(crate) meters: Arc<ServiceMeters>,
    pub(crate) slots: EjectionSlots,
    pub(crate) falls: Falls,
    pub(crate) via: Via,
    /// `f64` bits: in-flight requests per share of the weight from which a backend is hot.
    pub(crate) hot_threshold: AtomicU64,
}

/// One backend of a service.
///
/// Memory: about 0.7 kB, 0.3 kB per worker, and 3.7 kB per worker that ever got an answer from it;
/// 1 kB more where answers hold load reports.
#[derive(Debug)]
pub struct Backend {
    id: InstanceId,
    address: SocketAddr,
    service: Arc<ServiceState>,
    /// Shared by all workers, since every pick of any worker compares it.
    load: Padded<Load>,
    latency: Padded<LatencyEstimate>,
    ejection: Ejection,
    /// The last connection was refused, and nothing has contradicted that since.
    refused: AtomicBool,
    answered: AtomicBool,
    /// How often it went down or was ejected.
    fallen: AtomicU32,
    /// When it last fell or came back: found up by checks, taken back by ejection, or no longer taken
    /// to refuse; 0 for never.
    turned_ms: AtomicU64,
    active: ActiveHealth,
    meters: BackendMeters,
}

/// Requests under way; on one cache line, since each request writes all of it.
#[derive(Debug, Default)]
struct Load {
    in_flight: AtomicU32,
    silence: Silence,
}

impl Backend {
    fn new(
        id: InstanceId,
        address: SocketAddr,
        service: Arc<ServiceState>,
        workers: usize,
    ) -> Self {
        Self {
            id,
            address,
            service,
            load: Padded::default(),
            latency: Padded::default(),
            ejection: Ejection::new(),
            refused: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            fallen: AtomicU32::new(0),
            turned_ms: AtomicU64::new(0),
            active: ActiveHealth::default(),
            meters: BackendMeters::new(workers),
        }
    }

    /// The instance it is.
    #[must_use]
    pub fn id(&self) -> InstanceId {
        self.id
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The service it belongs to.
    #[must_use]
    pub fn service(&self) -> &ServiceName {
        &self.service.name
    }

    /// Requests being answered now.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.load.0.in_flight.load(Relaxed)
    }

    /// Predicted latency in microseconds; none while too little is known or it is out of date.
    #[must_use]
    pub fn latency_us(&self, now_ms: u64) -> Option<f64> {
        self.latency.0.predict_us(now_ms)
    }

    /// Whether it answers nothing although requests wait for it; never before its first answer.
    pub(crate) fn is_stuck(&self, now_ms: u64) -> bool {
        self.latency
            .0
            .last_us()
            .is_some_and(|usual_us| self.load.0.silence.is_stuck(usual_us, now_ms))
    }

    /// Whether health allows a request now; the weight is not its concern.
    #[must_use]
    pub fn is_usable(&self, now_ms: u64) -> bool {
        !self.active.is_down()
            && (self.ejection.is_closed()
                || self.ejection.usable(now_ms, &self.service.policy.load().ejection))
    }

    /// Claims the right to send a request now: always there, unless health forbids requests or a
    /// backend on probation has no trial left.
    pub(crate) fn admit(&self, now_ms: u64) -> bool {
        !self.active.is_down()
            && (self.ejection.is_closed()
                || self.ejection.admit(
                    now_ms,
                    &self.service.policy.load().ejection,
                    &self.service.slots,
                ))
    }

    /// Counts a request as sent and in flight until the guard is gone.
    pub fn begin(self: &Arc<Self>, worker: WorkerId, now_ms: u64) -> InFlightGuard {
        self.load.0.in_flight.fetch_add(1, Relaxed);
        self.meters.began(worker);
        InFlightGuard::new(Arc::clone(self), worker, now_ms)
    }

    /// Adds one look at a connection to the backend (`TCP_INFO`): its smoothed round-trip time,
    /// the segments sent again since the last look at the same connection, and those not yet
    /// acknowledged.
    pub fn kernel_sample(
        &self,
        worker: WorkerId,
        srtt_us: u32,
        retransmits_delta: u32,
        unacked_segments: u32,
    ) {
        self.meters.kernel_sample(worker, srtt_us, retransmits_delta, unacked_segments);
    }

    /// Adds the load reports in the head of an answer.
    pub(crate) fn hear(&self, worker: WorkerId, headers: &http::HeaderMap) {
        orca::read(headers, |name, value| self.meters.reported(worker, name, value));
    }

    /// What checks and requests together say of it.
    #[must_use]
    pub fn health(&self) -> Health {
        if let Some(reason) = self.active.down_reason() {
            return Health::Down(reason);
        }
        if self.refused.load(Relaxed) {
            return Health::Down(format!("connection refused by {}", self.address));
        }
        if self.ejection.is_ejected() {
            return Health::Ejected;
        }
        if self.active.is_up() || self.answered.load(Relaxed) {
            return Health::Up;
        }
        Health::Unknown
    }

    /// How often it went down or was ejected.
    pub(crate) fn fallen(&self) -> u32 {
        self.fallen.load(Relaxed)
    }

    /// Whether nothing at all speaks against it.
    pub(crate) fn is_sound(&self) -> bool {
        !self.active.is_down() && self.ejection.is_closed() && !self.is_refused()
    }

    /// Whether it is sound, has been for a while, and its last check did not fail either.
    pub(crate) fn is_steady(&self, now_ms: u64) -> bool {
        let turned_ms = self.turned_ms.load(Relaxed);
        let settled = turned_ms == 0 || now_ms.saturating_sub(turned_ms) >= SETTLED_MS;
        settled && self.is_sound() && !self.active.is_failing()
    }

    /// Whether it sits out for failed requests.
    pub(crate) fn is_ejected(&self) -> bool {
        self.ejection.is_ejected()
    }

    /// Marks the checks that begin now; see [`Backend::checked`].
    pub(crate) fn check_epoch(&self) -> u64 {
        self.active.epoch()
    }

    /// Takes note of an active check of the task started in `epoch`. Enough of them in a row
    /// decide, whatever requests say.
    pub(crate) fn checked(
        &self,
        epoch: u64,
        result: Result<(), CheckFailure>,
        how: &HealthCheck,
        now_ms: u64,
    ) {
        let was_down = self.active.is_down();
        let came_up = self.active.record(epoch, result, how.rise, how.fall);
        match (was_down, self.active.is_down()) {
            (false, true) => self.fell(now_ms),
            (true, false) => self.turned(now_ms),
            _ => {}
        }
        if came_up && self.refused.swap(false, Relaxed) {
            self.take_back(now_ms);
        }
    }

    /// Takes note of a connection attempt made only because requests were refused.
    pub(crate) fn tried_again(&self, accepted: bool, rise: u32, now_ms: u64) {
        if !accepted {
            self.active.start_over();
        } else if self.active.passes_again(rise) && self.refused.swap(false, Relaxed) {
            self.take_back(now_ms);
        }
    }

    /// No check is made any more, or another one: what was found so far counts for nothing.
    pub(crate) fn forget_checks(&self) {
        self.active.forget();
    }

    /// Whether the last connection was refused and nothing has contradicted that since.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused.load(Relaxed)
    }

    fn let_time_pass(&self, now_ms: u64) {
        let policy = self.service.policy.load();
        self.ejection.wait(now_ms, &policy.ejection, &self.service.slots);
    }

    fn ended(&self, worker: WorkerId, outcome: &Outcome, started_ms: u64, now_ms: u64) {
        let policy = self.service.policy.load();
        self.meters.finished(worker, outcome, (policy.objective_ms * 1e3) as u64);
        let verdict = outcome.answer.verdict(policy.ejection.all_server_errors);
        let good = verdict == Verdict::Success;
        if outcome.answer.is_timed() || !good {
            let recommends = good && outcome.answer.may_recommend();
            self.latency.0.observe(outcome.latency, recommends, now_ms);
        }
        if verdict == Verdict::Refused {
            self.refused.store(true, Relaxed);
            self.active.start_over();
        }
        let was_ejected = !good && self.ejection.is_ejected();
        let was_closed = self.ejection.is_closed();
        let slots = &self.service.slots;
        let spared = self.ejection.record(verdict, started_ms, now_ms, &policy.ejection, slots);
        if spared {
            // It takes requests for want of others, not since it is well.
            self.turned(now_ms);
        } else if good {
            if !was_closed && self.ejection.is_closed() {
                self.turned(now_ms);
            }
            self.heard_from(now_ms);
        } else if !was_ejected && self.ejection.is_ejected() {
            self.fell(now_ms);
        }
    }

    /// It accepts connections again.
    fn take_back(&self, now_ms: u64) {
        self.ejection.close(now_ms, &self.service.slots);
        self.turned(now_ms);
    }

    fn turned(&self, now_ms: u64) {
        self.turned_ms.store(now_ms.max(1), Relaxed);
    }

    /// Those that wait for an answer of it look at the sum, and only then at this backend.
    fn fell(&self, now_ms: u64) {
        self.turned(now_ms);
        self.fallen.fetch_add(1, Relaxed);
        self.service.falls.add();
    }

    /// A request was answered. Looks before it writes, so that the line stays shared.
    fn heard_from(&self, now_ms: u64) {
        if !self.answered.load(Relaxed) {
            self.answered.store(true, Relaxed);
        }
        if self.refused.load(Relaxed) && self.ejection.is_closed() {
            self.turned(now_ms);
            self.refused.store(false, Relaxed);
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.ejection.forget(&self.service.slots);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::AtomicHistogram;

    #[test]
    fn memory_is_what_the_documentation_says() {
        assert!(size_of::<Backend>() <= 768, "{}", size_of::<Backend>());
        assert_eq!(BackendMeters::BYTES_PER_WORKER, 256);
        assert!(size_of::<AtomicHistogram>() <= 3700);
    }
}
