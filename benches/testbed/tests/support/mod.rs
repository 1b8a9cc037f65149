//! A plain blocking HTTP client, waiting on conditions, and the testbed's own binary.

// Each test binary uses its own part of this file.
#![allow(dead_code, reason = "shared by several test binaries")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use foreshadow_testbed::backend::Stats;

/// Far longer than anything here takes; only a defect gets there.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `condition` gives a value.
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < DEADLINE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(&found.1)
    }
}

/// A keep-alive client connection.
#[derive(Debug)]
pub(crate) struct Client(BufReader<TcpStream>);

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self(BufReader::new(Self::stream(address).expect("the backend accepts")))
    }

    fn stream(address: SocketAddr) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        Ok(stream)
    }

    pub(crate) fn send(&mut self, method: &str, path: &str, body: &str) {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        self.0.get_mut().write_all(request.as_bytes()).expect("the request can be written");
    }

    pub(crate) fn receive(&mut self) -> std::io::Result<Answer> {
        let bad = |line: &str| std::io::Error::other(format!("not an answer: {line:?}"));
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| bad(&line))?;
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line)?;
            match line.trim_end().split_once(": ") {
                Some((name, value)) => headers.push((name.to_owned(), value.to_owned())),
                None if line == "\r\n" => break,
                None => return Err(bad(&line)),
            }
        }
        let mut answer = Answer { status, headers, body: String::new() };
        let length = answer.header("content-length").and_then(|length| length.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        self.0.read_exact(&mut body)?;
        answer.body = String::from_utf8(body).map_err(std::io::Error::other)?;
        Ok(answer)
    }

    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &str) -> Answer {
        self.send(method, path, body);
        self.receive().expect("an answer")
    }

    /// Whether nothing has come in so far.
    pub(crate) fn is_silent(&self) -> bool {
        let stream = self.0.get_ref();
        stream.set_nonblocking(true).expect("a socket option");
        let peeked = stream.peek(&mut [0]);
        stream.set_nonblocking(false).expect("a socket option");
        matches!(peeked, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    Client::connect(address).ask("GET", path, "")
}

pub(crate) fn stats(address: SocketAddr) -> Stats {
    serde_json::from_str(&get(address, "/_testbed/stats").body).expect("stats in JSON")
}

pub(crate) fn fault(address: SocketAddr, fault: &str) {
    let answer = Client::connect(address).ask("POST", "/_testbed/fault", fault);
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// The testbed's binary as a backend process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
}

impl Process {
    /// Starts it and waits for its line that the port is open.
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_foreshadow-testbed"))
            .arg("backend")
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let stdout = child.stdout.take().expect("standard output is piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("listening on ").map(str::parse);
        let address = address.and_then(Result::ok).expect("the line names the address");
        Self { child, address }
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the process is there");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().expect("the process is there");
            self.child.wait().expect("the process is ours");
        }
    }
}
