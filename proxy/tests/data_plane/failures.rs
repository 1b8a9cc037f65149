//! Backends that fail, and what clients see of it.

use std::time::Duration;

use foreshadow_control::Health;
use foreshadow_proxy::{CheckKind, HealthCheck, Responses, RetryPolicy, TableSpec, UpstreamPolicy};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Backend, Client, Rig, table, until, within};

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

fn no_retries() -> UpstreamPolicy {
    let retries = RetryPolicy { attempts: 0, ..RetryPolicy::default() };
    UpstreamPolicy { retries, ..UpstreamPolicy::default() }
}

#[tokio::test]
async fn a_refused_connection_is_retried_elsewhere_unseen() {
    let good = Backend::http("good").await;
    let rig = Rig::start(&[Backend::refusing().await, good.address]).await;
    let mut client = rig.client().await;
    for method in ["GET", "POST"].repeat(20) {
        client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.text()), (200, "good"));
    }
    assert_eq!(good.requests(), 40);
}

#[tokio::test]
async fn a_post_is_retried_when_no_connection_could_be_made_with_its_body() {
    let good = Backend::http("good").await;
    let rig = Rig::start(&[Backend::refusing().await, good.address]).await;
    for _ in 0..10 {
        let mut client = rig.client().await;
        client.send("POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").await;
        assert_eq!(client.answer().await.text(), "5");
    }
}

#[tokio::test]
async fn a_get_is_retried_after_a_reset_and_a_post_is_not() {
    let bad = Backend::raw(|stream, _| async { reset(stream) }).await;
    let good = Backend::http("good").await;
    // One bad backend alone first, so that the request surely meets it.
    let rig = Rig::with(UpstreamPolicy::default(), &[bad.address]).await;
    let mut client = rig.client().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!(client.answer().await.status, 502);
    assert_eq!(bad.requests(), 1);
    rig.plane.publish(&table(UpstreamPolicy::default(), &[bad.address, good.address])).unwrap();
    for _ in 0..20 {
        let answer = rig.get("/").await;
        assert_eq!((answer.status, answer.text()), (200, "good"));
    }
    assert_eq!(good.requests(), 20);
}

#[tokio::test]
async fn gateway_errors_are_retried_elsewhere_and_passed_on_where_nothing_else_is_left() {
    let bad = Backend::raw(|mut stream, _| async move {
        let reply = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\nX-From: bad\r\n\r\nbusy";
        stream.write_all(reply).await.unwrap();
    })
    .await;
    let good = Backend::http("good").await;
    let rig = Rig::start(&[bad.address]).await;
    let answer = rig.get("/").await;
    assert_eq!((answer.status, answer.text()), (503, "busy"));
    assert_eq!(answer.header("x-from"), Some("bad"));
    rig.plane.publish(&table(UpstreamPolicy::default(), &[bad.address, good.address])).unwrap();
    for _ in 0..20 {
        assert_eq!(rig.get("/").await.text(), "good");
    }
}

#[tokio::test]
async fn without_retries_failures_have_their_own_statuses() {
    let refusing = Backend::refusing().await;
    let answer = Rig::with(no_retries(), &[refusing]).await.get("/").await;
    assert_eq!(answer.status, 502);
    assert!(answer.header("content-length").is_some(), "{}", answer.head);
    assert_eq!(answer.header("server"), None);

    let closing = Backend::raw(|stream, _| async { drop(stream) }).await;
    assert_eq!(Rig::with(no_retries(), &[closing.address]).await.get("/").await.status, 502);

    let lying = Backend::raw(|mut stream, _| async move {
        stream.write_all(b"SMTP ready\r\n\r\n").await.unwrap();
    })
    .await;
    assert_eq!(Rig::with(no_retries(), &[lying.address]).await.get("/").await.status, 502);
}

