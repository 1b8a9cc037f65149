//! The HTTP engine: pingora's proxy with our routing, balancing, retries and answers.

mod answer;
mod attempt;
mod context;
mod failure;
mod max_forwards;
mod sound;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{TRANSFER_ENCODING, UPGRADE};
use http::{StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, HttpProxy, ProxyHttp, ProxyWarnLogContext, Session, http_proxy};
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use tokio::time::Instant;

use crate::WorkerId;
use crate::forward::{self, ClientSide};
use crate::io::ClientStream;
use crate::plane::Shared;
use context::RequestCtx;

/// Attempts the engine allows a request; the policy of its service allows fewer.
const MAX_ATTEMPTS: usize = 32;

/// One worker's engine with its own pool of upstream connections.
pub(crate) type App = HttpProxy<Engine>;

/// Makes a worker's engine; `keepalive` idle upstream connections are kept.
pub(crate) fn app(worker: WorkerId, shared: Arc<Shared>, keepalive: usize) -> App {
    let conf = Arc::new(ServerConf {
        threads: 1,
        max_retries: MAX_ATTEMPTS,
        upstream_keepalive_pool_size: keepalive,
        ..ServerConf::default()
    });
    // The engine's modules are initialised already; doing so again panics at the first request.
    http_proxy(&conf, Engine { worker, shared })
}

/// What one worker needs to serve requests.
pub(crate) struct Engine {
    worker: WorkerId,
    shared: Arc<Shared>,
}

thread_local! {
    /// Requests until the next look at a socket; a worker is one thread.
    static UNTIL_SAMPLE: Cell<u32> = const { Cell::new(0) };
}

/// One request in this many has its upstream socket looked at.
const SAMPLE_EVERY: u32 = 16;

fn sample_now() -> bool {
    UNTIL_SAMPLE.with(|left| match left.get() {
        0 => {
            left.set(SAMPLE_EVERY - 1);
            true
        }
        count => {
            left.set(count - 1);
            false
        }
    })
}

#[async_trait]
impl ProxyHttp for Engine {
    type CTX = RequestCtx;

    fn new_ctx(&self) -> RequestCtx {
        RequestCtx::new(Instant::now())
    }

    /// None: the engine's own default is a compression that is switched off, and each request and
    /// answer would be shown to it.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn early_request_filter(
        &self,
        session: &mut Session,
        ctx: &mut RequestCtx,
    ) -> Result<()> {
        let Some(stream) = client_stream(session) else {
            return Error::e_explain(ErrorType::InternalError, "a session on a foreign stream");
        };
        ctx.connection = Some(Arc::clone(stream.connection()));
        if session.req_header().version == Version::HTTP_10 {
            session.set_ignore_info_resp(true);
        }
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut RequestCtx) -> Result<bool> {
        self.route(session, ctx).await
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        ctx: &mut RequestCtx,
    ) -> Result<Box<HttpPeer>> {
        let (peer, wait) = self.begin_attempt(ctx)?;
        if !wait.is_zero() {
            // Boxed: hardly any request waits, and each would carry the timer.
            Box::pin(tokio::time::sleep(wait)).await;
        }
        Ok(peer)
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        _reused: bool,
        _peer: &HttpPeer,
        fd: std::os::fd::RawFd,
        _digest: Option<&Digest>,
        ctx: &mut RequestCtx,
    ) -> Result<()> {
        if let (Some(probe), Some(attempt)) = (&self.shared.probe, &ctx.attempt)
            && sample_now()
        {
            self.sample(&**probe, fd, attempt.guard.backend());
        }
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<()> {
        let (Some(connection), Some(service)) = (&ctx.connection, &ctx.service) else {
            return Ok(());
        };
        let address = connection.address();
        let listener = connection.listener().spec();
        let client = ClientSide {
            address,
            trusted: listener.trusted_proxies.iter().any(|range| range.contains(address.ip())),
            version: session.req_header().version,
            proto: "http",
            via: service.via(),
        };
        if !sound::may_upgrade(request) {
            request.remove_header(&UPGRADE);
        }
        ctx.asked_upgrade = sound::asks_upgrade(request);
        max_forwards::count(request)?;
        forward::request(request, client)?;
        ctx.snapshot(request);
        Ok(())
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        _body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut RequestCtx,
    ) -> Result<()> {
        if end_of_stream {
            let repeatable = failure::may_repeat(session) && session.response_written().is_none();
            ctx.await_first_byte(&self.shared, repeatable);
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut RequestCtx,
    ) -> Result<()> {
        let status = response.status;
        sound::check(response, ctx.asked_upgrade)?;
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            forward::interim(response);
            ctx.interim = true;
            if let Some(connection) = &ctx.connection {
                // The client has seen it, and must not see one from elsewhere as well.
                connection.watch().stop();
            }
            return Ok(());
        }
        ctx.answered(status, self.at_ms(Instant::now()));
        self.take_report(response, ctx);
        if status == StatusCode::SWITCHING_PROTOCOLS {
            // A tunnel has no body within which the client could pause for too long.
            session.as_downstream_mut().set_read_timeout(None);
        }
        if self.retry_answer(session, ctx, status) {
            return Error::e_explain(ErrorType::HTTPStatus(status.as_u16()), "retried elsewhere");
        }
        self.look(session, response, ctx);
        // Here and not in the last filter, where the engine has overwritten the version already.
        forward::response(response)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut RequestCtx,
    ) -> Result<()> {
        if response.status.is_informational() && response.status != StatusCode::SWITCHING_PROTOCOLS
        {
            return Ok(());
        }
        if session.req_header().version == Version::HTTP_10 {
            // HTTP/1.0 knows no chunks: the body ends with the connection, which the engine
            // arranges once nothing else delimits it.
            response.remove_header(&TRANSFER_ENCODING);
        } else if ctx.interim {
            // The engine gave up the connection when it passed that on before the whole request was
            // read. It does so again if that is still not the case.
            session.set_keepalive(Some(0));
        }
        if is_last(session) {
            session.set_keepalive(None);
        }
        if !ctx.sent && sound::is_head_alone(&session.req_header().method, response) {
            ctx.answer_complete(session.req_header());
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        _body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut RequestCtx,
    ) -> Result<Option<Duration>> {
        if end_of_stream {
            ctx.answer_complete(session.req_header());
        }
        Ok(None)
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut RequestCtx,
        error: Box<Error>,
    ) -> Box<Error> {
        self.connect_failed(session, ctx, error)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut RequestCtx,
        client_reused: bool,
    ) -> Box<Error> {
        self.exchange_failed(session, ctx, error, client_reused)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut RequestCtx,
    ) -> FailToProxy {
        self.answer_failure(session, error, ctx).await
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut RequestCtx) {
        self.complete(session, error, ctx);
    }

    fn suppress_error_log(&self, session: &Session, _ctx: &RequestCtx, error: &Error) -> bool {
        // Failures are counted; logging each would turn an outage into a flood.
        tracing::debug!(%error, request = %session.request_summary(), "request failed");
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &RequestCtx,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

/// Our own end of the client's connection.
fn client_stream(session: &Session) -> Option<&ClientStream> {
    (**session.stream()?).as_any().downcast_ref()
}

/// Whether no request can or should follow on the client's connection.
fn is_last(session: &Session) -> bool {
    client_stream(session).is_some_and(|stream| {
        stream.is_half_closed() || stream.connection().listener().is_draining()
    })
}

/// The shorter of a limit and what is left of the whole.
fn within(limit: Duration, deadline: Instant, now: Instant) -> Duration {
    limit.min(deadline.saturating_duration_since(now)).max(Duration::from_millis(1))
}
