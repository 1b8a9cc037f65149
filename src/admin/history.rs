//! What was kept of the past, and what is expected from it.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::ApiError;
use super::extract::{Path, limit};
use super::operate::blocking;
use super::read::{Answer, known_service, query};
use crate::node::Shared;
use crate::node::history::{self, ReportedName, ReportedQuery, Resolution};
use crate::node::long::Reach;

/// Spans returned at most, and when nothing is said.
const MOST: u32 = 20_000;
const DEFAULT: u32 = 1_000;

/// Which part of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// `100ms`, the last minutes from memory, or one of the kept ones; `1m` when absent.
    resolution: Option<String>,
    /// An instance, such as `i3`; the service as a whole when absent.
    instance: Option<String>,
    /// Only from this Unix time on.
    since_ms: Option<u64>,
    /// Only before this Unix time.
    until_ms: Option<u64>,
    /// At most so many, the newest.
    limit: Option<u32>,
}

/// The past of a service or one of its instances, also of one that is gone.
pub(super) async fn of_service(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Answer {
    let wanted = query(wanted)?;
    let service = known_service(&shared, &name)?;
    let resolution = wanted.resolution.as_deref().unwrap_or("1m");
    let limit = limit(wanted.limit, DEFAULT, MOST)?;
    // What a clock wrote that was ahead is not the newest.
    let soon_ms = shared.clock.now_ms().saturating_add(history::AHEAD_MS);
    let within = (wanted.since_ms.unwrap_or(0), wanted.until_ms.unwrap_or(soon_ms));
    if resolution == "100ms" {
        if wanted.instance.is_some() {
            return Err(refused("ticks are kept of services only: of instances use 1s or longer"));
        }
        let mut ticks = shared.history.ticks(&service);
        ticks.retain(|tick| within.0 <= tick.at_ms && tick.at_ms < within.1);
        let ticks = &ticks[ticks.len().saturating_sub(limit as usize)..];
        return Ok(Json(json!({ "service": service, "resolution": resolution, "ticks": ticks })));
    }
    let resolution = Resolution::ALL
        .into_iter()
        .find(|known| known.as_str() == resolution)
        .ok_or_else(|| {
            refused(&format!("there is no resolution {resolution:?}: use 100ms, 1s, 1m, 15m or 1h"))
        })?;
    let instance = instance(wanted.instance.as_deref())?;
    let asked = history::Query {
        service: service.clone(),
        instance,
        resolution,
        from_ms: within.0,
        until_ms: within.1,
        limit,
    };
    let spans = blocking(&shared, move |s| s.history.spans(&asked)).await?;
    Ok(Json(json!({ "service": service, "resolution": resolution, "spans": spans })))
}

/// Which part of the past of reported metrics.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WantedMetric {
    /// The metric or signal; when absent, those are listed of which something is kept.
    metric: Option<String>,
    /// `1m`, `15m` or `1h`; `1m` when absent.
    resolution: Option<String>,
    /// An instance, such as `i3`; the service as a whole when absent.
    instance: Option<String>,
    /// Only from this Unix time on.
    since_ms: Option<u64>,
    /// Only before this Unix time.
    until_ms: Option<u64>,
    /// At most so many, the newest.
    limit: Option<u32>,
}

/// The past of what a service is told, or what one of its instances reports, also one that is gone.
pub(super) async fn of_metric(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    wanted: Result<Query<WantedMetric>, QueryRejection>,
) -> Answer {
    let wanted = query(wanted)?;
    let service = known_service(&shared, &name)?;
    let Some(metric) = wanted.metric else {
        let of = service.clone();
        let known = blocking(&shared, move |s| s.history.reported_names(&of)).await?;
        let shown = |known: &ReportedName| match known.instance {
            0 => json!({ "metric": known.metric }),
            id => json!({ "metric": known.metric, "instance": format!("i{id}") }),
        };
        let known: Vec<Value> = known.iter().map(shown).collect();
        return Ok(Json(json!({ "service": service, "metrics": known })));
    };
    let resolution = wanted.resolution.as_deref().unwrap_or("1m");
    let resolution = Resolution::ALL
        .into_iter()
        .find(|known| known.as_str() == resolution && *known != Resolution::Second)
        .ok_or_else(|| {
            refused(&format!("there is no resolution {resolution:?} of metrics: use 1m, 15m or 1h"))
        })?;
    let limit = limit(wanted.limit, DEFAULT, MOST)?;
    let soon_ms = shared.clock.now_ms().saturating_add(history::AHEAD_MS);
    let asked = ReportedQuery {
        service: service.clone(),
        instance: instance(wanted.instance.as_deref())?,
        metric: metric.clone(),
        resolution,
        from_ms: wanted.since_ms.unwrap_or(0),
        until_ms: wanted.until_ms.unwrap_or(soon_ms),
        limit,
    };
    let spans = blocking(&shared, move |s| s.history.reported(&asked)).await?;
    // There may be more before a page that is full.
    let next = spans.first().filter(|_| spans.len() == limit as usize).map(|span| span.at_ms);
    Ok(Json(json!({
        "service": service,
        "instance": wanted.instance,
        "metric": metric,
        "resolution": resolution,
        "spans": spans,
        "next_until_ms": next,
    })))
}

