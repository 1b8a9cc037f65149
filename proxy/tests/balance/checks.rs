//! Active checks against real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use foreshadow_control::{Health, InstanceId};
use foreshadow_proxy::{
    Answer, Backend, BackendSpec, CheckKind, CheckTarget, Checker, Clock, HealthCheck, ProbeError,
    Registry, RouteTable, UpstreamPolicy, probe,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{W0, outcome, spec_of};

/// A server that answers every request with `status`, and remembers the last request.
struct Server {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    seen: Arc<AtomicU32>,
    last: Arc<std::sync::Mutex<String>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start(address: &str, status: u16) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let status = Arc::new(AtomicU16::new(status));
        let seen = Arc::new(AtomicU32::new(0));
        let last = Arc::new(std::sync::Mutex::new(String::new()));
        let task = tokio::spawn({
            let (status, seen, last) = (Arc::clone(&status), Arc::clone(&seen), Arc::clone(&last));
            async move {
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let request = head(&mut stream).await;
                    let status = status.load(SeqCst);
                    seen.fetch_add(1, SeqCst);
                    *last.lock().unwrap() = request;
                    let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nok");
                    // A client that closed early is none of this test's business.
                    stream.write_all(answer.as_bytes()).await.ok();
                }
            }
        });
        Self { address, status, seen, last, task }
    }

    async fn stop(self) -> SocketAddr {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
        self.address
    }
}

async fn head(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(n) if n > 0 => request.extend_from_slice(&buffer[..n]),
            _ => break,
        }
    }
    String::from_utf8(request).unwrap()
}

fn check(kind: CheckKind) -> HealthCheck {
    HealthCheck {
        kind,
        interval: Duration::from_millis(10),
        timeout: Duration::from_secs(5),
        rise: 2,
        fall: 3,
    }
}

fn http(
    path: &str,
    host: Option<&str>,
    expected: Vec<std::ops::RangeInclusive<u16>>,
) -> HealthCheck {
    check(CheckKind::Http { path: path.into(), host: host.map(Into::into), expected })
}

/// Waits until `condition` holds; what is waited for happens in other tasks, driven by sockets.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("{what}"));
}

fn table(registry: &Registry, address: SocketAddr, health: Option<HealthCheck>) -> RouteTable {
    let policy = UpstreamPolicy { health, ..UpstreamPolicy::default() };
    let spec = BackendSpec { id: InstanceId(1), address, weight: 1, capacity_rps: 0.0 };
    RouteTable::build(&spec_of(vec![spec], &policy), registry).unwrap()
}

fn only(table: &RouteTable) -> &Arc<Backend> {
    &table.services()[0].backends()[0]
}

fn is_down(backend: &Backend, text: &str) -> bool {
    matches!(backend.health(), Health::Down(reason) if reason.contains(text))
}

