//! Migrations: asked for, tried, looked at, called off.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use foreshadow_control::{MigrationChoice, ServiceName};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::auth::Caller;
use super::error::ApiError;
use super::extract::Path;
use super::operate::{Body, blocking, body, gone, heeded, standing};
use super::read::{Answer, known_service, view};
use crate::node::Shared;
use crate::node::audit::{Entry, Outcome};
use crate::node::migrations::{
    Ask, DryRun, MOST_STANDING, Refused, Scene, Sound, Standing, State as Stands,
};
use crate::node::operator::Order;

/// Asks for one: 202 with how it stands after the next tick, 200 with who could move where for a dry run.
pub(super) async fn ask(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(service): Path<String>,
    ask: Body<Ask>,
) -> Result<Response, ApiError> {
    let ask = body(ask)?;
    let service = known_service(&shared, &service)?;
    heeded(&shared)?;
    let sound = match check(&shared, &service, &ask)? {
        Ok(sound) => sound,
        Err(refused) => {
            let error = refusal(refused);
            if !ask.dry_run {
                let entry = Entry::new(shared.clock.now_ms(), caller.actor(), "migration.ask");
                let entry = entry.of(service.as_str()).changed(Value::Null, json!(ask));
                shared.audit.record(entry.came_to(Outcome::Failed, error.said()));
            }
            return Err(error);
        }
    };
    if ask.dry_run {
        return Ok(Json(dry_run(&shared, service, sound).await?).into_response());
    }
    begin(&shared, &caller, (service, ask, sound)).await
}

fn check(
    shared: &Shared,
    service: &ServiceName,
    ask: &Ask,
) -> Result<Result<Sound, Refused>, ApiError> {
    let view = view(shared)?;
    let seen = view.observation.services.iter().find(|seen| seen.service == *service);
    let config = shared.config.load();
    let configured = config.services.get(service);
    let (Some(seen), Some(configured)) = (seen, configured) else {
        return Err(ApiError::starting());
    };
    let orders = shared.orders.load();
    let now_ms = shared.clock.now_ms();
    Ok(ask.check(Scene { configured, seen, orders: &orders, now_ms }))
}

fn refusal(refused: Refused) -> ApiError {
    match refused {
        Refused::Unknown(what, name, known) => ApiError::unknown(what, &name, known),
        Refused::Malformed(why) => ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, why),
        Refused::Never(why) => ApiError::new(StatusCode::CONFLICT, why),
        Refused::TooMany => {
            let why = format!(
                "{MOST_STANDING} migrations wait or are under way, which is the most: wait for the \
                 end of one, or call one off (`DELETE /api/v1/migrations/ID`)"
            );
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, why)
        }
    }
}

async fn begin(
    shared: &Arc<Shared>,
    caller: &Caller,
    (service, ask, sound): (ServiceName, Ask, Sound),
) -> Result<Response, ApiError> {
    let id = blocking(shared, |s| s.decisions.new_migration_id()).await?;
    let order = Standing {
        id,
        service,
        instance: sound.instance,
        to: sound.to,
        at_ms: sound.at_ms,
        passes_windows: ask.now,
        by: caller.shown().to_owned(),
        asked_ms: shared.clock.now_ms(),
        began_ms: None,
        called_off_by: None,
    };
    let (_, kept) = standing(shared, caller, Order::Migrate(Box::new(order))).await?;
    let Some(record) = shared.migration(id) else { return Err(refusal(Refused::TooMany)) };
    if record.state == Stands::Refused {
        let refused = json!({ "error": record.text, "migration": record });
        return Ok((StatusCode::CONFLICT, Json(refused)).into_response());
    }
    let mut shown = json!(record);
    shown["begins_ms"] = json!(sound.begins_ms);
    shown["kept"] = json!(kept);
    Ok((StatusCode::ACCEPTED, Json(shown)).into_response())
}

/// Who could move, where to, and what speaks against it; nothing is changed.
async fn dry_run(
    shared: &Arc<Shared>,
    service: ServiceName,
    sound: Sound,
) -> Result<Value, ApiError> {
    let (done, answer) = oneshot::channel();
    let asked = shared.dry_runs.try_send(DryRun { service: service.clone(), done });
    asked.map_err(|_| {
        let why = "too many dry runs wait, or the loop has ended; try again";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, why)
    })?;
    let mut choices: Vec<MigrationChoice> = answer.await.map_err(|_| gone(shared))?;
    choices.retain(|choice| {
        let schedule = &choice.schedule;
        sound.instance.is_none_or(|id| id == schedule.instance)
            && sound.to.as_ref().is_none_or(|place| *place == schedule.target)
    });
    for choice in &mut choices {
        choice.schedule.start_ms = sound.begins_ms;
    }
    let would_begin = choices.iter().any(|choice| choice.objections.is_empty());
    Ok(json!({
        "service": service,
        "would_begin": would_begin,
        "begins_ms": sound.begins_ms,
        "choices": choices,
    }))
}

/// Those that wait, are under way, or are over; the newest of the latter.
pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!({ "now_ms": shared.clock.now_ms(), "migrations": shared.all_migrations() }))
}

/// One of them.
pub(super) async fn one(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Answer {
    let found = id.parse().ok().and_then(|id| shared.migration(id));
    found.map(|record| Json(json!(record))).ok_or_else(|| unknown(&shared, &id))
}

/// Calls one off; one that is over is left as it is.
pub(super) async fn call_off(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let number: u64 = id.parse().map_err(|_| unknown(&shared, &id))?;
    let found = shared.migration(number).ok_or_else(|| unknown(&shared, &id))?;
    if found.state.is_over() {
        return Ok((StatusCode::OK, Json(json!(found))));
    }
    standing(&shared, &caller, Order::CallOff(number, caller.shown().to_owned())).await?;
    let left = shared.migration(number).ok_or_else(|| unknown(&shared, &id))?;
    Ok((StatusCode::ACCEPTED, Json(json!(left))))
}

/// Those of one service that wait or are under way.
pub(super) fn of_service(shared: &Shared, service: &ServiceName) -> Value {
    let all = shared.all_migrations();
    let own = all.into_iter().filter(|r| r.service == *service && !r.state.is_over());
    own.map(|record| json!(record)).collect()
}

fn unknown(shared: &Shared, id: &str) -> ApiError {
    let known = shared.all_migrations().into_iter().filter_map(|record| record.id);
    ApiError::unknown("migration", id, known)
}
