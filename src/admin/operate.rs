//! Requests that change something: modes, kill switch, drains, activations, events, reload.

use std::sync::Arc;
use std::sync::mpsc::TrySendError;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use foreshadow_control::{InstanceId, Mode, ServiceName, Tier};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::error::ApiError;
use super::extract::Path;
use super::read::{Answer, known_service, parse_instance};
use crate::node::decisions::{Event, MOST_EVENTS};
use crate::node::operator::{Order, Orders, Request};
use crate::node::{ReloadOutcome, Shared};

const DAY_MS: u64 = 86_400_000;
/// As for events in the configuration.
const LONGEST_EVENT_MS: u64 = 31 * DAY_MS;
const FARTHEST_EVENT_MS: u64 = 3_653 * DAY_MS;

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
    given: Order,
) -> Result<(Orders, bool), ApiError> {
    let shared = Arc::clone(shared);
    let task = tokio::spawn(async move {
        let orders = order(&shared, given).await?;
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
fn heeded(shared: &Shared) -> Result<(), ApiError> {
    match shared.loop_trouble() {
        Some(trouble) if !shared.is_draining() => {
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, trouble))
        }
        _ => Ok(()),
    }
}

/// Hands an order to the tick and waits for it.
async fn order(shared: &Arc<Shared>, order: Order) -> Result<Orders, ApiError> {
    let answer = hand_in(shared, order)?;
    answer.await.map_err(|_| gone(shared))
}

/// Hands an order to the tick; the answer comes when that has carried it out.
fn hand_in(shared: &Shared, order: Order) -> Result<oneshot::Receiver<Orders>, ApiError> {
    let (done, answer) = oneshot::channel();
    heeded(shared)?;
    shared.requests.try_send(Request { order, done }).map_err(|error| match error {
        TrySendError::Full(_) => {
            let why = "too many orders are waiting; try again";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, why)
        }
        TrySendError::Disconnected(_) => gone(shared),
    })?;
    Ok(answer)
}

/// Why the tick does not answer.
fn gone(shared: &Shared) -> ApiError {
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
    Path(service): Path<String>,
    change: Body<ModeChange>,
) -> Answer {
    let change = body(change)?;
    let service = known_service(&shared, &service)?;
    let (orders, kept) = standing(&shared, Order::Mode(service.clone(), change.mode)).await?;
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
    change: Body<KillSwitch>,
) -> Answer {
    let (orders, kept) = standing(&shared, Order::KillSwitch(body(change)?.engaged)).await?;
    Ok(Json(json!({ "engaged": orders.kill_switch, "kept": kept })))
}

pub(super) async fn drain(
    State(shared): State<Arc<Shared>>,
    Path(instance): Path<String>,
    change: Body<Drain>,
) -> Answer {
    let change = body(change)?;
    let instance: InstanceId = parse_instance(&shared, &instance)?;
    let (orders, kept) = standing(&shared, Order::Drain(instance, change.drained)).await?;
    let drained = orders.drained.contains(&instance);
    Ok(Json(json!({ "instance": instance, "drained": drained, "kept": kept })))
}

