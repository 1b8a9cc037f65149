//! What a failure says of the backend, and whether the request may be tried elsewhere.

use std::io;
use std::sync::Arc;

use http::StatusCode;
use pingora::proxy::Session;
use pingora::{Error, ErrorSource, ErrorType};
use tokio::time::Instant;

use super::Engine;
use super::context::RequestCtx;
use crate::connection::Verdict;
use crate::recall::Claim;
use crate::{Answer, RetryPolicy, shortage};

impl Engine {
    /// No connection could be made: the backend saw nothing, so any method may be tried again.
    pub(super) fn connect_failed(
        &self,
        session: &Session,
        ctx: &mut RequestCtx,
        mut error: Box<Error>,
    ) -> Box<Error> {
        error.set_retry(false);
        self.exclude(ctx);
        if is_shortage(&error) {
            self.tell_shortage(&error);
            ctx.short = true;
            ctx.attempt = None;
            ctx.failure = None;
        } else {
            let answer = match error.etype() {
                ErrorType::ConnectRefused => Answer::ConnectRefused,
                ErrorType::ConnectTimedout => Answer::ConnectTimeout,
                _ => Answer::ConnectFailed,
            };
            self.end_attempt(session, ctx, answer);
            ctx.failure = Some(answer);
        }
        // After a shortage, too: ports run out towards one address, and a connection to another
        // backend may be at hand.
        if self.may_retry(ctx, |policy| policy.on.connect_failure) {
            error.set_retry(true);
        }
        error
    }

    fn tell_shortage(&self, error: &Error) {
        if let Some(requests) = self.shared.shortages.due(self.shared.clock.now_ms()) {
            tracing::warn!(
                %error,
                requests,
                "no connection to a backend could be made for want of descriptors, ports or \
                 memory; raise the limit on open files, or net.ipv4.ip_local_port_range"
            );
        }
    }

    /// The exchange broke after the connection was there.
    pub(super) fn exchange_failed(
        &self,
        session: &mut Session,
        ctx: &mut RequestCtx,
        mut error: Box<Error>,
        reused: bool,
    ) -> Box<Error> {
        error.set_retry(false);
        if ctx.next.is_some() {
            // An answer that is retried: counted when it came.
            error.set_retry(true);
            return error;
        }
        if let Some(claim) = take_claim(ctx) {
            self.exclude(ctx);
            // No verdict: what its check or other requests have found was counted then.
            ctx.attempt = None;
            ctx.failure = None;
            // Whoever stands in for the backend that fell may be newer than the table of the request.
            ctx.service = Some(Arc::clone(&claim.service));
            ctx.next = Some(Arc::clone(&claim.next));
            error.set_retry(true);
            return error;
        }
        if verdict(ctx) == Some(Verdict::Unasked) {
            // It was answered: only the body is missing, which nobody asked for.
            let status = ctx.status;
            self.end_attempt(session, ctx, Answer::Status(status));
            return error;
        }
        let Some(answer) = blame(&error, ctx) else {
            // The client is gone or at fault: dropping the attempt counts it as aborted.
            ctx.attempt = None;
            return error;
        };
        self.exclude(ctx);
        self.end_attempt(session, ctx, answer);
        ctx.failure = Some(answer);
        if !may_repeat(session) || session.response_written().is_some() {
            return error;
        }
        if answer == Answer::Timeout {
            error.set_retry(self.may_retry(ctx, |policy| policy.on.timeout));
            return error;
        }
        if answer != Answer::Reset {
            return error;
        }
        let elsewhere = self.may_retry(ctx, |policy| policy.on.reset);
        error.set_retry(elsewhere || (reused && self.retry_afresh(ctx)));
        error
    }

    /// One more attempt at the same backend on a new connection, where nothing else is left: it
    /// may just have closed a pooled connection as the request was on its way.
    fn retry_afresh(&self, ctx: &mut RequestCtx) -> bool {
        if ctx.stale_seen {
            return false;
        }
        ctx.stale_seen = true;
        ctx.tried.pop();
        ctx.fresh = true;
        self.may_retry(ctx, |policy| policy.on.reset)
    }