#[tokio::test]
async fn no_backend_is_a_503_that_says_when_to_come_back() {
    let rig = Rig::start(&[]).await;
    let mut client = rig.client().await;
    let answer = client.get("/").await;
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some());
    // It is an ordinary answer: the connection goes on.
    assert_eq!(client.get("/").await.status, 503);
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.head_answer().await.status, 503);
    // A body that nobody read ends the connection, after the answer.
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n").await;
    client.send(vec![b'x'; 100_000]).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (503, Some("close")));
    let drained = rig.plane.drain_meters();
    assert_eq!((drained[0].arrivals, drained[0].unserved), (4, 4));
}

#[tokio::test]
async fn a_host_without_route_is_a_404() {
    let rig = Rig::start(&[]).await;
    rig.plane.publish(&foreshadow_proxy::TableSpec::default()).unwrap();
    assert_eq!(rig.get("/").await.status, 404);
}

#[tokio::test]
async fn an_answer_cut_short_does_not_look_complete() {
    for framing in
        ["Content-Length: 100\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"]
    {
        let backend = Backend::raw(move |mut stream, _| async move {
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{framing}").as_bytes()).await.unwrap();
        })
        .await;
        let rig = Rig::start(&[backend.address]).await;
        let mut client = rig.client().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(within("the cut", client.try_answer(false)).await.is_err(), "{framing:?}");
        until("the failure counted", || {
            rig.plane.drain_meters();
            rig.plane.totals()[0].instances[0].meters.read_errors == 1
        })
        .await;
    }
}

#[tokio::test]
async fn a_client_that_goes_away_is_not_the_backends_failure() {
    let backend = Backend::endless().await;
    let rig = Rig::start(&[backend.address]).await;
    let mut client = rig.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.stream.read_u8().await.unwrap();
    reset(client.stream);
    rig.abort_counted().await;
}

#[tokio::test]
async fn a_client_that_resets_while_it_waits_frees_the_backend_at_once() {
    let backend = Backend::http("ok").await;
    let rig = Rig::start(&[backend.address]).await;
    let mut client = rig.client().await;
    client.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until("the request at the backend", || backend.requests() == 1).await;
    assert_eq!(rig.plane.drain_meters()[0].instances[0].meters.in_flight, 1);
    reset(client.stream);
    until("the abort counted", || rig.plane.drain_meters()[0].instances[0].aborted == 1).await;
    assert_eq!(rig.plane.drain_meters()[0].instances[0].meters.in_flight, 0);
}

#[tokio::test]
async fn a_backend_that_dies_under_load_costs_no_idempotent_request() {
    let good = Backend::http("good").await;
    // On a runtime of its own, which takes every socket with it when it is dropped.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let doomed = runtime.spawn(Backend::http("doomed")).await.unwrap();
    let rig = Rig::start(&[good.address, doomed.address]).await;
    let address = rig.address;
    let clients: Vec<_> = (0..8)
        .map(|_| {
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                for _ in 0..150 {
                    assert_eq!(client.get("/").await.status, 200);
                }
            })
        })
        .collect();
    until("load on the doomed", || doomed.requests() > 100).await;
    let before = good.requests() + doomed.requests();
    runtime.shutdown_background();
    for client in clients {
        client.await.unwrap();
    }
    assert!(before < 1200, "the load must have outlasted the backend");
    assert!(good.requests() + doomed.requests() >= 1200);
}

#[tokio::test]
async fn idle_upstream_connections_are_reused_and_a_dead_one_is_replaced() {
    let backend = Backend::http("ok").await;
    let rig = Rig::start(&[backend.address]).await;
    let mut client = rig.client().await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.text(), "ok");
    }
    assert_eq!((backend.requests(), backend.connections()), (20, 1));

    // Every connection serves one request and is then closed without notice.
    let fickle = Backend::raw(|mut stream, _| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        // Wait for the next request on the connection, then drop it.
        let mut byte = [0_u8; 1];
        drop(stream.read(&mut byte).await);
    })
    .await;
    rig.plane.publish(&table(UpstreamPolicy::default(), &[fickle.address])).unwrap();
    for _ in 0..3 {
        assert_eq!(client.get("/").await.text(), "ok");
    }
    assert_eq!(fickle.connections(), 3);
}

