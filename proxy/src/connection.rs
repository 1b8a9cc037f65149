//! One client connection from accept to close: heads are checked, then the engine takes over.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use foreshadow_control::InstanceId;
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::engine::App;
use crate::forward::ClientAddress;
use crate::head::{Head, HeadScanner, Refusal};
use crate::io::ClientStream;
use crate::listener::{ConnectionGuard, ListenerState, Phase};
use crate::plane::Shared;
use crate::recall::{Sent, Watch};
use crate::reply::local_reply;

/// What the engine and the stream share about a connection; requests come one after another, so
/// plain relaxed atomics are enough.
pub(crate) struct Connection {
    listener: Arc<ListenerState>,
    peer: SocketAddr,
    address: ClientAddress,
    opened: Instant,
    /// Microseconds after `opened` at which the current request must be over; 0 for never.
    deadline_us: AtomicU64,
    /// Microseconds for which the answer under way may pause; 0 for as long as the deadline allows.
    stall_us: AtomicU64,
    watch: Watch,
    /// Whether it has become a tunnel.
    tunnel: AtomicBool,
    /// Whether the request was answered for good while its client waits to be asked for the body.
    unasked: AtomicBool,
    /// A [`Verdict`].
    verdict: AtomicU8,
    /// Whether a request is under way.
    busy: AtomicBool,
}

/// What the stream found wrong with the current request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Verdict {
    /// Nothing.
    Fine,
    /// Its time was over while the answer was awaited, or more of it.
    LateWaiting,
    /// Its time was over while the client took the answer.
    LateWriting,
    /// Its body violates the chunked coding.
    Malformed,
    /// Its time was over while the client still sent it.
    LateReading,
    /// Its body was not asked for, the answer is complete, and the client went on waiting.
    Unasked,
    /// Its backend fell while the answer was awaited, and another was claimed for it.
    Recalled,
}

impl Connection {
    /// Describes a connection that was just accepted.
    pub(crate) fn new(listener: Arc<ListenerState>, peer: SocketAddr) -> Self {
        Self {
            listener,
            peer,
            address: ClientAddress::new(peer.ip()),
            opened: Instant::now(),
            deadline_us: AtomicU64::new(0),
            stall_us: AtomicU64::new(0),
            watch: Watch::default(),
            tunnel: AtomicBool::new(false),
            unasked: AtomicBool::new(false),
            verdict: AtomicU8::new(Verdict::Fine as u8),
            busy: AtomicBool::new(false),
        }
    }

    /// The listener that accepted it.
    pub(crate) fn listener(&self) -> &Arc<ListenerState> {
        &self.listener
    }

    /// The client's end of the connection.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The client's address as it is forwarded.
    pub(crate) fn address(&self) -> &ClientAddress {
        &self.address
    }

    /// Limits the next attempt, to which nothing that was found in an earlier one applies.
    pub(crate) fn begin_attempt(&self, deadline: Instant) {
        self.verdict.store(Verdict::Fine as u8, Ordering::Relaxed);
        self.set_deadline(deadline);
    }

    /// Limits the current request, of which no answer has begun.
    pub(crate) fn set_deadline(&self, at: Instant) {
        self.watch.stop();
        self.stall_us.store(0, Ordering::Relaxed);
        self.deadline_us
            .store(micros(at.saturating_duration_since(self.opened)), Ordering::Relaxed);
    }

    /// Limits the answer that has begun, and each of its pauses.
    pub(crate) fn limit_answer(&self, deadline: Instant, stall: Duration) {
        self.set_deadline(deadline);
        self.stall_us.store(micros(stall.min(FAR)), Ordering::Relaxed);
    }

    /// The other protocol was granted: from now on it is a tunnel, which has no limits.
    pub(crate) fn open_tunnel(&self) {
        self.clear_deadline();
        self.tunnel.store(true, Ordering::Relaxed);
    }

    /// Whether it is a tunnel to the end.
    pub(crate) fn is_tunnel(&self) -> bool {
        self.tunnel.load(Ordering::Relaxed)
    }

