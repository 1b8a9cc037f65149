//! What will be needed of each place: by request, and as a metric.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use foreshadow_control::Tier;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::ApiError;
use super::metrics::{encode, family};
use super::operate::blocking;
use super::read::{Answer, known_service, query, view};
use crate::node::Shared;
use crate::node::reservations::{DEFAULT_MS, expected, of_places, within};

/// Of what, and how far ahead.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    service: Option<String>,
    /// Such as `24h`, which it is when absent.
    within: Option<String>,
}

/// What will be needed of each place, and when it must be ordered.
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Answer {
    let wanted = query(wanted)?;
    let only = wanted.service.map(|name| known_service(&shared, &name)).transpose()?;
    let within_ms = wanted.within.as_deref().map_or(Ok(DEFAULT_MS), within);
    let within_ms = within_ms.map_err(|why| ApiError::new(StatusCode::BAD_REQUEST, why))?;
    view(&shared)?;
    let now_ms = shared.clock.now_ms();
    let all =
        blocking(&shared, move |s| Ok(expected(s, only.as_ref(), (now_ms, within_ms)))).await?;
    let places = of_places(all.values());
    let services: Vec<Value> = all
        .into_iter()
        .map(|(service, one)| {
            let mut shown = json!(one);
            shown["service"] = json!(service);
            shown
        })
        .collect();
    Ok(Json(json!({
        "at_ms": now_ms,
        "until_ms": now_ms.saturating_add(within_ms),
        "services": services,
        "places": places,
    })))
}

/// The most shadows that are reserved at once within a day, and how often that changed.
///
/// # Errors
/// Those of the encoder.
pub(super) fn encode_all(out: &mut DescriptorEncoder, shared: &Shared) -> fmt::Result {
    let last = shared.reservations.last.load();
    let now_ms = shared.clock.now_ms();
    let mut metric = family(
        out,
        "reserved_shadows",
        "Most shadows that will be needed at once within a day, by place and tier.",
        MetricType::Gauge,
    )?;
    for (service, one) in last.iter() {
        let mut places: Vec<_> = one.reservations.iter().map(|n| &n.reservation.place).collect();
        places.sort();
        places.dedup();
        for place in places {
            for tier in [Tier::Shadow, Tier::Warm, Tier::Full] {
                let of: Vec<_> = one
                    .reservations
                    .iter()
                    .map(|named| &named.reservation)
                    .filter(|r| r.place == *place && r.tier == tier)
                    .filter(|r| r.until_ms > now_ms && r.from_ms < now_ms + DEFAULT_MS)
                    .collect();
                let at = |ms: u64| -> u32 {
                    let stands = of.iter().filter(|r| r.from_ms <= ms && ms < r.until_ms);
                    stands.fold(0, |sum, r| sum.saturating_add(r.count))
                };
                let most = of.iter().map(|r| at(r.from_ms)).max().unwrap_or(0);
                let labels = [
                    ("service", service.as_str()),
                    ("place", place.as_str()),
                    ("tier", tier.as_str()),
                ];
                encode(&mut metric, &labels, &ConstGauge::new(i64::from(most)))?;
            }
        }
    }
    let mut metric = family(
        out,
        "reservation_changes",
        "Changes of what will be needed that were put on record.",
        MetricType::Counter,
    )?;
    let changes = shared.reservations.changes.load(Ordering::Relaxed);
    encode(&mut metric, &[("of", "reservations")], &ConstCounter::new(changes))
}
