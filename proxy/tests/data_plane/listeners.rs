//! Listeners that come and go, tables that are replaced, and the end of it all.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foreshadow_control::{KernelSample, ServiceName};
use foreshadow_proxy::{
    CompletedRequest, DataPlane, ListenerSpec, ProxyError, RequestObserver, Settings, SocketProbe,
    UpstreamPolicy,
};
use http::Method;
use tokio::net::TcpStream;

use crate::support::{Backend, Client, Rig, table, until, web, within};

fn at(name: &str, address: SocketAddr) -> ListenerSpec {
    ListenerSpec::new(name, address)
}

#[tokio::test]
async fn one_listener_comes_and_goes_and_the_other_does_not_notice() {
    let backend = Backend::http("ok").await;
    let rig = Rig::start(&[backend.address]).await;
    let mut steady = rig.client().await;
    assert_eq!(steady.get("/").await.text(), "ok");

    let other = at("other", "127.0.0.1:0".parse().unwrap());
    let bound = rig.plane.set_listeners(vec![web(), other.clone()]);
    let addresses: Vec<SocketAddr> = bound.into_iter().map(Result::unwrap).collect();
    assert_eq!(addresses[0], rig.address);
    let mut guest = Client::connect(addresses[1]).await;
    assert_eq!(guest.get("/").await.text(), "ok");
    assert_eq!(steady.get("/").await.text(), "ok");

    // A request under way when its listener is removed is answered, and the connection then ends.
    guest.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until("the request at the backend", || backend.requests() == 4).await;
    rig.plane.set_listeners(vec![web()]);
    let refused = within("connecting", TcpStream::connect(addresses[1])).await;
    assert!(refused.is_err(), "a removed listener must not accept");
    backend.gate.add_permits(1);
    let answer = guest.answer().await;
    assert_eq!((answer.text(), answer.header("connection")), ("ok", Some("close")));
    assert_eq!(guest.closed().await, Ok(()));

    assert_eq!(steady.get("/").await.text(), "ok");
    let counts = rig.plane.connections();
    assert_eq!((counts.len(), counts[0].accepted), (1, 1));
}

#[tokio::test]
async fn an_address_is_free_again_while_its_last_connections_drain() {
    let backend = Backend::http("ok").await;
    let rig = Rig::start(&[backend.address]).await;
    let mut guest = rig.client().await;
    guest.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until("the request at the backend", || backend.requests() == 1).await;
    rig.plane.set_listeners(Vec::new());
    let again = rig.plane.set_listeners(vec![at("other", rig.address)]).pop().unwrap();
    assert_eq!(again.unwrap(), rig.address);
    assert_eq!(rig.get("/").await.text(), "ok");
    assert_eq!(rig.plane.connections().len(), 2);
    backend.gate.add_permits(1);
    assert_eq!(guest.answer().await.text(), "ok");
    until("the old one gone", || rig.plane.connections().len() == 1).await;
}

#[tokio::test]
async fn clients_that_were_connected_in_time_are_served_by_a_removed_listener() {
    let backend = Backend::http("ok").await;
    let rig = Rig::start(&[backend.address]).await;
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(rig.client().await);
    }
    rig.plane.set_listeners(Vec::new());
    for client in &mut clients {
        let answer = client.get("/").await;
        assert_eq!((answer.text(), answer.header("connection")), ("ok", Some("close")));
    }
    until("all gone", || rig.plane.connections().is_empty()).await;
}

#[tokio::test]
async fn settings_of_a_listener_change_under_its_connections() {
    let backend = Backend::http("ok").await;
    let rig = Rig::start(&[backend.address]).await;
    let mut client = rig.client().await;
    assert_eq!(client.get("/").await.text(), "ok");
    let spec = ListenerSpec { max_connections: 1, ..web() };
    assert_eq!(rig.plane.set_listeners(vec![spec])[0].as_ref().unwrap(), &rig.address);
    let mut extra = rig.client().await;
    assert_eq!(extra.answer().await.status, 503);
    assert_eq!(extra.closed().await, Ok(()));
    assert_eq!(client.get("/").await.text(), "ok");
    let counts = rig.plane.connections().pop().unwrap();
    assert_eq!((counts.accepted, counts.active, counts.refused), (1, 1, 1));
}