    /// Lifts the limits.
    pub(crate) fn clear_deadline(&self) {
        self.watch.stop();
        self.stall_us.store(0, Ordering::Relaxed);
        self.deadline_us.store(0, Ordering::Relaxed);
    }

    /// Lets the request, which awaits its answer since `since` and was at those `tried` before, be
    /// taken back from its backend.
    pub(crate) fn watch_backend(
        &self,
        shared: &Arc<Shared>,
        sent: Sent,
        tried: &[InstanceId],
        since: Instant,
    ) {
        let since_us = micros(since.saturating_duration_since(self.opened));
        self.watch.start(shared, sent, tried, since_us);
    }

    /// What the answer that is awaited depends on.
    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// A time by its distance from the opening.
    pub(crate) fn at(&self, micros: u64) -> Instant {
        self.opened + Duration::from_micros(micros)
    }

    /// How long nothing may move before whoever is named by `late` is too late.
    pub(crate) fn patience(&self, late: Verdict) -> Option<Duration> {
        match late {
            Verdict::LateWaiting => match self.stall_us.load(Ordering::Relaxed) {
                0 => None,
                micros => Some(Duration::from_micros(micros)),
            },
            Verdict::LateWriting => Some(self.client_stall()),
            // Reads of a body are limited by the engine.
            Verdict::LateReading
            | Verdict::Unasked
            | Verdict::Recalled
            | Verdict::Malformed
            | Verdict::Fine => None,
        }
    }

    /// How long the client may neither send of its request nor take of its answer.
    pub(crate) fn client_stall(&self) -> Duration {
        self.listener.spec().timeouts.client_body.min(FAR)
    }

    /// When the current request must be over.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.deadline_us.load(Ordering::Relaxed) {
            0 => None,
            micros => self.opened.checked_add(Duration::from_micros(micros)),
        }
    }

    /// The answer is complete, and nobody will ask the client for the body that it holds back.
    pub(crate) fn leave_unasked(&self) {
        self.unasked.store(true, Ordering::Relaxed);
    }

    /// See [`Connection::leave_unasked`].
    pub(crate) fn is_unasked(&self) -> bool {
        self.unasked.load(Ordering::Relaxed)
    }

    /// Forgets what was found about the previous request.
    pub(crate) fn begin(&self) {
        self.clear_deadline();
        self.unasked.store(false, Ordering::Relaxed);
        self.verdict.store(Verdict::Fine as u8, Ordering::Relaxed);
    }

    /// Notes what is wrong and lifts the deadline, so that the answer saying so can be written.
    pub(crate) fn condemn(&self, verdict: Verdict) {
        self.clear_deadline();
        self.verdict.store(verdict as u8, Ordering::Relaxed);
    }

    /// What was found wrong with the current request.
    pub(crate) fn verdict(&self) -> Verdict {
        match self.verdict.load(Ordering::Relaxed) {
            1 => Verdict::LateWaiting,
            2 => Verdict::LateWriting,
            3 => Verdict::Malformed,
            4 => Verdict::LateReading,
            5 => Verdict::Unasked,
            6 => Verdict::Recalled,
            _ => Verdict::Fine,
        }
    }
}

/// At least one, which tells it from no limit.
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).max(1)
}

/// As good as never, and yet no addition to a time overflows by it.
pub(crate) const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long a client that has just connected may take to send its first request although the
/// listener drains: its connection was accepted, and a request may be on its way.
const NEWCOMER: Duration = Duration::from_secs(1);

/// What waiting for the next request came to.
enum Next {
    Request(Head),
    Refused(Refusal),
    Closed,
}

/// Serves one connection until it ends or its listener is told to drop it.
pub(crate) async fn serve(
    app: Arc<App>,
    socket: TcpStream,
    connection: Arc<Connection>,
    guard: ConnectionGuard,
) {
    let mut phase = connection.listener().phase();
    let mut cut = phase.clone();
    tokio::select! {
        biased;
        () = requests(&app, socket, Arc::clone(&connection), &mut phase) => {}
        () = reached(&mut cut, Phase::Closed) => {
            if connection.busy.load(Ordering::Relaxed) {
                guard.cut_off();
            }
        }
    }
}

