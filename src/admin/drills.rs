//! Failover drills: begun, looked at, called off.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::auth::Caller;
use super::error::ApiError;
use super::extract::Path;
use super::operate::{Body, body, heeded};
use super::read::{Answer, known_service};
use crate::node::Shared;
use crate::node::drill::{Ask, Begun, Refused};

/// Begins one: 202 with its report, 200 for one that is only asked about, 409 with what speaks against
/// it.
pub(super) async fn begin(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(service): Path<String>,
    ask: Body<Ask>,
) -> Result<Response, ApiError> {
    let ask = body(ask)?;
    let service = known_service(&shared, &service)?;
    heeded(&shared)?;
    match shared.drill(&service, ask, caller.actor()) {
        Ok(Begun::Runs(report)) => Ok((StatusCode::ACCEPTED, Json(report)).into_response()),
        Ok(Begun::Dry(outlook)) => Ok(Json(outlook).into_response()),
        Err(Refused::Malformed(why)) => Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, why)),
        Err(Refused::NotSeen) => Err(ApiError::starting()),
        Err(Refused::Objected(objections)) => {
            let said: Vec<String> =
                objections.iter().map(|o| format!("{} ({})", o.text, o.help)).collect();
            let refusal = json!({ "error": said.join("; "), "objections": objections });
            Ok((StatusCode::CONFLICT, Json(refusal)).into_response())
        }
    }
}

/// The newest, newest first.
pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!({ "drills": shared.drills.all() }))
}

/// One of them.
pub(super) async fn one(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Answer {
    let drill = parse(&id).and_then(|id| shared.drills.find(id));
    drill.map(|drill| Json(json!(drill.report()))).ok_or_else(|| unknown(&shared, &id))
}

/// Calls one off; one that is over is left as it is.
pub(super) async fn call_off(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let report =
        parse(&id).and_then(|id| shared.call_off_drill(id, caller.actor(), caller.shown()));
    let report = report.ok_or_else(|| unknown(&shared, &id))?;
    Ok((StatusCode::ACCEPTED, Json(json!(report))))
}

fn parse(id: &str) -> Option<u64> {
    id.parse().ok()
}

fn unknown(shared: &Shared, id: &str) -> ApiError {
    ApiError::unknown("drill", id, shared.drills.all().iter().map(|report| report.id))
}
