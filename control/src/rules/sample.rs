//! What one tick says of a metric.

use serde::{Deserialize, Serialize};

use super::ast::Comparison;
use super::metric::{Kind, Metric};
use super::used::used;
use crate::demand::Outlook;
use crate::fleet::Member;
use crate::metrics::{is_believed, is_share, mean_share};
use crate::{InstanceObservation, LatencySummary, ServiceObservation};

/// What a rule's figures come from in one tick.
pub(crate) struct Seen<'a, 'm> {
    pub(crate) service: &'a ServiceObservation,
    pub(crate) members: &'a [Member<'m>],
    pub(crate) outlook: &'a Outlook,
    /// Whether anything is known of any instance's capacity.
    pub(crate) capacity_known: bool,
    pub(crate) interval_ms: u64,
    pub(crate) at_ms: u64,
    pub(crate) now_ms: u64,
}

/// Figures that can be calculated with.
const CREDIBLE: std::ops::RangeInclusive<f64> = 0.0..=1e15;

/// A figure and what it counts for among others of its time, such as the answers it is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) value: f64,
    pub(super) weight: f64,
}

/// What is sampled: a metric, and the name it is reported under where instances report it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Source {
    pub(super) metric: Metric,
    pub(super) kind: Kind,
    reported: Option<String>,
}

impl Source {
    pub(super) fn of(comparison: &Comparison) -> Self {
        let (metric, kind) = (comparison.metric.clone(), comparison.value.unit.kind());
        let reported = metric.is_reported().then(|| metric.report_name(kind));
        Self { metric, kind, reported }
    }

    /// The name instances report it under, if it comes from them.
    pub(super) fn reported(&self) -> Option<&str> {
        self.reported.as_deref()
    }

    /// Figures are forecast in units in which one counts little: a forecaster takes a series for
    /// counts, and 0.8 requests per second for next to nothing.
    pub(super) fn grain(&self) -> f64 {
        match self.kind {
            Kind::Rate => 1.0,
            Kind::Count => 10.0,
            Kind::Time => 1e3,
            Kind::Share => 1e4,
            Kind::Size | Kind::Flow => 1.0 / 1_048_576.0,
        }
    }

