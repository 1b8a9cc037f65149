//! Backends, clients and a data plane between them.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use foreshadow_control::InstanceId;
use foreshadow_proxy::{
    BackendSpec, DataPlane, HostMatch, ListenerName, ListenerRoutes, ListenerSpec, PathMatch,
    RouteSpec, Settings, TableSpec, UpstreamPolicy, UpstreamSpec,
};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Nothing here takes this long unless it hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Fails the test instead of hanging it.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("timed out: {what}"),
    }
}

/// Waits until a condition that the test brought about is seen.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    within(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// A backend on a free port.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    pub(crate) requests: Arc<AtomicUsize>,
    pub(crate) connections: Arc<AtomicUsize>,
    /// Requests for `/hold` wait for a permit.
    pub(crate) gate: Arc<Semaphore>,
}

impl Backend {
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// A well-behaved HTTP server that answers with `name` and understands a few paths.
    pub(crate) async fn http(name: &'static str) -> Self {
        let (listener, backend) = Self::bind().await;
        let (requests, gate) = (Arc::clone(&backend.requests), Arc::clone(&backend.gate));
        let connections = Arc::clone(&backend.connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (requests, gate) = (Arc::clone(&requests), Arc::clone(&gate));
                let service = hyper::service::service_fn(move |request| {
                    requests.fetch_add(1, Ordering::SeqCst);
                    respond(name, request, Arc::clone(&gate))
                });
                tokio::spawn(async move {
                    let connection = hyper::server::conn::http1::Builder::new()
                        .half_close(true)
                        .serve_connection(TokioIo::new(stream), service);
                    // Clients of these tests go away in every way there is.
                    drop(connection.with_upgrades().await);
                });
            }
        });
        backend
    }

    /// A server that reads a request head and then does as told with the socket.
    pub(crate) async fn raw<F, R>(act: F) -> Self
    where
        F: Fn(TcpStream, String) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = ()> + Send,
    {
        let (listener, backend) = Self::bind().await;
        let (requests, connections) =
            (Arc::clone(&backend.requests), Arc::clone(&backend.connections));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (act, requests) = (act.clone(), Arc::clone(&requests));
                tokio::spawn(async move {
                    let Some(head) = read_head(&mut stream).await else { return };
                    requests.fetch_add(1, Ordering::SeqCst);
                    act(stream, head).await;
                });
            }
        });
        backend
    }

    /// An address where nobody listens.
    pub(crate) async fn refusing() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    }

    async fn bind() -> (TcpListener, Self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backend = Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
            connections: Arc::default(),
            gate: Arc::new(Semaphore::new(0)),
        };
        (listener, backend)
    }
}

type Body = BoxBody<Bytes, hyper::Error>;

fn text(status: u16, text: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(text.into()).map_err(|never| match never {}).boxed();
    Response::builder().status(status).body(body).unwrap()
}

async fn respond(
    name: &'static str,
    mut request: Request<Incoming>,
    gate: Arc<Semaphore>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    Ok(match path.as_str() {
        "/hold" => {
            gate.acquire().await.unwrap().forget();
            text(200, name)
        }
        "/head" => {
            let mut lines = format!("{} {}\n", request.method(), request.uri());
            for (name, value) in request.headers() {
                lines += &format!("{name}: {}\n", value.to_str().unwrap());
            }
            text(200, lines)
        }
        // The body back as it came, streamed and without a length.
        "/echo" => Response::new(request.into_body().boxed()),
        "/length" => {
            let body = request.into_body().collect().await;
            match body {
                Ok(body) => text(200, body.to_bytes().len().to_string()),
                Err(error) => text(400, error.to_string()),
            }
        }
        "/hop" => {
            let mut response = text(200, name);
            for (name, value) in [("connection", "x-hop"), ("x-hop", "1"), ("x-end", "2")] {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            response
        }
        "/upgrade" => {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut io = TokioIo::new(upgrade.await.unwrap());
                let mut buffer = [0_u8; 64];
                while let Ok(count) = io.read(&mut buffer).await
                    && count > 0
                {
                    buffer[..count].make_ascii_uppercase();
                    io.write_all(&buffer[..count]).await.unwrap();
                }
            });
            let mut response = text(101, "");
            for (name, value) in [("connection", "Upgrade"), ("upgrade", "websocket")] {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            response
        }
        path => match path.strip_prefix("/status/").and_then(|s| s.parse::<u16>().ok()) {
            Some(status) => text(status, name),
            None => text(200, name),
        },
    })
}

async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// A data plane with one listener in front of one service.
pub(crate) struct Rig {
    pub(crate) plane: DataPlane,
    pub(crate) address: SocketAddr,
}

impl Rig {
    pub(crate) async fn start(backends: &[SocketAddr]) -> Self {
        Self::with(UpstreamPolicy::default(), backends).await
    }

