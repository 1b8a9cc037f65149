//! Requests that only look.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use foreshadow_control::{
    Health, InstanceId, InstanceObservation, Meters, Role, ServiceName, ServiceObservation,
    ServicePlan,
};
use foreshadow_proxy::{ConnectionCounts, ServiceTotals};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::ApiError;
use super::extract::{Path, limit};
use super::migrations;
use super::operate::blocking;
use super::scaling::scaling;
use crate::node::decisions;
use crate::node::long::Reach;
use crate::node::view::View;
use crate::node::{ReloadOutcome, Shared};

/// Narrows a listing to one service.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Only {
    service: Option<String>,
}

pub(super) type OnlyQuery = Result<Query<Only>, QueryRejection>;

pub(super) type Answer = Result<Json<Value>, ApiError>;

pub(super) fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    let Query(value) = query.map_err(|e| ApiError::new(e.status(), e.body_text()))?;
    Ok(value)
}

pub(super) fn view(shared: &Shared) -> Result<Arc<View>, ApiError> {
    shared.view().ok_or_else(|| match shared.loop_trouble() {
        Some(trouble) => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, trouble),
        None => ApiError::starting(),
    })
}

/// The configured service called `name`, or a 404 that lists them.
pub(super) fn known_service(shared: &Shared, name: &str) -> Result<ServiceName, ApiError> {
    let config = shared.config.load();
    config
        .services
        .get_key_value(name)
        .map(|(name, _)| name.clone())
        .ok_or_else(|| ApiError::unknown("service", name, config.services.keys()))
}

/// The instance written as `i12` or `12`, if it exists now.
pub(super) fn parse_instance(shared: &Shared, text: &str) -> Result<InstanceId, ApiError> {
    let view = view(shared)?;
    let known = || view.observation.services.iter().flat_map(|s| &s.instances).map(|i| i.instance);
    text.strip_prefix('i')
        .unwrap_or(text)
        .parse()
        .ok()
        .map(InstanceId)
        .filter(|id| known().any(|k| k == *id))
        .ok_or_else(|| ApiError::unknown("instance", text, known()))
}

/// The services of the last tick, seen and planned, narrowed by the query.
pub(super) fn pairs<'a>(
    shared: &Shared,
    view: &'a View,
    only: OnlyQuery,
) -> Result<Vec<(&'a ServiceObservation, &'a ServicePlan)>, ApiError> {
    let only = match query(only)?.service {
        Some(name) => Some(known_service(shared, &name)?),
        None => None,
    };
    let both = view.observation.services.iter().zip(&view.plan.services);
    Ok(both.filter(|(seen, _)| only.as_ref().is_none_or(|o| *o == seen.service)).collect())
}

/// What the data plane counted since start.
struct Counted(Vec<ServiceTotals>);

impl Counted {
    fn service(&self, name: &ServiceName) -> Option<&ServiceTotals> {
        self.0.iter().find(|t| t.service == *name)
    }

    fn instance(&self, name: &ServiceName, id: InstanceId) -> Option<&Meters> {
        let instances = &self.service(name)?.instances;
        instances.iter().find(|t| t.instance == id).map(|t| &t.meters)
    }
}

fn weight(plan: &ServicePlan, instance: InstanceId) -> u32 {
    plan.weights.iter().find(|w| w.instance == instance).map_or(0, |w| w.weight)
}

fn instance_json(
    view: &View,
    counted: &Counted,
    plan: &ServicePlan,
    seen: &InstanceObservation,
) -> Value {
    json!({
        "instance": seen.instance,
        "service": plan.service,
        "address": view.addresses.get(&seen.instance),
        "role": seen.role,
        "tier": seen.tier,
        "moving_to": seen.moving_to,
        "tier_age_ms": seen.tier_age_ms,
        "zone": seen.zone,
        "place": (seen.role == Role::Shadow).then_some(&seen.place),
        "health": seen.health,
        "drained": seen.drained,
        "weight": weight(plan, seen.instance),
        "capacity": plan.capacity.iter().find(|c| c.instance == seen.instance),
        "last_tick": seen.meters,
        "totals": counted.instance(&plan.service, seen.instance),
        "kernel": seen.kernel,
        "mirror": seen.mirror,
        "resources": seen.resources,
        "reported": seen.reported,
        "risk": plan.risk.iter().find(|risk| risk.instance == seen.instance),
    })
}

