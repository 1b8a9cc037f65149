//! Bodies, tunnels and connections in all the shapes HTTP/1 has.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Backend, Client, Rig, until, within};

#[tokio::test]
async fn keep_alive_serves_request_after_request() {
    let backend = Backend::http("ok").await;
    let rig = Rig::start(&[backend.address]).await;
    let mut client = rig.client().await;
    for _ in 0..50 {
        assert_eq!(client.get("/").await.text(), "ok");
    }
    let counts = rig.plane.connections().pop().unwrap();
    assert_eq!((counts.accepted, counts.active), (1, 1));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::http("ok").await;
    let rig = Rig::start(&[backend.address]).await;
    let mut client = rig.client().await;
    let post = "POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let chunked = "POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n0\r\n\r\n";
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    client.send(format!("{get}{post}{chunked}{get}")).await;
    for expected in ["ok", "5", "3", "ok"] {
        assert_eq!(client.answer().await.text(), expected);
    }
}

#[tokio::test]
async fn large_bodies_stream_both_ways() {
    let backend = Backend::http("ok").await;
    let rig = Rig::start(&[backend.address]).await;
    let body: Vec<u8> = (0..8_000_000_u32).map(|i| (i % 251) as u8).collect();
    for chunked in [false, true] {
        let client = rig.client().await;
        let (mut read, mut write) = client.stream.into_split();
        let sent = body.clone();
        let upload = tokio::spawn(async move {
            let framing =
                if chunked { "Transfer-Encoding: chunked" } else { "Content-Length: 8000000" };
            let head =
                format!("POST /echo HTTP/1.1\r\nHost: a\r\n{framing}\r\nConnection: close\r\n\r\n");
            write.write_all(head.as_bytes()).await.unwrap();
            if chunked {
                for piece in sent.chunks(70_001) {
                    let size = format!("{:x}\r\n", piece.len());
                    write.write_all(&[size.as_bytes(), piece, b"\r\n"].concat()).await.unwrap();
                }
                write.write_all(b"0\r\n\r\n").await.unwrap();
            } else {
                write.write_all(&sent).await.unwrap();
            }
            write
        });
        let mut received = Vec::new();
        within("the echo", read.read_to_end(&mut received)).await.unwrap();
        drop(upload.await.unwrap());
        let at = received.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        // The backend's own framing is kept: a length where it knew one.
        let answer = received.split_off(at);
        let decoded = if chunked { decode_chunks(&answer) } else { answer };
        assert!(decoded == body, "{} of {} bytes", decoded.len(), body.len());
    }
}

fn decode_chunks(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|w| w == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[end + 4 + size..];
    }
}

#[tokio::test]
async fn a_client_that_stops_reading_stops_the_backend() {
    const SIZE: usize = 400_000_000;
    let written = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&written);
    let backend = Backend::raw(move |mut stream, _| {
        let written = Arc::clone(&counter);
        async move {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            while let Ok(count) = stream.write(&[0; 65536]).await {
                written.fetch_add(count, Ordering::SeqCst);
            }
        }
    })
    .await;
    let rig = Rig::start(&[backend.address]).await;
    let mut client = rig.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    // The backend is held up once it writes nothing for a while; only socket buffers are full then.
    within("back pressure", async {
        let mut last = usize::MAX;
        loop {
            let now = written.load(Ordering::SeqCst);
            if now == last && now > 0 {
                break;
            }
            last = now;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await;
    assert!(written.load(Ordering::SeqCst) < SIZE / 4, "the proxy must not buffer the answer");
}

#[tokio::test]
async fn a_half_closed_client_gets_its_answer() {
    let backend = Backend::http("ok").await;
    let rig = Rig::start(&[backend.address]).await;
    for request in [
        "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /hold HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "POST /hold HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    ] {
        let before = backend.requests();
        let mut client = rig.client().await;
        client.send(request).await;
        until("the request at the backend", || backend.requests() > before).await;
        client.half_close().await;
        backend.gate.add_permits(1);
        let answer = client.answer().await;
        assert_eq!(answer.text(), "ok", "{request:?}");
        assert_eq!(answer.header("connection"), Some("close"), "{request:?}");
        assert_eq!(client.closed().await, Ok(()));
    }
}

#[tokio::test]
async fn head_answers_have_no_body_and_leave_the_connection_usable() {
    let backend = Backend::http("ok").await;
    let rig = Rig::start(&[backend.address]).await;
    let mut client = rig.client().await;
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = client.head_answer().await;
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("2")));
    assert_eq!(client.get("/").await.text(), "ok");
    assert_eq!(client.get("/status/204").await.status, 204);
    assert_eq!(client.get("/").await.text(), "ok");
}

