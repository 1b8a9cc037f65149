//! What is known of one request while it is under way.

use std::sync::Arc;

use foreshadow_control::InstanceId;
use http::header::{EXPECT, HeaderValue};
use http::{HeaderMap, Method, StatusCode, Uri};
use pingora::http::RequestHeader;
use tokio::time::Instant;

use crate::connection::{Connection, FAR};
use crate::plane::Shared;
use crate::recall::Sent;
use crate::{Answer, Backend, InFlightGuard, Service};

/// One request, from its head to the last byte of its answer.
pub(crate) struct RequestCtx {
    pub(super) started: Instant,
    pub(super) connection: Option<Arc<Connection>>,
    /// Where it was routed; keeps that service of the table it was routed by, whatever is
    /// published meanwhile.
    pub(super) service: Option<Arc<Service>>,
    /// When it must be over, retries included.
    pub(super) deadline: Instant,
    /// The backend chosen for the next attempt.
    pub(super) next: Option<Arc<Backend>>,
    /// The attempt under way.
    pub(super) attempt: Option<Attempt>,
    pub(super) attempts: u32,
    /// Backends not to be chosen again.
    pub(super) tried: Vec<InstanceId>,
    /// Whether a pooled connection has failed: once, that backend may be asked again.
    pub(super) stale_seen: bool,
    /// Whether the next attempt must not use a pooled connection.
    pub(super) fresh: bool,
    /// Whether the client has sent it to its last byte.
    pub(super) sent: bool,
    /// How the last attempt failed.
    pub(super) failure: Option<Answer>,
    /// Whether an answer before the final one was passed on.
    pub(super) interim: bool,
    /// Status of the final answer; 0 before there is one.
    pub(super) status: u16,
    /// Whether the answer is the proxy's own.
    pub(super) own_answer: bool,
    pub(super) tunnel: bool,
    /// Whether the request, as it was sent to the backend, asks to change the protocol.
    pub(super) asked_upgrade: bool,
    /// Whether the last attempt failed for want of sockets of ours.
    pub(super) short: bool,
    pub(super) wanted: bool,
    pub(super) snapshot: Option<Box<Snapshot>>,
}

/// One try at one backend.
pub(super) struct Attempt {
    pub(super) guard: InFlightGuard,
    pub(super) begun: Instant,
    pub(super) retry: bool,
    /// What was known of the backend then.
    pub(super) sent: Sent,
}

/// The request as the backend got it, kept for an observer that wants it.
pub(super) struct Snapshot {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
}

impl RequestCtx {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            started: now,
            connection: None,
            service: None,
            deadline: now,
            next: None,
            attempt: None,
            attempts: 0,
            tried: Vec::new(),
            stale_seen: false,
            fresh: false,
            sent: false,
            failure: None,
            interim: false,
            status: 0,
            own_answer: false,
            tunnel: false,
            asked_upgrade: false,
            short: false,
            wanted: false,
            snapshot: None,
        }
    }

    /// Keeps a copy of the request for the observer, if it wants one.
    pub(super) fn snapshot(&mut self, request: &RequestHeader) {
        if self.wanted {
            self.snapshot = Some(Box::new(Snapshot {
                method: request.method.clone(),
                uri: request.uri.clone(),
                headers: request.headers.clone(),
            }));
        }
    }

    /// The request is sent to its last byte: from now on the first byte of the answer is due.
    /// If it is `repeatable` it may be taken back from a backend that falls meanwhile.
    pub(super) fn await_first_byte(&mut self, shared: &Arc<Shared>, repeatable: bool) {
        self.sent = true;
        let now = Instant::now();
        if let (Some(attempt), 0) = (&mut self.attempt, self.status) {
            attempt.guard.sent(shared.clock.at_ms(now.into_std()));
        }
        if let (Some(connection), Some(service), 0) = (&self.connection, &self.service, self.status)
        {
            let due = now + service.policy().first_byte_timeout.min(FAR);
            connection.set_deadline(due.min(self.deadline));
            let one_left = self.attempts <= service.policy().retries.attempts;
            if let (Some(attempt), true) = (&self.attempt, repeatable && one_left) {
                connection.watch_backend(shared, attempt.sent, &self.tried, now);
            }
        }
    }

    /// The head of the final answer is here: from now on the whole and its pauses are limited.
    pub(super) fn answered(&mut self, status: StatusCode, now_ms: u64) {
        self.status = status.as_u16();
        if let Some(attempt) = &mut self.attempt {
            attempt.guard.answering(now_ms);
        }
        let (Some(connection), Some(service)) = (&self.connection, &self.service) else { return };
        if status == StatusCode::SWITCHING_PROTOCOLS {
            connection.open_tunnel();
        } else {
            connection.limit_answer(self.deadline, service.policy().stall_timeout);
        }
    }

    /// The final answer has ended. Where the client waits to be told to send its body, which nobody
    /// did, it waits in vain.
    pub(super) fn answer_complete(&self, request: &RequestHeader) {
        let asks = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
        if let Some(connection) = &self.connection
            && !self.sent
            && !self.interim
            && request.headers.get(EXPECT).is_some_and(asks)
        {
            connection.leave_unasked();
        }
    }
}
