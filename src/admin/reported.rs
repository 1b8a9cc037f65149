//! Metrics that agents push, and what is known of all that is reported.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use foreshadow_control::{
    InstanceId, MAX_METRIC, MAX_METRIC_NAME, MAX_METRICS, ServiceName, is_metric_name,
    is_metric_value, is_share, most_believed,
};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::error::ApiError;
use super::extract::Path;
use super::operate::{Body, body};
use super::read::{known_service, view};
use crate::node::Shared;
use crate::node::metrics::{Refused, Report, Subject};

/// Clocks of other machines may be ahead by so much.
const AHEAD_MS: u64 = 60_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pushed {
    #[serde(deserialize_with = "once_each")]
    metrics: BTreeMap<String, f64>,
    /// When it was so; absent: now.
    at_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Signals {
    #[serde(deserialize_with = "once_each")]
    signals: BTreeMap<String, f64>,
    /// When it was so; absent: now.
    at_ms: Option<u64>,
}

/// Values by name, each name once: of two that differ nobody could say which was meant.
fn once_each<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, f64>, D::Error> {
    struct OnceEach;

    impl<'de> Visitor<'de> for OnceEach {
        type Value = BTreeMap<String, f64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of numbers by name")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Self::Value, A::Error> {
            let mut values = BTreeMap::new();
            while let Some((name, value)) = pairs.next_entry::<String, f64>()? {
                let shown: String = name.chars().take(MAX_METRIC_NAME).collect();
                if values.insert(name, value).is_some() {
                    return Err(A::Error::custom(format!(
                        "{shown:?} is there twice; send it once"
                    )));
                }
            }
            Ok(values)
        }
    }

    from.deserialize_map(OnceEach)
}

pub(super) async fn push(
    State(shared): State<Arc<Shared>>,
    Path((service, instance)): Path<(String, String)>,
    pushed: Body<Pushed>,
) -> Result<Json<Value>, ApiError> {
    let Pushed { metrics, at_ms } = body(pushed)?;
    let service = known_service(&shared, &service)?;
    let instance = instance_of(&shared, &service, &instance)?;
    let taken = take(&shared, &service, Subject::Instance(instance), metrics, at_ms)?;
    Ok(Json(json!({ "service": service, "instance": instance, "taken": taken })))
}

pub(super) async fn signal(
    State(shared): State<Arc<Shared>>,
    Path(service): Path<String>,
    pushed: Body<Signals>,
) -> Result<Json<Value>, ApiError> {
    let Signals { signals, at_ms } = body(pushed)?;
    let service = known_service(&shared, &service)?;
    let taken = take(&shared, &service, Subject::Service(service.clone()), signals, at_ms)?;
    Ok(Json(json!({ "service": service, "taken": taken })))
}

/// Everything that is reported of one service, now and ahead.
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Path(service): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let service = known_service(&shared, &service)?;
    let view = view(&shared)?;
    let forecasts = shared.metrics.forecasts.load();
    let known = forecasts.get(&service).cloned().unwrap_or_default();
    let scrapes = &shared.metrics.scrapes;
    Ok(Json(json!({
        "at_ms": view.now_ms,
        "service": service,
        "metrics": known.metrics,
        "left_out": known.left_out,
        "not_believed": shared.metrics.not_believed(),
        "scrapes": {
            "good": scrapes.good.load(Ordering::Relaxed),
            "failed": scrapes.failed.load(Ordering::Relaxed),
        },
    })))
}

/// The instance of `service` with this id, or at this address.
fn instance_of(shared: &Shared, service: &ServiceName, text: &str) -> Result<InstanceId, ApiError> {
    let view = view(shared)?;
    let seen = view.observation.services.iter().find(|seen| seen.service == *service);
    let own = || seen.into_iter().flat_map(|seen| &seen.instances).map(|i| i.instance);
    let id = text.strip_prefix('i').unwrap_or(text).parse().ok().map(InstanceId);
    let address = text.parse::<SocketAddr>().ok();
    let is_meant = |i: &InstanceId| {
        id == Some(*i) || address.is_some() && view.addresses.get(i).copied() == address
    };
    let found = own().find(is_meant);
    let named = |id: InstanceId| match view.addresses.get(&id) {
        Some(address) => format!("{id} at {address}"),
        None => id.to_string(),
    };
    let known = || own().map(named);
    found.ok_or_else(|| ApiError::unknown(&format!("instance of {service}"), text, known()))
}

