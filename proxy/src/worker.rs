//! One worker: a thread with a single-threaded runtime, its own sockets and its own engine.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use crate::connection::{self, Connection};
use crate::engine::App;
use crate::errors::ProxyError;
use crate::listener::{ListenerState, Phase};
use crate::reply::local_reply;

/// Commands that may wait for a worker; more than any configuration changes at once.
const COMMANDS: usize = 256;
/// Pause after an accept failed for want of descriptors or memory: the connection stays queued,
/// and trying at once would spin.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// A new listening socket for a worker.
pub(crate) struct Listen {
    /// The listener it belongs to.
    pub(crate) listener: Arc<ListenerState>,
    /// The worker's own socket.
    pub(crate) socket: std::net::TcpListener,
}

/// The plane's end of a worker.
#[derive(Debug)]
pub(crate) struct Worker {
    index: usize,
    commands: mpsc::Sender<Listen>,
    thread: JoinHandle<()>,
}

impl Worker {
    /// Starts a worker; `app` is made on its thread, since connection pools belong to a runtime.
    ///
    /// # Errors
    ///
    /// [`ProxyError::Worker`] when the runtime or the thread cannot be made.
    pub(crate) fn start(
        index: usize,
        make_app: impl FnOnce() -> App + Send + 'static,
    ) -> Result<Self, ProxyError> {
        let failed = |source| ProxyError::Worker { worker: index, source };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // Sockets are looked at this often while tasks are ready: bounds the wait of new ones.
            .event_interval(31)
            .build()
            .map_err(failed)?;
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let thread = std::thread::Builder::new()
            .name(format!("proxy-{index}"))
            .spawn(move || runtime.block_on(run(Arc::new(make_app()), inbox)))
            .map_err(failed)?;
        Ok(Self { index, commands, thread })
    }

    /// Hands the worker a socket to accept from.
    ///
    /// # Errors
    ///
    /// [`ProxyError::WorkerGone`] when the worker has ended or is hopelessly behind.
    pub(crate) fn listen(&self, listen: Listen) -> Result<(), ProxyError> {
        self.commands.try_send(listen).map_err(|_| ProxyError::WorkerGone { worker: self.index })
    }

    /// Lets the worker end and returns its thread. Open connections are dropped.
    pub(crate) fn stop(self) -> JoinHandle<()> {
        self.thread
    }
}

async fn run(app: Arc<App>, mut inbox: mpsc::Receiver<Listen>) {
    while let Some(Listen { listener, socket }) = inbox.recv().await {
        match TcpListener::from_std(socket) {
            Ok(socket) => {
                let app = Arc::clone(&app);
                tokio::spawn(async move {
                    accept_loop(app, socket, &listener).await;
                    listener.stopped_accepting();
                });
            }
            Err(error) => {
                tracing::error!(%error, listener = %listener.spec().name, "cannot poll a socket");
                listener.stopped_accepting();
            }
        }
    }
}

async fn accept_loop(app: Arc<App>, socket: TcpListener, listener: &Arc<ListenerState>) {
    let mut phase = listener.phase();
    loop {
        tokio::select! {
            accepted = socket.accept() => match accepted {
                Ok((stream, peer)) => admit(&app, listener, stream, peer),
                Err(error) => accept_failed(&error, listener).await,
            },
            () = leaving(&mut phase) => break,
        }
    }
    // What the kernel has queued was promised service by its handshake; closing the socket now
    // would reset it. Handshakes that complete after the last look here are still lost: the kernel
    // offers no way to stop queueing before closing.
    if let Err(error) = accept_queued(&app, socket, listener) {
        tracing::debug!(%error, listener = %listener.spec().name, "accepting what was queued");
    }
}

async fn leaving(phase: &mut watch::Receiver<Phase>) {
    // An error means that the data plane no longer exists, which is a reason to leave as well.
    drop(phase.wait_for(|now| *now >= Phase::Draining).await);
}

fn accept_queued(
    app: &Arc<App>,
    socket: TcpListener,
    listener: &Arc<ListenerState>,
) -> io::Result<()> {
    // The runtime may not have heard of the newest connections yet; the kernel has.
    let socket = socket.into_std()?;
    loop {
        match socket.accept() {
            Ok((stream, peer)) => {
                stream.set_nonblocking(true)?;
                admit(app, listener, TcpStream::from_std(stream)?, peer);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn admit(app: &Arc<App>, listener: &Arc<ListenerState>, stream: TcpStream, peer: SocketAddr) {
    let Some(guard) = listener.admit() else {
        let reply = local_reply(503, "Service Unavailable", "too many connections");
        // The socket's buffer is empty, so this goes out at once or never. A request that was sent
        // already makes the close a reset, which may overtake the answer: waiting for it to be
        // read would let the refused hold what the limit protects.
        if let Err(error) = stream.try_write(&reply) {
            tracing::debug!(%error, %peer, "turning a connection away");
        }
        return;
    };
    let connection = Arc::new(Connection::new(Arc::clone(listener), peer));
    tokio::spawn(connection::serve(Arc::clone(app), stream, connection, guard));
}

async fn accept_failed(error: &io::Error, listener: &ListenerState) {
    match error.kind() {
        // The client gave up between the handshake and the accept.
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted => {}
        _ => {
            if let Some(failures) = listener.accept_failed() {
                tracing::warn!(
                    %error,
                    failures,
                    listener = %listener.spec().name,
                    "cannot accept; new connections wait (is the limit on open files too low?)"
                );
            }
            tokio::time::sleep(ACCEPT_BACKOFF).await;
        }
    }
}