pub(super) async fn activate(
    State(shared): State<Arc<Shared>>,
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
    order(&shared, Order::Activate(service.clone(), count)).await?;
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

pub(super) async fn events(State(shared): State<Arc<Shared>>) -> Answer {
    let now_ms = shared.clock.now_ms();
    let events = blocking(&shared, move |s| s.decisions.events(now_ms)).await?;
    let events: Vec<Value> = events
        .into_iter()
        .map(|(id, event)| json!({ "id": id, "event": event, "running": event.start_ms <= now_ms }))
        .collect();
    let calendar = shared.long.calendar();
    let mut calendar: Vec<&Event> =
        calendar.values().flatten().filter(|event| event.end_ms > now_ms).collect();
    calendar.sort_by_key(|event| event.start_ms);
    let left_out = shared.config.load().warnings();
    Ok(Json(json!({ "events": events, "calendar": calendar, "left_out": left_out })))
}

pub(super) async fn announce(
    State(shared): State<Arc<Shared>>,
    event: Body<Event>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let event = body(event)?;
    known_service(&shared, &event.service)?;
    let now_ms = shared.clock.now_ms();
    let problem = if event.end_ms <= event.start_ms {
        Some(format!("end_ms {} is not after start_ms {}", event.end_ms, event.start_ms))
    } else if event.end_ms <= now_ms {
        Some(format!("end_ms {} has passed; it is {now_ms} now (Unix milliseconds)", event.end_ms))
    } else if event.end_ms - event.start_ms > LONGEST_EVENT_MS
        || event.start_ms > now_ms.saturating_add(FARTHEST_EVENT_MS)
    {
        Some(format!(
            "start_ms {} and end_ms {} are Unix milliseconds, it is {now_ms} now: an event lasts 31 \
             days at most and begins within ten years",
            event.start_ms, event.end_ms
        ))
    } else if !(event.lift > 0.0 && event.lift <= 100.0) {
        Some(format!("lift is {:e}; it must be above 0 and at most 100", event.lift))
    } else if event.name.is_empty() || event.name.len() > 200 {
        Some("name must have 1 to 200 bytes".to_owned())
    } else if event.name.contains(char::is_control) {
        Some("name must have no control characters".to_owned())
    } else {
        None
    };
    if let Some(problem) = problem {
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, problem));
    }
    let stored = event.clone();
    let id = change_events(&shared, move |s| s.decisions.announce(&stored, now_ms)).await?;
    let Some(id) = id else {
        let why = format!(
            "there are {MOST_EVENTS} announced events that have not ended, which is the most: \
             withdraw one (DELETE /api/v1/events/ID), or put repeating ones into a calendar"
        );
        return Err(ApiError::new(StatusCode::CONFLICT, why));
    };
    Ok((StatusCode::CREATED, Json(json!({ "id": id, "event": event }))))
}

pub(super) async fn withdraw(
    State(shared): State<Arc<Shared>>,
    Path(event): Path<String>,
) -> Result<StatusCode, ApiError> {
    let event: i64 = event.parse().map_err(|_| {
        let why = format!("{event:?} is no event: write its number, as GET /api/v1/events does");
        ApiError::new(StatusCode::BAD_REQUEST, why)
    })?;
    if !change_events(&shared, move |s| s.decisions.withdraw(event)).await? {
        return Err(ApiError::new(StatusCode::NOT_FOUND, format!("there is no event {event}")));
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Changes the announced events and hands the loop all of them: one change at a time, or the list of
/// an earlier one could come last and be in force, and on a task of its own, or a caller who hangs up
/// could leave an event that is kept and not in force. The tick is waited for by several at once, or
/// there would be one change each.
async fn change_events<T: Send + 'static>(
    shared: &Arc<Shared>,
    change: impl FnOnce(&Shared) -> anyhow::Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    heeded(shared)?;
    let shared = Arc::clone(shared);
    let task = tokio::spawn(async move {
        let _place =
            shared.announcing.place().await.map_err(|error| ApiError::internal(&error.into()))?;
        let turn = shared.announcing.turn().await;
        let changed = blocking(&shared, change).await?;
        let now_ms = shared.clock.now_ms();
        let events = blocking(&shared, move |s| s.decisions.events(now_ms)).await?;
        let events = events.into_iter().map(|(_, event)| event).collect();
        let answer = hand_in(&shared, Order::Events(events))?;
        drop(turn);
        answer.await.map_err(|_| gone(&shared))?;
        Ok(changed)
    });
    task.await.unwrap_or_else(|error| Err(ApiError::internal(&error.into())))
}

pub(super) async fn reload(
    State(shared): State<Arc<Shared>>,
) -> Result<Json<Value>, (StatusCode, Json<Value>)> {
    let outcome = shared.reload_now().await;
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