    pub(crate) async fn with(policy: UpstreamPolicy, backends: &[SocketAddr]) -> Self {
        Self::tuned(policy, backends, |_| {}).await
    }

    pub(crate) async fn tuned(
        policy: UpstreamPolicy,
        backends: &[SocketAddr],
        tune: impl FnOnce(&mut ListenerSpec),
    ) -> Self {
        let plane = DataPlane::start(Settings { workers: 2, ..Settings::default() }).unwrap();
        plane.publish(&table(policy, backends)).unwrap();
        let mut spec = web();
        tune(&mut spec);
        let address = plane.set_listeners(vec![spec]).pop().unwrap().unwrap();
        Self { plane, address }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// One request on a connection of its own.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.client().await.get(path).await
    }
}

/// The listener of a [`Rig`].
pub(crate) fn web() -> ListenerSpec {
    ListenerSpec::new("web", "127.0.0.1:0".parse().unwrap())
}

/// Everything that reaches listener `web` or `other` goes to one service with these backends.
pub(crate) fn table(policy: UpstreamPolicy, backends: &[SocketAddr]) -> TableSpec {
    let routes = |name: &str| ListenerRoutes {
        listener: ListenerName::from(name),
        routes: vec![RouteSpec {
            host: HostMatch::Any,
            path: PathMatch::Prefix("/".to_owned()),
            service: "shop".into(),
        }],
    };
    let backends = backends
        .iter()
        // An instance never changes its address, so the address names it.
        .map(|&address| BackendSpec {
            id: InstanceId(u64::from(address.port())),
            address,
            weight: 1,
            capacity_rps: 0.0,
        })
        .collect();
    TableSpec {
        listeners: vec![routes("web"), routes("other")],
        services: vec![UpstreamSpec { name: "shop".into(), backends, policy: Arc::new(policy) }],
    }
}

/// A client that writes what it is told, well-formed or not.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer as it was on the wire, its body decoded.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = within("connecting", TcpStream::connect(address)).await.unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n")).await;
        self.answer().await
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within("sending", self.stream.write_all(bytes.as_ref())).await.unwrap();
    }

    /// The next answer, which must be complete.
    pub(crate) async fn answer(&mut self) -> Answer {
        within("an answer", self.try_answer(false)).await.unwrap()
    }

    /// The next answer to a HEAD request.
    pub(crate) async fn head_answer(&mut self) -> Answer {
        within("an answer", self.try_answer(true)).await.unwrap()
    }

    /// The next answer, or how the connection ended before it was complete.
    pub(crate) async fn try_answer(&mut self, bodiless: bool) -> Result<Answer, String> {
        let head = self.line_block().await?;
        let status = head[9..12].parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new() };
        if bodiless || status < 200 || status == 204 || status == 304 {
            return Ok(answer);
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let line = self.take_until(b"\r\n").await?;
                let size = usize::from_str_radix(line.trim(), 16).map_err(|e| e.to_string())?;
                let chunk = self.take(size + 2).await?;
                if size == 0 {
                    return Ok(answer);
                }
                answer.body.extend_from_slice(&chunk[..size]);
            }
        }
        if let Some(length) = answer.header("content-length") {
            answer.body = self.take(length.parse().unwrap()).await?;
        } else {
            while self.fill().await? {}
            answer.body = std::mem::take(&mut self.buffer);
        }
        Ok(answer)
    }

    /// Waits for the end of the connection; data or a reset before it are errors.
    pub(crate) async fn closed(&mut self) -> Result<(), String> {
        let more = within("the end of a connection", self.fill()).await?;
        if more { Err(format!("unexpected: {:?}", self.buffer)) } else { Ok(()) }
    }

    async fn line_block(&mut self) -> Result<String, String> {
        self.take_until(b"\r\n\r\n").await
    }

    async fn take_until(&mut self, mark: &[u8]) -> Result<String, String> {
        loop {
            if let Some(at) = self.buffer.windows(mark.len()).position(|w| w == mark) {
                let taken = self.take(at + mark.len()).await?;
                return Ok(String::from_utf8_lossy(&taken).into_owned());
            }
            if !self.fill().await? {
                return Err(format!("closed after {:?}", String::from_utf8_lossy(&self.buffer)));
            }
        }
    }

    async fn take(&mut self, count: usize) -> Result<Vec<u8>, String> {
        while self.buffer.len() < count {
            if !self.fill().await? {
                return Err(format!("closed after {} of {count} bytes", self.buffer.len()));
            }
        }
        let rest = self.buffer.split_off(count);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    async fn fill(&mut self) -> Result<bool, String> {
        let count = self.stream.read_buf(&mut self.buffer).await.map_err(|e| e.to_string())?;
        Ok(count > 0)
    }
}
