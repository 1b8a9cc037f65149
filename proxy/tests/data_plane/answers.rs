//! Answers of backends that cannot be passed on as they are.

use std::sync::Arc;

use foreshadow_proxy::UpstreamPolicy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

use crate::support::{Backend, Rig, within};

/// A backend that answers every request with `reply` and keeps connections until the proxy closes
/// them; a permit for each that it closed.
async fn saying(reply: &'static str) -> (Backend, Arc<Semaphore>) {
    let closed = Arc::new(Semaphore::new(0));
    let counted = Arc::clone(&closed);
    let backend = Backend::raw(move |mut stream, _| {
        let closed = Arc::clone(&counted);
        async move {
            let mut request = [0; 4096];
            // Fails where the proxy has closed in the middle of it.
            while stream.write_all(reply.as_bytes()).await.is_ok()
                && matches!(stream.read(&mut request).await, Ok(count) if count > 0)
            {}
            closed.add_permits(1);
        }
    })
    .await;
    (backend, closed)
}

/// No errors in a row are enough to eject.
fn patient() -> UpstreamPolicy {
    let mut policy = UpstreamPolicy::default();
    policy.ejection.consecutive_errors = 0;
    policy
}

#[tokio::test]
async fn what_cannot_be_delimited_or_was_not_asked_for_is_a_502_and_ends_the_connection() {
    for reply in [
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nraw",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let (backend, closed) = saying(reply).await;
        let rig = Rig::with(patient(), &[backend.address]).await;
        // A request for another protocol than the proxy lets through asks the backend for none.
        for fields in ["", "Connection: Upgrade\r\nUpgrade: h2c\r\n"] {
            let mut client = rig.client().await;
            client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
            let answer = client.answer().await;
            assert_eq!(answer.status, 502, "{reply:?} {fields:?}");
            assert!(answer.header("content-length").is_some(), "{}", answer.head);
            within("the end of the backend's connection", closed.acquire()).await.unwrap().forget();
        }
        assert_eq!(backend.connections(), 2, "{reply:?}");
    }
}

#[tokio::test]
async fn answers_without_content_do_not_say_how_long_it_is() {
    let (backend, _) =
        saying("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\nX-Kept: 1\r\n\r\n").await;
    let rig = Rig::with(patient(), &[backend.address]).await;
    let mut client = rig.client().await;
    for _ in 0..2 {
        let answer = client.get("/").await;
        assert_eq!((answer.status, answer.header("x-kept")), (204, Some("1")));
        assert_eq!(answer.header("content-length"), None, "{}", answer.head);
        assert_eq!(answer.header("transfer-encoding"), None, "{}", answer.head);
        assert_eq!(answer.header("connection"), Some("keep-alive"));
    }

    // That of a 304 is of the answer that a GET without a condition would get.
    let (backend, _) = saying("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n").await;
    let rig = Rig::with(patient(), &[backend.address]).await;
    let mut client = rig.client().await;
    for _ in 0..2 {
        let answer = client.get("/").await;
        assert_eq!((answer.status, answer.header("content-length")), (304, Some("5")));
    }
}

#[tokio::test]
async fn interim_answers_pass_unasked_and_without_what_concerns_one_hop() {
    let (backend, _) = saying(
        "HTTP/1.1 100 Continue\r\n\r\n\
         HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 7\r\nConnection: X-Hop\r\n\
         X-Hop: 1\r\nUpgrade: h2c\r\n\r\n\
         HTTP/1.1 199 Odd\r\nTransfer-Encoding: chunked\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let rig = Rig::with(patient(), &[backend.address]).await;
    let mut client = rig.client().await;
    assert_eq!(client.get("/").await.status, 100);
    let hint = client.answer().await;
    assert_eq!((hint.status, hint.header("link")), (103, Some("</a>")));
    for name in ["content-length", "connection", "x-hop", "upgrade"] {
        assert_eq!(hint.header(name), None, "{}", hint.head);
    }
    let odd = client.answer().await;
    assert_eq!((odd.status, odd.header("transfer-encoding")), (199, None));
    assert_eq!(client.answer().await.text(), "ok");
}
