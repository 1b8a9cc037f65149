//! What is counted per request: one cell per worker, nothing shared on the request path.

pub(crate) mod drain;
mod reports;
pub(crate) mod responses;
pub(crate) mod traffic;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use foreshadow_control::{KernelSample, LatencySummary, MAX_METRICS, Meters, TrafficCounts};

use crate::backend::outcome::{Answer, Outcome};
use crate::histogram::{AtomicHistogram, LatencyCounts, quantile_us};
use crate::orca::Name;
use reports::Reports;
use responses::{Origin, ResponseCell, Responses};
use traffic::TrafficCell;

/// A worker of the data plane, from 0 up. Each worker that counts needs a number of its own for
/// speed; two that share one still lose no count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub usize);

/// Keeps its content on cache lines of its own. Two lines, since processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

/// Counts of one service, all of its backends and those that were never reached.
#[derive(Debug)]
pub struct ServiceMeters {
    cells: Box<[Padded<ServiceCell>]>,
}

#[derive(Debug, Default)]
struct ServiceCell {
    arrivals: AtomicU64,
    unserved: AtomicU64,
    panicked: AtomicU64,
    responses: ResponseCell,
    traffic: TrafficCell,
}

/// Deltas of a [`ServiceMeters`] since its last drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServiceCounts {
    pub(crate) arrivals: u64,
    pub(crate) unserved: u64,
    pub(crate) panicked: u64,
    pub(crate) responses: Responses,
    pub(crate) traffic: TrafficCounts,
}

impl ServiceMeters {
    pub(crate) fn new(workers: usize) -> Self {
        Self { cells: (0..workers.max(1)).map(|_| Padded::default()).collect() }
    }

    /// Counts a request of a client for the service, whatever becomes of it.
    pub fn arrived(&self, worker: WorkerId) {
        self.cell(worker).arrivals.fetch_add(1, Relaxed);
    }

    /// Counts a request that the proxy answered itself because no backend could take it.
    pub fn unserved(&self, worker: WorkerId) {
        self.cell(worker).unserved.fetch_add(1, Relaxed);
    }

    pub(crate) fn panicked(&self, worker: WorkerId) {
        self.cell(worker).panicked.fetch_add(1, Relaxed);
    }

    /// Counts the last answer to a request of a client.
    pub(crate) fn answered(&self, worker: WorkerId, origin: Origin, status: u16) {
        self.cell(worker).responses.count(origin, status);
    }

    fn cell(&self, worker: WorkerId) -> &ServiceCell {
        &self.cells[worker.0 % self.cells.len()].0
    }

    pub(crate) fn drain(&self) -> ServiceCounts {
        let mut sum = ServiceCounts::default();
        for Padded(cell) in &self.cells {
            sum.arrivals += taken(&cell.arrivals);
            sum.unserved += taken(&cell.unserved);
            sum.panicked += taken(&cell.panicked);
            sum.responses.add(&cell.responses.drain());
            cell.traffic.drain_into(&mut sum.traffic);
        }
        sum
    }
}

/// Counts of one backend.
///
/// A cell takes 256 bytes per worker; the latency buckets, 3.7 kB per worker, are allocated with
/// the first answer that the worker gets from the backend, and 1 kB with its first load report.
#[derive(Debug)]
pub(crate) struct BackendMeters {
    cells: Box<[Padded<BackendCell>]>,
    drains: AtomicU32,
}

/// Names of metrics are forgotten after so many drains, ten seconds: those that are not reported
/// any more must not keep new ones out for good.
const FORGET_DRAINS: u32 = 100;

#[derive(Debug, Default)]
struct BackendCell {
    requests: AtomicU64,
    retries: AtomicU64,
    ok: AtomicU64,
    client_errors: AtomicU64,
    server_errors: AtomicU64,
    connect_errors: AtomicU64,
    read_errors: AtomicU64,
    timeouts: AtomicU64,
    aborted: AtomicU64,
    bytes_out: AtomicU64,
    bytes_in: AtomicU64,
    latency_sum_us: AtomicU64,
    latency_max_us: AtomicU64,
    over_objective: AtomicU64,
    kernel_samples: AtomicU64,
    kernel_srtt_sum_us: AtomicU64,
    kernel_retransmits: AtomicU64,
    kernel_unacked: AtomicU64,
    latencies: OnceLock<Box<AtomicHistogram>>,
    reports: ArcSwapOption<Reports>,
}

