//! What leaves the data plane: deltas for the tick, totals for a scrape.

use std::collections::BTreeMap;

use foreshadow_control::{Health, InstanceId, KernelSample, Meters, ServiceName, TrafficCounts};
use hdrhistogram::Histogram;

use super::responses::Responses;
use super::{BackendCounts, ServiceCounts};

/// What one service counted since the last drain.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceDrain {
    /// The service.
    pub service: ServiceName,
    /// Requests of clients, retries and mirrored copies not.
    pub arrivals: u64,
    /// Of those, requests that no backend could take.
    pub unserved: u64,
    /// Requests sent to an unhealthy backend as a last resort.
    pub panicked: u64,
    /// What requests and answers say about copying them.
    pub traffic: TrafficCounts,
    /// Every backend that is in the table or still has requests in flight, ordered by id.
    pub instances: Vec<InstanceDrain>,
}

/// What one backend counted since the last drain.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceDrain {
    /// The backend.
    pub instance: InstanceId,
    /// Its health now.
    pub health: Health,
    /// Deltas, and the requests in flight now.
    pub meters: Meters,
    /// What the kernel said of its connections, if anything was sampled.
    pub kernel: Option<KernelSample>,
    /// Requests whose client went away before the answer was complete, and those taken back when
    /// the backend fell; `meters` counts them among the requests only.
    pub aborted: u64,
    /// Means of what the backend said of itself in its answers, by name: at most
    /// [`MAX_METRICS`](foreshadow_control::MAX_METRICS).
    pub reported: BTreeMap<String, f64>,
}

/// What one service counted since the data plane first knew it.
#[derive(Clone, Debug)]
pub struct ServiceTotals {
    /// The service.
    pub service: ServiceName,
    /// Requests of clients.
    pub arrivals: u64,
    /// Of those, requests that no backend could take.
    pub unserved: u64,
    /// Requests sent to an unhealthy backend as a last resort.
    pub panicked: u64,
    /// What clients were answered.
    pub responses: Responses,
    /// Latencies in microseconds of the answers of all backends, those now gone included.
    pub latency_us: Histogram<u64>,
    /// Backends known now, ordered by id.
    pub instances: Vec<InstanceTotals>,
}

/// What one backend counted since it was first in a table.
///
/// The histogram starts at 2 kB and grows with the slowest answer to at most 28 kB.
#[derive(Clone, Debug)]
pub struct InstanceTotals {
    /// The backend.
    pub instance: InstanceId,
    /// Sums, and the requests in flight at the last drain. Of `latency`, the quantiles are those
    /// of the last drain that had answers.
    pub meters: Meters,
    /// Requests whose client went away, and those taken back.
    pub aborted: u64,
    /// Latencies of its answers, in microseconds.
    pub latency_us: Histogram<u64>,
}

impl ServiceTotals {
    pub(crate) fn new(service: ServiceName) -> Self {
        Self {
            service,
            arrivals: 0,
            unserved: 0,
            panicked: 0,
            responses: Responses::default(),
            latency_us: empty(),
            instances: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, counts: ServiceCounts) {
        self.arrivals += counts.arrivals;
        self.unserved += counts.unserved;
        self.panicked += counts.panicked;
        self.responses.add(&counts.responses);
    }
}

impl InstanceTotals {
    pub(crate) fn new(instance: InstanceId) -> Self {
        Self { instance, meters: Meters::default(), aborted: 0, latency_us: empty() }
    }

    pub(crate) fn add(&mut self, counts: &BackendCounts) {
        let (sum, new) = (&mut self.meters, &counts.meters);
        sum.requests += new.requests;
        sum.in_flight = new.in_flight;
        sum.ok += new.ok;
        sum.client_errors += new.client_errors;
        sum.server_errors += new.server_errors;
        sum.connect_errors += new.connect_errors;
        sum.read_errors += new.read_errors;
        sum.timeouts += new.timeouts;
        sum.retries += new.retries;
        sum.bytes_out += new.bytes_out;
        sum.bytes_in += new.bytes_in;
        self.aborted += counts.aborted;
        if new.latency.count > 0 {
            let past = sum.latency;
            sum.latency = new.latency;
            sum.latency.count += past.count;
            sum.latency.sum_ms += past.sum_ms;
            sum.latency.over_objective += past.over_objective;
            sum.latency.max_ms = past.max_ms.max(new.latency.max_ms);
        }
        record_all(&mut self.latency_us, &counts.latencies);
    }
}

/// Adds drained latencies to a histogram made by [`empty`].
pub(crate) fn record_all(histogram: &mut Histogram<u64>, latencies: &[(u64, u64)]) {
    for &(value_us, count) in latencies {
        histogram
            .record_n(value_us, count)
            .expect("a resizing histogram takes every value, and these are below 2^33");
    }
}

/// Two significant digits: finer than the buckets it is filled from.
fn empty() -> Histogram<u64> {
    Histogram::new(2).expect("two digits are within what the format allows")
}