fn service_json(
    view: &View,
    counted: &Counted,
    seen: &ServiceObservation,
    plan: &ServicePlan,
) -> Value {
    let count = |role| seen.instances.iter().filter(|i| i.role == role).count();
    let tiers = seen.instances.iter().filter(|i| i.role == Role::Shadow).fold(
        std::collections::BTreeMap::<_, u32>::new(),
        |mut tiers, shadow| {
            *tiers.entry(shadow.tier).or_default() += 1;
            tiers
        },
    );
    let totals = counted.service(&seen.service);
    json!({
        "service": seen.service,
        "mode": seen.mode,
        "acting": plan.act,
        "demand_rps": plan.demand_rps,
        "primaries": count(Role::Primary),
        "shadows": count(Role::Shadow),
        "shadow_tiers": tiers,
        "up": seen.instances.iter().filter(|i| i.health == Health::Up).count(),
        "alerts": plan.alerts,
        "requests_total": totals.map(|t| t.arrivals),
        "unserved_total": totals.map(|t| t.unserved),
        "latency_ms": totals.map(|t| quantiles(&t.latency_us)),
        "shadows_since_start": view.shadow_counts.get(&seen.service),
    })
}

#[expect(clippy::cast_precision_loss, reason = "latencies stay far below 2^53 us")]
fn quantiles(latency_us: &hdrhistogram::Histogram<u64>) -> Value {
    let at = |q| latency_us.value_at_quantile(q) as f64 / 1000.0;
    json!({ "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999) })
}

pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Ready once every configured listener accepts, and while the loop ticks.
pub(super) async fn readyz(State(shared): State<Arc<Shared>>) -> (StatusCode, String) {
    if shared.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned());
    }
    if let Some(trouble) = shared.loop_trouble() {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("{trouble}\n"));
    }
    if shared.view().is_none() {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting\n".to_owned());
    }
    (StatusCode::OK, "ready\n".to_owned())
}

pub(super) async fn status(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let orders = shared.orders.load();
    let reload = shared.reload.load();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "now_ms": shared.clock.now_ms(),
        "clock_set_by_ms": shared.clock.offset_ms(),
        "uptime_s": shared.clock.uptime().as_secs_f64(),
        "draining": shared.is_draining(),
        "kill_switch": orders.kill_switch,
        "mode_overrides": orders.modes,
        "drained": orders.drained,
        "tick": shared.ticks.read(),
        "decisions_dropped": shared.decisions.dropped(),
        "audit": shared.audit.status(),
        "history": shared.history.status(),
        "recording": shared.recording.status(),
        "listeners": shared.listeners().iter().map(listener_json).collect::<Vec<_>>(),
        "reloads": {
            "applied": reload.applied,
            "refused": reload.refused,
            "last": reload.last.as_ref().map(|(at_ms, outcome)| match outcome {
                ReloadOutcome::Applied { changes } =>
                    json!({ "at_ms": at_ms, "applied": true, "changes": changes }),
                ReloadOutcome::Refused { error } =>
                    json!({ "at_ms": at_ms, "applied": false, "error": error }),
            }),
        },
    }))
}

fn listener_json(counts: &ConnectionCounts) -> Value {
    json!({
        "listener": counts.listener,
        "address": counts.address,
        "accepted": counts.accepted,
        "active": counts.active,
        "refused": counts.refused,
        "malformed": counts.malformed,
        "unrouted": counts.unrouted,
    })
}

pub(super) async fn services(State(shared): State<Arc<Shared>>, only: OnlyQuery) -> Answer {
    let counted = Counted(shared.totals());
    by_service(&shared, only, |view, seen, plan| service_json(view, &counted, seen, plan))
}

pub(super) async fn service(State(shared): State<Arc<Shared>>, Path(name): Path<String>) -> Answer {
    let name = known_service(&shared, &name)?;
    let view = view(&shared)?;
    let both = view.observation.services.iter().zip(&view.plan.services);
    let Some((seen, plan)) = both.into_iter().find(|(seen, _)| seen.service == name) else {
        return Err(ApiError::starting());
    };
    let counted = Counted(shared.totals());
    let mut answer = service_json(&view, &counted, seen, plan);
    let instances = seen.instances.iter().map(|i| instance_json(&view, &counted, plan, i));
    answer["instances"] = instances.collect();
    answer["forecast"] = json!(plan.forecast);
    answer["categories"] = categories(&shared, &name);
    answer["scaling"] = scaling(&shared, &name, plan);
    answer["migrations"] = migrations::of_service(&shared, &name);
    answer["places"] = super::places::places(&shared, &name);
    Ok(Json(answer))
}

/// Which categories a service belongs to, and how far each counts in its curves: nothing once those rest on
/// two weeks of its own.
fn categories(shared: &Shared, name: &ServiceName) -> Value {
    let config = shared.config.load();
    let Some(configured) = config.services.get(name) else { return Value::Null };
    let curves: serde_json::Map<String, Value> = Reach::ALL
        .into_iter()
        .filter_map(|reach| {
            let curve = shared.long.curve(name, reach)?;
            Some((reach.as_str().to_owned(), json!(curve.categories)))
        })
        .collect();
    json!({
        "group": configured.group,
        "zones": configured.zones().collect::<Vec<_>>(),
        "curves": curves,
    })
}