/// The id that a text such as `i3` names; 0, the service as a whole, where there is none.
fn instance(text: Option<&str>) -> Result<u64, ApiError> {
    text.map_or(Ok(0), |text| {
        let id = text.strip_prefix('i').unwrap_or(text).parse::<u64>();
        id.map_err(|_| refused(&format!("{text:?} is no instance: write i3 or 3")))
    })
}

/// How far a curve is wanted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ahead {
    /// `1h`, `1d` or `1w`; `1h` when absent.
    horizon: Option<String>,
}

/// The curve of a service for the next hour, day or week, with what is known of its worth.
pub(super) async fn forecast(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    ahead: Result<Query<Ahead>, QueryRejection>,
) -> Answer {
    let ahead = query(ahead)?;
    let service = known_service(&shared, &name)?;
    let horizon = ahead.horizon.as_deref().unwrap_or("1h");
    let reach = Reach::ALL
        .into_iter()
        .find(|known| known.as_str() == horizon)
        .ok_or_else(|| refused(&format!("there is no horizon {horizon:?}: use 1h, 1d or 1w")))?;
    let now_ms = shared.clock.now_ms();
    let failure = shared.long.failure(&service, reach);
    let Some(curve) = shared.long.curve(&service, reach) else {
        let why = why_none(reach, failure.as_deref());
        return Ok(Json(
            json!({ "service": service, "horizon": horizon, "points": [], "why": why }),
        ));
    };
    let points: Vec<Value> = (0..)
        .zip(curve.quantiles.iter().zip(&curve.mean))
        .map(|(nth, (quantiles, mean))| (curve.start_ms + nth * curve.step_ms, quantiles, mean))
        .filter(|(at_ms, _, _)| at_ms + curve.step_ms > now_ms && *at_ms < now_ms + reach.ms())
        .map(|(at_ms, quantiles, mean)| {
            json!({ "at_ms": at_ms, "mean_rps": mean, "quantiles_rps": quantiles })
        })
        .collect();
    let mut answer = json!({
        "service": service,
        "horizon": horizon,
        "fitted_at_ms": curve.fitted_at_ms,
        "history_from_ms": curve.history_from_ms,
        "history_spans": curve.history_spans,
        "seasons_ms": curve.seasons_ms,
        "step_ms": curve.step_ms,
        "levels": curve.levels,
        "points": points,
        "score": curve.score,
        "categories": curve.categories,
        "signals": curve.signals,
        "lifts": curve.lifts,
    });
    if let Some(network) = &curve.network {
        answer["network"] = json!(network);
    }
    if points.is_empty() {
        let age_ms = now_ms.saturating_sub(curve.fitted_at_ms);
        answer["why"] = json!(why_over(age_ms, failure.as_deref()));
    }
    Ok(Json(answer))
}

/// Why there is no curve.
fn why_none(reach: Reach, failure: Option<&str>) -> String {
    failure.map_or_else(
        || format!("no curve was fitted yet: {}", reach.takes()),
        |failure| format!("no curve was fitted: {failure}"),
    )
}

/// Why there is nothing left of a curve that was fitted so long ago.
fn why_over(age_ms: u64, failure: Option<&str>) -> String {
    let age_s = age_ms / 1_000;
    let failure = failure.map_or_else(
        || "since then there was too little history, or none is kept any more".to_owned(),
        |failure| format!("the last fit failed: {failure}"),
    );
    format!("the curve was fitted {age_s} s ago and is over; {failure}")
}

fn refused(why: &str) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forecast_that_is_missing_says_why() {
        assert!(why_none(Reach::Hour, None).contains("it takes 30 spans of 1m"));
        assert_eq!(why_none(Reach::Day, Some("disk")), "no curve was fitted: disk");
        let why = why_over(7_200_000, Some("disk"));
        assert_eq!(why, "the curve was fitted 7200 s ago and is over; the last fit failed: disk");
        assert!(why_over(7_200_000, None).contains("too little history"));
    }
}
