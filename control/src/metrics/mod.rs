//! Forecasts of everything that instances and services report of themselves.
//!
//! For looking at: no law reads them, so they are neither part of a plan nor of what is kept over a
//! restart. A rule that asks for a metric ahead has a forecaster of its own, made for its horizon.

mod bounds;
mod series;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::fleet::may_take_requests;
use crate::rules::used;
use crate::{InstanceId, InstanceObservation, Observation, ServiceName, ServiceObservation};
pub(crate) use bounds::mean_share;
pub use bounds::{is_believed, is_share, most_believed};
use series::Series;

/// Most names that one instance may report, and most that one service may.
pub const MAX_METRICS: usize = 32;
/// Longest name of a reported metric, in bytes.
pub const MAX_METRIC_NAME: usize = 63;
/// Largest value of a reported metric.
pub const MAX_METRIC: f64 = 1e15;
/// Most series of one service that are forecast: about 45 KB each.
pub const MAX_METRIC_SERIES: usize = 32;

/// Most names of a service that are forecast for the service as a whole, before instances count.
const SERVICE_SERIES: usize = 16;
/// A series that got no value for this long is forgotten.
const FORGET_MS: u64 = 600_000;

/// Whether `name` can be that of a reported metric: 1 to 63 letters, digits, `_`, `.`, `:`, `-` or
/// `/`.
#[must_use]
pub fn is_metric_name(name: &str) -> bool {
    (1..=MAX_METRIC_NAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:-/".contains(&b))
}

/// Whether `value` can be that of a reported metric: from 0 to [`MAX_METRIC`].
#[must_use]
pub fn is_metric_value(value: f64) -> bool {
    (0.0..=MAX_METRIC).contains(&value)
}

/// One reported metric now and ahead.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricView {
    /// The name it is reported under.
    pub metric: String,
    /// The instance that reports it; absent for the service as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// The mean of the last second in which it was known; absent when it is not reported now.
    pub current: Option<f64>,
    /// What is predicted, by increasing horizon; empty while too little is known.
    pub ahead: Vec<MetricAhead>,
}

/// What is predicted of a metric at one horizon.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MetricAhead {
    /// How far ahead.
    pub horizon_ms: u64,
    /// Quantile at 10 %.
    pub lower: f64,
    /// Median.
    pub median: f64,
    /// Quantile at 90 %.
    pub upper: f64,
}

/// All reported metrics of one service.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MetricViews {
    /// Of the service first, then by instance; by name within.
    pub metrics: Vec<MetricView>,
    /// Series beyond [`MAX_METRIC_SERIES`], which are not forecast.
    pub left_out: usize,
}

/// Forecasts of reported metrics of all services.
///
/// Steps are of a second, each holding the mean of what was reported in it; looked at are 30 s,
/// 2 min and 10 min ahead. Memory is bounded by [`MAX_METRIC_SERIES`] per service, and a step of one
/// series costs some microseconds in one tick of ten.
#[derive(Clone, Debug, Default)]
pub struct MetricForecasts {
    services: BTreeMap<ServiceName, Known>,
}

/// By the instance, or none for the service as a whole; then by name.
type ByName<K, V> = BTreeMap<Option<InstanceId>, BTreeMap<K, V>>;

#[derive(Clone, Debug, Default)]
struct Known {
    series: ByName<String, Series>,
    left_out: usize,
}

impl MetricForecasts {
    /// Takes what one tick saw; services that are not in it are forgotten.
    pub fn observe(&mut self, observation: &Observation) {
        let seen = |name: &ServiceName| observation.services.iter().any(|s| s.service == *name);
        self.services.retain(|name, _| seen(name));
        for (nth, service) in (0..).zip(&observation.services) {
            let values = values(service);
            if values.is_empty() && !self.services.contains_key(&service.service) {
                continue;
            }
            let known = self.services.entry(service.service.clone()).or_default();
            known.observe(&values, observation.interval_ms, nth);
            if known.series.is_empty() {
                self.services.remove(&service.service);
            }
        }
    }

