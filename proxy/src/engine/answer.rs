//! Answers the engine gives by itself.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora::proxy::{FailToProxy, Session};
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::context::RequestCtx;
use super::{Engine, is_last, max_forwards};
use crate::Answer;
use crate::connection::Verdict;

/// What is passed on to backends, as an answer to OPTIONS says: any but CONNECT, these by name.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE";

impl Engine {
    /// Writes a short plain answer that its length delimits.
    ///
    /// # Errors
    ///
    /// Those of writing to the client.
    pub(super) async fn answer(
        &self,
        session: &mut Session,
        ctx: &mut RequestCtx,
        status: u16,
        text: &'static str,
    ) -> Result<()> {
        ctx.own_answer = true;
        let mut head = ResponseHeader::build(status, Some(6))?;
        head.insert_header(CONTENT_TYPE, HeaderValue::from_static("text/plain"))?;
        if status == StatusCode::SERVICE_UNAVAILABLE.as_u16() {
            head.insert_header(RETRY_AFTER, HeaderValue::from_static("1"))?;
        }
        self.send(session, head, Bytes::from_static(text.as_bytes())).await
    }

    /// Answers a TRACE or OPTIONS that may go no further.
    ///
    /// # Errors
    ///
    /// Those of writing to the client.
    pub(super) async fn answer_as_recipient(&self, session: &mut Session) -> Result<()> {
        let mut head = ResponseHeader::build(StatusCode::OK, Some(6))?;
        let request = session.req_header();
        let body = if request.method == Method::TRACE {
            head.insert_header(CONTENT_TYPE, HeaderValue::from_static("message/http"))?;
            Bytes::from(max_forwards::shown(request))
        } else {
            head.insert_header(ALLOW, HeaderValue::from_static(METHODS))?;
            Bytes::new()
        };
        self.send(session, head, body).await
    }

    async fn send(
        &self,
        session: &mut Session,
        mut head: ResponseHeader,
        body: Bytes,
    ) -> Result<()> {
        head.insert_header(CACHE_CONTROL, HeaderValue::from_static("no-store"))?;
        head.set_content_length(body.len())?;
        if is_last(session) {
            session.set_keepalive(None);
        }
        let client = session.as_downstream_mut();
        client.write_response_header(Box::new(head)).await?;
        client.write_response_body(body, true).await
    }

    /// Answers a request that failed for good, if the client can still be told.
    pub(super) async fn answer_failure(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut RequestCtx,
    ) -> FailToProxy {
        let begun = session.response_written().is_some_and(|head| {
            !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS
        });
        let reply = if begun { None } else { reply_to(error, ctx) };
        let Some((status, text)) = reply else {
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        };
        if matches!(
            ctx.failure,
            Some(Answer::ConnectRefused | Answer::ConnectFailed | Answer::ConnectTimeout)
        ) {
            self.count_unserved(ctx);
        }
        session.set_keepalive(None);
        if let Err(error) = self.answer(session, ctx, status, text).await {
            tracing::debug!(%error, status, "answering a failed request");
        }
        session.as_downstream_mut().shutdown().await;
        FailToProxy { error_code: status, can_reuse_downstream: false }
    }
}

/// Status and text for an error; `None` when nobody is left to read it.
fn reply_to(error: &Error, ctx: &RequestCtx) -> Option<(u16, &'static str)> {
    match ctx.connection.as_ref().map(|connection| connection.verdict()) {
        Some(Verdict::LateWaiting | Verdict::LateWriting | Verdict::Recalled) => {
            return Some((504, "the backend took too long"));
        }
        Some(Verdict::LateReading | Verdict::Unasked) => {
            return Some((408, "the request body did not arrive in time"));
        }
        Some(Verdict::Malformed) => return Some((400, "malformed request body")),
        Some(Verdict::Fine) | None => {}
    }
    if ctx.short {
        return Some((503, "the proxy is short of sockets"));
    }
    match (error.esource(), error.etype()) {
        (_, ErrorType::HTTPStatus(status)) => Some((*status, "the request could not be served")),
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => {
            Some((408, "the request body did not arrive in time"))
        }
        (
            ErrorSource::Downstream,
            ErrorType::ReadError
            | ErrorType::WriteError
            | ErrorType::WriteTimedout
            | ErrorType::ConnectionClosed,
        ) => None,
        (ErrorSource::Downstream, _) => Some((400, "malformed request")),
        (ErrorSource::Upstream, _) => Some(match ctx.failure {
            Some(Answer::Timeout) => (504, "the backend took too long"),
            Some(Answer::ConnectTimeout) => (504, "connecting to the backend took too long"),
            Some(Answer::ConnectRefused | Answer::ConnectFailed) => {
                (502, "no connection to the backend")
            }
            Some(Answer::Malformed) => (502, "the backend's answer was malformed"),
            Some(Answer::Reset | Answer::Status(_)) | None => {
                (502, "the backend closed the connection")
            }
        }),
        (ErrorSource::Internal | ErrorSource::Unset, _) => Some((500, "internal error")),
    }
}