    /// Whether an answer is dropped in favour of another backend's, which is chosen here.
    pub(super) fn retry_answer(
        &self,
        session: &mut Session,
        ctx: &mut RequestCtx,
        status: StatusCode,
    ) -> bool {
        if !matches!(status.as_u16(), 502..=504) || !may_repeat(session) {
            return false;
        }
        let tried = ctx.tried.len();
        self.exclude(ctx);
        if !self.may_retry(ctx, |policy| policy.on.gateway_errors) {
            ctx.tried.truncate(tried);
            return false;
        }
        self.end_attempt(session, ctx, Answer::Status(status.as_u16()));
        true
    }

    /// Keeps later attempts away from the backend of the current one.
    fn exclude(&self, ctx: &mut RequestCtx) {
        if let Some(attempt) = &ctx.attempt {
            ctx.tried.push(attempt.guard.backend().id());
        }
    }

    /// Whether policy, time, the budget and another backend allow one more attempt; it is chosen
    /// here.
    fn may_retry(&self, ctx: &mut RequestCtx, on: impl FnOnce(&RetryPolicy) -> bool) -> bool {
        let Some(service) = &ctx.service else { return false };
        let policy = &service.policy().retries;
        let now = Instant::now();
        if !on(policy) || ctx.attempts > policy.attempts || now >= ctx.deadline {
            return false;
        }
        let now_ms = self.at_ms(now);
        let budget = service.budget();
        if budget.available() == 0 {
            return false;
        }
        // A pick can use up a trial of a backend on probation, a withdrawal spends budget: both
        // are wasted when the other fails, which the look above makes rare.
        let Some(next) = self.pick(ctx, now_ms) else { return false };
        if !budget.try_withdraw(now_ms) {
            return false;
        }
        ctx.next = Some(next);
        true
    }
}

/// Whether sending the request a second time changes nothing (RFC 9110, section 9.2.2) and its
/// body is still at hand.
pub(super) fn may_repeat(session: &Session) -> bool {
    session.req_header().method.is_idempotent() && !session.retry_buffer_truncated()
}

/// Whether a connection could not be made because this machine lacks something: that says nothing
/// of the backend.
fn is_shortage(error: &Error) -> bool {
    if matches!(
        error.etype(),
        ErrorType::InternalError | ErrorType::SocketError | ErrorType::BindError
    ) {
        return true;
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error.root_cause());
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(shortage::is_ours) {
            return true;
        }
        cause = error.source();
    }
    false
}

fn verdict(ctx: &RequestCtx) -> Option<Verdict> {
    ctx.connection.as_ref().map(|connection| connection.verdict())
}

/// Where the request goes, if it was taken back here because its backend had fallen.
fn take_claim(ctx: &RequestCtx) -> Option<Arc<Claim>> {
    let connection = ctx.connection.as_ref()?;
    (connection.verdict() == Verdict::Recalled).then(|| connection.watch().take_claim()).flatten()
}

/// What an error says of the backend; `None` when it is the client's doing or ours.
fn blame(error: &Error, ctx: &RequestCtx) -> Option<Answer> {
    match verdict(ctx) {
        Some(Verdict::LateWaiting) => return Some(Answer::Timeout),
        Some(
            Verdict::LateReading
            | Verdict::LateWriting
            | Verdict::Malformed
            | Verdict::Unasked
            | Verdict::Recalled,
        ) => return None,
        Some(Verdict::Fine) | None => {}
    }
    if error.esource() != &ErrorSource::Upstream {
        return None;
    }
    Some(match error.etype() {
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => Answer::Timeout,
        ErrorType::InvalidHTTPHeader => Answer::Malformed,
        _ => Answer::Reset,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connecting(etype: ErrorType, code: i32) -> Box<Error> {
        let source = io::Error::from_raw_os_error(code);
        Error::because(etype, "connecting", source).more_context("to a backend")
    }

    #[test]
    fn what_this_machine_lacks_is_no_fault_of_the_backend() {
        for code in [libc::ENOBUFS, libc::ENOMEM, libc::EADDRNOTAVAIL, libc::EMFILE, libc::EAGAIN] {
            assert!(is_shortage(&connecting(ErrorType::ConnectError, code)), "{code}");
        }
        assert!(is_shortage(&connecting(ErrorType::InternalError, libc::EADDRINUSE)));
        for code in [libc::ECONNRESET, libc::EHOSTUNREACH, libc::ECONNREFUSED] {
            assert!(!is_shortage(&connecting(ErrorType::ConnectError, code)), "{code}");
        }
        assert!(!is_shortage(&Error::explain(ErrorType::ConnectTimedout, "too long")));
    }
}
