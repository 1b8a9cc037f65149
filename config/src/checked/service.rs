//! A service: its instances and how they are treated.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use foreshadow_control::{
    Capacity, Mode, Objective, QuantileSpec, RuleSpec, ServiceName, ServiceSpec, WeightSpec,
};
use serde::{Serialize, Serializer};

use super::ahead;
use super::{
    CalendarFile, Cost, EventRule, Learning, Metrics, Migration, Occurrence, RecurringEvent,
    Scaling, Shadows, Signal,
};
use crate::units;

/// One application behind the proxy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Service {
    /// The instances that always run, with distinct addresses; at least one unless `scaling` is there.
    pub primaries: Vec<Primary>,
    /// Services of one group are taken to rise and fall at the same times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// What its clients were promised.
    #[serde(serialize_with = "units::control::objective")]
    pub objective: Objective,
    /// How the capacity of an instance is known.
    #[serde(serialize_with = "units::control::capacity")]
    pub capacity: Capacity,
    /// Share of its capacity that an instance is filled to, above 0 up to 1.
    #[serde(serialize_with = "units::percent::serialize")]
    pub target_utilisation: f64,
    /// How instances are checked.
    pub health: Health,
    /// What Foreshadow may do for it at start.
    pub mode: Mode,
    /// Where more instances come from; absent: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadows: Option<Shadows>,
    /// How its primaries are scaled; absent: not by Foreshadow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
    /// How its instances are moved elsewhere, where the file says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migration: Option<Migration>,
    /// What shadows and the want of them cost, where the file says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// How demand is forecast and which quantile starts what.
    pub forecast: Forecast,
    /// Whether thresholds move with what became of earlier decisions.
    pub feedback: bool,
    /// What is learned from outcomes.
    pub learning: Learning,
    /// Predictive rules, ordered by name; names are unique.
    #[serde(serialize_with = "units::control::rules", skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleSpec>,
    /// Where metrics that instances report of themselves come from.
    pub metrics: Metrics,
    /// Figures of the service as a whole that are looked up elsewhere, by name; at most 32.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub signals: BTreeMap<String, Signal>,
    /// How fast weights may move.
    #[serde(serialize_with = "units::control::weights")]
    pub weights: WeightSpec,
    /// Warm-up time assumed for an instance until one has been seen.
    #[serde(serialize_with = "units::duration::serialize")]
    pub warm_up: Duration,
    /// How long instances may take.
    pub timeouts: Timeouts,
    /// When a request is tried again.
    pub retries: Retries,
    /// When an instance that answers badly sits out.
    pub ejection: Ejection,
    /// Last resort: when no instance is usable, requests are tried on one with weight all the same.
    pub panic: bool,
}

impl Service {
    /// The zones of its primaries, each once, in the order of the file.
    pub fn zones(&self) -> impl Iterator<Item = &str> {
        let zone = |at: usize| self.primaries[at].zone.as_str();
        let first =
            move |at: &usize| !zone(*at).is_empty() && (0..*at).all(|n| zone(n) != zone(*at));
        (0..self.primaries.len()).filter(first).map(zone)
    }

    /// The service as the controller knows it.
    #[must_use]
    pub fn spec(&self, name: ServiceName) -> ServiceSpec {
        ServiceSpec {
            name,
            tick_ms: foreshadow_control::DEFAULT_TICK_MS,
            objective: self.objective,
            capacity: self.capacity,
            target_utilisation: self.target_utilisation,
            pool: self.shadows.as_ref().map(|shadows| shadows.pool),
            places: self.shadows.as_ref().map_or_else(Vec::new, |shadows| {
                shadows.place_specs(self.cost.map_or(0.0, |cost| cost.per_hour))
            }),
            sizing: self.shadows.as_ref().map_or_else(Default::default, |shadows| shadows.sizing),
            quantiles: self.forecast.quantiles,
            weights: self.weights,
            horizon_ms: units::duration::to_ms(self.forecast.horizon),
            seasons_ms: self.forecast.seasons.iter().map(|s| units::duration::to_ms(*s)).collect(),
            evaluation_window_ms: units::duration::to_ms(self.forecast.evaluation_window),
            warm_up_ms: units::duration::to_ms(self.warm_up),
            feedback: self.feedback,
            rules: self.rules.clone(),
            signals: self.forecast.signals.clone(),
            scaling: self.scaling.as_ref().map(Scaling::spec),
            migration: self.migration.as_ref().map_or_else(Default::default, Migration::spec),
            learning: self.learning.spec(),
        }
    }
}

/// An instance that always runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Primary {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it runs; empty when the file names no zone.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// Capacity pinned for this instance, requests per second, above 0.
    #[serde(rename = "capacity", skip_serializing_if = "Option::is_none")]
    #[serde(serialize_with = "units::rate::serialize_option")]
    pub capacity_rps: Option<f64>,
}

/// How instances are checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// What is asked.
    #[serde(flatten)]
    pub check: HealthCheck,
    /// From the start of a check to the start of the next.
    #[serde(serialize_with = "units::duration::serialize")]
    pub interval: Duration,
    /// Longest wait for an answer; at most the interval.
    #[serde(serialize_with = "units::duration::serialize")]
    pub timeout: Duration,
    /// Passed checks in a row until an instance counts as up, at least 1.
    pub rise: u32,
    /// Failed checks in a row until it counts as down, at least 1.
    pub fall: u32,
}

