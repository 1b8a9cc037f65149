//! Announced events: looking at them, announcing, withdrawing.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::auth::Caller;
use super::error::ApiError;
use super::extract::Path;
use super::operate::{Body, blocking, body, gone, hand_in, heeded};
use super::read::{Answer, known_service};
use crate::node::Shared;
use crate::node::audit::{Actor, Entry, Outcome};
use crate::node::decisions::{Event, MOST_EVENTS};
use crate::node::operator::Order;

const DAY_MS: u64 = 86_400_000;
/// As for events in the configuration.
const LONGEST_EVENT_MS: u64 = 31 * DAY_MS;
const FARTHEST_EVENT_MS: u64 = 3_653 * DAY_MS;

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
    Extension(caller): Extension<Caller>,
    event: Body<Event>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let event = body(event)?;
    known_service(&shared, &event.service)?;
    let now_ms = shared.clock.now_ms();
    if let Some(problem) = problem(&event, now_ms) {
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, problem));
    }
    let (stored, told) = (event.clone(), event.clone());
    let change = move |s: &Shared| s.decisions.announce(&stored, now_ms);
    let tell = move |id: &Option<i64>| {
        let after = json!({ "id": (*id)?, "event": told });
        let entry = Entry::new(now_ms, caller.actor(), "event.announce").of(&told.service);
        Some(entry.changed(Value::Null, after))
    };
    let id = change_events(&shared, change, tell).await?;
    shared.long.renew(&event.service.as_str().into());
    let Some(id) = id else {
        let why = format!(
            "there are {MOST_EVENTS} announced events that have not ended, which is the most: \
             withdraw one (DELETE /api/v1/events/ID), or put repeating ones into a calendar"
        );
        return Err(ApiError::new(StatusCode::CONFLICT, why));
    };
    Ok((StatusCode::CREATED, Json(json!({ "id": id, "event": event }))))
}

/// What is wrong with an event.
fn problem(event: &Event, now_ms: u64) -> Option<String> {
    if event.end_ms <= event.start_ms {
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
    }
}

pub(super) async fn withdraw(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(event): Path<String>,
) -> Result<StatusCode, ApiError> {
    let event: i64 = event.parse().map_err(|_| {
        let why = format!("{event:?} is no event: write its number, as GET /api/v1/events does");
        ApiError::new(StatusCode::BAD_REQUEST, why)
    })?;
    let now_ms = shared.clock.now_ms();
    let change = move |s: &Shared| {
        let known = s.decisions.events(now_ms)?.into_iter().find(|(id, _)| *id == event);
        Ok((known.map(|(_, event)| event), s.decisions.withdraw(event)?))
    };
    let tell = move |(was, withdrawn): &(Option<Event>, bool)| {
        let service = was.as_ref().map_or("", |event| event.service.as_str());
        let entry = Entry::new(now_ms, caller.actor(), "event.withdraw").of(service);
        withdrawn.then(|| entry.changed(json!({ "id": event, "event": was }), Value::Null))
    };
    let (was, withdrawn) = change_events(&shared, change, tell).await?;
    if let Some(was) = was {
        shared.long.renew(&was.service.as_str().into());
    }
    if !withdrawn {
        return Err(ApiError::new(StatusCode::NOT_FOUND, format!("there is no event {event}")));
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Changes the announced events and hands the loop all of them: one change at a time, or the list of
/// an earlier one could come last and be in force, and on a task of its own, or a caller who hangs up
/// could leave an event that is kept and not in force. The tick is waited for by several at once, or
/// there would be one change each. What `tell` says of a change is put on record.
async fn change_events<T: Send + 'static>(
    shared: &Arc<Shared>,
    change: impl FnOnce(&Shared) -> anyhow::Result<T> + Send + 'static,
    tell: impl FnOnce(&T) -> Option<Entry> + Send + 'static,
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
        let answer = hand_in(&shared, Order::Events(events), Actor::Node);
        drop(turn);
        let in_force = match answer {
            Ok(answer) => answer.await.map(drop).map_err(|_| gone(&shared)),
            Err(error) => Err(error),
        };
        if let Some(entry) = tell(&changed) {
            shared.audit.record(match &in_force {
                Ok(()) => entry,
                Err(error) => entry.came_to(Outcome::Failed, error.said()),
            });
        }
        in_force.map(|()| changed)
    });
    task.await.unwrap_or_else(|error| Err(ApiError::internal(&error.into())))
}
