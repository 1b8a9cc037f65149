//! One check of one address.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::verdict::CheckFailure;
use super::{CheckKind, HealthCheck};
use crate::shortage;

/// Most bytes of an answer's body that are read; what follows is cut off.
const BODY_MAX: usize = 64 * 1024;

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nobody listens at the address.
    #[error("connection refused by {address}; is the instance running?")]
    Refused {
        /// The address.
        address: SocketAddr,
    },
    /// The connection could not be made.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// This machine is short of what a connection takes, which says nothing of the address.
    #[error("cannot check {address}: {source}; is the limit on open files too low?")]
    Shortage {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The check took too long.
    #[error("no answer from {address} within {} ms", .timeout.as_millis())]
    Timeout {
        /// The address.
        address: SocketAddr,
        /// The limit.
        timeout: Duration,
    },
    /// The answer has a status that is not expected.
    #[error("{address}{path} answered {status}; expected {expected}")]
    Status {
        /// The address.
        address: SocketAddr,
        /// What was asked for.
        path: String,
        /// What came back.
        status: u16,
        /// What passes.
        expected: String,
    },
    /// The answer is not HTTP/1.1, or the connection broke before its end.
    #[error("no valid http answer from {address}: {source}")]
    Protocol {
        /// The address.
        address: SocketAddr,
        /// What was wrong.
        source: hyper::Error,
    },
    /// The check itself is not a valid request.
    #[error("cannot ask for path {path:?} with host {host:?}: {source}; correct the health check")]
    Request {
        /// The path.
        path: String,
        /// The host.
        host: String,
        /// What was wrong.
        source: http::Error,
    },
}

impl From<&ProbeError> for CheckFailure {
    fn from(error: &ProbeError) -> Self {
        Self { definitive: matches!(error, ProbeError::Refused { .. }), reason: error.to_string() }
    }
}

/// Checks an address once, within the check's timeout; the connection is closed afterwards.
///
/// # Errors
/// [`ProbeError`] says which step failed.
pub async fn probe(address: SocketAddr, check: &HealthCheck) -> Result<(), ProbeError> {
    let attempt = async {
        let stream = TcpStream::connect(address).await.map_err(|source| match source.kind() {
            io::ErrorKind::ConnectionRefused => ProbeError::Refused { address },
            _ if shortage::is_ours(&source) => ProbeError::Shortage { address, source },
            _ => ProbeError::Connect { address, source },
        })?;
        match &check.kind {
            CheckKind::Tcp => Ok(()),
            CheckKind::Http { path, host, expected } => {
                let host = host.clone().unwrap_or_else(|| address.to_string());
                let status = get(address, stream, path, host).await?;
                if passes(status, expected) {
                    return Ok(());
                }
                Err(ProbeError::Status {
                    address,
                    path: path.clone(),
                    status: status.as_u16(),
                    expected: describe(expected),
                })
            }
        }
    };
    timeout(check.timeout, attempt)
        .await
        .unwrap_or(Err(ProbeError::Timeout { address, timeout: check.timeout }))
}

async fn get(
    address: SocketAddr,
    stream: TcpStream,
    path: &str,
    host: String,
) -> Result<StatusCode, ProbeError> {
    let request = Request::get(path)
        .header(HOST, &host)
        .header(USER_AGENT, "foreshadow-health")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|source| ProbeError::Request { path: path.to_owned(), host, source })?;
    let exchange = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut connection = pin!(connection);
        let mut answer = pin!(async {
            let mut response = sender.send_request(request).await?;
            let mut read = 0;
            while let Some(frame) = response.frame().await {
                read += frame?.data_ref().map_or(0, Bytes::len);
                if read >= BODY_MAX {
                    break;
                }
            }
            Ok(response.status())
        });
        tokio::select! {
            biased;
            status = &mut answer => status,
            ended = &mut connection => {
                ended?;
                answer.await
            }
        }
    };
    exchange.await.map_err(|source| ProbeError::Protocol { address, source })
}

const DEFAULT_EXPECTED: std::ops::RangeInclusive<u16> = 200..=399;

fn passes(status: StatusCode, expected: &[std::ops::RangeInclusive<u16>]) -> bool {
    let status = status.as_u16();
    if expected.is_empty() {
        return DEFAULT_EXPECTED.contains(&status);
    }
    expected.iter().any(|range| range.contains(&status))
}

fn describe(expected: &[std::ops::RangeInclusive<u16>]) -> String {
    let text = |range: &std::ops::RangeInclusive<u16>| match (range.start(), range.end()) {
        (start, end) if start == end => start.to_string(),
        (start, end) => format!("{start}-{end}"),
    };
    if expected.is_empty() {
        return text(&DEFAULT_EXPECTED);
    }
    expected.iter().map(text).collect::<Vec<_>>().join(", ")
}
