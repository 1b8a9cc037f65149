//! Requests for which no connection can be made for want of descriptors: a test of its own, since
//! the limit is the process's.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test that uses them")]

use std::sync::Arc;
use std::time::Duration;

use foreshadow_control::{Health, InstanceId};
use foreshadow_proxy::{
    BackendSpec, DataPlane, HostMatch, ListenerName, ListenerRoutes, ListenerSpec, PathMatch,
    RouteSpec, Settings, TableSpec, UpstreamPolicy, UpstreamSpec,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn table(address: std::net::SocketAddr) -> TableSpec {
    let mut policy = UpstreamPolicy::default();
    // One verdict would be enough.
    policy.ejection.consecutive_errors = 1;
    let backends = vec![BackendSpec { id: InstanceId(1), address, weight: 1, capacity_rps: 0.0 }];
    let service = "shop".into();
    let route = RouteSpec { host: HostMatch::Any, path: PathMatch::Prefix("/".into()), service };
    TableSpec {
        listeners: vec![ListenerRoutes {
            listener: ListenerName::from("web"),
            routes: vec![route],
        }],
        services: vec![UpstreamSpec { name: "shop".into(), backends, policy: Arc::new(policy) }],
    }
}

/// The status of the answer to one request on a connection that stays open.
async fn get(client: &mut TcpStream) -> u16 {
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = tokio::time::timeout(Duration::from_secs(20), client.read_u8()).await;
        head.push(byte.expect("an answer in time").unwrap());
    }
    std::str::from_utf8(&head[9..12]).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_connection_that_could_not_be_made_is_no_verdict_and_a_503() {
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plane = DataPlane::start(Settings { workers: 1, ..Settings::default() }).unwrap();
    plane.publish(&table(backend.local_addr().unwrap())).unwrap();
    let web = ListenerSpec::new("web", "127.0.0.1:0".parse().unwrap());
    let address = plane.set_listeners(vec![web]).pop().unwrap().unwrap();

    // Accepted while there are descriptors: a request that is refused ends its connection.
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(TcpStream::connect(address).await.unwrap());
    }
    while plane.connections()[0].active < 3 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..before }).unwrap();
    let mut statuses = Vec::new();
    for client in &mut clients {
        statuses.push(get(client).await);
    }
    setrlimit(Resource::Nofile, before).unwrap();

    assert_eq!(statuses, [503; 3]);
    plane.drain_meters();
    let seen = &plane.totals()[0].instances[0];
    let failures = seen.meters.connect_errors + seen.meters.timeouts + seen.meters.read_errors;
    assert_eq!(failures, 0, "{:?}", seen.meters);
    let health = plane.table().services()[0].backends()[0].health();
    assert!(!matches!(health, Health::Ejected | Health::Down(_)), "{health:?}");

    // With descriptors again it is asked as if nothing had been.
    let server = tokio::spawn(async move {
        let (mut stream, _) = backend.accept().await.unwrap();
        let mut sink = [0; 4096];
        assert!(stream.read(&mut sink).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    });
    assert_eq!(get(&mut TcpStream::connect(address).await.unwrap()).await, 200);
    server.await.unwrap();
}
