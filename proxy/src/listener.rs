//! Listening sockets that come and go at run time, and what is counted about each.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::sync::{Notify, watch};

use crate::cidr::Cidr;
use crate::errors::ProxyError;
use crate::holder;
use crate::places::Places;
use crate::route::ListenerName;
use crate::shortage::Seldom;

/// Connections the kernel queues per worker while all are busy.
const BACKLOG: i32 = 4096;
/// Silence after which the kernel asks whether a client is still there, and how often it asks.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_PROBES: Duration = Duration::from_secs(10);

/// One address to serve HTTP on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSpec {
    /// Name that routes refer to.
    pub name: ListenerName,
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// Connections served at once; further ones get a 503 and are closed.
    pub max_connections: u64,
    /// Limits on what a client may wait with.
    pub timeouts: ClientTimeouts,
    /// Clients whose `X-Forwarded-*` and `Forwarded` fields are believed and extended; those of
    /// everyone else are replaced.
    pub trusted_proxies: Vec<Cidr>,
    /// Whether a client that closes its sending side has given up its request; otherwise it may be
    /// waiting for the answer (RFC 9112, section 9.6), and is sent it.
    pub abort_on_close: bool,
}

impl ListenerSpec {
    /// A listener with sound defaults: 65,536 connections, no trusted proxies.
    #[must_use]
    pub fn new(name: &str, address: SocketAddr) -> Self {
        Self {
            name: ListenerName::from(name),
            address,
            max_connections: 65_536,
            timeouts: ClientTimeouts::default(),
            trusted_proxies: Vec::new(),
            abort_on_close: false,
        }
    }
}

/// How long a client may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientTimeouts {
    /// From the first byte of a request to the end of its head; then 408.
    pub client_header: Duration,
    /// Between two reads of a request body, or two writes of an answer.
    pub client_body: Duration,
    /// Before the first byte of a request; then the connection is closed.
    pub keepalive_idle: Duration,
}

impl Default for ClientTimeouts {
    fn default() -> Self {
        Self {
            client_header: Duration::from_secs(10),
            client_body: Duration::from_secs(60),
            keepalive_idle: Duration::from_secs(75),
        }
    }
}

/// Connections of one listener: `active` is a gauge, the others count since it was added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// The listener's name.
    pub listener: String,
    /// Where it really listens.
    pub address: Option<SocketAddr>,
    /// Accepted and served.
    pub accepted: u64,
    /// Open now.
    pub active: u64,
    /// Turned away because `max_connections` were open, or as many as all listeners may have.
    pub refused: u64,
    /// Requests refused before routing: malformed, too large or too slow.
    pub malformed: u64,
    /// Requests that no route matched, answered with 404.
    pub unrouted: u64,
}

/// Life of a listener, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Accepts.
    Open,
    /// No longer accepts; connections finish what they are at.
    Draining,
    /// Connections are dropped.
    Closed,
}

/// A listener and its counters, shared by all workers.
#[derive(Debug)]
pub(crate) struct ListenerState {
    spec: ArcSwap<ListenerSpec>,
    local: SocketAddr,
    phase: watch::Sender<Phase>,
    /// Workers that still hold a listening socket.
    accepting: AtomicUsize,
    accepted: AtomicU64,
    active: AtomicU64,
    refused: AtomicU64,
    malformed: AtomicU64,
    unrouted: AtomicU64,
    cut_off: AtomicUsize,
    /// Those of all listeners together.
    places: Arc<Places>,
    opened: Instant,
    accept_failures: Seldom,
    /// Told whenever a connection or a listening socket closes while draining.
    changed: Notify,
}

impl ListenerState {
    fn new(spec: ListenerSpec, local: SocketAddr, workers: usize, places: Arc<Places>) -> Self {
        Self {
            spec: ArcSwap::from_pointee(spec),
            local,
            phase: watch::Sender::new(Phase::Open),
            accepting: AtomicUsize::new(workers),
            accepted: AtomicU64::new(0),
            active: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            unrouted: AtomicU64::new(0),
            cut_off: AtomicUsize::new(0),
            places,
            opened: Instant::now(),
            accept_failures: Seldom::default(),
            changed: Notify::new(),
        }
    }

    /// The settings in force; they may change while connections are open.
    pub(crate) fn spec(&self) -> Guard<Arc<ListenerSpec>> {
        self.spec.load()
    }

    /// Replaces the settings without touching sockets or connections.
    pub(crate) fn update(&self, spec: ListenerSpec) {
        if **self.spec.load() != spec {
            self.spec.store(Arc::new(spec));
        }
    }

    /// The bound address.
    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Follows the listener's life.
    pub(crate) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Whether answers should end their connection.
    pub(crate) fn is_draining(&self) -> bool {
        *self.phase.borrow() >= Phase::Draining
    }

