//! The data plane in front of one instance, and a client of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use foreshadow_control::InstanceId;
use foreshadow_proxy::{
    BackendSpec, DataPlane, HostMatch, ListenerName, ListenerRoutes, ListenerSpec, PathMatch,
    RouteSpec, Settings, TableSpec, UpstreamPolicy, UpstreamSpec,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Nothing here takes this long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Time between two looks at something that is awaited.
const LOOK: Duration = Duration::from_millis(1);

/// The proxy as a node runs it, with one listener.
pub(crate) struct Front {
    plane: DataPlane,
    address: SocketAddr,
}

impl Front {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let plane = DataPlane::start(Settings { workers: 1, ..Settings::default() })?;
        let listener = ListenerSpec::new("web", SocketAddr::from(([127, 0, 0, 1], 0)));
        let opened = plane.set_listeners(vec![listener]).pop().context("no listener")??;
        Ok(Self { plane, address: opened })
    }

    /// Sends everything to one instance.
    pub(crate) fn lead_to(&self, id: InstanceId, address: SocketAddr) -> anyhow::Result<()> {
        let route = RouteSpec {
            host: HostMatch::Any,
            path: PathMatch::Prefix("/".to_owned()),
            service: "shop".into(),
        };
        let routes = ListenerRoutes { listener: ListenerName::from("web"), routes: vec![route] };
        let backends = vec![BackendSpec { id, address, weight: 1, capacity_rps: 0.0 }];
        let policy = Arc::new(UpstreamPolicy::default());
        let service = UpstreamSpec { name: "shop".into(), backends, policy };
        self.plane.publish(&TableSpec { listeners: vec![routes], services: vec![service] })?;
        Ok(())
    }

    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        Client::connect(self.address).await
    }

    /// Ends it, with whatever is still under way.
    pub(crate) async fn shutdown(self) {
        self.plane.shutdown(Duration::ZERO).await;
    }
}

/// A connection that is kept.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096) })
    }

    /// One request; its answer must be a 200.
    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<()> {
        let asked = format!("GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n");
        let answer = async {
            self.stream.write_all(asked.as_bytes()).await?;
            self.buffer.clear();
            while !is_whole(&self.buffer) {
                anyhow::ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "cut off");
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, answer).await.context("no answer")??;
        let status = self.buffer.get(9..12).unwrap_or_default();
        anyhow::ensure!(status == b"200", "answered {}", String::from_utf8_lossy(&self.buffer));
        Ok(())
    }
}

/// Whether head and body are there; both the backend and the proxy give the length.
fn is_whole(bytes: &[u8]) -> bool {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
    bytes.len() >= end + 4 + length
}

/// Waits until an instance answers its health check.
pub(crate) async fn ready(address: SocketAddr) -> anyhow::Result<()> {
    let look = async {
        loop {
            let asked = async { Client::connect(address).await?.get("/healthz").await };
            if asked.await.is_ok() {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.context("it never answers its health check")
}