#[tokio::test]
async fn all_listeners_together_are_bounded() {
    let backend = Backend::http("ok").await;
    let rig = Rig::start(&[backend.address]).await;
    let other = ListenerSpec::new("other", web().address);
    let other = rig.plane.set_listeners(vec![web(), other]).pop().unwrap().unwrap();
    rig.plane.limit_connections(2);
    let (mut one, mut two) = (rig.client().await, Client::connect(other).await);
    assert_eq!(one.get("/").await.text(), "ok");
    assert_eq!(two.get("/").await.text(), "ok");
    for address in [rig.address, other] {
        let mut extra = Client::connect(address).await;
        assert_eq!(extra.answer().await.status, 503);
    }
    drop(one);
    until("a place given back", || rig.plane.connections()[0].active == 0).await;
    assert_eq!(Client::connect(other).await.get("/").await.text(), "ok");
    assert_eq!(two.get("/").await.text(), "ok");
    let refused: Vec<u64> = rig.plane.connections().iter().map(|c| c.refused).collect();
    assert_eq!(refused, [1, 1]);
}

#[tokio::test]
async fn a_busy_port_is_an_error_that_names_it() {
    let rig = Rig::start(&[]).await;
    // The second data plane could share the port by SO_REUSEPORT if it did not look.
    let second = DataPlane::start(Settings { workers: 1, ..Settings::default() }).unwrap();
    let error = second.set_listeners(vec![at("web", rig.address)]).pop().unwrap().unwrap_err();
    assert!(matches!(error, ProxyError::Bind { address, .. } if address == rig.address));
    let text = error.to_string();
    assert!(text.contains(&rig.address.to_string()), "{text}");
    assert!(text.contains(&format!("pid {}", std::process::id())), "{text}");

    let twice = rig.plane.set_listeners(vec![at("a", rig.address), at("b", rig.address)]);
    assert!(matches!(twice[1], Err(ProxyError::DuplicateAddress { .. })), "{twice:?}");
}

#[tokio::test]
async fn a_failed_listener_leaves_the_others() {
    let backend = Backend::http("ok").await;
    let rig = Rig::start(&[backend.address]).await;
    let results = rig.plane.set_listeners(vec![at("bad", backend.address), web()]);
    assert!(matches!(results[0], Err(ProxyError::Bind { .. })), "{results:?}");
    assert_eq!(results[1].as_ref().unwrap(), &rig.address);
    assert_eq!(rig.get("/").await.text(), "ok");
}

#[tokio::test]
async fn a_new_table_does_not_touch_requests_under_way() {
    let old = Backend::http("old").await;
    let new = Backend::http("new").await;
    let rig = Rig::start(&[old.address]).await;
    let mut client = rig.client().await;
    client.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until("the request at the backend", || old.requests() == 1).await;
    rig.plane.publish(&table(UpstreamPolicy::default(), &[new.address])).unwrap();
    assert_eq!(rig.get("/").await.text(), "new");
    old.gate.add_permits(1);
    assert_eq!(client.answer().await.text(), "old");
    assert_eq!(client.get("/").await.text(), "new");
}

#[tokio::test]
async fn tables_swapped_under_load_lose_no_request() {
    let (a, b) = (Backend::http("a").await, Backend::http("b").await);
    let rig = Rig::start(&[a.address]).await;
    let address = rig.address;
    let clients: Vec<_> = (0..4)
        .map(|_| {
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                for _ in 0..200 {
                    assert_eq!(client.get("/").await.status, 200);
                }
            })
        })
        .collect();
    let mut swaps = 0;
    while !clients.iter().all(tokio::task::JoinHandle::is_finished) {
        let backends = [[a.address], [b.address]];
        rig.plane.publish(&table(UpstreamPolicy::default(), &backends[swaps % 2])).unwrap();
        swaps += 1;
        tokio::task::yield_now().await;
    }
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(a.requests() + b.requests(), 800);
    assert!(swaps > 1);
}

