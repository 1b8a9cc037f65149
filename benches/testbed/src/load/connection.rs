//! One keep-alive client connection and the requests on it.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::report::FailureKind;

/// An open connection. Dropping it closes the socket, whatever is in flight on it.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

/// What became of one request on one connection.
pub(super) enum Exchange {
    /// A complete answer.
    Answered(StatusCode, HeaderMap),
    /// The connection was closed before anything of the request was written.
    NotSent,
    /// The request was written, at least in part, and there is no complete answer.
    Broken(FailureKind),
}

impl Connection {
    /// Connects and starts the driver of the connection.
    pub(super) async fn open(address: SocketAddr) -> Result<Self, FailureKind> {
        let stream = TcpStream::connect(address).await.map_err(|_| FailureKind::Connect)?;
        // Without it small requests could wait for an acknowledgement; it only fails on a socket
        // that is already reset, and then the exchange fails next.
        if stream.set_nodelay(true).is_err() {
            return Err(FailureKind::Connect);
        }
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|_| FailureKind::Connect)?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::trace!(%error, "connection ended");
            }
        });
        Ok(Self { sender, driver })
    }

    /// Whether the connection is known to be of no more use.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends a request and reads its whole answer.
    pub(super) async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Exchange {
        if self.sender.ready().await.is_err() {
            return Exchange::NotSent;
        }
        match self.sender.try_send_request(request).await {
            Ok(response) => read(response).await,
            Err(mut error) => match error.take_message() {
                Some(_unsent) => Exchange::NotSent,
                None => Exchange::Broken(kind(error.error())),
            },
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn read(response: Response<Incoming>) -> Exchange {
    let (head, mut body) = response.into_parts();
    while let Some(frame) = body.frame().await {
        if let Err(error) = frame {
            return Exchange::Broken(kind(&error));
        }
    }
    Exchange::Answered(head.status, head.headers)
}

fn kind(error: &hyper::Error) -> FailureKind {
    if error.is_parse() { FailureKind::Protocol } else { FailureKind::Reset }
}
