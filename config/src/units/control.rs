//! How the controller's own types are written in a configuration.

use foreshadow_control::{Capacity, Objective, QuantileSpec, RuleSpec, WeightSpec};
use serde::Serializer;
use serde::ser::SerializeMap;

use super::{duration, percent, rate};

/// Quantiles that a latency objective may be given at, with their keys.
pub(crate) const LATENCY_KEYS: [(&str, f64); 5] = [
    ("latency_p50", 0.5),
    ("latency_p90", 0.9),
    ("latency_p95", 0.95),
    ("latency_p99", 0.99),
    ("latency_p999", 0.999),
];

pub(crate) fn objective<S: Serializer>(value: &Objective, out: S) -> Result<S::Ok, S::Error> {
    let nearest = LATENCY_KEYS.iter().min_by(|a, b| {
        let distance = |quantile: f64| (quantile - value.latency_quantile).abs();
        distance(a.1).total_cmp(&distance(b.1))
    });
    let mut map = out.serialize_map(Some(2))?;
    if let Some((key, _)) = nearest {
        let latency = duration::from_fractional_ms(value.latency_ms);
        map.serialize_entry(key, &duration::format(latency))?;
    }
    map.serialize_entry("error_rate", &percent::format(value.error_rate))?;
    map.end()
}

pub(crate) fn capacity<S: Serializer>(value: &Capacity, out: S) -> Result<S::Ok, S::Error> {
    match value {
        Capacity::Learned => out.serialize_str("auto"),
        Capacity::Pinned(rps) => out.serialize_str(&rate::format(*rps)),
    }
}

pub(crate) fn quantiles<S: Serializer>(value: &QuantileSpec, out: S) -> Result<S::Ok, S::Error> {
    let mut map = out.serialize_map(Some(3))?;
    map.serialize_entry("prepare", &percent::format(value.prepare))?;
    map.serialize_entry("warm", &percent::format(value.warm))?;
    map.serialize_entry("commit", &percent::format(value.commit))?;
    map.end()
}

pub(crate) fn rules<S: Serializer>(value: &[RuleSpec], out: S) -> Result<S::Ok, S::Error> {
    out.collect_map(value.iter().map(|spec| (&spec.name, &spec.rule)))
}

pub(crate) fn weights<S: Serializer>(value: &WeightSpec, out: S) -> Result<S::Ok, S::Error> {
    let mut map = out.serialize_map(Some(2))?;
    map.serialize_entry("slew", &format!("{}/s", percent::format(value.slew_per_s)))?;
    map.serialize_entry("hysteresis", &percent::format(value.hysteresis))?;
    map.end()
}
