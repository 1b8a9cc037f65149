//! A client of the admin interface, as any operator could write one.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

const PATIENCE: Duration = Duration::from_secs(2);
/// Where the token is looked for when the command line has none: there others could read it.
const TOKEN_VARIABLE: &str = "FORESHADOW_TOKEN";

/// Where the admin interface of a running node is, for commands that ask it.
#[derive(Debug, clap::Args)]
pub(crate) struct Admin {
    /// The admin interface: http://HOST:PORT, or unix:/PATH.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9900")]
    admin: Address,
    /// Its token, if it has one; better given in the environment, as `FORESHADOW_TOKEN`.
    #[arg(long)]
    token: Option<String>,
}

impl Admin {
    /// A client of it.
    pub(crate) fn client(&self) -> Client {
        let token = self.token.clone().or_else(|| std::env::var(TOKEN_VARIABLE).ok());
        Client { token, ..Client::new(self.admin.clone()) }
    }
}

/// Where an admin interface listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// Host and port.
    Tcp(String),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address.to_string())
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(path.into()));
        }
        let rest = text.strip_prefix("http://").unwrap_or(text);
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let port = authority.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
        match port {
            Some((host, Ok(_))) if !host.is_empty() && !authority.contains(['/', '@']) => {
                Ok(Self::Tcp(authority.to_owned()))
            }
            _ => Err("write http://HOST:PORT or unix:/PATH, as under admin.address".to_owned()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(authority) => write!(f, "http://{authority}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

type Connection = SendRequest<Full<Bytes>>;

/// A connection to the admin interface, made again when it breaks.
#[derive(Debug)]
pub(crate) struct Client {
    address: Address,
    token: Option<String>,
    connection: Option<Connection>,
}

impl Client {
    /// A client without a token.
    pub(crate) fn new(address: impl Into<Address>) -> Self {
        Self { address: address.into(), token: None, connection: None }
    }

    /// Reads `path`.
    ///
    /// # Errors
    /// When nothing answers within 2 s, the status is no success, or the answer is not understood.
    pub(crate) async fn get<T: DeserializeOwned>(&mut self, path: &str) -> anyhow::Result<T> {
        let (status, body) = self.send(Method::GET, path, None).await?;
        if !status.is_success() {
            let refused = anyhow::anyhow!("{status}: {}", said(&body));
            return Err(refused.context(format!("asking {} for {path}", self.address)));
        }
        serde_json::from_slice(&body).with_context(|| {
            format!(
                "the answer of {} to {path} is not as expected: is it the admin interface of a \
                     node (`admin.address`), and of this version?",
                self.address
            )
        })
    }

    /// Sends a request and gives the answer as it comes, whatever its status.
    ///
    /// # Errors
    /// When nothing answers within 2 s.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let asked = tokio::time::timeout(PATIENCE, self.ask(method, path, body)).await;
        match asked {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                self.connection = None;
                Err(error.context(format!("asking {} for {path}", self.address)))
            }
            Err(_) => {
                self.connection = None;
                anyhow::bail!("no answer from {} to {path} within {PATIENCE:?}", self.address);
            }
        }
    }

    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let usable = self.connection.take().filter(|c| !c.is_closed());
        let mut connection = match usable {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        connection.ready().await?;
        let host = match &self.address {
            Address::Tcp(authority) => authority,
            Address::Unix(_) => "localhost",
        };
        let mut request = hyper::Request::builder().method(method).uri(path);
        request = request.header(hyper::header::HOST, host);
        if body.is_some() {
            request = request.header(hyper::header::CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.token {
            request = request.header(hyper::header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = Full::new(body.map(Value::to_string).unwrap_or_default().into());
        let answer = connection.send_request(request.body(body)?).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        self.connection = Some(connection);
        Ok((status, body))
    }

    async fn connect(&self) -> anyhow::Result<Connection> {
        match &self.address {
            Address::Tcp(authority) => shake(TcpStream::connect(authority).await?).await,
            Address::Unix(path) => shake(UnixStream::connect(path).await?).await,
        }
    }
}

async fn shake(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> anyhow::Result<Connection> {
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // The sender sees the same error with the next request.
        connection.await.ok();
    });
    Ok(sender)
}

/// What an error says: that of the admin interface, or whatever came in its place.
pub(crate) fn said(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Refusal {
        error: String,
    }
    serde_json::from_slice(body)
        .map_or_else(|_| String::from_utf8_lossy(body).trim().to_owned(), |Refusal { error }| error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_shown() {
        for text in ["http://127.0.0.1:9900", "http://[::1]:9900", "unix:/run/foreshadow.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("node:9900/".parse(), Ok(Address::Tcp("node:9900".to_owned())));
        for text in ["", "unix:", "node", "https://node:9900", "http://a:1/api", ":80", "u@a:1"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn errors_are_told_in_the_words_of_the_interface() {
        assert_eq!(said(br#"{"error":"there is no service"}"#), "there is no service");
        assert_eq!(said(b"gone\n"), "gone");
    }
}
