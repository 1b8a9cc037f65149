//! One request and its answer, on a connection of its own, within bounds of time and size.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap};
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::Endpoint;

/// Most of a body that is taken; a list of a thousand instances is a fifth of it.
const MOST: usize = 1 << 20;

/// What is asked.
pub(super) struct Ask {
    pub(super) method: Method,
    /// Path and query below the endpoint.
    pub(super) target: String,
    pub(super) body: Vec<u8>,
    pub(super) key: Option<String>,
    pub(super) token: Option<String>,
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Bytes,
}

/// Why nothing came back.
pub(super) enum Trouble {
    /// It was never asked.
    Connect(String),
    /// It may have been asked.
    Broken(String),
    /// The time was up.
    Late,
    /// More than so many bytes came.
    TooMuch(usize),
    /// It cannot be asked like this.
    Invalid(String),
}

pub(super) async fn once(
    endpoint: &Endpoint,
    ask: &Ask,
    patience: Duration,
) -> Result<Answer, Trouble> {
    let exchange = async {
        let connect = |error: std::io::Error| Trouble::Connect(error.to_string());
        match endpoint {
            Endpoint::Tcp { authority, prefix } => {
                let stream = TcpStream::connect(authority.as_str()).await.map_err(connect)?;
                send(stream, authority, prefix, ask).await
            }
            Endpoint::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(connect)?;
                send(stream, "localhost", "", ask).await
            }
        }
    };
    tokio::time::timeout(patience, exchange).await.unwrap_or(Err(Trouble::Late))
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    authority: &str,
    prefix: &str,
    ask: &Ask,
) -> Result<Answer, Trouble> {
    let broken = |error: hyper::Error| Trouble::Broken(reason(&error));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let mut request = hyper::Request::builder()
        .method(ask.method.clone())
        .uri(format!("{prefix}{}", ask.target))
        .header(header::HOST, authority)
        .header(header::ACCEPT, "application/json")
        .header(header::CONNECTION, "close")
        .header(header::USER_AGENT, concat!("foreshadow/", env!("CARGO_PKG_VERSION")));
    if !ask.body.is_empty() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    if let Some(key) = &ask.key {
        request = request.header("idempotency-key", key);
    }
    if let Some(token) = &ask.token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request
        .body(Full::new(Bytes::from(ask.body.clone())))
        .map_err(|error| Trouble::Invalid(format!("it cannot be asked: {error}")))?;
    // Dropped with this future, so a connection that hangs is closed when the time is up.
    let drive = connection;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(broken)?;
        let (status, retry_after) = (answer.status(), retry_after(answer.headers()));
        let body = Limited::new(answer.into_body(), MOST).collect().await.map_err(|error| {
            match error.downcast_ref::<LengthLimitError>() {
                Some(_) => Trouble::TooMuch(MOST),
                None => Trouble::Broken(error.to_string()),
            }
        })?;
        Ok(Answer { status, retry_after, body: body.to_bytes() })
    };
    tokio::pin!(drive);
    tokio::pin!(exchange);
    tokio::select! {
        answered = &mut exchange => answered,
        // The exchange has what came, or sees the same error.
        _ = &mut drive => exchange.await,
    }
}

/// The innermost reason is the one that says something.
fn reason(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// Seconds (RFC 9110, section 10.2.3); a date is not used by anything that asks to slow down.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}
