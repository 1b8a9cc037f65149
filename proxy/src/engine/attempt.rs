//! From a routed request to a backend, and from the last byte back to the meters.

use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use foreshadow_control::ServiceName;
use http::StatusCode;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use tokio::time::Instant;

use super::context::{Attempt, RequestCtx, Snapshot};
use super::{Engine, max_forwards, sound, within};
use crate::connection::FAR;
use crate::forward;
use crate::hooks::{CompletedRequest, SocketProbe};
use crate::meters::traffic::Look;
use crate::recall::Sent;
use crate::{Answer, Backend, LoadReports, Origin, Outcome, Pick, UpstreamPolicy, orca};

/// How much later than the deadline the engine's own timeouts fire.
const BACKSTOP: Duration = Duration::from_millis(500);

impl Engine {
    /// Routes a request and chooses its first backend; true when it has been answered here.
    pub(super) async fn route(&self, session: &mut Session, ctx: &mut RequestCtx) -> Result<bool> {
        let Some(connection) = ctx.connection.clone() else { return Ok(false) };
        let table = self.shared.table.load();
        let request = session.req_header();
        if max_forwards::left(request) == Some(0) {
            self.answer_as_recipient(session).await?;
            return Ok(true);
        }
        let host = forward::host(request);
        let listener = connection.listener().spec();
        let service = table.route(&listener.name, host, request.uri.path()).cloned();
        drop(table);
        drop(listener);
        let Some(service) = service else {
            connection.listener().count_unrouted();
            self.answer(session, ctx, 404, "no service is routed here").await?;
            return Ok(true);
        };
        if service.via().is_in(&session.req_header().headers) {
            self.tell_loop(service.name());
            ctx.service = Some(service);
            self.answer(session, ctx, 508, "the request has been here before").await?;
            return Ok(true);
        }
        service.meters().arrived(self.worker);
        service.budget().deposit(self.at_ms(ctx.started));
        ctx.deadline = ctx.started + service.policy().total_timeout.min(FAR);
        connection.set_deadline(ctx.deadline);
        ctx.tunnel = session.is_upgrade_req() && sound::may_upgrade(session.req_header());
        service.meters().asked(self.worker, &session.req_header().method, ctx.tunnel);
        if let Some(observer) = &self.shared.observer {
            ctx.wanted = observer.wants(service.name(), &session.req_header().method);
        }
        ctx.service = Some(service);
        ctx.next = self.pick(ctx, self.at_ms(ctx.started));
        if ctx.next.is_none() {
            self.count_unserved(ctx);
            self.answer(session, ctx, 503, "no backend can take the request now").await?;
            return Ok(true);
        }
        Ok(false)
    }

    fn tell_loop(&self, service: &ServiceName) {
        if let Some(requests) = self.shared.loops.due(self.shared.clock.now_ms()) {
            tracing::warn!(
                %service,
                requests,
                "a request came back by way of the backend it was sent to; correct that backend's \
                 own upstream, or the address of the backend"
            );
        }
    }

    /// A backend that has not been tried yet.
    pub(super) fn pick(&self, ctx: &RequestCtx, now_ms: u64) -> Option<Arc<Backend>> {
        let service = ctx.service.as_ref()?;
        match service.pick(self.worker, &mut rand::rng(), &ctx.tried, now_ms) {
            Pick::Backend(backend) => Some(Arc::clone(backend)),
            Pick::None(reason) => {
                tracing::debug!(service = %service.name(), %reason, "no backend");
                None
            }
        }
    }

    /// Sends the request to the backend chosen for it, after a wait that is nearly always none.
    pub(super) fn begin_attempt(&self, ctx: &mut RequestCtx) -> Result<(Box<HttpPeer>, Duration)> {
        let (Some(backend), Some(service)) = (ctx.next.take(), &ctx.service) else {
            return Error::e_explain(ErrorType::InternalError, "an attempt without a backend");
        };
        let policy = service.policy();
        let now = Instant::now();
        let retry = ctx.attempts > 0;
        ctx.attempts += 1;
        ctx.status = 0;
        ctx.short = false;
        let detour = service.detour(backend.id(), self.at_ms(now));
        let address = detour.instead.unwrap_or_else(|| backend.address());
        let mut peer = Box::new(HttpPeer::new(address, false, String::new()));
        // An instance that is made anew on the address of an old one must not be sent requests on
        // the old one's connections.
        peer.group_key = backend.id().0;
        peer.options.idle_timeout = Some(policy.idle_timeout.min(FAR));
        if std::mem::take(&mut ctx.fresh) || detour.instead.is_some() {
            // A pool of its own that keeps nothing: where one pooled connection was dead, as after
            // a restart of the backend, the others are likely to be dead too.
            peer.group_key = !backend.id().0;
            peer.options.idle_timeout = Some(Duration::from_millis(1));
        }
        let connect = within(policy.connect_timeout, ctx.deadline, now);
        peer.options.connection_timeout = Some(connect);
        peer.options.total_connection_timeout = Some(connect);
        if let Some(connection) = &ctx.connection {
            connection.begin_attempt(ctx.deadline);
            if !ctx.tunnel {
                let whole = within(policy.total_timeout, ctx.deadline, now) + BACKSTOP;
                let (read, write) = backstops(policy, connection.client_stall());
                peer.options.read_timeout = Some(read.min(whole));
                peer.options.write_timeout = Some(write.min(whole));
            }
        }
        let sent = Sent::to(&backend, &self.shared.falls);
        let guard = backend.begin(self.worker, self.at_ms(now));
        ctx.attempt = Some(Attempt { guard, begun: now, retry, sent });
        Ok((peer, detour.wait.min(ctx.deadline.saturating_duration_since(now))))
    }

