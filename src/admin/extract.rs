//! Parts of a request, with refusals that read like all other errors.

use axum::extract::{FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;

use super::error::ApiError;

/// Parameters in the path.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(error) => Err(ApiError::new(error.status(), error.body_text())),
        }
    }
}

/// Lets a request through that has no parameters: where none are known, one that was meant to narrow
/// the answer would be passed over in silence.
pub(super) async fn no_parameters(request: Request, next: Next) -> Response {
    match request.uri().query().filter(|query| !query.is_empty()) {
        None => next.run(request).await,
        Some(query) => {
            let why = format!("{} takes no parameters; {query:?} was given", request.uri().path());
            ApiError::new(StatusCode::BAD_REQUEST, why).into_response()
        }
    }
}

/// How many entries are wanted: `default` where nothing is said, at most `most`.
pub(super) fn limit(given: Option<u32>, default: u32, most: u32) -> Result<u32, ApiError> {
    let limit = given.unwrap_or(default);
    if (1..=most).contains(&limit) {
        return Ok(limit);
    }
    let why = format!("limit is {limit}; it must be 1 to {most}");
    Err(ApiError::new(StatusCode::BAD_REQUEST, why))
}
