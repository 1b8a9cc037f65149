//! Requests that change something: modes, kill switch, drains, activations, reload.

use std::sync::Arc;
use std::sync::mpsc::TrySendError;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::{Extension, Json};
use foreshadow_control::{InstanceId, Mode, ServiceName, Tier};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::auth::Caller;
use super::error::ApiError;
use super::extract::Path;
use super::read::{Answer, known_service, parse_instance};
use crate::node::audit::{Actor, Outcome};
use crate::node::operator::{Order, Orders, Request};
use crate::node::{ReloadOutcome, Shared};

pub(super) type Body<T> = Result<Json<T>, JsonRejection>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModeChange {
    /// `null` returns to the configured mode; left out it is a mistake.
    #[serde(deserialize_with = "Option::deserialize")]
    mode: Option<Mode>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KillSwitch {
    engaged: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Drain {
    drained: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Activate {
    count: u32,
}

pub(super) fn body<T>(body: Body<T>) -> Result<T, ApiError> {
    let Json(value) = body.map_err(|e| ApiError::new(e.status(), e.body_text()))?;
    Ok(value)
}

/// Hands a standing order to the tick, waits for it, and keeps it for the next start; whether that
/// worked comes back too. An order is in force either way: a full disk must not make the kill
/// switch look as if it had not been thrown.
///
/// On a task of its own, so that a caller who hangs up early does not leave it half done.
pub(super) async fn standing(
    shared: &Arc<Shared>,
    caller: &Caller,
    given: Order,
) -> Result<(Orders, bool), ApiError> {
    let (shared, by) = (Arc::clone(shared), caller.actor());
    let task = tokio::spawn(async move {
        let orders = order(&shared, given, by).await?;
        let kept = blocking(&shared, |s| s.decisions.keep_orders(|| s.orders.load_full())).await;
        if let Err(error) = &kept {
            tracing::error!(
                error = error.said(),
                "the order is in force, but will not outlive a restart"
            );
        }
        Ok((orders, kept.is_ok()))
    });
    task.await.unwrap_or_else(|error| Err(ApiError::internal(&error.into())))
}

/// Nothing is ordered of a loop that would not heed it.
pub(super) fn heeded(shared: &Shared) -> Result<(), ApiError> {
    match shared.loop_trouble() {
        Some(trouble) if !shared.is_draining() => {
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, trouble))
        }
        _ => Ok(()),
    }
}

/// Hands an order to the tick and waits for it.
async fn order(shared: &Arc<Shared>, order: Order, by: Actor) -> Result<Orders, ApiError> {
    let orders = Orders::clone(&shared.orders.load());
    let failed = order.entry(&orders, &orders, by.clone());
    let taken = match hand_in(shared, order, by) {
        Ok(answer) => answer.await.map_err(|_| gone(shared)),
        Err(error) => Err(error),
    };
    // The tick puts on record what it takes.
    if let (Err(error), Some(mut entry)) = (&taken, failed) {
        entry.at_ms = shared.clock.now_ms();
        shared.audit.record(entry.came_to(Outcome::Failed, error.said()));
    }
    taken
}

/// Hands an order to the tick; the answer comes when that has carried it out.
pub(super) fn hand_in(
    shared: &Shared,
    order: Order,
    by: Actor,
) -> Result<oneshot::Receiver<Orders>, ApiError> {
    let (done, answer) = oneshot::channel();
    heeded(shared)?;
    shared.requests.try_send(Request { order, by, done }).map_err(|error| match error {
        TrySendError::Full(_) => {
            let why = "too many orders are waiting; try again";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, why)
        }
        TrySendError::Disconnected(_) => gone(shared),
    })?;
    Ok(answer)
}

/// Why the tick does not answer.
pub(super) fn gone(shared: &Shared) -> ApiError {
    // A loop that panics lets go of its callers a moment before it counts as ended.
    let why = match shared.loop_trouble() {
        _ if shared.is_draining() => "the node is shutting down".to_owned(),
        Some(trouble) => trouble,
        None => "the control loop has just ended; see the log and restart".to_owned(),
    };
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, why)
}

