//! Backends, clients and a data plane between them.

mod client;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
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

pub(crate) use client::{Answer, Client};

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
    /// What requests for `/health` are answered, which count as no requests.
    pub(crate) health: Arc<AtomicU16>,
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
        let (connections, health) = (Arc::clone(&backend.connections), Arc::clone(&backend.health));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (requests, gate) = (Arc::clone(&requests), Arc::clone(&gate));
                let health = Arc::clone(&health);
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let healthy = request.uri().path() == "/health";
                    let health = healthy.then(|| health.load(Ordering::SeqCst));
                    if health.is_none() {
                        requests.fetch_add(1, Ordering::SeqCst);
                    }
                    let gate = Arc::clone(&gate);
                    async move {
                        match health {
                            Some(status) => Ok(text(status, name)),
                            None => respond(name, request, gate).await,
                        }
                    }
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

    /// A server whose answer is longer than any socket buffers, and goes on while it is taken.
    pub(crate) async fn endless() -> Self {
        Self::raw(|mut stream, _| async move {
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n";
            if stream.write_all(head).await.is_ok() {
                while stream.write_all(&[0; 65536]).await.is_ok() {}
            }
        })
        .await
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
            health: Arc::new(200.into()),
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

    /// Waits until the only request is counted as given up by its client, and as no failure of the
    /// only backend.
    pub(crate) async fn abort_counted(&self) {
        until("the abort counted", || {
            self.plane.drain_meters();
            self.plane.totals()[0].instances[0].aborted == 1
        })
        .await;
        let meters = self.plane.totals()[0].instances[0].meters;
        assert_eq!((meters.requests, meters.read_errors, meters.timeouts), (1, 0, 0));
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
