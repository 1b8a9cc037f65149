//! Families, samples and labels, in the words of the encoder.

use std::fmt;

use foreshadow_proxy::{InstanceTotals, ServiceTotals};
use hdrhistogram::Histogram;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// Upper bounds of latency buckets: from a fast cache to a slow report.
const BUCKETS_S: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Name, help and value of a counter.
pub(super) type Count<T> = (&'static str, &'static str, fn(&T) -> u64);

pub(super) type Labels = Vec<(&'static str, String)>;

pub(in crate::admin) fn family<'s>(
    out: &'s mut DescriptorEncoder<'_>,
    name: &'s str,
    help: &str,
    kind: MetricType,
) -> Result<MetricEncoder<'s>, fmt::Error> {
    out.encode_descriptor(name, help, None, kind)
}

/// A family of latency histograms; the unit is put behind `name`.
pub(super) fn latencies<'s>(
    out: &'s mut DescriptorEncoder<'_>,
    name: &'s str,
    help: &str,
) -> Result<MetricEncoder<'s>, fmt::Error> {
    out.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)
}

pub(in crate::admin) fn encode<L: EncodeLabelSet>(
    family: &mut MetricEncoder<'_>,
    labels: &L,
    value: &impl EncodeMetric,
) -> fmt::Result {
    value.encode(family.encode_family(labels)?)
}

pub(super) fn counter(
    out: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    value: u64,
) -> fmt::Result {
    ConstCounter::new(value).encode(family(out, name, help, MetricType::Counter)?)
}

pub(super) fn gauge(
    out: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    value: f64,
) -> fmt::Result {
    ConstGauge::new(value).encode(family(out, name, help, MetricType::Gauge)?)
}

/// Counters of everything in `named`, whose names are the values of `label`.
pub(super) fn counters<T>(
    out: &mut DescriptorEncoder,
    counts: &[Count<T>],
    label: &str,
    named: &[(&str, &T)],
) -> fmt::Result {
    for (name, help, value) in counts {
        let mut metric = family(out, name, help, MetricType::Counter)?;
        for (of, counted) in named {
            encode(&mut metric, &[(label, *of)], &ConstCounter::new(value(counted)))?;
        }
    }
    Ok(())
}

/// A gauge of seconds; the unit is put behind `name`.
pub(super) fn gauge_s(
    out: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    value_s: f64,
) -> fmt::Result {
    let unit = Some(&Unit::Seconds);
    ConstGauge::new(value_s).encode(out.encode_descriptor(name, help, unit, MetricType::Gauge)?)
}

#[expect(clippy::cast_precision_loss, reason = "latency sums stay far below 2^53 us")]
pub(super) fn histogram(mut out: MetricEncoder<'_>, latency_us: &Histogram<u64>) -> fmt::Result {
    let mut counts = [0_u64; BUCKETS_S.len() + 1];
    let mut sum_us = 0.0;
    for step in latency_us.iter_recorded() {
        let value_us = step.value_iterated_to() as f64;
        let bucket = BUCKETS_S.partition_point(|bound_s| bound_s * 1e6 < value_us);
        counts[bucket] += step.count_since_last_iteration();
        sum_us += value_us * step.count_at_value() as f64;
    }
    let bounds = BUCKETS_S.into_iter().chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
    out.encode_histogram::<NoLabelSet>(sum_us / 1e6, latency_us.len(), &buckets, None)
}

pub(super) fn labels(service: &str, instance: &impl ToString) -> Labels {
    vec![("service", service.to_owned()), ("instance", instance.to_string())]
}

pub(super) fn each_total(
    totals: &[ServiceTotals],
    mut each: impl FnMut(&Labels, &InstanceTotals) -> fmt::Result,
) -> fmt::Result {
    for total in totals {
        for instance in &total.instances {
            each(&labels(total.service.as_str(), &instance.instance), instance)?;
        }
    }
    Ok(())
}

pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(super) fn small(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

pub(super) fn seconds(us: u64) -> f64 {
    std::time::Duration::from_micros(us).as_secs_f64()
}
