//! A real node as a process of its own, and its admin interface, for benches.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Longest wait for an answer, and for the node to be ready.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time the node has to end in order before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// A running node. It ends with this value.
#[derive(Debug)]
pub struct Node {
    child: Child,
    admin: SocketAddr,
    log: PathBuf,
}

impl Node {
    /// Starts `program` with the configuration that `config` writes for an admin address, and waits
    /// until it is ready. Configuration and log are files in `dir`, which must outlive the node.
    ///
    /// # Errors
    /// When it cannot be started, ends, or is not ready within a minute.
    pub fn start(
        program: &Path,
        dir: &Path,
        config: impl FnOnce(SocketAddr) -> anyhow::Result<String>,
    ) -> anyhow::Result<Self> {
        let admin = free_address()?;
        let path = dir.join("foreshadow.yaml");
        std::fs::write(&path, config(admin)?)?;
        let log = dir.join("log");
        let child = Command::new(program)
            .args(["run", "--log-format", "text", "-c"])
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .with_context(|| format!("cannot start {}; build it first", program.display()))?;
        let mut node = Self { child, admin, log };
        node.wait_ready()?;
        Ok(node)
    }

    /// A GET of the admin interface.
    ///
    /// # Errors
    /// When it does not answer, or not with JSON.
    pub fn api(&self, path: &str) -> anyhow::Result<Value> {
        json(self.admin, path)
    }

    /// An order to the admin interface.
    ///
    /// # Errors
    /// When it is not taken.
    pub fn order(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        answered(self.admin, "POST", path, body.to_string().as_bytes())
    }

    fn wait_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while ask(self.admin, "GET", "/readyz", b"").map_or(true, |(status, _)| status != 200) {
            if let Some(status) = self.child.try_wait()? {
                let log = std::fs::read_to_string(&self.log)?;
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
        // Asked first; where that fails, or it does not end, it is killed.
        kill_process(Pid::from_child(&self.child), Signal::TERM).ok();
        let deadline = Instant::now() + GRACE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// An address on loopback that was free a moment ago.
///
/// # Errors
/// When the kernel has none.
pub fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}

/// A GET that must be answered with a success and JSON.
///
/// # Errors
/// When it is not.
pub fn json(address: SocketAddr, path: &str) -> anyhow::Result<Value> {
    answered(address, "GET", path, b"")
}

fn answered(address: SocketAddr, method: &str, path: &str, body: &[u8]) -> anyhow::Result<Value> {
    let (status, body) =
        ask(address, method, path, body).with_context(|| format!("{method} {address}{path}"))?;
    let text = || String::from_utf8_lossy(&body).into_owned();
    anyhow::ensure!((200..300).contains(&status), "{method} {address}{path}: {status} {}", text());
    serde_json::from_slice(&body).with_context(|| format!("{address}{path} is no JSON"))
}

/// Status and body; backends and node say the length of what they answer and close when asked to.
fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &[u8],
) -> anyhow::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)?;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw)?;
    let end = raw.windows(4).position(|window| window == b"\r\n\r\n").context("no answer")?;
    let head = String::from_utf8_lossy(&raw[..end]);
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status")?;
    Ok((status, raw.split_off(end + 4)))
}
