//! How requests to one service are balanced, bounded in time and retried.

use std::time::Duration;

use crate::ejection::EjectionPolicy;
use crate::health::HealthCheck;

/// What the data plane must know of a service besides its backends.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamPolicy {
    /// Answers slower than this count as over the objective.
    pub objective_ms: f64,
    /// Longest wait for a connection to a backend.
    pub connect_timeout: Duration,
    /// Longest wait from the end of the request to the first byte of the answer.
    pub first_byte_timeout: Duration,
    /// Longest pause of a backend within its answer, or in taking a request's body.
    pub stall_timeout: Duration,
    /// Longest life of a request, retries included.
    pub total_timeout: Duration,
    /// How long an unused connection to a backend is kept.
    pub idle_timeout: Duration,
    /// When and how often a failed request is sent again.
    pub retries: RetryPolicy,
    /// When a backend that answers badly sits out.
    pub ejection: EjectionPolicy,
    /// Last resort: when no backend is usable, try one with a weight above zero all the same.
    pub panic: bool,
    /// Quantile of in-flight requests across the backends from which a backend counts as hot, 0
    /// to 1. Prequal uses 0.6 to 0.9, by default 0.84 (Wydrowski et al., "Load is not what you
    /// should balance", arXiv 2312.10172, `Q_RIF`).
    pub hot_quantile: f64,
    /// The active check; without one, health follows from requests alone.
    pub health: Option<HealthCheck>,
    /// What becomes of load reports in answers.
    pub load_reports: LoadReports,
}

/// What becomes of the fields of an answer in which the backend reports its load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadReports {
    /// They are read, and no client sees them.
    #[default]
    Take,
    /// They are read and passed on.
    Forward,
    /// They are passed on unread.
    Ignore,
}

impl Default for UpstreamPolicy {
    fn default() -> Self {
        Self {
            objective_ms: 100.0,
            connect_timeout: Duration::from_secs(1),
            first_byte_timeout: Duration::from_secs(15),
            stall_timeout: Duration::from_secs(60),
            total_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            retries: RetryPolicy::default(),
            ejection: EjectionPolicy::default(),
            panic: false,
            hot_quantile: 0.84,
            health: None,
            load_reports: LoadReports::Take,
        }
    }
}

/// When and how often a failed request is sent again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Most retries of one request; 0 turns retries off.
    pub attempts: u32,
    /// Retries allowed per request, over the last ten seconds, 0 to 1.
    pub budget_share: f64,
    /// Retries per second that are always allowed.
    pub min_per_s: f64,
    /// Which failures are retried.
    pub on: RetryOn,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 2, budget_share: 0.2, min_per_s: 10.0, on: RetryOn::default() }
    }
}

/// Which failures are retried. All but `connect_failure` only for idempotent requests, which is
/// for the caller to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryOn {
    /// No connection could be made, so the backend saw nothing of the request.
    pub connect_failure: bool,
    /// The connection broke before the first byte of the answer.
    pub reset: bool,
    /// The backend answered 502, 503 or 504.
    pub gateway_errors: bool,
    /// No answer began within the time for its first byte.
    pub timeout: bool,
}

impl Default for RetryOn {
    fn default() -> Self {
        Self { connect_failure: true, reset: true, gateway_errors: true, timeout: false }
    }
}
