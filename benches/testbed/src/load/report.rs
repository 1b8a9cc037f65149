//! What a load run tells: per second, in total, and every failure with its time.

use std::collections::BTreeMap;

use super::arrivals::Spread;

/// How a request failed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum FailureKind {
    /// Answered with a status of 400 or above.
    Status,
    /// No connection could be made.
    Connect,
    /// The connection ended before the answer was complete.
    Reset,
    /// The answer was not valid HTTP.
    Protocol,
    /// No complete answer within the timeout, counted from the scheduled time.
    Timeout,
    /// Too many requests were waiting for a connection already.
    Backlog,
}

/// Failed requests by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FailureCounts {
    /// See [`FailureKind::Status`].
    pub status: u64,
    /// See [`FailureKind::Connect`].
    pub connect: u64,
    /// See [`FailureKind::Reset`].
    pub reset: u64,
    /// See [`FailureKind::Protocol`].
    pub protocol: u64,
    /// See [`FailureKind::Timeout`].
    pub timeout: u64,
    /// See [`FailureKind::Backlog`].
    pub backlog: u64,
}

impl FailureCounts {
    /// Failures of every kind together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.status + self.connect + self.reset + self.protocol + self.timeout + self.backlog
    }

    pub(super) fn add(&mut self, kind: FailureKind) {
        *match kind {
            FailureKind::Status => &mut self.status,
            FailureKind::Connect => &mut self.connect,
            FailureKind::Reset => &mut self.reset,
            FailureKind::Protocol => &mut self.protocol,
            FailureKind::Timeout => &mut self.timeout,
            FailureKind::Backlog => &mut self.backlog,
        } += 1;
    }
}

/// One failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FailureEvent {
    /// When the request was due, in Unix milliseconds.
    pub scheduled_unix_ms: u64,
    /// When it had failed, in Unix milliseconds.
    pub failed_unix_ms: u64,
    /// How it failed.
    pub kind: FailureKind,
    /// The status of the answer, when there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

/// Latency in milliseconds, from the scheduled time to the last byte of the answer.
///
/// Successful requests and timeouts are in it. Other failures are not: a refused connection is
/// quick but is no service. All values are 0 while nothing was recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Latency {
    /// Number of requests in the distribution.
    pub count: u64,
    /// Mean.
    pub mean_ms: f64,
    /// Median.
    pub p50_ms: f64,
    /// 90th percentile.
    pub p90_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// 99.9th percentile.
    pub p999_ms: f64,
    /// Largest.
    pub max_ms: f64,
}

/// Everything about the requests that were due within one second.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct SecondStats {
    /// Whole seconds since the start of the load.
    pub second: u32,
    /// Start of the second in Unix milliseconds.
    pub unix_ms: u64,
    /// Requests due in this second so far.
    pub offered: u64,
    /// Of those, the ones answered with a status below 400.
    pub completed: u64,
    /// Of those, the ones that failed.
    pub failed: FailureCounts,
    /// Failed, or completed later than the objective.
    pub over_objective: u64,
    /// Latency of the requests due in this second.
    pub latency: Latency,
    /// The second is over and every request due in it has its outcome.
    pub settled: bool,
}

/// What was seen of one backend, by the `x-instance` header of its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct InstanceSeen {
    /// Answers that carried its name, whatever their status.
    pub answered: u64,
    /// Time of the first one, in Unix milliseconds.
    pub first_unix_ms: u64,
    /// Time of the latest one, in Unix milliseconds.
    pub last_unix_ms: u64,
}

/// Running totals.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Totals {
    /// Requests due so far; every one of them was issued or is in `failed.backlog`.
    pub offered: u64,
    /// Answered with a status below 400.
    pub completed: u64,
    /// Failed, by kind.
    pub failed: FailureCounts,
    /// Failed, or completed later than the objective.
    pub over_objective: u64,
    /// Due, without an outcome so far.
    pub in_flight: u64,
    /// Connections made over the whole run.
    pub connections_opened: u64,
    /// Requests that found their idle connection closed before anything was written, and went
    /// out on a new one. This is no failure.
    pub reconnects: u64,
    /// Answers by instance name; at most 1,024 names are kept.
    pub instances: BTreeMap<String, InstanceSeen>,
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LoadReport {
    /// Where the requests went.
    pub target: String,
    /// Request method.
    pub method: String,
    /// Arrival process.
    pub spread: Spread,
    /// Seed of the arrival times.
    pub seed: u64,
    /// Start of the load in Unix milliseconds.
    pub started_unix_ms: u64,
    /// End of the run in Unix milliseconds: that of the profile, or of the last request if later.
    pub ended_unix_ms: u64,
    /// Latency objective in milliseconds.
    pub objective_ms: f64,
    /// Requests per second asked for, averaged over the profile.
    pub asked_rps: f64,
    /// Totals over the run.
    pub totals: Totals,
    /// Latency over the run.
    pub latency: Latency,
    /// How late the generator itself was in issuing requests. When this is not far below the
    /// latencies, the generator was short of CPU and the run says little about the target.
    pub generator_lag: Latency,
    /// The requests by the second in which they were due.
    pub seconds: Vec<SecondStats>,
    /// The failures in order of their end; at most 100,000 are kept.
    pub failures: Vec<FailureEvent>,
    /// Failures beyond those kept.
    pub failures_not_kept: u64,
}

impl SecondStats {
    /// Whether the 99th percentile of this second's requests lies beyond the objective, with
    /// every failed request counted as beyond it. False while nothing was due.
    #[must_use]
    pub fn is_beyond_objective(&self) -> bool {
        self.over_objective * 100 > self.offered
    }
}

impl LoadReport {
    /// Seconds for which [`SecondStats::is_beyond_objective`] holds.
    #[must_use]
    pub fn seconds_beyond_objective(&self) -> usize {
        self.seconds.iter().filter(|second| second.is_beyond_objective()).count()
    }

    /// The failures that ended within `from_unix_ms..to_unix_ms`. Those in
    /// `failures_not_kept` are missing here.
    pub fn failures_between(
        &self,
        from_unix_ms: u64,
        to_unix_ms: u64,
    ) -> impl Iterator<Item = &FailureEvent> {
        let window = from_unix_ms..to_unix_ms;
        self.failures.iter().filter(move |failure| window.contains(&failure.failed_unix_ms))
    }
}
