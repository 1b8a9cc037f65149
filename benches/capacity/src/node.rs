//! A real node in front of the backends, and what it and they say of themselves.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;

/// Longest wait for an answer, and for the node to be ready.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time the node has to end in order before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// A running node. It ends with this value.
pub(crate) struct Node {
    child: Child,
    admin: SocketAddr,
    listeners: Vec<SocketAddr>,
    // Removed after the node has ended, when this is dropped.
    _state: tempfile::TempDir,
}

/// A service of the node: its name, backend and objective.
pub(crate) struct Service {
    pub(crate) name: &'static str,
    pub(crate) backend: SocketAddr,
    pub(crate) objective_ms: f64,
}

impl Node {
    /// Starts `program` with a listener for each service and waits until it is ready.
    ///
    /// # Errors
    /// When it cannot be started, ends, or is not ready within a minute.
    pub(crate) fn start(program: &Path, services: &[Service]) -> anyhow::Result<Self> {
        let state = tempfile::tempdir()?;
        let admin = free_address()?;
        let listeners = services.iter().map(|_| free_address()).collect::<Result<Vec<_>, _>>()?;
        let config = state.path().join("foreshadow.yaml");
        std::fs::write(&config, yaml(services, &listeners, admin, state.path())?)?;
        let log = std::fs::File::create(state.path().join("log"))?;
        let child = Command::new(program)
            .args(["run", "--log-format", "text", "-c"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}; build it first", program.display()))?;
        let mut node = Self { child, admin, listeners, _state: state };
        node.wait_ready()?;
        Ok(node)
    }

    /// Where the load of a service goes.
    pub(crate) fn target(&self, nth: usize) -> String {
        format!("http://{}/", self.listeners[nth])
    }

    /// A GET of the admin interface.
    ///
    /// # Errors
    /// When it does not answer, or not with JSON.
    pub(crate) fn api(&self, path: &str) -> anyhow::Result<Value> {
        json(self.admin, path)
    }

    fn wait_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while get(self.admin, "/readyz").map_or(true, |(status, _)| status != 200) {
            if let Some(status) = self.child.try_wait()? {
                let log = std::fs::read_to_string(self._state.path().join("log"))?;
                anyhow::bail!("the node ended with {status} before it was ready:\n{log}");
            }
            anyhow::ensure!(Instant::now() < deadline, "the node is not ready after {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        // Asked first; where that fails, or it does not end, it is killed.
        Command::new("kill").args(["-TERM", &pid]).status().ok();
        let deadline = Instant::now() + GRACE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn yaml(
    services: &[Service],
    listeners: &[SocketAddr],
    admin: SocketAddr,
    state: &Path,
) -> Result<String, std::fmt::Error> {
    let mut text = "listeners:\n".to_owned();
    for (service, listener) in services.iter().zip(listeners) {
        writeln!(text, "  - address: {listener}\n    routes:\n      - service: {}", service.name)?;
    }
    text += "services:\n";
    for Service { name, backend, objective_ms } in services {
        writeln!(text, "  {name}:\n    primaries: [\"{backend}\"]\n    mode: observe")?;
        writeln!(text, "    objective: {{ latency_p99: {objective_ms}ms }}")?;
    }
    writeln!(text, "admin:\n  address: {admin}\nstate_dir: {:?}", state.join("state"))?;
    Ok(text)
}

/// An address on loopback that was free a moment ago.
fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}

/// A GET that must be answered 200 with JSON.
///
/// # Errors
/// When it is not.
pub(crate) fn json(address: SocketAddr, path: &str) -> anyhow::Result<Value> {
    let (status, body) = get(address, path).with_context(|| format!("{address}{path}"))?;
    anyhow::ensure!(status == 200, "{address}{path}: {status} {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).with_context(|| format!("{address}{path} is no JSON"))
}

/// Status and body; both interfaces say the length of what they answer and close when asked to.
fn get(address: SocketAddr, path: &str) -> anyhow::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw)?;
    let end = raw.windows(4).position(|window| window == b"\r\n\r\n").context("no answer")?;
    let head = String::from_utf8_lossy(&raw[..end]);
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status")?;
    Ok((status, raw.split_off(end + 4)))
}