#[tokio::test]
async fn interim_answers_and_expectations_pass() {
    let backend = Backend::http("ok").await;
    let rig = Rig::start(&[backend.address]).await;
    let mut client = rig.client().await;
    client
        .send(
            "POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        )
        .await;
    // The server asks for the body only once its application reads it.
    assert_eq!(client.answer().await.status, 100);
    client.send("hello").await;
    let answer = client.answer().await;
    assert_eq!((answer.text(), answer.header("connection")), ("5", Some("keep-alive")));
    assert_eq!(client.get("/").await.text(), "ok");

    // The client's own wish, and a body of which nothing came, end the connection all the same.
    let head = "POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n";
    client.send(format!("{head}Connection: close\r\n\r\n")).await;
    assert_eq!(client.answer().await.status, 100);
    client.send("hello").await;
    assert_eq!(client.answer().await.header("connection"), Some("close"));
    client.closed().await.unwrap();
    let mut client = rig.client().await;
    client.send(format!("{}\r\n", head.replace("/length", "/status/403"))).await;
    assert_eq!(client.answer().await.header("connection"), Some("close"));
    // Long before the time that the client has for its body is over, and it was answered.
    client.closed().await.unwrap();
    until("the answer counted", || {
        rig.plane.drain_meters();
        rig.plane.totals()[0].instances[0].meters.client_errors == 1
    })
    .await;
    assert_eq!(rig.plane.totals()[0].instances[0].aborted, 0);

    let hinting = Backend::raw(|mut stream, _| async move {
        let reply = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
                      HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        stream.write_all(reply).await.unwrap();
    })
    .await;
    let rig = Rig::start(&[hinting.address]).await;
    let mut client = rig.client().await;
    let hint = client.get("/").await;
    assert_eq!((hint.status, hint.header("link")), (103, Some("</a>")));
    assert_eq!(client.answer().await.text(), "ok");
    // HTTP/1.0 knows no interim answers.
    let mut old = rig.client().await;
    old.send("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(old.answer().await.status, 200);
}

#[tokio::test]
async fn an_upgrade_becomes_a_tunnel_without_timeouts() {
    let backend = Backend::http("ok").await;
    let policy = foreshadow_proxy::UpstreamPolicy {
        first_byte_timeout: Duration::from_millis(200),
        stall_timeout: Duration::from_millis(100),
        total_timeout: Duration::from_millis(300),
        ..Default::default()
    };
    let rig = Rig::tuned(policy, &[backend.address], |spec| {
        spec.timeouts.client_body = Duration::from_millis(300);
    })
    .await;
    let mut client = rig.client().await;
    client
        .send(
            "GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        )
        .await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("upgrade")), (101, Some("websocket")));
    let mut echoed = [0_u8; 5];
    client.send("hello").await;
    within("the echo", client.stream.read_exact(&mut echoed)).await.unwrap();
    assert_eq!(&echoed, b"HELLO");
    // Longer than any timeout of the service: the passing of time is what is tested.
    tokio::time::sleep(Duration::from_millis(500)).await;
    client.send("again").await;
    within("the echo", client.stream.read_exact(&mut echoed)).await.unwrap();
    assert_eq!(&echoed, b"AGAIN");
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.closed().await, Ok(()));
}

#[tokio::test]
async fn a_refused_upgrade_is_an_ordinary_answer() {
    let backend = Backend::http("ok").await;
    let rig = Rig::start(&[backend.address]).await;
    let mut client = rig.client().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.text(), "ok");
    assert_eq!(client.get("/").await.text(), "ok");
}

#[tokio::test]
async fn a_thousand_idle_connections_block_nobody() {
    let backend = Backend::http("ok").await;
    let rig = Rig::start(&[backend.address]).await;
    let mut idle = Vec::new();
    for _ in 0..1000 {
        idle.push(Client::connect(rig.address).await);
    }
    until("all accepted", || rig.plane.connections()[0].active == 1000).await;
    for _ in 0..20 {
        assert_eq!(rig.get("/").await.text(), "ok");
    }
    // They were idle, not forgotten.
    for client in idle.iter_mut().step_by(100) {
        assert_eq!(client.get("/").await.text(), "ok");
    }
}

#[tokio::test]
async fn what_a_pausing_backend_has_said_is_passed_on() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let backend = Backend::raw(move |mut stream, _| {
        let gate = Arc::clone(&opened);
        async move {
            let start = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
            stream.write_all(start).await.unwrap();
            gate.acquire().await.unwrap().forget();
            stream.write_all(b"world").await.unwrap();
        }
    })
    .await;
    let rig = Rig::start(&[backend.address]).await;
    let mut client = rig.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut start = Vec::new();
    within("the first half", async {
        while !start.ends_with(b"hello") {
            client.stream.read_buf(&mut start).await.unwrap();
        }
    })
    .await;
    gate.add_permits(1);
    let mut end = [0_u8; 5];
    within("the second half", client.stream.read_exact(&mut end)).await.unwrap();
    assert_eq!(&end, b"world");
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let backend = Backend::raw(|mut stream, _| async move {
        let reply = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig";
        stream.write_all(reply).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut sink = vec![0; 65536];
        while matches!(stream.read(&mut sink).await, Ok(count) if count > 0) {}
    })
    .await;
    let rig = Rig::start(&[backend.address]).await;
    let mut client = rig.client().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nstart").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (413, "big"));
}
