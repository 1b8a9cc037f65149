//! One GET, bounded in time and size.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use http::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer answers are refused.
pub(super) const LONGEST: usize = 4 << 20;

/// Asks `address`, a host and its port, for `target`; the connection is closed afterwards.
///
/// # Errors
/// When there is no answer of 200 within `patience`, or it is longer than [`LONGEST`] or no UTF-8.
pub(super) async fn get(
    address: &str,
    host: &str,
    target: &str,
    accept: &'static str,
    patience: Duration,
) -> anyhow::Result<String> {
    match timeout(patience, exchange(address, host, target, accept)).await {
        Ok(answer) => answer,
        Err(_) => bail!("no answer within {patience:?}"),
    }
}

async fn exchange(
    address: &str,
    host: &str,
    target: &str,
    accept: &'static str,
) -> anyhow::Result<String> {
    let stream = TcpStream::connect(address).await.context("cannot connect")?;
    let (mut sender, connection) =
        handshake(TokioIo::new(stream)).await.context("no http connection")?;
    let request = Request::get(target)
        .header(HOST, host)
        .header(ACCEPT, accept)
        .header(USER_AGENT, "foreshadow")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .context("the path is no target of a request")?;
    let answer = async {
        let answer = sender.send_request(request).await.context("no valid http answer")?;
        let status = answer.status();
        ensure!(status == StatusCode::OK, "it answers {status}");
        let body = Limited::new(answer.into_body(), LONGEST).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("the answer was not read: {error}"))?;
        String::from_utf8(body.to_bytes().into()).context("the answer is no text")
    };
    tokio::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        // It ends before the answer only when that came whole with it.
        _ = &mut connection => answer.await,
    }
}