    /// Ends the attempt under way with what the backend did.
    pub(super) fn end_attempt(&self, session: &Session, ctx: &mut RequestCtx, answer: Answer) {
        let Some(attempt) = ctx.attempt.take() else { return };
        let now = Instant::now();
        let outcome = Outcome {
            answer,
            latency: now.saturating_duration_since(attempt.begun),
            bytes_in: session.upstream_body_bytes_received() as u64,
            bytes_out: session.upstream_body_bytes_sent().unwrap_or(0) as u64,
            retry: attempt.retry,
        };
        attempt.guard.finish(&outcome, self.at_ms(now));
    }

    /// Reads what the backend reports of its load, before anything else becomes of its answer.
    pub(super) fn take_report(&self, response: &mut ResponseHeader, ctx: &RequestCtx) {
        if !orca::is_reported(&response.headers) {
            return;
        }
        let (Some(attempt), Some(service)) = (&ctx.attempt, &ctx.service) else { return };
        let wanted = service.policy().load_reports;
        if wanted != LoadReports::Ignore {
            attempt.guard.backend().hear(self.worker, &response.headers);
        }
        if wanted == LoadReports::Take {
            for field in orca::FIELDS {
                response.remove_header(&field);
            }
        }
    }

    /// The request is over: counts its answer and reports it.
    pub(super) fn complete(&self, session: &Session, error: Option<&Error>, ctx: &mut RequestCtx) {
        self.count_answer(session, ctx);
        if error.is_some() || ctx.status == 0 {
            // Failures were counted where they were found; what is left is the client's doing.
            ctx.attempt = None;
            return;
        }
        if ctx.status == StatusCode::SWITCHING_PROTOCOLS.as_u16() {
            // What a tunnel carried, and for how long, is no answer to compare with.
            ctx.snapshot = None;
        }
        let instance = ctx.attempt.as_ref().map(|attempt| attempt.guard.backend().id());
        self.end_attempt(session, ctx, Answer::Status(ctx.status));
        if let (Some(observer), Some(snapshot), Some(instance), Some(service)) =
            (&self.shared.observer, ctx.snapshot.take(), instance, &ctx.service)
        {
            let Snapshot { method, uri, headers } = *snapshot;
            observer.completed(CompletedRequest {
                service: service.name().clone(),
                instance,
                method,
                uri,
                headers,
                status: ctx.status,
                latency_ms: ctx.started.elapsed().as_secs_f64() * 1e3,
            });
        }
    }

    /// Counts what the client was answered, if it was.
    fn count_answer(&self, session: &Session, ctx: &RequestCtx) {
        let (Some(service), Some(head)) = (&ctx.service, session.response_written()) else {
            return;
        };
        if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        let origin = if ctx.own_answer { Origin::Proxy } else { Origin::Backend };
        service.meters().answered(self.worker, origin, head.status.as_u16());
    }

    /// Counts what a request and its final answer say about copying such, for a share of them.
    pub(super) fn look(&self, session: &Session, answer: &ResponseHeader, ctx: &RequestCtx) {
        let Some(service) = ctx.service.as_ref().filter(|_| Look::is_due()) else { return };
        let request = session.req_header();
        let look = Look::at(&request.method, &request.headers, answer.status, &answer.headers);
        service.meters().looked(self.worker, look);
    }

    /// Counts a request that no backend took.
    pub(super) fn count_unserved(&self, ctx: &RequestCtx) {
        if let Some(service) = &ctx.service {
            service.meters().unserved(self.worker);
        }
    }

    /// Looks at the socket of an attempt.
    #[expect(unsafe_code, reason = "the engine gives out descriptors as plain numbers")]
    pub(super) fn sample(&self, probe: &dyn SocketProbe, fd: RawFd, backend: &Backend) {
        // SAFETY: the engine holds the connection, and with it the descriptor, open for as long as
        // the hook that passes the number on runs; the borrow ends with this call.
        let socket = unsafe { BorrowedFd::borrow_raw(fd) };
        if let Some(sample) = probe.sample(socket) {
            backend.kernel_sample(
                self.worker,
                sample.srtt_us as u32,
                u32::try_from(sample.retransmits).unwrap_or(u32::MAX),
                u32::try_from(sample.unacked_segments).unwrap_or(u32::MAX),
            );
        }
    }

    /// A time of this request on the clock that all requests share.
    pub(super) fn at_ms(&self, now: Instant) -> u64 {
        self.shared.clock.at_ms(now.into_std())
    }
}

/// The engine's own limits of reading from a backend and of writing to it.
///
/// Those kept with the client's stream come first and know who is late. These bound the cases in
/// which the engine does not look at that stream, such as a backend that stops reading. The wait
/// for bytes of the backend begins anew with each piece of a body that is sent to it, so it must
/// outlast a client that pauses between two of them.
fn backstops(policy: &UpstreamPolicy, client_stall: Duration) -> (Duration, Duration) {
    let silence = policy.stall_timeout.max(policy.first_byte_timeout).max(client_stall);
    (silence.saturating_add(BACKSTOP), policy.stall_timeout.saturating_add(BACKSTOP))
}
