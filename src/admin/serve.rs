//! Serving the admin interface within bounds: it shares its descriptors with the data plane.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::http::{Request, StatusCode};
use axum::response::IntoResponse;
use axum::serve::Listener;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::error::ApiError;
use super::seats::{Seat, Seats};

/// Connections open at once; further ones wait in the kernel, which costs no descriptor. When all
/// are taken, the one that has waited longest for a whole request is ended.
pub(crate) const CONNECTIONS: usize = 64;
/// From the opening of a connection, or the end of its last answer, to the end of a request's head.
const HEADER: Duration = Duration::from_secs(5);
/// From there to the end of its body, and how long that may be: orders and rules are short.
const BODY: Duration = Duration::from_secs(5);
const BODY_BYTES: usize = 64 * 1024;
/// After this long a connection gets no further request.
const LIFETIME: Duration = Duration::from_secs(60);
/// How long its last request may take from there, its body and the reading of its answer included.
const LAST: Duration = Duration::from_secs(60);

/// Where the other end of a connection is.
#[derive(Clone, Debug)]
pub(super) struct Peer(pub(super) String);

/// Where connections come from, by name.
pub(crate) trait Door: Listener {
    /// The other end of a connection, as records name it.
    fn peer(&self, io: &Self::Io, from: &Self::Addr) -> String;
}

impl Door for TcpListener {
    fn peer(&self, _: &TcpStream, from: &SocketAddr) -> String {
        from.to_string()
    }
}

impl Door for UnixListener {
    /// The user, who is all that has a name at that end.
    fn peer(&self, io: &UnixStream, _: &tokio::net::unix::SocketAddr) -> String {
        io.peer_cred().map_or_else(|_| "unix".to_owned(), |cred| format!("unix:uid={}", cred.uid()))
    }
}

/// Serves until `stop`, then until every request under way is answered. Connections end with the
/// future.
pub(crate) async fn serve(
    mut listener: impl Door,
    router: Router,
    mut stop: oneshot::Receiver<()>,
) {
    let (end, ending) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut seats = Seats::default();
    loop {
        let full = seats.len() >= CONNECTIONS;
        if full {
            seats.make_room();
        }
        tokio::select! {
            _ = &mut stop => break,
            Some(ended) = connections.join_next_with_id() => {
                seats.leave(ended.map_or_else(|error| error.id(), |(id, ())| id));
            }
            () = seats.one_waits(), if full => {}
            (io, from) = listener.accept(), if connections.len() < CONNECTIONS => {
                let seat = seats.next();
                let peer = Peer(listener.peer(&io, &from));
                let serving =
                    connection(io, peer, router.clone(), Arc::clone(&seat), ending.clone());
                seats.take(seat, connections.spawn(serving));
            }
        }
    }
    drop((listener, end));
    while connections.join_next().await.is_some() {}
}

async fn connection(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    peer: Peer,
    router: Router,
    seat: Arc<Seat>,
    mut ending: watch::Receiver<()>,
) {
    let router = TowerToHyperService::new(router);
    let answer = service_fn(async |request| {
        let answer = match whole(request).await {
            Ok(mut request) => {
                seat.busy();
                request.extensions_mut().insert(peer.clone());
                router.call(request).await
            }
            Err(error) => Ok(error.into_response()),
        };
        seat.answered();
        answer
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER)
        .serve_connection(TokioIo::new(io), answer);
    let mut connection = pin!(connection);
    // What a client sends as it connects is there by the time its connection is accepted: it is
    // read before the client can count as silent.
    let at_once = poll_fn(|context| Poll::Ready(connection.as_mut().poll(context))).await;
    if let Poll::Ready(ended) = at_once {
        return tell(ended);
    }
    seat.looked_at();
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
    if let Ok(ended) = ended {
        tell(ended);
    }
}

/// The request with its body, for which nobody but its client waits.
async fn whole(request: Request<Incoming>) -> Result<Request<Body>, ApiError> {
    let (head, body) = request.into_parts();
    let too_long = || {
        let why = format!("the body is longer than {BODY_BYTES} bytes, which is the most");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, why)
    };
    if body.size_hint().lower() > BODY_BYTES as u64 {
        return Err(too_long());
    }
    let error = match timeout(BODY, Limited::new(body, BODY_BYTES).collect()).await {
        Ok(Ok(body)) => return Ok(Request::from_parts(head, Body::from(body.to_bytes()))),
        Ok(Err(error)) if error.is::<LengthLimitError>() => too_long(),
        Ok(Err(error)) => {
            ApiError::new(StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}"))
        }
        Err(_) => ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body was not there within {BODY:?}"),
        ),
    };
    Err(error)
}

