//! Bytes that are no proper request: what is answered, and that nothing reaches a backend.

use std::time::Duration;

use crate::support::{Backend, Client, Rig, within};

/// Raw bytes and the status they must get; each must end the connection.
const CASES: &[(&str, u16)] = &[
    ("GET / HTTP/1.1\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    ("GET http://b/ HTTP/1.1\r\n\r\n", 400),
    ("GET http://b/ HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    ("GET http://u@b/ HTTP/1.1\r\nHost: b\r\n\r\n", 400),
    ("GET /<script> HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET /?a=`b` HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: \"x\"\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Forwarded-For\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: forwarded\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: via\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\nContent-Length: 1\r\n\r\nx", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: a, b, c, d, e, f, g, h, i, j\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a:80:81\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a:8o\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a%zz\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: \u{e4}\r\n\r\n", 400),
    ("GET / HTTP/1.1\nHost: a\n\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\n bad: fold\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nbad name: x\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
    ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET /\r\n\r\n", 400),
    ("hello\r\n\r\n", 400),
    ("\x16\x03\x01\x02\x00\r\n\r\n", 400),
    ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        400,
    ),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 6\r\n\r\nhello", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: five\r\n\r\nhello", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n", 501),
    ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
];

#[tokio::test]
async fn an_empty_line_before_a_request_is_ignored() {
    let backend = Backend::http("ok").await;
    let rig = Rig::start(&[backend.address]).await;
    let mut client = rig.client().await;
    // The first on a connection, after a body as old clients end it, and in pieces.
    client.send("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.answer().await.text(), "ok");
    client.send("POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi\r\n").await;
    assert_eq!(client.answer().await.text(), "2");
    client.send("GET /length HTTP/1.1\r\nHost: a\r\n\r\n\r\n").await;
    assert_eq!(client.answer().await.text(), "0");
    client.send("GET http://b/head HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = client.answer().await;
    assert!(answer.text().contains("host: b\n"), "{}", answer.text());
}

#[tokio::test]
async fn malformed_heads_are_answered_closed_and_never_forwarded() {
    let backend = Backend::http("ok").await;
    let rig = Rig::start(&[backend.address]).await;
    for (bytes, status) in CASES {
        let mut client = rig.client().await;
        client.send(bytes).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, *status, "{bytes:?}");
        assert!(answer.header("content-length").is_some(), "{bytes:?}");
        assert_eq!(answer.header("connection"), Some("close"), "{bytes:?}");
        assert_eq!(answer.header("server"), None, "{bytes:?}");
        assert_eq!(client.closed().await, Ok(()), "{bytes:?}");
    }
    assert_eq!(backend.requests(), 0);
    let counts = rig.plane.connections().pop().unwrap();
    assert_eq!(counts.malformed, CASES.len() as u64);
}

#[tokio::test]
async fn unusual_targets_that_everyone_reads_alike_pass() {
    let backend = Backend::http("ok").await;
    let rig = Rig::start(&[backend.address]).await;
    for target in ["/ä?ö", "/{a}|b^c\\d[e]", "//a//b", "/%00%zz", "/?a=http://b/?c"] {
        let answer = rig.get(target).await;
        assert_eq!((answer.status, answer.text()), (200, "ok"), "{target}");
    }
    let raw = [&b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n"[..]];
    for bytes in raw {
        let mut client = rig.client().await;
        client.send(bytes).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("server")), (400, None));
    }
}

#[tokio::test]
async fn a_smuggled_request_is_not_seen_by_the_backend() {
    let backend = Backend::http("ok").await;
    let rig = Rig::start(&[backend.address]).await;
    let mut client = rig.client().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    client
        .send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n\
             0\r\n\r\n{smuggled}",
            smuggled.len() + 5
        ))
        .await;
    assert_eq!(client.answer().await.status, 400);
    assert_eq!(client.closed().await, Ok(()));
    assert_eq!(backend.requests(), 0);
}

#[tokio::test]
async fn a_malformed_body_is_a_400() {
    let backend = Backend::http("ok").await;
    let rig = Rig::start(&[backend.address]).await;
    for body in ["5\nhello", "x\r\n", "5\r\nhelloooo\r\n0\r\n\r\n", "fffffffffffffffff\r\n"] {
        let mut client = rig.client().await;
        let head = "POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.send(format!("{head}{body}")).await;
        assert_eq!(client.answer().await.status, 400, "{body:?}");
        assert_eq!(client.closed().await, Ok(()), "{body:?}");
    }
}

#[tokio::test]
async fn oversized_heads_are_told_so() {
    let rig = Rig::start(&[]).await;
    let line = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(20_000));
    let wide = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(500));
    for (bytes, status) in [(line, 414), (wide, 431), (many, 431)] {
        let mut client = rig.client().await;
        client.send(bytes).await;
        assert_eq!(client.answer().await.status, status);
        assert_eq!(client.closed().await, Ok(()));
    }
}

#[tokio::test]
async fn a_head_that_trickles_is_cut_off_and_a_silent_client_closed() {
    let backend = Backend::http("ok").await;
    let rig = Rig::tuned(Default::default(), &[backend.address], |spec| {
        spec.timeouts.client_header = Duration::from_millis(100);
        spec.timeouts.keepalive_idle = Duration::from_millis(200);
    })
    .await;
    let mut slow = rig.client().await;
    slow.send("GET / HTTP/1.1\r\nHo").await;
    let mut silent = rig.client().await;
    let answer = slow.answer().await;
    assert_eq!(answer.status, 408);
    assert_eq!(slow.closed().await, Ok(()));
    assert_eq!(silent.closed().await, Ok(()));
}

#[tokio::test]
async fn a_slow_head_that_completes_in_time_is_served() {
    let backend = Backend::http("ok").await;
    let rig = Rig::start(&[backend.address]).await;
    let mut client = rig.client().await;
    for byte in b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n" {
        client.send([*byte]).await;
    }
    assert_eq!(client.answer().await.text(), "ok");
}

#[tokio::test]
async fn a_body_shorter_than_announced_never_counts_as_complete() {
    let backend = Backend::http("ok").await;
    let rig = Rig::start(&[backend.address]).await;
    let mut client = rig.client().await;
    client.send("POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello").await;
    tokio::io::AsyncWriteExt::shutdown(&mut client.stream).await.unwrap();
    let answer = within("the end", client.try_answer(false)).await;
    assert!(!matches!(&answer, Ok(answer) if answer.status == 200), "{answer:?}");
    // The proxy itself is well.
    assert_eq!(Client::connect(rig.address).await.get("/").await.text(), "ok");
}
