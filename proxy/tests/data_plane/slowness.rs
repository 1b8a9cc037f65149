//! Backends and clients that are slow, or silent, and what each timeout makes of them.

use std::time::{Duration, Instant};

use foreshadow_proxy::UpstreamPolicy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Backend, Rig, table, until, within};

const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

fn stalls_after(stall: Duration) -> UpstreamPolicy {
    UpstreamPolicy { stall_timeout: stall, ..UpstreamPolicy::default() }
}

/// Says nothing more and waits for the other end to close.
async fn fall_silent(mut stream: TcpStream) {
    let mut rest = Vec::new();
    // How the other end closes is not the point.
    drop(stream.read_to_end(&mut rest).await);
}

async fn timeout_counted(rig: &Rig) {
    until("the timeout counted", || {
        rig.plane.drain_meters();
        rig.plane.totals()[0].instances[0].meters.timeouts == 1
    })
    .await;
}

#[tokio::test]
async fn a_silent_backend_is_a_504_after_the_first_byte_timeout() {
    let backend = Backend::http("slow").await;
    let policy = UpstreamPolicy {
        first_byte_timeout: Duration::from_millis(100),
        ..UpstreamPolicy::default()
    };
    let rig = Rig::with(policy, &[backend.address]).await;
    let started = Instant::now();
    let answer = rig.get("/hold").await;
    assert_eq!(answer.status, 504);
    assert!(started.elapsed() >= Duration::from_millis(100));
    until("the timeout counted", || {
        rig.plane.drain_meters();
        rig.plane.totals()[0].instances[0].meters.timeouts == 1
    })
    .await;
}

#[tokio::test]
async fn a_silent_backend_is_given_up_for_another_where_that_is_wished() {
    let silent = Backend::raw(|stream, _| fall_silent(stream)).await;
    let good = Backend::http("good").await;
    let limit = Duration::from_millis(100);
    let mut policy = UpstreamPolicy { first_byte_timeout: limit, ..UpstreamPolicy::default() };
    policy.retries.on.timeout = true;
    policy.ejection.consecutive_errors = 0;
    let rig = Rig::with(policy.clone(), &[silent.address, good.address]).await;
    let mut client = rig.client().await;
    let put = "PUT /length HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    while silent.requests() < 3 {
        client.send(put).await;
        assert_eq!(client.answer().await.text(), "5");
    }

    // What may have had an effect is not sent again, nor anything once all time is over.
    policy.retries.attempts = 1;
    rig.plane.publish(&table(policy.clone(), &[silent.address])).unwrap();
    let before = silent.requests();
    let mut client = rig.client().await;
    client.send(put.replace("PUT", "POST")).await;
    assert_eq!(client.answer().await.status, 504);
    assert_eq!(silent.requests(), before + 1);
    let other = Backend::raw(|stream, _| fall_silent(stream)).await;
    policy.total_timeout = limit;
    rig.plane.publish(&table(policy.clone(), &[silent.address, other.address])).unwrap();
    assert_eq!(rig.get("/").await.status, 504);
    assert_eq!(silent.requests() + other.requests(), before + 2);
    policy.total_timeout = limit * 20;
    rig.plane.publish(&table(policy, &[silent.address, other.address])).unwrap();
    let started = Instant::now();
    assert_eq!(rig.get("/").await.status, 504);
    assert!(started.elapsed() >= limit * 2);
    assert_eq!(silent.requests() + other.requests(), before + 4);
}

#[tokio::test]
async fn what_fails_after_a_timeout_is_called_by_its_own_name() {
    let silent = Backend::raw(|stream, _| fall_silent(stream)).await;
    let lying = Backend::raw(|mut stream, _| async move {
        stream.write_all(b"SMTP ready\r\n\r\n").await.unwrap();
    })
    .await;
    let mut policy = UpstreamPolicy {
        first_byte_timeout: Duration::from_millis(50),
        ..UpstreamPolicy::default()
    };
    policy.retries.on.timeout = true;
    policy.ejection.consecutive_errors = 0;
    let rig = Rig::with(policy, &[silent.address, lying.address]).await;
    while silent.requests() < 2 {
        assert_eq!(rig.get("/").await.status, 502);
    }
}