/// Deltas of a [`BackendMeters`] since its last drain.
#[derive(Debug)]
pub(crate) struct BackendCounts {
    /// All but `in_flight`.
    pub(crate) meters: Meters,
    pub(crate) kernel: Option<KernelSample>,
    pub(crate) aborted: u64,
    /// Latencies in microseconds and their counts, rising.
    pub(crate) latencies: Vec<(u64, u64)>,
    /// Means of what the backend said of itself.
    pub(crate) reported: BTreeMap<String, f64>,
}

impl BackendMeters {
    #[cfg(test)]
    pub(crate) const BYTES_PER_WORKER: usize = size_of::<Padded<BackendCell>>();

    pub(crate) fn new(workers: usize) -> Self {
        let cells = (0..workers.max(1)).map(|_| Padded::default()).collect();
        Self { cells, drains: AtomicU32::new(0) }
    }

    fn cell(&self, worker: WorkerId) -> &BackendCell {
        &self.cells[worker.0 % self.cells.len()].0
    }

    pub(crate) fn began(&self, worker: WorkerId) {
        self.cell(worker).requests.fetch_add(1, Relaxed);
    }

    pub(crate) fn aborted(&self, worker: WorkerId) {
        self.cell(worker).aborted.fetch_add(1, Relaxed);
    }

    pub(crate) fn finished(&self, worker: WorkerId, outcome: &Outcome, objective_us: u64) {
        let cell = self.cell(worker);
        let kind = match outcome.answer {
            Answer::Status(500..) => &cell.server_errors,
            Answer::Status(400..) => &cell.client_errors,
            Answer::Status(_) => &cell.ok,
            Answer::ConnectRefused | Answer::ConnectFailed | Answer::ConnectTimeout => {
                &cell.connect_errors
            }
            Answer::Reset | Answer::Malformed => &cell.read_errors,
            Answer::Timeout => &cell.timeouts,
        };
        kind.fetch_add(1, Relaxed);
        add(&cell.bytes_out, outcome.bytes_out);
        add(&cell.bytes_in, outcome.bytes_in);
        if outcome.retry {
            cell.retries.fetch_add(1, Relaxed);
        }
        if outcome.answer.is_timed() {
            let latency_us = u64::try_from(outcome.latency.as_micros()).unwrap_or(u64::MAX);
            cell.latency(latency_us, objective_us);
        }
    }

    pub(crate) fn kernel_sample(
        &self,
        worker: WorkerId,
        srtt_us: u32,
        retransmits_delta: u32,
        unacked_segments: u32,
    ) {
        let cell = self.cell(worker);
        cell.kernel_samples.fetch_add(1, Relaxed);
        cell.kernel_srtt_sum_us.fetch_add(u64::from(srtt_us), Relaxed);
        add(&cell.kernel_retransmits, u64::from(retransmits_delta));
        add(&cell.kernel_unacked, u64::from(unacked_segments));
    }

    /// Adds one value that the backend said of itself.
    pub(crate) fn reported(&self, worker: WorkerId, name: Name<'_>, value: f64) {
        let cell = self.cell(worker);
        if let Some(reports) = &*cell.reports.load() {
            reports.add(name, value);
            return;
        }
        let reports = Arc::new(Reports::default());
        reports.add(name, value);
        cell.reports.store(Some(reports));
    }

