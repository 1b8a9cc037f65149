//! The life of a backend: start-up, accepting, refusing, draining.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinSet, LocalSet};

use super::BackendError;
use super::app::{App, die};
use super::args::Args;
use super::fault::FaultKind;

/// Runs a backend on the calling thread until `stop` resolves and the rest has drained.
pub(super) fn run(
    args: Args,
    stop: impl Future<Output = io::Result<()>>,
    announce: impl FnOnce(SocketAddr),
) -> Result<(), BackendError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(args.concurrency as usize)
        .build()?;
    let result = LocalSet::new().block_on(&runtime, live(args, stop, announce));
    // Work that still burns CPU after the drain time must not hold up the end.
    runtime.shutdown_background();
    result
}

/// Resolves on SIGTERM or SIGINT.
pub(super) async fn signalled() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

async fn live(
    args: Args,
    stop: impl Future<Output = io::Result<()>>,
    announce: impl FnOnce(SocketAddr),
) -> Result<(), BackendError> {
    let drain = args.drain;
    let closing = watch::Sender::new(false);
    let mut connections = JoinSet::new();
    let result = tokio::select! {
        failed = serve(args, announce, &closing, &mut connections) => failed,
        stopped = stop => stopped.map_err(BackendError::Start),
    };
    // The listener is closed with the future above; what was accepted may finish.
    closing.send_replace(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(drain, drained).await.is_err() {
        tracing::warn!(
            left = connections.len(),
            "requests were still running after the drain time"
        );
    }
    result
}

/// Starts up, then accepts connections for good; only a failure ends it.
async fn serve(
    args: Args,
    announce: impl FnOnce(SocketAddr),
    closing: &watch::Sender<bool>,
    connections: &mut JoinSet<()>,
) -> Result<(), BackendError> {
    let started = Instant::now();
    let _ballast = ballast(args.memory)?;
    tokio::time::sleep_until((started + args.startup).into()).await;
    let (listener, address) = listen(args.address()).await?;
    announce(address);
    let limit = Arc::new(Semaphore::new(args.max_connections as usize));
    let app = Rc::new(App::new(args, started, Instant::now()));
    let mut fault_changes = app.fault_changes();
    let mut listener = Some(listener);
    loop {
        let fault = app.fault();
        if fault.is_some_and(|fault| fault.kind == FaultKind::Crash && fault.share >= 1.0) {
            die();
        }
        if fault.is_some_and(|fault| fault.kind == FaultKind::Refuse) {
            listener = None;
        } else if listener.is_none() {
            listener = Some(listen(address).await?.0);
        }
        tokio::select! {
            accepted = accept(listener.as_ref(), &limit) => match accepted {
                Ok((stream, permit)) => {
                    let connection = converse(Rc::clone(&app), stream, closing.subscribe(), permit);
                    connections.spawn_local(connection);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept; trying again in 50 ms");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            () = app.fault_change(&mut fault_changes) => {}
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection ended early");
                }
            }
        }
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), BackendError> {
    let failed = |source| BackendError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

async fn accept(
    listener: Option<&TcpListener>,
    limit: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let Some(listener) = listener else { return std::future::pending().await };
    let permit = Arc::clone(limit).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _peer) = listener.accept().await?;
    Ok((stream, permit))
}

/// Serves one connection until the peer closes it or the backend is closing.
async fn converse(
    app: Rc<App>,
    stream: TcpStream,
    mut closing: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "the connection is gone already");
        return;
    }
    app.connections.set(app.connections.get() + 1);
    let service = service_fn(|request| Rc::clone(&app).handle(request));
    let mut connection =
        std::pin::pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _closing = closing.wait_for(|closing| *closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
    app.connections.set(app.connections.get() - 1);
}

/// Takes memory and touches every page of it, so that it is really resident.
fn ballast(bytes: usize) -> Result<Vec<u8>, BackendError> {
    const PAGE: usize = 4_096;
    let mut memory = Vec::new();
    memory.try_reserve_exact(bytes).map_err(|_| BackendError::Memory { bytes })?;
    memory.resize(bytes, 0);
    for (page, byte) in memory.iter_mut().step_by(PAGE).enumerate() {
        *byte = page as u8 | 1;
    }
    Ok(std::hint::black_box(memory))
}