    /// What is known of each metric of `service`; empty when nothing is reported.
    #[must_use]
    pub fn views(&self, service: &ServiceName) -> MetricViews {
        let Some(known) = self.services.get(service) else { return MetricViews::default() };
        let of = |(instance, all): (&Option<InstanceId>, &BTreeMap<String, Series>)| {
            let instance = *instance;
            let view = move |(metric, series): (&String, &Series)| MetricView {
                metric: metric.clone(),
                instance,
                current: series.current(),
                ahead: series.ahead(),
            };
            all.iter().map(view).collect::<Vec<_>>()
        };
        let metrics = known.series.iter().flat_map(of).collect();
        MetricViews { metrics, left_out: known.left_out }
    }
}

impl Known {
    /// `nth` is which of the services it is.
    fn observe(&mut self, values: &ByName<&str, f64>, interval_ms: u64, nth: u64) {
        for (instance, all) in &mut self.series {
            let reported = values.get(instance);
            for (name, series) in all.iter_mut() {
                let value = reported.and_then(|reported| reported.get(name.as_str()));
                series.observe(value.copied(), interval_ms);
            }
            all.retain(|_, series| series.missing_ms() <= FORGET_MS);
        }
        self.series.retain(|_, all| !all.is_empty());
        self.left_out = 0;
        let whole = self.series.get(&None).map_or(0, BTreeMap::len);
        let total: usize = self.series.values().map(BTreeMap::len).sum();
        let (mut whole, mut of_instances) = (whole, total - whole);
        for (instance, reported) in values {
            for (name, value) in reported {
                if self.series.get(instance).is_some_and(|all| all.contains_key(*name)) {
                    continue;
                }
                let (used, most) = match instance {
                    None => (&mut whole, SERVICE_SERIES),
                    Some(_) => (&mut of_instances, MAX_METRIC_SERIES - SERVICE_SERIES),
                };
                if *used >= most {
                    self.left_out += 1;
                    continue;
                }
                *used += 1;
                let mut series = Series::new(nth + (whole + of_instances) as u64);
                series.observe(Some(*value), interval_ms);
                self.series.entry(*instance).or_default().insert((*name).to_owned(), series);
            }
        }
    }
}

/// Every metric of a service and its instances in one tick.
fn values(service: &ServiceObservation) -> ByName<&str, f64> {
    let mut values: ByName<&str, f64> = BTreeMap::new();
    let mut whole: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for instance in &service.instances {
        for (name, value) in of_instance(instance) {
            values.entry(Some(instance.instance)).or_default().insert(name, value);
            if may_take_requests(instance) {
                whole.entry(name).or_default().push(value);
            }
        }
    }
    let whole = whole.into_iter().filter_map(|(name, told)| {
        let (total, parts) = (told.iter().sum::<f64>(), told.len() as f64);
        let value = match name {
            _ if adds_up(name) => Some(total),
            _ if is_share(name) => mean_share(told),
            _ => Some(total / parts),
        };
        Some((name, value?))
    });
    let told = service.signals.iter().map(|(name, value)| (name.as_str(), *value));
    // What is told of the service as a whole comes last, and so counts.
    let whole = whole.chain(told).filter(|(name, value)| is_reported(name, *value));
    let whole: BTreeMap<&str, f64> = whole.collect();
    if !whole.is_empty() {
        values.insert(None, whole);
    }
    values
}

/// What an instance reports, and what its provider sees of it under names it did not use itself.
fn of_instance(instance: &InstanceObservation) -> impl Iterator<Item = (&str, f64)> {
    let reported = instance.reported.iter().map(|(name, value)| (name.as_str(), *value));
    let provided = instance.resources.iter().flat_map(|resources| {
        used::NAMES.iter().filter_map(|name| Some((*name, used::used(resources, name)?)))
    });
    let own = |name: &str| instance.reported.contains_key(name);
    let all = reported.chain(provided.filter(move |(name, _)| !own(name)));
    all.filter(|(name, value)| is_reported(name, *value))
}

fn is_reported(name: &str, value: f64) -> bool {
    is_metric_name(name) && is_believed(name, value)
}

/// Whether the values of instances make up that of their service by their sum; otherwise it is
/// their mean.
fn adds_up(name: &str) -> bool {
    name == "queue_depth" || name.ends_with("_bytes") || name.ends_with("_bytes_per_s")
}

#[cfg(test)]
mod tests;