    /// Takes out what was counted since the last drain. `scratch` must be empty and is left so.
    pub(crate) fn drain(&self, scratch: &mut LatencyCounts) -> BackendCounts {
        let mut meters = Meters::default();
        let mut kernel = KernelSample::default();
        let (mut aborted, mut sum_us, mut max_us) = (0, 0, 0);
        for Padded(cell) in &self.cells {
            meters.requests += taken(&cell.requests);
            meters.retries += taken(&cell.retries);
            meters.ok += taken(&cell.ok);
            meters.client_errors += taken(&cell.client_errors);
            meters.server_errors += taken(&cell.server_errors);
            meters.connect_errors += taken(&cell.connect_errors);
            meters.read_errors += taken(&cell.read_errors);
            meters.timeouts += taken(&cell.timeouts);
            meters.bytes_out += taken(&cell.bytes_out);
            meters.bytes_in += taken(&cell.bytes_in);
            meters.latency.over_objective += taken(&cell.over_objective);
            aborted += taken(&cell.aborted);
            sum_us += taken(&cell.latency_sum_us);
            max_us = max_us.max(taken(&cell.latency_max_us));
            kernel.samples += taken(&cell.kernel_samples);
            kernel.srtt_us += taken(&cell.kernel_srtt_sum_us) as f64;
            kernel.retransmits += taken(&cell.kernel_retransmits);
            kernel.unacked_segments += taken(&cell.kernel_unacked);
            if let Some(latencies) = cell.latencies.get() {
                latencies.drain(scratch);
            }
        }
        let latencies = scratch.take();
        let over_objective = meters.latency.over_objective;
        meters.latency = summary(&latencies, sum_us, max_us, over_objective);
        let kernel = (kernel.samples > 0)
            .then(|| KernelSample { srtt_us: kernel.srtt_us / kernel.samples as f64, ..kernel });
        BackendCounts { meters, kernel, aborted, latencies, reported: self.drain_reports() }
    }

    fn drain_reports(&self) -> BTreeMap<String, f64> {
        let forget = self.drains.fetch_add(1, Relaxed) % FORGET_DRAINS == FORGET_DRAINS - 1;
        let mut sums: BTreeMap<String, (f64, f64)> = BTreeMap::new();
        for Padded(cell) in &self.cells {
            // What is reported between this and the look at it is a value of many.
            let reports = if forget { cell.reports.swap(None) } else { cell.reports.load_full() };
            for (name, mean, count) in reports.iter().flat_map(|reports| reports.drain()) {
                if sums.len() >= MAX_METRICS && !sums.contains_key(name) {
                    continue;
                }
                let (sum, values) = sums.entry(name.to_owned()).or_default();
                *sum += mean * f64::from(count);
                *values += f64::from(count);
            }
        }
        sums.into_iter().map(|(name, (sum, values))| (name, sum / values)).collect()
    }
}

impl BackendCell {
    fn latency(&self, latency_us: u64, objective_us: u64) {
        self.latencies.get_or_init(|| Box::new(AtomicHistogram::new())).record(latency_us);
        self.latency_sum_us.fetch_add(latency_us, Relaxed);
        if latency_us > self.latency_max_us.load(Relaxed) {
            self.latency_max_us.fetch_max(latency_us, Relaxed);
        }
        if latency_us > objective_us {
            self.over_objective.fetch_add(1, Relaxed);
        }
    }
}

fn add(counter: &AtomicU64, n: u64) {
    if n > 0 {
        counter.fetch_add(n, Relaxed);
    }
}

/// Looks before it takes: an idle counter stays shared in the caches of workers and drain.
fn taken(counter: &AtomicU64) -> u64 {
    if counter.load(Relaxed) == 0 { 0 } else { counter.swap(0, Relaxed) }
}

fn summary(
    latencies: &[(u64, u64)],
    sum_us: u64,
    max_us: u64,
    over_objective: u64,
) -> LatencySummary {
    let count = latencies.iter().map(|&(_, count)| count).sum();
    // A drain may fall between an answer's count and its maximum; quantiles must not exceed it.
    let at_ms = |quantile| (quantile_us(latencies, quantile) as f64 / 1e3).min(max_us as f64 / 1e3);
    LatencySummary {
        count,
        sum_ms: sum_us as f64 / 1e3,
        over_objective,
        p50_ms: at_ms(0.5),
        p90_ms: at_ms(0.9),
        p99_ms: at_ms(0.99),
        max_ms: max_us as f64 / 1e3,
    }
}
