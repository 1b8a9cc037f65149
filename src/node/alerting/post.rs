//! One POST of JSON, bounded in time.

use anyhow::{Context, bail};
use foreshadow_config::{AlertWebhook, Endpoint};
use http::Request;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Posts `body`; the connection is closed afterwards. Errors repeat neither token nor headers.
///
/// # Errors
/// When there is no answer of 2xx in time.
pub(super) async fn post(to: &AlertWebhook, body: Vec<u8>) -> anyhow::Result<()> {
    match tokio::time::timeout(to.timeout, connect_and_post(to, body)).await {
        Ok(answer) => answer,
        Err(_) => bail!("no answer within {:?}", to.timeout),
    }
}

/// It was read and refused, and would be refused again.
#[derive(Debug)]
pub(super) struct Refused(http::StatusCode);

impl std::error::Error for Refused {}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "it answers {}", self.0)
    }
}

impl Refused {
    fn by(status: http::StatusCode) -> Option<Self> {
        use http::StatusCode as Is;
        let may_pass = [Is::REQUEST_TIMEOUT, Is::TOO_EARLY, Is::TOO_MANY_REQUESTS];
        (status.is_client_error() && !may_pass.contains(&status)).then_some(Self(status))
    }
}

/// It answered that it does not take it now.
#[derive(Debug)]
pub(super) struct Later(http::StatusCode);

impl std::error::Error for Later {}

impl std::fmt::Display for Later {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "it answers {}", self.0)
    }
}

async fn connect_and_post(to: &AlertWebhook, body: Vec<u8>) -> anyhow::Result<()> {
    match &to.url {
        Endpoint::Tcp { authority, prefix } => {
            let stream = TcpStream::connect(authority).await.context("cannot connect")?;
            exchange(stream, request(to, authority, prefix, body)?).await
        }
        Endpoint::Unix(path) => {
            let stream = UnixStream::connect(path).await.context("cannot connect")?;
            exchange(stream, request(to, "localhost", "", body)?).await
        }
    }
}

fn request(
    to: &AlertWebhook,
    host: &str,
    prefix: &str,
    body: Vec<u8>,
) -> anyhow::Result<Request<Full<Bytes>>> {
    let target = if prefix.is_empty() { "/" } else { prefix };
    let mut request = Request::post(target)
        .header(HOST, host)
        .header(USER_AGENT, "foreshadow")
        .header(CONTENT_TYPE, "application/json")
        .header(CONNECTION, "close");
    if let Some(token) = &to.token {
        request =
            request.header(AUTHORIZATION, secret(&format!("Bearer {}", token.secret().expose()))?);
    }
    for (name, value) in &to.headers {
        request = request.header(name, secret(value)?);
    }
    request.body(Full::new(body.into())).context("the url or a header cannot be sent")
}

fn secret(text: &str) -> anyhow::Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text).context("the token or a header cannot be sent")?;
    value.set_sensitive(true);
    Ok(value)
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<()> {
    let (mut sender, connection) =
        handshake(TokioIo::new(stream)).await.context("no http connection")?;
    let answer = async {
        let answer = sender.send_request(request).await.context("no valid http answer")?;
        if let Some(refused) = Refused::by(answer.status()) {
            return Err(refused.into());
        }
        if !answer.status().is_success() {
            return Err(Later(answer.status()).into());
        }
        Ok(())
    };
    tokio::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        // It ends before the answer only when that came whole with it.
        _ = &mut connection => answer.await,
    }
}