pub(super) async fn instances(State(shared): State<Arc<Shared>>, only: OnlyQuery) -> Answer {
    listing(&shared, only, |_| true, "instances")
}

pub(super) async fn shadows(State(shared): State<Arc<Shared>>, only: OnlyQuery) -> Answer {
    listing(&shared, only, |i| i.role == Role::Shadow, "shadows")
}

fn listing(
    shared: &Shared,
    only: OnlyQuery,
    wanted: impl Fn(&InstanceObservation) -> bool,
    key: &str,
) -> Answer {
    let view = view(shared)?;
    let counted = Counted(shared.totals());
    let found: Vec<Value> = pairs(shared, &view, only)?
        .into_iter()
        .flat_map(|(seen, plan)| seen.instances.iter().map(move |i| (plan, i)))
        .filter(|(_, instance)| wanted(instance))
        .map(|(plan, instance)| instance_json(&view, &counted, plan, instance))
        .collect();
    Ok(Json(json!({ "at_ms": view.now_ms, key: found })))
}

pub(super) async fn forecast(State(shared): State<Arc<Shared>>, only: OnlyQuery) -> Answer {
    by_service(
        &shared,
        only,
        |_, _, plan| json!({ "demand_rps": plan.demand_rps, "horizons": plan.forecast }),
    )
}

/// How likely the instances of one service are to fail, the likeliest first.
pub(super) async fn risk(State(shared): State<Arc<Shared>>, Path(name): Path<String>) -> Answer {
    let name = known_service(&shared, &name)?;
    let view = view(&shared)?;
    let Some(plan) = view.plan.services.iter().find(|plan| plan.service == name) else {
        return Err(ApiError::starting());
    };
    let mut risk: Vec<_> = plan.risk.iter().collect();
    risk.sort_by(|a, b| b.score.total_cmp(&a.score));
    Ok(Json(json!({ "at_ms": view.now_ms, "service": name, "risk": risk })))
}

pub(super) async fn weights(State(shared): State<Arc<Shared>>, only: OnlyQuery) -> Answer {
    by_service(&shared, only, |_, _, plan| {
        json!({
            "acting": plan.act,
            "weights": plan.weights,
            "advised": plan.advised,
            "reasons": plan.reasons,
        })
    })
}

/// What `show` says of each service asked for, with its name, as of the last tick.
fn by_service(
    shared: &Shared,
    only: OnlyQuery,
    show: impl Fn(&View, &ServiceObservation, &ServicePlan) -> Value,
) -> Answer {
    let view = view(shared)?;
    let services: Vec<Value> = pairs(shared, &view, only)?
        .into_iter()
        .map(|(seen, plan)| {
            let mut shown = show(&view, seen, plan);
            shown["service"] = json!(seen.service);
            shown
        })
        .collect();
    Ok(Json(json!({ "at_ms": view.now_ms, "services": services })))
}

pub(super) async fn plan(State(shared): State<Arc<Shared>>, only: OnlyQuery) -> Answer {
    let view = view(&shared)?;
    let services: Vec<&ServicePlan> =
        pairs(&shared, &view, only)?.into_iter().map(|(_, plan)| plan).collect();
    Ok(Json(json!({
        "tick": view.plan.tick,
        "at_ms": view.now_ms,
        "services": services,
    })))
}

pub(super) async fn decisions(
    State(shared): State<Arc<Shared>>,
    wanted: Result<Query<decisions::Query>, QueryRejection>,
) -> Answer {
    let mut wanted = query(wanted)?;
    wanted.limit = Some(limit(wanted.limit, decisions::PAGE, decisions::LONGEST_PAGE)?);
    if let Some(before) = wanted.before.filter(|before| *before < 1) {
        let why = format!("before is {before}; it must be 1 or more: the `next_before` of a page");
        return Err(ApiError::new(StatusCode::BAD_REQUEST, why));
    }
    // Those of a service that is gone can be looked at; one that there never was is a slip.
    if let Some(name) = wanted.service.clone()
        && let Err(unknown) = known_service(&shared, &name)
        && !blocking(&shared, move |s| s.decisions.has_any_of(&name)).await?
    {
        return Err(unknown);
    }
    let page = blocking(&shared, move |s| s.decisions.page(&wanted)).await?;
    let next = page.last().map(|d| d.id);
    Ok(Json(json!({ "decisions": page, "next_before": next })))
}

pub(super) async fn kernel(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!(shared.kernel))
}

pub(super) async fn config(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(shared.config.load().masked())
}
