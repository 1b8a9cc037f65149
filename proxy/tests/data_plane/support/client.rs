//! A client on a plain socket, and what it makes of the bytes it gets.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{until, within};

/// A client that writes what it is told, well-formed or not.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer as it was on the wire, its body decoded.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = within("connecting", TcpStream::connect(address)).await.unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n")).await;
        self.answer().await
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within("sending", self.stream.write_all(bytes.as_ref())).await.unwrap();
    }

    /// The next answer, which must be complete.
    pub(crate) async fn answer(&mut self) -> Answer {
        within("an answer", self.try_answer(false)).await.unwrap()
    }

    /// The next answer to a HEAD request.
    pub(crate) async fn head_answer(&mut self) -> Answer {
        within("an answer", self.try_answer(true)).await.unwrap()
    }

    /// The next answer, or how the connection ended before it was complete.
    pub(crate) async fn try_answer(&mut self, bodiless: bool) -> Result<Answer, String> {
        let head = self.line_block().await?;
        let status = head[9..12].parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new() };
        if bodiless || status < 200 || status == 204 || status == 304 {
            return Ok(answer);
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let line = self.take_until(b"\r\n").await?;
                let size = usize::from_str_radix(line.trim(), 16).map_err(|e| e.to_string())?;
                let chunk = self.take(size + 2).await?;
                if size == 0 {
                    return Ok(answer);
                }
                answer.body.extend_from_slice(&chunk[..size]);
            }
        }
        if let Some(length) = answer.header("content-length") {
            answer.body = self.take(length.parse().unwrap()).await?;
        } else {
            while self.fill().await? {}
            answer.body = std::mem::take(&mut self.buffer);
        }
        Ok(answer)
    }

    /// Closes the sending side, and waits until the proxy's socket has heard of it.
    pub(crate) async fn half_close(&mut self) {
        self.stream.shutdown().await.unwrap();
        let proxy = self.stream.peer_addr().unwrap().port();
        let client = self.stream.local_addr().unwrap().port();
        until("the end of the client's bytes at the proxy", || {
            let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
            table.lines().any(|line| is_close_wait(line, proxy, client))
        })
        .await;
    }

    /// Waits for the end of the connection; data or a reset before it are errors.
    pub(crate) async fn closed(&mut self) -> Result<(), String> {
        let more = within("the end of a connection", self.fill()).await?;
        if more { Err(format!("unexpected: {:?}", self.buffer)) } else { Ok(()) }
    }

    async fn line_block(&mut self) -> Result<String, String> {
        self.take_until(b"\r\n\r\n").await
    }

    async fn take_until(&mut self, mark: &[u8]) -> Result<String, String> {
        loop {
            if let Some(at) = self.buffer.windows(mark.len()).position(|w| w == mark) {
                let taken = self.take(at + mark.len()).await?;
                return Ok(String::from_utf8_lossy(&taken).into_owned());
            }
            if !self.fill().await? {
                return Err(format!("closed after {:?}", String::from_utf8_lossy(&self.buffer)));
            }
        }
    }

    async fn take(&mut self, count: usize) -> Result<Vec<u8>, String> {
        while self.buffer.len() < count {
            if !self.fill().await? {
                return Err(format!("closed after {} of {count} bytes", self.buffer.len()));
            }
        }
        let rest = self.buffer.split_off(count);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    async fn fill(&mut self) -> Result<bool, String> {
        let count = self.stream.read_buf(&mut self.buffer).await.map_err(|e| e.to_string())?;
        Ok(count > 0)
    }
}

/// Whether a line of `/proc/net/tcp` is the socket between two ports in state CLOSE_WAIT (08).
fn is_close_wait(line: &str, local: u16, remote: u16) -> bool {
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next().unwrap(), 16);
    let columns: Vec<&str> = line.split_whitespace().take(4).collect();
    matches!(columns[..], [_, from, to, "08"] if port(from) == Ok(local) && port(to) == Ok(remote))
}