fn tell(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "an admin connection ended");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::sync::{Semaphore, mpsc};
    use tokio::time::Instant;

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

    /// Connections without sockets, so that time stands still while they are served.
    struct NoSockets(mpsc::UnboundedReceiver<DuplexStream>);

    impl Listener for NoSockets {
        type Io = DuplexStream;
        type Addr = ();

        async fn accept(&mut self) -> (DuplexStream, ()) {
            match self.0.recv().await {
                Some(io) => (io, ()),
                None => std::future::pending().await,
            }
        }

        fn local_addr(&self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Door for NoSockets {
        fn peer(&self, _: &DuplexStream, (): &()) -> String {
            String::new()
        }
    }

    struct Server {
        door: mpsc::UnboundedSender<DuplexStream>,
        gate: Arc<Semaphore>,
        asked: Arc<Semaphore>,
        _stop: oneshot::Sender<()>,
    }

    impl Server {
        /// Every request is answered with a permit of `gate`, and noted in `asked`.
        fn start(permits: usize) -> Self {
            let (door, connections) = mpsc::unbounded_channel();
            let gate = Arc::new(Semaphore::new(permits));
            let asked = Arc::new(Semaphore::new(0));
            let (inner, noted) = (Arc::clone(&gate), Arc::clone(&asked));
            let router = Router::new().route(
                "/",
                get(async move || {
                    noted.add_permits(1);
                    inner.acquire().await.unwrap().forget();
                    "answered"
                }),
            );
            let (stop, stopped) = oneshot::channel();
            tokio::spawn(serve(NoSockets(connections), router, stopped));
            Self { door, gate, asked, _stop: stop }
        }

        fn connect(&self) -> DuplexStream {
            let (client, io) = duplex(4096);
            self.door.send(io).unwrap();
            client
        }

        async fn ask(&self) -> DuplexStream {
            let mut client = self.connect();
            client.write_all(REQUEST).await.unwrap();
            client
        }
    }

    async fn answer(client: &mut (impl AsyncRead + Unpin)) -> String {
        let mut text = String::new();
        while !text.ends_with("answered") && !text.ends_with('}') {
            let mut piece = [0; 1024];
            match client.read(&mut piece).await.unwrap() {
                0 => break,
                count => text += &String::from_utf8_lossy(&piece[..count]),
            }
        }
        text
    }

    #[tokio::test(start_paused = true)]
    async fn silent_clients_give_way_to_one_that_asks() {
        let server = Server::start(1);
        let begun = Instant::now();
        let mut silent: Vec<DuplexStream> = (0..300).map(|_| server.connect()).collect();
        for half in silent.iter_mut().step_by(2) {
            half.write_all(&REQUEST[..20]).await.unwrap();
        }
        let mut client = server.ask().await;
        assert!(answer(&mut client).await.starts_with("HTTP/1.1 200"));
        assert_eq!(begun.elapsed(), Duration::ZERO, "nobody's time had to run out");
        assert_eq!(silent[0].read(&mut [0; 64]).await.unwrap(), 0, "the first to come went");
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn clients_that_keep_a_body_back_give_way_too_and_are_told_when_they_need_not() {
        let server = Server::start(1);
        let begun = Instant::now();
        let head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf";
        let mut held = Vec::new();
        for _ in 0..300 {
            let mut client = server.connect();
            client.write_all(head).await.unwrap();
            held.push(client);
        }
        let mut client = server.ask().await;
        assert!(answer(&mut client).await.starts_with("HTTP/1.1 200"));
        assert_eq!(begun.elapsed(), Duration::ZERO, "nobody's time had to run out");
        let late = answer(held.last_mut().unwrap()).await;
        assert!(late.starts_with("HTTP/1.1 408") && late.contains("within 5s"), "{late}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_has_a_bound() {
        let server = Server::start(1);
        let declared = "Content-Length: 1000000\r\n\r\n".to_owned();
        let sent = format!("Transfer-Encoding: chunked\r\n\r\n10001\r\n{}", "x".repeat(0x1_0001));
        for body in [declared, sent] {
            let client = server.connect();
            let request = format!("POST / HTTP/1.1\r\nHost: localhost\r\n{body}");
            let (mut reading, mut writing) = tokio::io::split(client);
            // The answer may come before the end of the body, and the connection end with it.
            let send = async { drop(writing.write_all(request.as_bytes()).await) };
            let (refused, ()) = tokio::join!(answer(&mut reading), send);
            assert!(refused.starts_with("HTTP/1.1 413") && refused.contains("65536"), "{refused}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn clients_whose_requests_are_being_answered_keep_their_places() {
        let server = Server::start(0);
        let begun = Instant::now();
        let mut busy = Vec::new();
        for _ in 0..CONNECTIONS {
            busy.push(server.ask().await);
        }
        let all = u32::try_from(CONNECTIONS).unwrap();
        server.asked.acquire_many(all).await.unwrap().forget();
        let mut next = server.ask().await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(server.asked.available_permits(), 0, "there is no room yet");
        server.gate.add_permits(1 + CONNECTIONS);
        for client in &mut busy {
            assert!(answer(client).await.starts_with("HTTP/1.1 200"));
        }
        // One of those that were answered gave way.
        assert!(answer(&mut next).await.starts_with("HTTP/1.1 200"));
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