/// Runs database work off the async workers.
pub(super) async fn blocking<T: Send + 'static>(
    shared: &Arc<Shared>,
    work: impl FnOnce(&Shared) -> anyhow::Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    let shared = Arc::clone(shared);
    match tokio::task::spawn_blocking(move || work(&shared)).await {
        Ok(result) => result.map_err(|e| ApiError::internal(&e)),
        Err(error) => Err(ApiError::internal(&error.into())),
    }
}

pub(super) async fn mode(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(service): Path<String>,
    change: Body<ModeChange>,
) -> Answer {
    let change = body(change)?;
    let service = known_service(&shared, &service)?;
    let (orders, kept) =
        standing(&shared, &caller, Order::Mode(service.clone(), change.mode)).await?;
    let configured = shared.config.load().services.get(&service).map(|s| s.mode);
    let mode = orders.modes.get(&service).copied().or(configured);
    Ok(Json(json!({
        "service": service,
        "mode": mode,
        "overridden": orders.modes.contains_key(&service),
        "kept": kept,
    })))
}

pub(super) async fn kill_switch(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    change: Body<KillSwitch>,
) -> Answer {
    let (orders, kept) =
        standing(&shared, &caller, Order::KillSwitch(body(change)?.engaged)).await?;
    Ok(Json(json!({ "engaged": orders.kill_switch, "kept": kept })))
}

pub(super) async fn drain(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(instance): Path<String>,
    change: Body<Drain>,
) -> Answer {
    let change = body(change)?;
    let instance: InstanceId = parse_instance(&shared, &instance)?;
    let (orders, kept) = standing(&shared, &caller, Order::Drain(instance, change.drained)).await?;
    let drained = orders.drained.contains(&instance);
    Ok(Json(json!({ "instance": instance, "drained": drained, "kept": kept })))
}

pub(super) async fn activate(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(service): Path<String>,
    change: Body<Activate>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let count = body(change)?.count;
    let service: ServiceName = known_service(&shared, &service)?;
    let max = shared
        .config
        .load()
        .services
        .get(&service)
        .and_then(|s| s.shadows.as_ref())
        .map_or(0, |shadows| shadows.pool.max);
    if count == 0 || count > max {
        let why = if max == 0 {
            format!("{service} has no shadows: give it `shadows.provider` in the configuration")
        } else {
            format!("count is {count}; it must be 1 to {max}, the pool's `max`")
        };
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, why));
    }
    let ready = shared.view().map_or(0, |view| {
        let shadows = view.observation.services.iter().filter(|s| s.service == service);
        shadows
            .flat_map(|s| &s.instances)
            .filter(|i| matches!(i.tier, Tier::Warm | Tier::Full))
            .count()
    });
    order(&shared, Order::Activate(service.clone(), count), caller.actor()).await?;
    // Asked for while nothing acts, it is remembered for an evaluation window and may come to
    // nothing: whoever asks should hear that.
    let acting = shared.view().is_some_and(|view| {
        view.plan.services.iter().any(|plan| plan.service == service && plan.act)
    });
    let answer = json!({
        "service": service,
        "asked": count,
        "warm_or_full_now": ready,
        "acting": acting,
    });
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

pub(super) async fn reload(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Value>, (StatusCode, Json<Value>)> {
    let outcome = shared.reload_now(caller.actor()).await;
    match outcome {
        ReloadOutcome::Applied { changes } => {
            Ok(Json(json!({ "applied": true, "changes": changes })))
        }
        ReloadOutcome::Refused { error } => Err((
            StatusCode::UNPROCESSABLE_ENTITY,
            Json(
                json!({ "applied": false, "error": error, "in_force": "the configuration before" }),
            ),
        )),
    }
}