#[tokio::test]
async fn a_probe_says_what_it_found() {
    let server = Server::start("127.0.0.1:0", 204).await;
    let address = server.address;
    probe(address, &http("/healthz?deep=1", Some("shop.example.com"), vec![])).await.unwrap();
    let request = server.last.lock().unwrap().to_ascii_lowercase();
    assert!(request.starts_with("get /healthz?deep=1 http/1.1\r\n"), "{request}");
    assert!(request.contains("host: shop.example.com\r\n"), "{request}");
    assert!(request.contains("connection: close\r\n"), "{request}");
    probe(address, &http("/", None, vec![200..=200, 204..=204])).await.unwrap();
    assert!(server.last.lock().unwrap().contains(&address.to_string()));

    let error = probe(address, &http("/", None, vec![200..=200])).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{address}/ answered 204; expected 200"));
    let error = probe(address, &http("no path", None, vec![])).await.unwrap_err();
    assert!(matches!(error, ProbeError::Request { .. }), "{error}");

    let address = server.stop().await;
    for check in [http("/", None, vec![]), check(CheckKind::Tcp)] {
        let error = probe(address, &check).await.unwrap_err();
        assert!(matches!(error, ProbeError::Refused { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_probe_of_a_server_that_is_silent_endless_or_speaks_nonsense_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = tokio::spawn(async move {
        let (mut nonsense, _) = listener.accept().await.unwrap();
        head(&mut nonsense).await;
        nonsense.write_all(b"SSH-2.0-OpenSSH\r\n\r\n").await.unwrap();

        let (mut endless, _) = listener.accept().await.unwrap();
        head(&mut endless).await;
        endless.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        while endless.write_all(&[b'x'; 4096]).await.is_ok() {}

        // Accepted, never answered.
        listener.accept().await.unwrap()
    });
    let error = probe(address, &http("/", None, vec![])).await.unwrap_err();
    assert!(matches!(error, ProbeError::Protocol { .. }), "{error}");
    probe(address, &http("/", None, vec![])).await.unwrap();
    let short = HealthCheck { timeout: Duration::from_millis(20), ..http("/", None, vec![]) };
    let error = probe(address, &short).await.unwrap_err();
    assert_eq!(error.to_string(), format!("no answer from {address} within 20 ms"));
    serve.await.unwrap();
}

#[tokio::test]
async fn a_backend_goes_down_and_comes_up_with_its_checks() {
    let server = Server::start("127.0.0.1:0", 200).await;
    let registry = Registry::new(1, Clock::start());
    let table = table(&registry, server.address, Some(http("/healthz", None, vec![])));
    let backend = only(&table);
    assert_eq!(backend.health(), Health::Unknown);
    let mut checker = Checker::new(registry.clock());
    checker.reconcile(table.check_targets());
    until("up after two passes", || backend.health() == Health::Up).await;

    server.status.store(500, SeqCst);
    until("down", || is_down(backend, "answered 500")).await;
    assert!(!backend.is_usable(registry.clock().now_ms()));
    server.status.store(200, SeqCst);
    until("up again", || backend.health() == Health::Up).await;
    assert!(backend.is_usable(registry.clock().now_ms()));

    let address = server.stop().await;
    until("down when refused", || is_down(backend, "refused")).await;
    let server = Server::start(&address.to_string(), 200).await;
    until("up when it is back", || backend.health() == Health::Up).await;

    checker.reconcile(Vec::new());
    assert!(checker.is_empty());
    assert_eq!(backend.health(), Health::Unknown, "without checks nothing is known");
    drop(server);
}

#[tokio::test]
async fn reconciling_leaves_unchanged_targets_alone() {
    let server = Server::start("127.0.0.1:0", 500).await;
    let registry = Registry::new(1, Clock::start());
    let health = HealthCheck { fall: 1, ..http("/", None, vec![]) };
    let first = table(&registry, server.address, Some(health.clone()));
    let mut checker = Checker::new(registry.clock());
    checker.reconcile(first.check_targets());
    until("down", || is_down(only(&first), "500")).await;

    let again = table(&registry, server.address, Some(health.clone()));
    checker.reconcile(again.check_targets());
    assert!(is_down(only(&again), "500"), "an unchanged check keeps its verdict");

    // An hour from now at the earliest, on average half an hour: the old task must be gone.
    let rare = HealthCheck { interval: Duration::from_secs(3600 * 1000), ..health };
    let changed = table(&registry, server.address, Some(rare));
    checker.reconcile(changed.check_targets());
    assert_eq!(only(&changed).health(), Health::Unknown, "a changed check starts over");
    assert_eq!(checker.len(), 1);
}

#[tokio::test]
async fn a_check_ends_with_its_backend() {
    let server = Server::start("127.0.0.1:0", 200).await;
    let registry = Registry::new(1, Clock::start());
    let table = table(&registry, server.address, Some(http("/", None, vec![])));
    let weak = Arc::downgrade(only(&table));
    let mut checker = Checker::new(registry.clock());
    checker.reconcile(table.check_targets());
    let seen = Arc::clone(&server.seen);
    until("checked", || seen.load(SeqCst) > 0).await;
    drop(table);
    until("a checked backend does not live for ever", || {
        registry.drain(0);
        weak.upgrade().is_none()
    })
    .await;
}

#[tokio::test]
async fn a_refused_request_stands_until_checks_contradict_it() {
    let server = Server::start("127.0.0.1:0", 200).await;
    let registry = Registry::new(1, Clock::start());
    let clock = registry.clock();
    let table = table(&registry, server.address, Some(http("/", None, vec![])));
    let backend = only(&table);
    let now_ms = clock.now_ms();
    backend.begin(W0, now_ms).finish(&outcome(Answer::ConnectRefused, 0.1), now_ms);
    assert!(is_down(backend, "connection refused by"));
    let mut checker = Checker::new(clock);
    checker.reconcile(table.check_targets());
    until("two passes overrule the refusal", || backend.health() == Health::Up).await;
    assert!(backend.is_usable(clock.now_ms()), "well before the five seconds are over");
    assert!(server.seen.load(SeqCst) >= 2);
}

#[tokio::test]
async fn without_a_check_a_refused_backend_is_tried_until_it_accepts() {
    let server = Server::start("127.0.0.1:0", 200).await;
    let registry = Registry::new(1, Clock::start());
    let clock = registry.clock();
    let table = table(&registry, server.address, None);
    let backend = only(&table);
    let mut checker = Checker::new(clock);
    checker.reconcile(vec![CheckTarget::new(Arc::clone(backend), None)]);
    let now_ms = clock.now_ms();
    backend.begin(W0, now_ms).finish(&outcome(Answer::ConnectRefused, 0.1), now_ms);
    until("it accepts again", || !is_down(backend, "refused")).await;
    assert!(backend.is_usable(clock.now_ms()));
}
