//! Serving the admin interface within bounds: it shares its descriptors with the data plane.

use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Connections open at once; further ones wait in the kernel, which costs no descriptor.
pub(crate) const CONNECTIONS: usize = 64;
/// From the opening of a connection, or the end of its last answer, to the end of a request's head.
const HEADER: Duration = Duration::from_secs(5);
/// After this long a connection gets no further request.
const LIFETIME: Duration = Duration::from_secs(60);
/// How long its last request may take from there, its body and the reading of its answer included.
const LAST: Duration = Duration::from_secs(60);

/// Serves until `stop`, then until every request under way is answered. Connections end with the
/// future.
pub(crate) async fn serve(
    mut listener: impl Listener,
    router: Router,
    mut stop: oneshot::Receiver<()>,
) {
    let (end, ending) = watch::channel(());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stop => break,
            Some(_) = connections.join_next() => {}
            (io, _) = listener.accept(), if connections.len() < CONNECTIONS => {
                connections.spawn(connection(io, router.clone(), ending.clone()));
            }
        }
    }
    drop((listener, end));
    while connections.join_next().await.is_some() {}
}

async fn connection(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    router: Router,
    mut ending: watch::Receiver<()>,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER)
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Ok(ended),
        () = async {
            tokio::select! {
                // An error, which means that the sender is gone, is the signal.
                _ = ending.changed() => {}
                () = sleep(LIFETIME) => {}
            }
        } => {
            connection.as_mut().graceful_shutdown();
            timeout(LAST, connection).await
        }
    };
    if let Ok(Err(error)) = ended {
        tracing::debug!(%error, "an admin connection ended");
    }
}
