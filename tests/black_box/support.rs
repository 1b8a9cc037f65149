//! What the black-box tests share: free ports, real backends, the built command, a plain client.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

/// Longest wait for anything; far above what is needed, so that only a hang runs into it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The command under test.
pub(crate) fn foreshadow() -> Command {
    Command::new(env!("CARGO_BIN_EXE_foreshadow"))
}

/// An address on loopback that was free a moment ago.
///
/// Below the range that the kernel takes the ports of connections from, and below that of shadows:
/// nobody comes by it between this look and its use. Tests that run at the same time, each in its
/// own process, look in different places.
pub(crate) fn free_address() -> SocketAddr {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 10_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let own = std::process::id().wrapping_mul(61);
    for _ in 0..COUNT {
        let at = own.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(FIRST + at).unwrap()));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port from {FIRST} on is free");
}

/// Waits until `condition` gives a value; fails with `what` when it takes too long.
pub(crate) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// A child process that ends with the test, and what it wrote to standard error.
pub(crate) struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Process {
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (stderr, sink) = (child.stderr.take().unwrap(), Arc::clone(&log));
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut sink = sink.lock().unwrap();
                sink.push_str(&line);
                sink.push('\n');
            }
        });
        Self { child, log, reader }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Kills it without a chance to clean up.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end, and for all it wrote to be in the log, and gives the exit code; fails
    /// when it goes on.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let what = format!("end of process {}", self.pid());
        let status = eventually(&what, || self.child.try_wait().unwrap());
        eventually("end of its log", || self.reader.is_finished().then_some(()));
        status.code()
    }
}

impl Drop for Process {
    /// Asks twice before it kills: a node that is told again kills its shadows and does not wait
    /// for requests, while one that is killed leaves its shadows behind for ever.
    fn drop(&mut self) {
        for signal in [Signal::TERM, Signal::TERM, Signal::KILL] {
            if self.child.try_wait().unwrap().is_some() {
                break;
            }
            self.signal(signal);
            let deadline = Instant::now() + Duration::from_secs(10);
            while self.child.try_wait().unwrap().is_none() && Instant::now() < deadline {
                std::thread::park_timeout(Duration::from_millis(10));
            }
        }
        if std::thread::panicking() {
            println!("--- log of process {} ---\n{}", self.pid(), self.log());
        }
    }
}

/// Process ids by what a file of theirs in `/proc`, `cmdline` or `environ`, says; one that has
/// ended and waits to be reaped says nothing.
pub(crate) fn processes(file: &str, wanted: impl Fn(&str) -> bool) -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let text = std::fs::read(entry.path().join(file)).unwrap_or_default();
        if wanted(&String::from_utf8_lossy(&text)) {
            found.insert(pid);
        }
    }
    found
}

/// A real backend with tunable behaviour.
pub(crate) struct Backend {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

impl Backend {
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::start_at(free_address(), options)
    }

    pub(crate) fn start_at(address: SocketAddr, options: &[&str]) -> Self {
        let mut command = foreshadow();
        command.args(["testbed", "backend", "--listen", &address.to_string()]).args(options);
        let process = Process::spawn(command);
        eventually("backend to listen", || TcpStream::connect(address).ok());
        Self { process, address }
    }
}

/// A running node with its own state directory.
pub(crate) struct Node {
    pub(crate) process: Process,
    pub(crate) proxy: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) dir: tempfile::TempDir,
}

impl Node {
    /// Starts a node on `services`, the YAML below `services:`, all requests going to `shop`.
    pub(crate) fn start(services: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::start_in(dir, services)
    }

    pub(crate) fn start_in(dir: tempfile::TempDir, services: &str) -> Self {
        let (proxy, admin) = (free_address(), free_address());
        write_config(dir.path(), proxy, admin, services);
        let process = Self::launch(dir.path());
        let node = Self { process, proxy, admin, dir };
        node.wait_ready();
        node
    }

    /// Starts the command on the configuration in `dir`.
    pub(crate) fn launch(dir: &Path) -> Process {
        let mut command = foreshadow();
        command.args(["run", "--log-format", "text", "-c"]).arg(config_path(dir));
        Process::spawn(command)
    }

    pub(crate) fn wait_ready(&self) {
        eventually("node to be ready", || {
            (try_get(self.admin, "/readyz").ok()?.status == 200).then_some(())
        });
    }

    /// Starts the command again on the same configuration and state.
    pub(crate) fn restart(&mut self) {
        self.process = Self::launch(self.dir.path());
        self.wait_ready();
    }

    pub(crate) fn rewrite(&self, services: &str) {
        write_config(self.dir.path(), self.proxy, self.admin, services);
    }

    pub(crate) fn config(&self) -> PathBuf {
        config_path(self.dir.path())
    }

    /// A GET of the admin interface, as JSON.
    pub(crate) fn api(&self, path: &str) -> Value {
        let answer = try_get(self.admin, path).unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// A POST to the admin interface: status and JSON.
    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.admin,
            body.len()
        );
        let answer = exchange(self.admin, request.as_bytes()).unwrap();
        (answer.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null))
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        try_get(self.proxy, path).unwrap()
    }

    /// Sends a request that takes its time, and waits until a primary is at it.
    pub(crate) fn request_in_flight(&self) -> JoinHandle<std::io::Result<Answer>> {
        let proxy = self.proxy;
        let request = std::thread::spawn(move || try_get(proxy, "/"));
        eventually("the request to be in flight", || {
            let view = self.api("/api/v1/services/shop");
            let instances = view["instances"].as_array()?;
            let busy = |i: &Value| i["role"] == "primary" && i["last_tick"]["in_flight"] == 1;
            instances.iter().any(busy).then_some(())
        });
        request
    }
}

pub(crate) fn config_path(dir: &Path) -> PathBuf {
    dir.join("foreshadow.yaml")
}

pub(crate) fn write_config(dir: &Path, proxy: SocketAddr, admin: SocketAddr, services: &str) {
    let text = format!(
        "listeners:\n  - address: {proxy}\n    routes:\n      - service: shop\n\
         services:\n{services}\nadmin:\n  address: {admin}\nstate_dir: {}\n",
        dir.join("state").display()
    );
    // Replaced as an editor does it, so that a watcher never reads half a file.
    let temporary = dir.join("foreshadow.yaml.new");
    std::fs::write(&temporary, text).unwrap();
    std::fs::rename(&temporary, config_path(dir)).unwrap();
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

pub(crate) fn try_get(address: SocketAddr, path: &str) -> std::io::Result<Answer> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    exchange(address, request.as_bytes())
}

/// Sends raw bytes and reads the answer until the peer closes.
pub(crate) fn exchange(address: SocketAddr, request: &[u8]) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw)?;
    parse_answer(&raw).ok_or_else(|| std::io::Error::other(format!("not an answer: {raw:?}")))
}

fn parse_answer(raw: &[u8]) -> Option<Answer> {
    let end = raw.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&raw[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut answer = Answer { status, head, body: raw[end + 4..].to_vec() };
    if answer.header("transfer-encoding").is_some_and(|te| te.contains("chunked")) {
        answer.body = dechunk(&answer.body)?;
    }
    Some(answer)
}

fn dechunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line_end = rest.windows(2).position(|w| w == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line_end]).ok()?, 16).ok()?;
        rest = &rest[line_end + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}