/// What a health check asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum HealthCheck {
    /// Whether a connection opens.
    Tcp,
    /// Whether a GET is answered well.
    Http {
        /// Path and query, with its leading slash.
        path: String,
        /// The `Host` header; absent: the instance's address.
        #[serde(skip_serializing_if = "Option::is_none")]
        host: Option<String>,
        /// Statuses that pass, at least one range.
        expect: Vec<StatusRange>,
    },
}

/// HTTP statuses from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    /// At least 100.
    pub first: u16,
    /// At least `first`, at most 599.
    pub last: u16,
}

impl StatusRange {
    /// Whether `status` is in the range.
    #[must_use]
    pub fn contains(self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            self.first.fmt(f)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl Serialize for StatusRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.first == self.last {
            serializer.serialize_u16(self.first)
        } else {
            serializer.collect_str(self)
        }
    }
}

/// How demand is forecast and which quantile starts what.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forecast {
    /// The farthest horizon that decisions look at, 100 ms to 10 min.
    #[serde(serialize_with = "units::duration::serialize")]
    pub horizon: Duration,
    /// Known periods of demand, distinct, such as a day.
    #[serde(serialize_with = "units::duration::serialize_list")]
    pub seasons: Vec<Duration>,
    /// Signals that demand is forecast with, distinct.
    pub signals: Vec<String>,
    /// Which quantile of demand starts which step; commit <= warm <= prepare.
    #[serde(serialize_with = "units::control::quantiles")]
    pub quantiles: QuantileSpec,
    /// Demand must stay below the committed level this long before a rollback starts.
    #[serde(serialize_with = "units::duration::serialize")]
    pub evaluation_window: Duration,
    /// Calendar files whose events change demand.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calendars: Vec<CalendarFile>,
    /// Events that repeat by a rule.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventRule>,
    /// A network as one more expert of the long forecasts; only in builds that can run one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub onnx: Option<PathBuf>,
}

/// Occurrences of all events of a service that are laid out at once.
const MOST_OCCURRENCES: usize = 10_000;

impl Forecast {
    /// Occurrences of all events that overlap the time from `from_ms` to `until_ms`, by start; of
    /// each event at most 500 and of all 10,000, the first.
    #[must_use]
    pub fn occurrences(&self, from_ms: u64, until_ms: u64) -> Vec<Occurrence> {
        ahead::soonest(self.all_events(), (from_ms, until_ms), MOST_OCCURRENCES)
    }

    /// The same looking back: of each event at most 500 and of all 10,000, the last.
    #[must_use]
    pub fn last_occurrences(&self, from_ms: u64, until_ms: u64) -> Vec<Occurrence> {
        ahead::latest(self.all_events(), (from_ms, until_ms), MOST_OCCURRENCES)
    }

    fn all_events(&self) -> impl Iterator<Item = &RecurringEvent> {
        let files = self.calendars.iter().flat_map(|file| &file.events);
        files.chain(self.events.iter().map(|rule| &rule.event))
    }
}

/// How long instances may take; `connect`, `first_byte` and `stall` are at most `total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// To open a connection.
    #[serde(serialize_with = "units::duration::serialize")]
    pub connect: Duration,
    /// From the end of the request to the first byte of the answer.
    #[serde(serialize_with = "units::duration::serialize")]
    pub first_byte: Duration,
    /// Longest pause within an answer, or in taking a request's body.
    #[serde(serialize_with = "units::duration::serialize")]
    pub stall: Duration,
    /// From the request's first byte to the answer's last, retries included.
    #[serde(serialize_with = "units::duration::serialize")]
    pub total: Duration,
    /// An unused connection to an instance is closed after this.
    #[serde(serialize_with = "units::duration::serialize")]
    pub idle: Duration,
}

/// When a request is tried again; only idempotent ones are once they were sent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Retries {
    /// Tries in all, the first included, 1 to 10; 1 turns retries off.
    pub attempts: u32,
    /// Retries may be this share of all requests, 0 to 1.
    #[serde(serialize_with = "units::percent::serialize")]
    pub budget: f64,
    /// Retries per second that are allowed beyond the budget.
    pub min_per_second: u32,
    /// What is tried again; distinct.
    pub on: Vec<RetryOn>,
}

/// What may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum RetryOn {
    /// No connection could be opened.
    #[serde(rename = "connect_failure")]
    ConnectFailure,
    /// The connection ended before the answer began.
    #[serde(rename = "reset")]
    Reset,
    /// The answer is 502, 503 or 504.
    #[serde(rename = "gateway_error")]
    GatewayError,
    /// No answer began within the time for its first byte.
    #[serde(rename = "timeout")]
    Timeout,
}

/// When an instance that answers badly sits out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ejection {
    /// Errors in a row that eject an instance; 0 turns ejection for errors off, and a refused
    /// connection still ejects.
    pub consecutive_errors: u16,
    /// How long it sits out the first time; each next time twice as long.
    #[serde(serialize_with = "units::duration::serialize")]
    pub base: Duration,
    /// Longest time out; at least `base`.
    #[serde(serialize_with = "units::duration::serialize")]
    pub max: Duration,
    /// Largest share of the instances that sit out for errors at once, 0 to 1, rounded down to
    /// whole instances; refused connections eject beyond it.
    #[serde(serialize_with = "units::percent::serialize")]
    pub max_ejected: f64,
    /// Trial requests that must succeed in a row before it is taken back, 1 to 100.
    pub probation_requests: u8,
}
