//! A client of the admin interface, as any operator could write one.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use foreshadow_control::{
    CapacityView, Health, HorizonView, InstanceId, InstanceWeight, Law, Role, Tier,
};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

const PATIENCE: Duration = Duration::from_secs(2);

/// An instance as the admin interface shows it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Instance {
    pub(super) instance: InstanceId,
    pub(super) role: Role,
    pub(super) tier: Tier,
    pub(super) moving_to: Option<Tier>,
    pub(super) health: Health,
    pub(super) weight: u32,
    pub(super) address: Option<SocketAddr>,
    pub(super) capacity: Option<CapacityView>,
}

#[derive(Deserialize)]
pub(super) struct Instances {
    pub(super) at_ms: u64,
    pub(super) instances: Vec<Instance>,
}

#[derive(Deserialize)]
pub(super) struct Forecasts {
    pub(super) services: Vec<Forecast>,
}

#[derive(Deserialize)]
pub(super) struct Forecast {
    pub(super) demand_rps: f64,
    pub(super) horizons: Vec<HorizonView>,
}

#[derive(Deserialize)]
pub(super) struct Page {
    pub(super) decisions: Vec<Decision>,
}

/// A decision record, as far as the demo reads it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Decision {
    pub(super) id: i64,
    pub(super) at_ms: u64,
    pub(super) tick: u64,
    pub(super) laws: Vec<Law>,
    pub(super) summary: Vec<String>,
    pub(super) plan: Option<Planned>,
}

/// The weights a decision put in force.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Planned {
    pub(super) weights: Vec<InstanceWeight>,
}

impl Decision {
    /// What is worth a line of its own: everything but the moves of weights, which come ten times
    /// a second, except those for a failure.
    pub(super) fn news(&self) -> impl Iterator<Item = &str> {
        let failover = self.laws.contains(&Law::Failover);
        let lines = self.summary.iter().map(String::as_str);
        lines.filter(move |line| failover || !line.contains("; weights:"))
    }
}

/// A connection to the admin interface, made again when it breaks.
#[derive(Debug)]
pub(super) struct Api {
    address: SocketAddr,
    connection: Option<SendRequest<Empty<Bytes>>>,
}

impl Api {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, connection: None }
    }

    /// Reads `path`.
    ///
    /// # Errors
    /// When nothing answers within 2 s, the status is no success, or the answer is not understood.
    pub(super) async fn get<T: DeserializeOwned>(&mut self, path: &str) -> anyhow::Result<T> {
        let asked = tokio::time::timeout(PATIENCE, self.ask(path)).await;
        let body = match asked {
            Ok(Ok(body)) => body,
            Ok(Err(error)) => {
                self.connection = None;
                return Err(error.context(format!("asking http://{}{path}", self.address)));
            }
            Err(_) => {
                self.connection = None;
                anyhow::bail!("no answer from http://{}{path} within {PATIENCE:?}", self.address);
            }
        };
        serde_json::from_slice(&body)
            .with_context(|| format!("the answer to {path} is not as expected"))
    }

    async fn ask(&mut self, path: &str) -> anyhow::Result<Bytes> {
        let usable = self.connection.take().filter(|c| !c.is_closed());
        let mut connection = match usable {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        connection.ready().await?;
        let request = hyper::Request::get(path)
            .header(hyper::header::HOST, self.address.to_string())
            .body(Empty::new())?;
        let answer = connection.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        self.connection = Some(connection);
        anyhow::ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
        Ok(body)
    }

    async fn connect(&self) -> anyhow::Result<SendRequest<Empty<Bytes>>> {
        let stream = tokio::net::TcpStream::connect(self.address).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // The sender sees the same error with the next request.
            connection.await.ok();
        });
        Ok(sender)
    }
}