#[tokio::test]
async fn timeouts_without_end_are_no_trouble() {
    let backend = Backend::http("ok").await;
    let policy = UpstreamPolicy {
        connect_timeout: Duration::MAX,
        first_byte_timeout: Duration::MAX,
        stall_timeout: Duration::MAX,
        total_timeout: Duration::MAX,
        idle_timeout: Duration::MAX,
        ..UpstreamPolicy::default()
    };
    let rig = Rig::tuned(policy, &[backend.address], |spec| {
        spec.timeouts.client_header = Duration::MAX;
        spec.timeouts.client_body = Duration::MAX;
        spec.timeouts.keepalive_idle = Duration::MAX;
    })
    .await;
    let mut client = rig.client().await;
    client.send("POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n").await;
    client.send("hello").await;
    assert_eq!(client.answer().await.text(), "5");
    assert_eq!(client.get("/").await.text(), "ok");
}

#[tokio::test]
async fn a_long_upload_does_not_run_into_the_first_byte_timeout() {
    let backend = Backend::http("ok").await;
    let first_byte = Duration::from_millis(150);
    let policy = UpstreamPolicy { first_byte_timeout: first_byte, ..UpstreamPolicy::default() };
    let rig = Rig::with(policy, &[backend.address]).await;
    let mut client = rig.client().await;
    client.send("POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n").await;
    for byte in ["a", "b", "c", "d"] {
        // The passing of time is what is tested here.
        tokio::time::sleep(first_byte / 2).await;
        client.send(byte).await;
    }
    assert_eq!(client.answer().await.text(), "4");
}