    /// Moves on; a phase is never left backwards.
    pub(crate) fn advance(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let later = phase > *now;
            *now = phase.max(*now);
            later
        });
        self.changed.notify_waiters();
    }

    /// Takes a place for a connection, or counts the refusal when all are taken.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<ConnectionGuard> {
        let limit = self.spec.load().max_connections;
        let open = self.active.fetch_add(1, Ordering::AcqRel);
        if open >= limit || !self.places.take() {
            self.active.fetch_sub(1, Ordering::AcqRel);
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.accepted.fetch_add(1, Ordering::Relaxed);
        Some(ConnectionGuard { listener: Arc::clone(self) })
    }

    /// Counts an accept that failed; how many did since the last time when it is to be told.
    pub(crate) fn accept_failed(&self) -> Option<u64> {
        let now_ms = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.accept_failures.due(now_ms)
    }

    /// Counts a request that never reached routing.
    pub(crate) fn count_malformed(&self) {
        self.malformed.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request for no service.
    pub(crate) fn count_unrouted(&self) {
        self.unrouted.fetch_add(1, Ordering::Relaxed);
    }

    /// A worker has closed its listening socket.
    pub(crate) fn stopped_accepting(&self) {
        self.accepting.fetch_sub(1, Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    /// Listening sockets still open.
    pub(crate) fn accepting(&self) -> usize {
        self.accepting.load(Ordering::Acquire)
    }

    /// Connections open now.
    pub(crate) fn active(&self) -> u64 {
        self.active.load(Ordering::Acquire)
    }

    /// Connections that were dropped in the middle of a request because their time was over.
    pub(crate) fn cut_off(&self) -> usize {
        self.cut_off.load(Ordering::Acquire)
    }

    /// Resolves once nothing of the listener is open any more.
    pub(crate) async fn drained(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before looking, so that a close in between is not missed.
            changed.as_mut().enable();
            if self.active() == 0 && self.accepting() == 0 {
                return;
            }
            changed.await;
        }
    }

    /// Counters for metrics.
    pub(crate) fn counts(&self) -> ConnectionCounts {
        ConnectionCounts {
            listener: self.spec.load().name.to_string(),
            address: Some(self.local),
            accepted: self.accepted.load(Ordering::Relaxed),
            active: self.active(),
            refused: self.refused.load(Ordering::Relaxed),
            malformed: self.malformed.load(Ordering::Relaxed),
            unrouted: self.unrouted.load(Ordering::Relaxed),
        }
    }
}

/// A place among the listener's connections, given back when dropped.
#[derive(Debug)]
pub(crate) struct ConnectionGuard {
    listener: Arc<ListenerState>,
}

impl ConnectionGuard {
    /// Notes that the connection ends by force, a request with it.
    pub(crate) fn cut_off(&self) {
        self.listener.cut_off.fetch_add(1, Ordering::AcqRel);
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.listener.places.give_back();
        self.listener.active.fetch_sub(1, Ordering::AcqRel);
        self.listener.changed.notify_waiters();
    }
}

/// Binds one socket per worker to the address of `spec`.
///
/// The workers' sockets share the port by `SO_REUSEPORT`, which the kernel would grant to any
/// process of the same user: two proxies started by mistake would silently split the traffic.
/// Binding once without the option first makes a port in use the error it should be. Another
/// process can still slip in between the two binds; that needs intent, not a mistake.
///
/// # Errors
///
/// [`ProxyError::Bind`].
pub(crate) fn bind(
    spec: &ListenerSpec,
    workers: usize,
    places: &Arc<Places>,
) -> Result<(Arc<ListenerState>, Vec<std::net::TcpListener>), ProxyError> {
    let bound = || -> io::Result<(SocketAddr, Vec<std::net::TcpListener>)> {
        drop(socket(spec.address, false)?);
        let mut address = spec.address;
        let mut sockets = Vec::with_capacity(workers);
        for _ in 0..workers {
            let socket = socket(address, true)?;
            socket.listen(BACKLOG)?;
            let listener = std::net::TcpListener::from(socket);
            address = listener.local_addr()?;
            sockets.push(listener);
        }
        Ok((address, sockets))
    };
    let (local, sockets) = bound().map_err(|source| ProxyError::Bind {
        listener: spec.name.to_string(),
        address: spec.address,
        holder: (source.kind() == io::ErrorKind::AddrInUse)
            .then(|| holder::of_port(spec.address.port()))
            .flatten(),
        source,
    })?;
    let state = ListenerState::new(spec.clone(), local, workers, Arc::clone(places));
    Ok((Arc::new(state), sockets))
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if let IpAddr::V6(ip) = address.ip() {
        // `[::]` means both families, as operators expect; a specific address means itself.
        socket.set_only_v6(!ip.is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit both: answers are gathered before they are sent, and a tunnel whose
    // client vanished must end some day.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_PROBES),
    )?;
    socket.bind(&address.into())?;
    Ok(socket)
}
