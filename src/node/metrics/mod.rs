//! What instances and services report of themselves, from every source, on its way to the loop.
//!
//! Load reports come with the meters. Everything else (the admin interface, scrapes, signals) comes
//! through one bounded queue that the loop empties every tick, so that it waits for no lock.

mod exposition;
mod fetch;
mod scrape;
mod signals;
mod store;
mod table;
mod trouble;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use foreshadow_control::{InstanceId, MetricViews, Planned, ServiceName, most_believed};

use super::Shared;
pub(super) use scrape::AT_ONCE;
pub(super) use store::Store;
pub(crate) use table::Rows;

/// Asks instances, and looks up signals, for as long as the node runs.
pub(super) fn start(shared: &Arc<Shared>) {
    scrape::start(shared);
    signals::start(shared);
}

/// The farthest horizon of forecasts that are made tick by tick.
const PLANNED_MS: u64 = 600_000;

/// Values that are not believed are told of this often.
const TELL_AGAIN: Duration = Duration::from_secs(600);

/// Reports that may wait for the next tick.
const WAITING: usize = 4_096;

/// What one source says at one time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Report {
    /// What it is about.
    pub(crate) of: Subject,
    /// How old it is.
    pub(crate) age_ms: u64,
    /// Values by name; those that cannot be are left out.
    pub(crate) values: BTreeMap<String, f64>,
}

/// What a report is about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Subject {
    /// One instance.
    Instance(InstanceId),
    /// A service as a whole.
    Service(ServiceName),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instance(id) => write!(f, "{id}"),
            Self::Service(name) => write!(f, "{name}"),
        }
    }
}

/// Values that are left out, counted and said once in ten minutes.
#[derive(Default)]
struct NotBelieved {
    count: AtomicU64,
    told: Mutex<Option<Instant>>,
}

impl NotBelieved {
    fn add(&self, more: u64, what: &str) {
        let count = self.count.fetch_add(more, Ordering::Relaxed) + more;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= TELL_AGAIN) {
            *told = Some(Instant::now());
            tracing::warn!(
                left_out = count,
                "reported values are not believed: {what}; shares are fractions, 0.5 for 50 %"
            );
        }
    }
}

/// What the loop, the admin interface and the scrapers share of metrics.
pub(crate) struct Metrics {
    reports: SyncSender<Report>,
    /// What is forecast, by service; replaced once a second.
    pub(crate) forecasts: ArcSwap<BTreeMap<ServiceName, MetricViews>>,
    /// How scrapes do.
    pub(crate) scrapes: Scrapes,
    tables: ArcSwap<Tables>,
    not_believed: NotBelieved,
}

/// What tables say of signals, times to come included, by service and signal.
pub(crate) type Tables = BTreeMap<(ServiceName, String), Rows>;

/// Scrapes since start.
#[derive(Debug, Default)]
pub(crate) struct Scrapes {
    /// Those that gave at least one metric.
    pub(crate) good: AtomicU64,
    /// Those that gave none.
    pub(crate) failed: AtomicU64,
}

impl Scrapes {
    fn count(&self, good: bool) {
        let counter = if good { &self.good } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Why a report was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The loop is behind.
    Full,
    /// The loop has ended.
    Ended,
}

impl Metrics {
    /// The shared part, and the loop's end of the queue.
    pub(super) fn new() -> (Self, Receiver<Report>) {
        let (reports, inbox) = sync_channel(WAITING);
        let forecasts = ArcSwap::default();
        let tables = ArcSwap::default();
        let not_believed = NotBelieved::default();
        (Self { reports, forecasts, scrapes: Scrapes::default(), tables, not_believed }, inbox)
    }

    /// What tables say of the signals of a service in the time that demand is forecast tick by tick.
    pub(crate) fn planned(
        &self,
        service: &ServiceName,
        now_ms: u64,
    ) -> BTreeMap<String, Vec<Planned>> {
        let tables = self.tables.load();
        let first = (service.clone(), String::new());
        let own = tables.range(first..).take_while(|((of, _), _)| of == service);
        own.map(|((_, signal), rows)| (signal, rows.changes(now_ms, now_ms + PLANNED_MS)))
            .filter(|(_, changes)| !changes.is_empty())
            .map(|(signal, changes)| (signal.clone(), changes))
            .collect()
    }

    /// What tables say of signals now.
    pub(crate) fn tables(&self) -> Arc<Tables> {
        self.tables.load_full()
    }

    /// Values that were left out since the start, since nobody believes them.
    pub(crate) fn not_believed(&self) -> u64 {
        self.not_believed.count.load(Ordering::Relaxed)
    }

    /// Hands a report to the next tick, without what is not believed.
    pub(crate) fn report(&self, mut report: Report) -> Result<(), Refused> {
        report.values.retain(|name, value| {
            let most = most_believed(name);
            if *value > most {
                let of = format!("{name} of {}", report.of);
                self.not_believed.add(1, &format!("{of} is {value}, and {most} at most"));
            }
            *value <= most || value.is_nan()
        });
        self.reports.try_send(report).map_err(|error| match error {
            TrySendError::Full(_) => Refused::Full,
            TrySendError::Disconnected(_) => Refused::Ended,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_believed_is_left_out_and_counted() {
        let (metrics, inbox) = Metrics::new();
        let told = [("cpu", 9e14), ("memory", 0.5), ("disk", 80.0), ("queue_depth", 1e6)];
        let values = told.map(|(name, value)| (name.to_owned(), value)).into();
        let of = Subject::Instance(InstanceId(1));
        metrics.report(Report { of, age_ms: 0, values }).unwrap();
        let taken = inbox.recv().unwrap().values;
        let expected = [("memory".to_owned(), 0.5), ("queue_depth".to_owned(), 1e6)];
        assert_eq!((taken, metrics.not_believed()), (BTreeMap::from(expected), 2));
    }

    #[test]
    fn what_is_planned_is_that_of_the_service_alone() {
        let (metrics, _inbox) = Metrics::new();
        let rows = |value| Rows::of(&[(5_000, Some(value))]);
        let of = |(service, signal, value): (&str, &str, f64)| {
            ((ServiceName::from(service), signal.to_owned()), rows(value))
        };
        let tables = [
            ("shop", "queue", 1.0),
            ("api", "queue", 2.0),
            ("shop", "campaign", 3.0),
            ("shop2", "queue", 4.0),
        ];
        metrics.tables.store(Arc::new(tables.map(of).into()));
        let planned = metrics.planned(&"shop".into(), 1_000);
        let told: Vec<_> = planned.iter().map(|(name, told)| (name.as_str(), told[0])).collect();
        let change = |value| Planned { in_ms: 4_000, value: Some(value) };
        assert_eq!(told, [("campaign", change(3.0)), ("queue", change(1.0))]);
    }
}