#[tokio::test]
async fn the_total_timeout_ends_an_answer_that_trickles() {
    let backend = Backend::raw(|mut stream, _| async move {
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head).await.unwrap();
        while stream.write_all(b"1\r\nx\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let policy =
        UpstreamPolicy { total_timeout: Duration::from_millis(300), ..UpstreamPolicy::default() };
    let rig = Rig::with(policy, &[backend.address]).await;
    let mut client = rig.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let cut = within("the total timeout", client.try_answer(false)).await;
    assert!(cut.is_err(), "the answer must not look complete: {cut:?}");
}

#[tokio::test]
async fn a_client_that_stops_sending_is_not_the_backends_failure() {
    let backend = Backend::http("ok").await;
    let policy =
        UpstreamPolicy { total_timeout: Duration::from_millis(200), ..UpstreamPolicy::default() };
    let rig = Rig::with(policy, &[backend.address]).await;
    let mut client = rig.client().await;
    client.send("POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello").await;
    assert_eq!(client.answer().await.status, 408);
    until("the abort counted", || {
        rig.plane.drain_meters();
        rig.plane.totals()[0].instances[0].aborted == 1
    })
    .await;
    assert_eq!(rig.plane.totals()[0].instances[0].meters.timeouts, 0);
}

#[tokio::test]
async fn an_answer_may_take_long_but_not_stop() {
    let stall = Duration::from_millis(400);
    let backend = Backend::raw(move |mut stream, _| async move {
        stream.write_all(CHUNKED).await.unwrap();
        for _ in 0..8 {
            // The passing of time is what is tested here.
            tokio::time::sleep(stall / 4).await;
            stream.write_all(b"1\r\nx\r\n").await.unwrap();
        }
        fall_silent(stream).await;
    })
    .await;
    let rig = Rig::with(stalls_after(stall), &[backend.address]).await;
    let mut client = rig.client().await;
    let begun = Instant::now();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let cut = within("the end of the stalled answer", client.try_answer(false)).await;
    assert!(cut.is_err(), "the answer must not look complete: {cut:?}");
    let (least, most) = (stall * 3, UpstreamPolicy::default().first_byte_timeout);
    assert!(begun.elapsed() >= least, "cut while it went on");
    assert!(begun.elapsed() < most, "another timeout cut it");
    timeout_counted(&rig).await;
}

#[tokio::test]
async fn a_long_wait_for_the_head_is_no_stall() {
    let stall = Duration::from_millis(50);
    let backend = Backend::raw(move |mut stream, _| async move {
        // The passing of time is what is tested here.
        tokio::time::sleep(stall * 6).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
    })
    .await;
    let rig = Rig::with(stalls_after(stall), &[backend.address]).await;
    assert_eq!(rig.get("/").await.text(), "ok");
}

#[tokio::test]
async fn a_refused_upgrade_may_not_stall_either() {
    let backend = Backend::raw(|mut stream, _| async move {
        stream.write_all(CHUNKED).await.unwrap();
        fall_silent(stream).await;
    })
    .await;
    let rig = Rig::with(stalls_after(Duration::from_millis(100)), &[backend.address]).await;
    let mut client = rig.client().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    let cut = within("the end of the stalled answer", client.try_answer(false)).await;
    assert!(cut.is_err(), "the answer must not look complete: {cut:?}");
    timeout_counted(&rig).await;
}

#[tokio::test]
async fn a_client_that_takes_its_time_is_not_the_backends_stall() {
    const SIZE: usize = 32 << 20;
    let backend = Backend::raw(|mut stream, _| async move {
        // In one piece and made beforehand: making it takes longer than the stall on a busy machine.
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").into_bytes();
        answer.resize(answer.len() + SIZE, b'x');
        stream.write_all(&answer).await.unwrap();
    })
    .await;
    let stall = Duration::from_millis(500);
    let rig = Rig::with(stalls_after(stall), &[backend.address]).await;
    let mut client = rig.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.stream.peek(&mut [0_u8; 1]).await.unwrap();
    // More than any socket buffers is on its way; the passing of time is what is tested here.
    tokio::time::sleep(stall * 3).await;
    assert_eq!(client.answer().await.body.len(), SIZE);
}

#[tokio::test]
async fn a_client_that_stops_taking_its_answer_is_cut_and_not_the_backends_failure() {
    let backend = Backend::endless().await;
    let rig = Rig::tuned(UpstreamPolicy::default(), &[backend.address], |spec| {
        spec.timeouts.client_body = Duration::from_millis(200);
    })
    .await;
    let mut client = rig.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    rig.abort_counted().await;
}

#[tokio::test]
async fn a_client_that_pauses_within_its_body_is_not_the_backends_stall() {
    let backend = Backend::http("ok").await;
    let stall = Duration::from_millis(20);
    let policy = UpstreamPolicy { first_byte_timeout: stall * 50, ..stalls_after(stall) };
    let rig = Rig::with(policy, &[backend.address]).await;
    let mut client = rig.client().await;
    client.send("POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na").await;
    // Longer than all that the instance is given; the passing of time is what is tested here.
    tokio::time::sleep(stall * 100).await;
    client.send("b").await;
    assert_eq!(client.answer().await.text(), "2");
}

#[tokio::test]
async fn a_backend_that_stops_taking_a_body_has_stalled() {
    let backend = Backend::raw(|stream, _| async move {
        stream.readable().await.unwrap();
        // Held open, and never read.
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let policy = UpstreamPolicy {
        first_byte_timeout: Duration::from_millis(100),
        ..stalls_after(Duration::from_millis(100))
    };
    let rig = Rig::tuned(policy, &[backend.address], |spec| {
        spec.timeouts.client_body = Duration::from_millis(100);
    })
    .await;
    let (mut read, mut write) = rig.client().await.stream.into_split();
    let upload = tokio::spawn(async move {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n";
        write.write_all(head.as_bytes()).await.unwrap();
        // The proxy answers and closes before everything is sent.
        while write.write_all(&[b'x'; 65536]).await.is_ok() {}
    });
    timeout_counted(&rig).await;
    within("the end of the upload", upload).await.unwrap();
    // The answer may be lost to the reset that ends the upload.
    let mut answer = Vec::new();
    drop(within("the end of the connection", read.read_to_end(&mut answer)).await);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 504 "), "{answer:?}");
}