#[tokio::test]
async fn shutdown_finishes_what_is_under_way() {
    let backend = Backend::http("ok").await;
    let rig = Rig::start(&[backend.address]).await;
    let mut idle = rig.client().await;
    assert_eq!(idle.get("/").await.text(), "ok");
    let mut busy = rig.client().await;
    busy.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until("the request at the backend", || backend.requests() == 2).await;
    let ending = tokio::spawn(rig.plane.shutdown(Duration::from_secs(10)));
    assert_eq!(idle.closed().await, Ok(()));
    backend.gate.add_permits(1);
    let answer = busy.answer().await;
    assert_eq!((answer.text(), answer.header("connection")), ("ok", Some("close")));
    assert_eq!(within("the shutdown", ending).await.unwrap(), 0);
    assert!(TcpStream::connect(rig.address).await.is_err());
}

#[tokio::test]
async fn shutdown_cuts_off_what_does_not_end() {
    let backend = Backend::http("ok").await;
    let rig = Rig::start(&[backend.address]).await;
    let mut busy = rig.client().await;
    busy.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until("the request at the backend", || backend.requests() == 1).await;
    // Connections without a request are ended with the rest and are no loss.
    let _idle = rig.client().await;
    until("both accepted", || rig.plane.connections()[0].active == 2).await;
    assert_eq!(within("the end", rig.plane.shutdown(Duration::from_millis(50))).await, 1);
    assert!(within("the cut", busy.try_answer(false)).await.is_err());
}

#[derive(Default)]
struct Recorder(Mutex<Vec<CompletedRequest>>);

impl RequestObserver for Recorder {
    fn wants(&self, _: &ServiceName, method: &Method) -> bool {
        method.is_safe()
    }

    fn completed(&self, request: CompletedRequest) {
        self.0.lock().unwrap().push(request);
    }
}

#[derive(Default)]
struct Samples(AtomicUsize);

impl SocketProbe for Samples {
    fn sample(&self, socket: BorrowedFd<'_>) -> Option<KernelSample> {
        assert!(rustix::net::getpeername(socket).is_ok());
        self.0.fetch_add(1, Ordering::SeqCst);
        Some(KernelSample { samples: 1, srtt_us: 250.0, retransmits: 2, unacked_segments: 3 })
    }
}

#[tokio::test]
async fn observer_and_probe_hear_of_requests() {
    let backend = Backend::http("ok").await;
    let (recorder, samples) = (Arc::new(Recorder::default()), Arc::new(Samples::default()));
    let plane = DataPlane::start(Settings {
        workers: 1,
        observer: Some(Arc::clone(&recorder) as _),
        probe: Some(Arc::clone(&samples) as _),
        ..Settings::default()
    })
    .unwrap();
    plane.publish(&table(UpstreamPolicy::default(), &[backend.address])).unwrap();
    let address = plane.set_listeners(vec![web()]).pop().unwrap().unwrap();
    let mut client = Client::connect(address).await;
    for _ in 0..32 {
        client.get("/status/404?x=1").await;
    }
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx").await;
    client.answer().await;
    client.get("/last").await;
    until("all reported", || recorder.0.lock().unwrap().len() == 33).await;
    let seen = recorder.0.lock().unwrap();
    assert_eq!((seen[0].status, seen[0].uri.to_string()), (404, "/status/404?x=1".to_owned()));
    assert_eq!(seen[0].instance.0, u64::from(backend.address.port()));
    assert_eq!(seen[0].headers["x-forwarded-for"], "127.0.0.1");
    assert!(seen.iter().all(|request| request.method == Method::GET));
    assert_eq!(seen[32].uri, "/last");
    // Requests 1, 17 and 33.
    assert_eq!(samples.0.load(Ordering::SeqCst), 3);
    let kernel = plane.drain_meters()[0].instances[0].kernel.unwrap();
    assert_eq!((kernel.samples, kernel.retransmits), (3, 6));
}
