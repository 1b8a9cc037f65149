//! What backends and clients learn of the proxy between them.

use std::net::SocketAddr;

use foreshadow_proxy::UpstreamPolicy;
use tokio::io::AsyncWriteExt;

use crate::support::{Answer, Backend, Rig};

/// The fields a backend got, those the proxy speaks in only; its name without what is random.
fn forwarded(answer: &Answer) -> Vec<&str> {
    let names = ["x-forwarded-", "forwarded:", "via:"];
    let lines = answer.text().lines();
    let spoken = lines.filter(|line| names.iter().any(|name| line.starts_with(name)));
    let own = |line| str::rsplit_once(line, "foreshadow-").map_or(line, |(before, _)| before);
    spoken.map(own).collect()
}

async fn exchange(rig: &Rig, fields: &str) -> Answer {
    let mut client = rig.client().await;
    client.send(format!("GET /head HTTP/1.1\r\nHost: shop.example:8080\r\n{fields}\r\n")).await;
    client.answer().await
}

const CLAIMS: &str = "X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: https\r\n\
                      X-Forwarded-Host: other\r\nForwarded: for=10.0.0.1;proto=https\r\n\
                      Via: 1.1 edge\r\n";

/// A node in front of `backend`, which is an address that is reserved and not yet served.
async fn node_on(address: SocketAddr, backend: SocketAddr) -> Rig {
    Rig::tuned(UpstreamPolicy::default(), &[backend], |spec| spec.address = address).await
}

#[tokio::test]
async fn a_request_that_comes_back_is_stopped_and_a_chain_of_nodes_is_not() {
    let backend = Backend::http("ok").await;
    let inner = Rig::start(&[backend.address]).await;
    let outer = Rig::start(&[inner.address]).await;
    let seen = outer.get("/head").await;
    assert_eq!(seen.status, 200);
    assert_eq!(seen.text().matches("via: 1.1 foreshadow-").count(), 2, "{}", seen.text());

    let reserved = Backend::refusing().await;
    let first = Rig::start(&[reserved]).await;
    let second = node_on(reserved, first.address).await;
    for entry in [&first, &second] {
        let mut client = entry.client().await;
        assert_eq!(client.get("/").await.status, 508);
        // The same once more: no backend is given up for it.
        assert_eq!(client.get("/").await.status, 508);
    }
    let arrivals = |rig: &Rig| rig.plane.drain_meters()[0].arrivals;
    assert_eq!((arrivals(&first), arrivals(&second)), (4, 4), "a round counts for nothing");
}

#[tokio::test]
async fn claims_of_strangers_are_replaced() {
    let backend = Backend::http("ok").await;
    let rig = Rig::start(&[backend.address]).await;
    for fields in ["", CLAIMS] {
        let answer = exchange(&rig, fields).await;
        let mut got = forwarded(&answer);
        got.retain(|line| *line != "via: 1.1 edge");
        got.sort_unstable();
        assert_eq!(
            got,
            [
                "forwarded: for=127.0.0.1;host=\"shop.example:8080\";proto=http",
                "via: 1.1 ",
                "x-forwarded-for: 127.0.0.1",
                "x-forwarded-host: shop.example:8080",
                "x-forwarded-proto: http",
            ],
        );
    }
}