/// Resolves once the listener's phase is at least `wanted`, or the listener is gone.
async fn reached(phase: &mut watch::Receiver<Phase>, wanted: Phase) {
    // An error means that the sender, and with it the data plane, no longer exists.
    drop(phase.wait_for(|now| *now >= wanted).await);
}

/// The wait for a listener to drain, which goes on from request to request: to begin it anew means
/// to enter a list that all connections share.
struct Draining<'a, F> {
    reached: Pin<&'a mut F>,
    seen: bool,
}

impl<F: Future<Output = ()>> Draining<'_, F> {
    async fn begun(&mut self) {
        if !self.seen {
            self.reached.as_mut().await;
            self.seen = true;
        }
    }
}

async fn requests(
    app: &Arc<App>,
    socket: TcpStream,
    connection: Arc<Connection>,
    phase: &mut watch::Receiver<Phase>,
) {
    // The engine asks for a shutdown signal of its own; draining is decided per listener here.
    let (_shutdown, shutdown) = watch::channel(false);
    let mut stream = Box::new(ClientStream::new(socket, Arc::clone(&connection)));
    let draining = pin!(reached(phase, Phase::Draining));
    let mut draining = Draining { reached: draining, seen: false };
    let mut patience = NEWCOMER;
    loop {
        let head = match next_request(&mut stream, &mut draining, patience).await {
            Next::Request(head) => head,
            Next::Refused(refusal) => return refuse(&mut stream, refusal).await,
            Next::Closed => return,
        };
        patience = Duration::ZERO;
        connection.busy.store(true, Ordering::Relaxed);
        stream.begin(head);
        let mut session = ServerSession::new_http1(stream);
        let stall = connection.client_stall();
        session.set_read_timeout(Some(stall));
        session.set_write_timeout(Some(stall));
        let Some(reused) = app.process_new_http(session, &shutdown).await else { return };
        let (inner, _settings) = reused.consume();
        let Ok(ours) = inner.into_any().downcast::<ClientStream>() else { return };
        connection.busy.store(false, Ordering::Relaxed);
        stream = ours;
        if !stream.settle() {
            return;
        }
    }
}

/// Waits for a complete head that passes every check; once the listener drains, a client that has
/// not begun one has `patience` left.
async fn next_request(
    stream: &mut ClientStream,
    draining: &mut Draining<'_, impl Future<Output = ()>>,
    patience: Duration,
) -> Next {
    let timeouts = stream.connection().listener().spec().timeouts;
    stream.connection().begin();
    if stream.input().is_empty() {
        let idle_until = Instant::now() + timeouts.keepalive_idle.min(FAR);
        let first = tokio::select! {
            biased;
            read = stream.fill(idle_until) => read,
            () = async {
                draining.begun().await;
                tokio::time::sleep(patience).await;
            } => return Next::Closed,
        };
        if !matches!(first, Ok(count) if count > 0) {
            return Next::Closed;
        }
    }
    let mut scanner = HeadScanner::default();
    // The common head is complete in its first segment and needs neither clock nor timer.
    let mut until = None;
    loop {
        match scanner.scan(stream.input()) {
            Ok(Some(head)) => return Next::Request(head),
            Ok(None) => {}
            Err(refusal) => return Next::Refused(refusal),
        }
        let until = *until.get_or_insert_with(|| Instant::now() + timeouts.client_header.min(FAR));
        match stream.fill(until).await {
            Ok(count) if count > 0 => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return Next::Refused(Refusal::Timeout);
            }
            Ok(_) | Err(_) => return Next::Closed,
        }
    }
}

async fn refuse(stream: &mut ClientStream, refusal: Refusal) {
    let (status, reason) = refusal.status();
    stream.connection().listener().count_malformed();
    let bytes = local_reply(status, reason, refusal.text());
    let sent = async {
        stream.write_all(&bytes).await?;
        stream.close().await
    };
    if let Err(error) = sent.await {
        tracing::debug!(%error, status, "refusing a request");
    }
}
