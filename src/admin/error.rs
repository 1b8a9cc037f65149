//! Errors of the admin interface, as JSON that says what to do.

use axum::Json;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// What went wrong, in words for a person.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ApiError {
    #[serde(skip)]
    status: StatusCode,
    error: String,
}

impl ApiError {
    /// An answer of `status` that says `error`.
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into() }
    }

    /// What it says.
    pub(super) fn said(&self) -> &str {
        &self.error
    }

    /// 404 that lists what exists.
    pub(super) fn unknown(
        what: &str,
        name: &str,
        known: impl IntoIterator<Item = impl ToString>,
    ) -> Self {
        let known: Vec<String> = known.into_iter().take(20).map(|k| k.to_string()).collect();
        let known = if known.is_empty() { "none exist".to_owned() } else { known.join(", ") };
        Self::new(StatusCode::NOT_FOUND, format!("there is no {what} {name:?}; known: {known}"))
    }

    /// 503 while the loop has not done its first tick.
    pub(super) fn starting() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the first tick has not finished; try again")
    }

    /// 500 with the cause.
    pub(super) fn internal(cause: &anyhow::Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{cause:#}"))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(&self)).into_response()
    }
}

pub(super) async fn not_found(uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        format!(
            "there is nothing at {}; see /api/v1/status, /api/v1/services, /metrics",
            uri.path()
        ),
    )
}

pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} does not take {method}", uri.path()))
}
