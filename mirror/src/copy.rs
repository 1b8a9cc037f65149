//! One copy: its headers, the connection it takes, and what became of it.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::mirrorer::Original;
use crate::policy::{MIRROR_HEADER, elements};

/// Answers are read this far, to learn the time of the last byte and to keep the connection; the
/// connection of a longer one is closed instead, since nobody wants the rest.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// Connections kept for the next copy, per target.
const MAX_IDLE: usize = 8;

type Sender = SendRequest<Empty<Bytes>>;

/// Why a copy got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    /// The target could not be reached.
    #[error("connecting to {address} failed: {source}")]
    Connect { address: SocketAddr, source: std::io::Error },
    /// The connection failed or the answer is not HTTP.
    #[error("no answer from {address}: {source}")]
    Exchange { address: SocketAddr, source: hyper::Error },
}

/// Idle connections to one target.
///
/// A plain mutex: it is held for a push or a pop, by mirroring tasks only.
pub(crate) struct Pool {
    address: SocketAddr,
    idle: Mutex<Vec<Sender>>,
}

impl Pool {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, idle: Mutex::new(Vec::new()) }
    }

    /// Sends a copy, reads its answer and throws it away.
    pub(crate) async fn exchange(&self, original: &Original) -> Result<StatusCode, CopyError> {
        // The target may close an idle connection while the copy is on its way into it. That says
        // nothing about the target, so such a copy gets one more try on a connection of its own.
        if let Some(sender) = self.take_idle() {
            match self.exchange_on(sender, original).await {
                Err(CopyError::Exchange { source, .. }) if closed_under_us(&source) => {}
                outcome => return outcome,
            }
        }
        let sender = self.connect().await?;
        self.exchange_on(sender, original).await
    }

    async fn exchange_on(
        &self,
        mut sender: Sender,
        original: &Original,
    ) -> Result<StatusCode, CopyError> {
        let failed = |source| CopyError::Exchange { address: self.address, source };
        let answer = sender.send_request(copy_of(original, self.address)).await.map_err(failed)?;
        let status = answer.status();
        if drain(answer.into_body()).await.map_err(failed)? {
            self.keep(sender);
        }
        Ok(status)
    }

    async fn connect(&self) -> Result<Sender, CopyError> {
        let failed = |source| CopyError::Connect { address: self.address, source };
        let stream = TcpStream::connect(self.address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|source| CopyError::Exchange { address: self.address, source })?;
        // It ends with its sender, which lives in a copy's task or in the idle list.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::trace!(%error, "a mirroring connection ended");
            }
        });
        Ok(sender)
    }

    fn take_idle(&self) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|sender| !sender.is_closed());
        let newest_ready = idle.iter().rposition(SendRequest::is_ready)?;
        Some(idle.remove(newest_ready))
    }

    fn keep(&self, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE && !sender.is_closed() {
            idle.push(sender);
        }
    }
}

fn closed_under_us(error: &hyper::Error) -> bool {
    error.is_canceled()
        || error.is_closed()
        || error.is_incomplete_message()
        || std::error::Error::source(error)
            .and_then(|source| source.downcast_ref::<std::io::Error>())
            .is_some_and(|io| {
                matches!(
                    io.kind(),
                    std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset
                )
            })
}

/// Reads an answer to its end; false when it was too long to be worth it.
async fn drain(mut body: Incoming) -> Result<bool, hyper::Error> {
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        read += frame?.data_ref().map_or(0, Bytes::len);
        if read > MAX_ANSWER_BYTES {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The request as the target gets it.
///
/// `Authorization` and `Cookie` go with it: a shadow is the same application in the same domain of
/// trust as the instance that got the original, and would answer 401 to everything without them.
fn copy_of(original: &Original, address: SocketAddr) -> Request<Empty<Bytes>> {
    let mut headers = end_to_end(&original.headers);
    headers.insert(MIRROR_HEADER, HeaderValue::from_static("1"));
    if !headers.contains_key(HOST) {
        let host = original.uri.authority().map_or_else(|| address.to_string(), |a| a.to_string());
        if let Ok(host) = HeaderValue::try_from(host) {
            headers.insert(HOST, host);
        }
    }
    let mut request = Request::new(Empty::new());
    *request.method_mut() = original.method.clone();
    *request.uri_mut() = original
        .uri
        .path_and_query()
        .map_or_else(|| Uri::from_static("/"), |path| Uri::from(path.clone()));
    *request.headers_mut() = headers;
    request
}

/// Headers without those that belong to one connection (RFC 9110, section 7.6.1) and those that
/// announce a body.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    const HOP_BY_HOP: [HeaderName; 12] = [
        CONNECTION,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
        HeaderName::from_static("http2-settings"),
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
        CONTENT_LENGTH,
        EXPECT,
    ];
    let mut kept = headers.clone();
    for listed in elements(headers, &CONNECTION) {
        kept.remove(listed);
    }
    for name in HOP_BY_HOP {
        kept.remove(name);
    }
    kept
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn original(uri: &'static str, headers: &[(&'static str, &'static str)]) -> Original {
        Original {
            service: "shop".into(),
            method: Method::GET,
            uri: Uri::from_static(uri),
            headers: headers
                .iter()
                .map(|(name, value)| {
                    (HeaderName::from_static(name), HeaderValue::from_static(value))
                })
                .collect(),
            status: 200,
            latency_ms: 1.0,
        }
    }

    fn address() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 9001))
    }

    #[test]
    fn a_copy_is_marked_and_carries_end_to_end_headers_only() {
        let copy = copy_of(
            &original(
                "http://shop.example/cart?id=7#x",
                &[
                    ("host", "shop.example"),
                    ("cookie", "session=1"),
                    ("authorization", "Bearer t"),
                    ("connection", "close, X-Hop"),
                    ("x-hop", "1"),
                    ("te", "trailers"),
                    ("proxy-authorization", "Basic x"),
                    ("content-length", "0"),
                    ("x-forwarded-for", "192.0.2.1"),
                ],
            ),
            address(),
        );
        assert_eq!(copy.uri(), "/cart?id=7");
        let mut names: Vec<_> = copy.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            ["authorization", "cookie", "host", "x-foreshadow-mirror", "x-forwarded-for"]
        );
        assert_eq!(copy.headers()[MIRROR_HEADER], "1");
    }

    #[test]
    fn a_copy_always_names_a_host() {
        let from_authority = copy_of(&original("http://shop.example/a", &[]), address());
        assert_eq!(from_authority.headers()[HOST], "shop.example");
        let from_address = copy_of(&original("/a", &[]), address());
        assert_eq!(from_address.headers()[HOST], "127.0.0.1:9001");
    }

    #[test]
    fn a_request_without_a_path_asks_for_the_root() {
        assert_eq!(copy_of(&original("shop.example:80", &[]), address()).uri(), "/");
        let mut all = original("*", &[]);
        all.method = Method::OPTIONS;
        assert_eq!(copy_of(&all, address()).uri(), "*");
    }
}