#[tokio::test]
async fn claims_of_trusted_proxies_are_extended() {
    let backend = Backend::http("ok").await;
    let rig = Rig::tuned(Default::default(), &[backend.address], |spec| {
        spec.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let answer = exchange(&rig, CLAIMS).await;
    let mut got = forwarded(&answer);
    got.sort_unstable();
    assert_eq!(
        got,
        [
            "forwarded: for=10.0.0.1;proto=https, \
             for=127.0.0.1;host=\"shop.example:8080\";proto=http",
            "via: 1.1 ",
            "via: 1.1 edge",
            "x-forwarded-for: 10.0.0.1, 127.0.0.1",
            "x-forwarded-host: other",
            "x-forwarded-proto: https",
        ],
    );
}

#[tokio::test]
async fn hop_by_hop_fields_stay_on_their_hop() {
    let backend = Backend::http("ok").await;
    let rig = Rig::start(&[backend.address]).await;
    let fields = "Connection: X-Secret, keep-alive\r\nX-Secret: 1\r\nKeep-Alive: timeout=9\r\n\
                  Proxy-Connection: keep-alive\r\nTE: gzip\r\nUpgrade: h2c\r\nX-Kept: 2\r\n";
    let answer = exchange(&rig, fields).await;
    let seen = answer.text();
    for name in ["x-secret", "keep-alive", "proxy-connection", "te:", "upgrade", "connection:"] {
        assert!(!seen.lines().any(|line| line.starts_with(name)), "{name} in {seen}");
    }
    assert!(seen.contains("x-kept: 2"), "{seen}");
    assert!(seen.contains("host: shop.example:8080"), "{seen}");

    let answer = rig.get("/hop").await;
    assert_eq!(answer.header("x-hop"), None);
    assert_eq!(answer.header("x-end"), Some("2"));
    assert_eq!(answer.header("via"), Some("1.1 foreshadow"));
}

#[tokio::test]
async fn an_absolute_target_reaches_the_backend_in_origin_form() {
    let backend = Backend::http("ok").await;
    let rig = Rig::start(&[backend.address]).await;
    let mut client = rig.client().await;
    client.send("GET http://shop/head?x=1 HTTP/1.1\r\nHost: shop\r\n\r\n").await;
    let answer = client.answer().await;
    assert!(answer.text().starts_with("GET /head?x=1\n"), "{}", answer.text());
    // The authority of the target is believed and passed on, whatever `Host` says.
    for (target, host) in [("b.example:81", "evil"), ("b", "a.example.com:8080"), ("SHOP", "shop")]
    {
        let post = format!(
            "POST http://{target}/head HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\nhello"
        );
        client.send(post).await;
        let answer = client.answer().await;
        assert!(answer.text().contains(&format!("\nhost: {target}\n")), "{}", answer.text());
        let forwarded = format!("\nx-forwarded-host: {target}\n");
        assert!(answer.text().contains(&forwarded), "{}", answer.text());
    }
    client.send("GET http://old/head HTTP/1.0\r\n\r\n").await;
    let answer = client.answer().await;
    assert!(answer.text().contains("host: old\n"), "{}", answer.text());
}

#[tokio::test]
async fn http_1_0_backends_are_answered_for_in_our_version() {
    let backend = Backend::raw(|mut stream, _| async move {
        stream.write_all(b"HTTP/1.0 200 OK\r\nServer: old\r\n\r\nto the end").await.unwrap();
    })
    .await;
    let rig = Rig::start(&[backend.address]).await;
    let mut client = rig.client().await;
    for _ in 0..2 {
        let answer = client.get("/").await;
        assert!(answer.head.starts_with("HTTP/1.1 200"), "{}", answer.head);
        assert_eq!(answer.header("via"), Some("1.0 foreshadow"));
        assert_eq!((answer.text(), answer.header("server")), ("to the end", Some("old")));
    }
}

#[tokio::test]
async fn http_1_0_clients_get_answers_they_understand() {
    let backend = Backend::http("ok").await;
    let rig = Rig::start(&[backend.address]).await;
    let mut client = rig.client().await;
    client.send("GET /head HTTP/1.0\r\n\r\n").await;
    let answer = client.answer().await;
    assert!(answer.text().contains("via: 1.0 foreshadow-"), "{}", answer.text());
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(client.closed().await, Ok(()));

    // A body without length: no chunks for a client that cannot read them.
    let mut client = rig.client().await;
    client.send("POST /echo HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello").await;
    let answer = client.answer().await;
    assert_eq!((answer.header("transfer-encoding"), answer.text()), (None, "hello"));

    let mut client = rig.client().await;
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
        assert_eq!(client.answer().await.text(), "ok");
    }
}

#[tokio::test]
async fn connection_removes_what_it_names_and_nothing_that_the_proxy_says() {
    let backend = Backend::http("ok").await;
    let rig = Rig::start(&[backend.address]).await;
    let fields = "Connection: Authorization, X-Real-IP, keep-alive\r\nAuthorization: Basic eA==\r\n\
                  X-Real-IP: 10.0.0.1\r\nCookie: a=b\r\nX-Forwarded-For: 10.0.0.1\r\n";
    let answer = exchange(&rig, fields).await;
    let seen = answer.text();
    assert!(!seen.contains("authorization:") && !seen.contains("x-real-ip:"), "{seen}");
    for line in ["cookie: a=b\n", "x-forwarded-for: 127.0.0.1\n", "via: 1.1 foreshadow-"] {
        assert!(seen.contains(line), "{line} in {seen}");
    }
}

#[tokio::test]
async fn max_forwards_is_counted_down_and_ends_here() {
    let backend = Backend::http("ok").await;
    let rig = Rig::start(&[backend.address]).await;
    let mut client = rig.client().await;
    let mut ask = async |method: &str, left: &str| {
        let fields = format!("Max-Forwards: {left}\r\nAuthorization: x\r\nCookie: y\r\nX-Seen: z");
        client.send(format!("{method} /head HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")).await;
        client.answer().await
    };
    for (method, left, passed_on) in
        [("OPTIONS", "1", "0"), ("TRACE", "7", "6"), ("GET", "0", "0"), ("OPTIONS", "x", "x")]
    {
        let answer = ask(method, left).await;
        let line = format!("max-forwards: {passed_on}\n");
        assert!(answer.text().contains(&line), "{method} {left}: {}", answer.text());
    }
    assert_eq!(backend.requests(), 4);

    let options = ask("OPTIONS", "0").await;
    assert_eq!((options.status, options.text()), (200, ""));
    assert!(options.header("allow").is_some_and(|methods| methods.contains("OPTIONS")));
    let trace = ask("TRACE", "0").await;
    assert_eq!((trace.status, trace.header("content-type")), (200, Some("message/http")));
    assert!(trace.text().starts_with("TRACE /head HTTP/1.1\r\n"), "{}", trace.text());
    assert!(trace.text().contains("x-seen: z\r\n"), "{}", trace.text());
    for secret in ["authorization", "cookie"] {
        assert!(!trace.text().contains(secret), "{}", trace.text());
    }
    assert_eq!(backend.requests(), 4, "the proxy answers by itself");
}