/// Hands values to the next tick; says how many there were.
fn take(
    shared: &Shared,
    service: &ServiceName,
    of: Subject,
    values: BTreeMap<String, f64>,
    at_ms: Option<u64>,
) -> Result<usize, ApiError> {
    let wrong = |why: String| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, why);
    problem(&values).map_or(Ok(()), |why| Err(wrong(why)))?;
    let max_age = shared.config.load().services.get(service).map(|s| s.metrics.max_age);
    let now_ms = shared.clock.now_ms();
    let age_ms = at_ms.map_or(0, |at_ms| now_ms.saturating_sub(at_ms));
    if max_age.is_some_and(|max_age| u128::from(age_ms) > max_age.as_millis()) {
        let max_s = max_age.map_or(0.0, |max_age| max_age.as_secs_f64());
        return Err(wrong(format!(
            "at_ms is {} s ago; what is older than {max_s} s (`metrics.max_age` of {service}) is \
             known no more",
            age_ms / 1_000
        )));
    }
    if at_ms.is_some_and(|at_ms| at_ms > now_ms.saturating_add(AHEAD_MS)) {
        return Err(wrong(format!(
            "at_ms is more than {} s ahead of this clock, {now_ms}; give Unix milliseconds, or \
             leave it out",
            AHEAD_MS / 1_000
        )));
    }
    let taken = values.len();
    shared.metrics.report(Report { of, age_ms, values }).map_err(|refused| {
        let why = match refused {
            Refused::Full => "too many reports are waiting; send fewer, with more in each",
            Refused::Ended => "the control loop has ended; see the log and restart",
        };
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, why)
    })?;
    Ok(taken)
}

/// What is wrong with the names or the values.
fn problem(values: &BTreeMap<String, f64>) -> Option<String> {
    if values.is_empty() || values.len() > MAX_METRICS {
        return Some(format!("{} values; send 1 to {MAX_METRICS}", values.len()));
    }
    if let Some(name) = values.keys().find(|name| !is_metric_name(name)) {
        let name: String = name.chars().take(MAX_METRIC_NAME).collect();
        return Some(format!(
            "the name {name:?}; use 1 to {MAX_METRIC_NAME} letters, digits, _, ., :, - or /"
        ));
    }
    let wrong = values.iter().find(|(_, value)| !is_metric_value(**value));
    let wrong = wrong
        .map(|(name, value)| format!("{name} is {value}; values are from 0 to {MAX_METRIC:e}"));
    wrong.or_else(|| {
        let (name, value) = values.iter().find(|(name, value)| **value > most_believed(name))?;
        let meant = match is_share(name) && *value <= 100.0 {
            true => format!(": send {} for {value} %", value / 100.0),
            false => String::new(),
        };
        let most = most_believed(name);
        Some(format!("{name} is {value}; it is a fraction, and believed up to {most}{meant}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_there_twice_is_refused_and_named() {
        let read = |text: &str| serde_json::from_str::<Signals>(text);
        let twice = read(r#"{"signals": {"backlog": 1, "reach": 2, "backlog": 3}}"#).err().unwrap();
        assert!(twice.to_string().contains("\"backlog\" is there twice"), "{twice}");
        let escaped = read(r#"{"signals": {"a": 1, "\u0061": 1}}"#).err().unwrap();
        assert!(escaped.to_string().contains("\"a\" is there twice"), "{escaped}");
        assert_eq!(read(r#"{"signals": {"a": 1, "b": 2.5}}"#).unwrap().signals.len(), 2);
        assert!(serde_json::from_str::<Pushed>(r#"{"metrics": [1]}"#).is_err());
    }

    #[test]
    fn a_percentage_is_refused_with_the_fraction_that_was_meant() {
        let said = |name: &str, value: f64| problem(&[(name.to_owned(), value)].into());
        let why = said("cpu", 50.0).unwrap();
        assert!(why.contains("believed up to 10: send 0.5 for 50 %"), "{why}");
        assert!(said("memory", 80.0).unwrap().contains("send 0.8 for 80 %"));
        assert!(said("cpu", 9e14).unwrap().ends_with("believed up to 10"));
        assert_eq!((said("cpu", 1.2), said("queue_depth", 9e14)), (None, None));
    }
}
