//! The audit record, for those who look.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::error::ApiError;
use super::extract::limit;
use super::operate::blocking;
use super::read::{Answer, query};
use crate::node::Shared;
use crate::node::audit;

/// A page, the newest first.
pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    wanted: Result<Query<audit::Query>, QueryRejection>,
) -> Answer {
    let mut wanted = query(wanted)?;
    let size = limit(wanted.limit, audit::PAGE, audit::LONGEST_PAGE)?;
    wanted.limit = Some(size);
    if let Some(before) = wanted.before.filter(|before| *before < 1) {
        let why = format!("before is {before}; it must be 1 or more: the `next_before` of a page");
        return Err(ApiError::new(StatusCode::BAD_REQUEST, why));
    }
    let page = blocking(&shared, move |s| s.audit.page(&wanted)).await?;
    let next = page.last().filter(|_| page.len() == size as usize).map(|last| last.seq);
    let entries: Vec<Value> = page.iter().map(audit::shown).collect();
    Ok(Json(json!({ "entries": entries, "next_before": next })))
}

/// The newest entry that is written, and how the record does.
pub(super) async fn head(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(shared.audit.status())
}
