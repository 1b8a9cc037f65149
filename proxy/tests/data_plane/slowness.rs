//! Backends and clients that are slow, or silent, and what each timeout makes of them.

use std::time::{Duration, Instant};

use foreshadow_proxy::UpstreamPolicy;
use tokio::io::AsyncWriteExt;

use crate::support::{Backend, Rig, until, within};

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
async fn timeouts_without_end_are_no_trouble() {
    let backend = Backend::http("ok").await;
    let policy = UpstreamPolicy {
        connect_timeout: Duration::MAX,
        first_byte_timeout: Duration::MAX,
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
