//! Activations: shadows that were taken from the pool to serve, the newest first.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::json;

use super::extract::limit;
use super::operate::blocking;
use super::read::{Answer, known_service, query};
use crate::node::Shared;
use crate::node::activations::MOST;

/// Activations where nothing is said.
const DEFAULT: u32 = 50;

/// Which.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    service: Option<String>,
    /// At most so many, the newest.
    limit: Option<u32>,
}

pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Answer {
    let wanted = query(wanted)?;
    let only = wanted.service.map(|name| known_service(&shared, &name)).transpose()?;
    let limit = limit(wanted.limit, DEFAULT, MOST)?;
    let page = move |s: &Shared| {
        s.activations.page(only.as_ref().map(foreshadow_control::ServiceName::as_str), limit)
    };
    let dropped = shared.activations.dropped();
    let page = blocking(&shared, page).await?;
    Ok(Json(json!({ "activations": page, "dropped": dropped })))
}