#[tokio::test]
async fn a_put_is_retried_with_the_body_that_was_kept_and_not_without() {
    let bad = Backend::raw(|mut stream, _| async move {
        // Read some of the body, so that it was surely sent.
        let mut byte = [0_u8; 1];
        drop(stream.read(&mut byte).await);
        reset(stream);
    })
    .await;
    let good = Backend::http("good").await;
    let retries = RetryPolicy { min_per_s: 1000.0, ..RetryPolicy::default() };
    let policy = UpstreamPolicy { retries, ..UpstreamPolicy::default() };
    let rig = Rig::with(policy.clone(), &[bad.address, good.address]).await;
    while bad.requests() == 0 {
        let mut client = rig.client().await;
        client.send("PUT /length HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.text()), (200, "5"));
    }
    // More than what is kept for a retry: the client must learn of the failure.
    let rig = Rig::with(policy, &[bad.address, good.address]).await;
    let before = bad.requests();
    while bad.requests() == before {
        let client = rig.client().await;
        let (mut read, mut write) = client.stream.into_split();
        let upload = tokio::spawn(async move {
            let head = "PUT /length HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\nConnection: close\r\n\r\n";
            // The proxy may answer and close before everything is sent.
            if write.write_all(head.as_bytes()).await.is_ok() {
                drop(write.write_all(&[b'x'; 3_000_000]).await);
            }
        });
        let mut answer = Vec::new();
        within("the answer", read.read_to_end(&mut answer)).await.unwrap();
        upload.await.unwrap();
        let status = String::from_utf8_lossy(&answer[9..12]).into_owned();
        assert_eq!(status, if bad.requests() == before { "200" } else { "502" });
    }
}

#[tokio::test]
async fn active_checks_take_a_dead_backend_out_and_bring_it_back() {
    let good = Backend::http("good").await;
    let address = Backend::refusing().await;
    let policy = UpstreamPolicy {
        health: Some(HealthCheck {
            kind: CheckKind::Tcp,
            interval: Duration::from_millis(20),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 2,
        }),
        ..UpstreamPolicy::default()
    };
    let rig = Rig::with(policy, &[address, good.address]).await;
    let health = || {
        let drained = rig.plane.drain_meters();
        let instances = &drained[0].instances;
        let wanted = u64::from(address.port());
        instances.iter().find(|i| i.instance.0 == wanted).unwrap().health.clone()
    };
    until("it is down", || matches!(health(), Health::Down(_))).await;
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    until("it is up", || health() == Health::Up).await;
    drop(listener);
}

#[tokio::test]
async fn answers_are_counted_by_class_and_by_who_gave_them() {
    let bad = Backend::raw(|mut stream, head| async move {
        if head.starts_with("GET /broken") {
            return reset(stream);
        }
        let reply = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy";
        stream.write_all(reply).await.unwrap();
    })
    .await;
    let good = Backend::http("good").await;
    let rig = Rig::with(no_retries(), &[good.address]).await;
    let responses = || {
        rig.plane.registry().drain(0);
        rig.plane.totals()[0].responses
    };
    let counts = |backend: [u64; 5], proxy: [u64; 5]| Responses { backend, proxy };
    assert_eq!(rig.get("/").await.status, 200);
    until("the answer is counted", || responses() == counts([0, 1, 0, 0, 0], [0; 5])).await;
    // The same status, of a backend and for want of one.
    rig.plane.publish(&table(no_retries(), &[bad.address])).unwrap();
    assert_eq!(rig.get("/").await.status, 503);
    assert_eq!(rig.get("/broken").await.status, 502);
    rig.plane.publish(&table(no_retries(), &[])).unwrap();
    assert_eq!(rig.get("/").await.status, 503);
    let all = counts([0, 1, 0, 0, 1], [0, 0, 0, 0, 2]);
    until("every answer is counted", || responses() == all).await;
    rig.plane.publish(&TableSpec::default()).unwrap();
    assert_eq!(rig.get("/").await.status, 404);
    until("what is routed nowhere is counted", || rig.plane.connections()[0].unrouted == 1).await;
}