    /// Of the service as a whole.
    pub(super) fn of_service(&self, seen: &Seen<'_, '_>) -> Option<Sample> {
        let interval_ms = seen.interval_ms.max(1) as f64;
        let rps = seen.service.arrivals as f64 * 1_000.0 / interval_ms;
        let serving = || seen.members.iter().filter(|m| m.able);
        let sum = |value: fn(&Member<'_>) -> f64| serving().map(value).sum::<f64>();
        let value = match &self.metric {
            Metric::Demand | Metric::Rps => Some(rps),
            Metric::InFlight => Some(sum(|m| m.seen.meters.in_flight as f64)),
            Metric::LatencyP50 | Metric::LatencyP90 | Metric::LatencyP99 | Metric::ErrorRate => {
                return self.mean(serving().filter_map(|m| self.of_instance(m, seen)), seen);
            }
            Metric::Utilisation => quotient(rps, self.capacity_rps(seen)?),
            Metric::Capacity => self.capacity_rps(seen),
            Metric::Saturation => {
                let all = serving().filter_map(|m| self.of_instance(m, seen));
                all.map(|sample| sample.value).reduce(f64::max)
            }
            Metric::Cpu
            | Metric::Memory
            | Metric::Network
            | Metric::Disk
            | Metric::QueueDepth
            | Metric::Named(_)
                if self.signal(seen).is_some() =>
            {
                self.signal(seen)
            }
            Metric::Cpu
            | Metric::Memory
            | Metric::Network
            | Metric::Disk
            | Metric::QueueDepth
            | Metric::Named(_) => {
                let told: Vec<f64> = serving().filter_map(|m| self.told(m.seen)).collect();
                let total: f64 = told.iter().sum();
                let is_named = matches!(self.metric, Metric::Named(_));
                let adds_up = !is_named && self.kind != Kind::Share;
                let parts = if adds_up { 1.0 } else { told.len() as f64 };
                if self.reported().is_some_and(is_share) {
                    mean_share(told)
                } else {
                    (!told.is_empty()).then(|| total / parts)
                }
            }
        };
        value.map(|value| Sample { value, weight: interval_ms }).filter(is_sound)
    }

    /// Of one instance.
    pub(super) fn of_instance(&self, member: &Member<'_>, seen: &Seen<'_, '_>) -> Option<Sample> {
        self.as_seen(member, seen).filter(is_sound)
    }

    fn as_seen(&self, member: &Member<'_>, seen: &Seen<'_, '_>) -> Option<Sample> {
        let meters = &member.seen.meters;
        let interval_ms = seen.interval_ms.max(1) as f64;
        let rps = meters.requests as f64 * 1_000.0 / interval_ms;
        let latency = |value: fn(&LatencySummary) -> f64| {
            let weight = meters.latency.count as f64;
            (weight > 0.0).then(|| Sample { value: value(&meters.latency), weight })
        };
        let value = match &self.metric {
            Metric::LatencyP50 => return latency(|l| l.p50_ms),
            Metric::LatencyP90 => return latency(|l| l.p90_ms),
            Metric::LatencyP99 => return latency(|l| l.p99_ms),
            Metric::ErrorRate => {
                let failed = meters.failed() as f64;
                let ended = failed + meters.ok as f64 + meters.client_errors as f64;
                return quotient(failed, ended).map(|value| Sample { value, weight: ended });
            }
            Metric::Demand | Metric::Rps => Some(rps),
            Metric::InFlight => Some(meters.in_flight as f64),
            Metric::Capacity => seen.capacity_known.then_some(member.rps),
            Metric::Utilisation | Metric::Saturation => {
                seen.capacity_known.then(|| rps / member.rps).filter(|share| share.is_finite())
            }
            Metric::Cpu
            | Metric::Memory
            | Metric::Network
            | Metric::Disk
            | Metric::QueueDepth
            | Metric::Named(_) => self.told(member.seen),
        };
        value.map(|value| Sample { value, weight: interval_ms })
    }

    /// The mean of what instances say, each counting by its answers. Requests that the proxy had to
    /// answer itself failed as well.
    fn mean(&self, all: impl Iterator<Item = Sample>, seen: &Seen<'_, '_>) -> Option<Sample> {
        let (mut sum, mut weight) = all.fold((0.0, 0.0), |(sum, weight), sample| {
            (sum + sample.value * sample.weight, weight + sample.weight)
        });
        if self.metric == Metric::ErrorRate {
            sum += seen.service.unserved as f64;
            weight += seen.service.unserved as f64;
        }
        quotient(sum, weight).map(|value| Sample { value, weight }).filter(is_sound)
    }

    fn capacity_rps(&self, seen: &Seen<'_, '_>) -> Option<f64> {
        let total: f64 = seen.members.iter().filter(|m| m.able).map(|m| m.rps).sum();
        (seen.capacity_known && total > 0.0).then_some(total)
    }

    /// What is told of the service as a whole, which outweighs what its instances say.
    fn signal(&self, seen: &Seen<'_, '_>) -> Option<f64> {
        let name = self.reported.as_deref()?;
        seen.service.signals.get(name).copied().filter(|value| is_believed(name, *value))
    }

    /// What an instance says of itself, or what its provider sees of it.
    fn told(&self, seen: &InstanceObservation) -> Option<f64> {
        let name = self.reported.as_deref()?;
        let reported = seen.reported.get(name).copied().filter(|value| is_believed(name, *value));
        reported
            .or_else(|| used(seen.resources.as_ref()?, name))
            .filter(|value| CREDIBLE.contains(value))
    }
}

fn quotient(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

/// Whether it can be calculated with; what a forecaster would refuse is no figure of a rule either.
fn is_sound(sample: &Sample) -> bool {
    CREDIBLE.contains(&sample.value) && CREDIBLE.contains(&sample.weight)
}
