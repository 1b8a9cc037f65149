//! A small fake of a Docker Engine, for what a real one does not do on demand: it fails, hangs, talks
//! nonsense and breaks off as it is told. It is no measure of what engines do when all is well; that is
//! tested on a real one.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foreshadow_shadow::{
    DockerProvider, DockerSpec, EngineEndpoint, NetworkSpec, ProviderError, Pull,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

/// What is answered to one request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// A status with a JSON document.
    Json(u16, String),
    /// These bytes, whatever they are, and then the end of the connection.
    Raw(Vec<u8>),
    /// Nothing, for ever.
    Hang,
    /// The head of an answer whose body begins with this and never ends.
    Stream(String),
    /// The same, with a body that begins once there is one.
    Later(Arc<Mutex<Option<String>>>),
}

impl Reply {
    /// A refusal in the engine's form.
    pub(crate) fn refused(status: u16, message: &str) -> Self {
        Self::Json(status, serde_json::json!({ "message": message }).to_string())
    }
}

/// What it does otherwise than by default, by method and path without version and query; the number
/// says how often that was asked before.
type Script = dyn Fn(&str, usize) -> Option<Reply> + Send + Sync;

/// A fake that answers for as long as it lives.
pub(crate) struct Fake {
    pub(crate) socket: PathBuf,
    pub(crate) dir: tempfile::TempDir,
    asked: Arc<Mutex<Vec<String>>>,
    answers: tokio::task::JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.answers.abort();
    }
}

/// What it answers where the script says nothing: one container that runs.
pub(crate) fn default(asked: &str) -> Reply {
    let json = |value: serde_json::Value| Reply::Json(200, value.to_string());
    match asked {
        "GET /version" => json(serde_json::json!({ "ApiVersion": "1.41", "Version": "fake" })),
        "GET /events" => Reply::Stream(String::new()),
        "GET /containers/json" | "GET /networks" => Reply::Json(200, "[]".to_owned()),
        "POST /containers/create" => Reply::Json(201, r#"{"Id": "c1", "Warnings": []}"#.to_owned()),
        "GET /containers/c1/json" => json(container(true, false)),
        "GET /containers/c1/logs" => {
            Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec())
        }
        _ => Reply::Json(204, String::new()),
    }
}

/// The container as the engine shows it.
pub(crate) fn container(running: bool, paused: bool) -> serde_json::Value {
    serde_json::json!({
        "Id": "c1",
        "State": { "Running": running, "Paused": paused, "ExitCode": 3, "Pid": 0 },
        "Config": { "Labels": {} },
        "NetworkSettings": { "Networks": { "front": { "IPAddress": "10.9.8.7" } } },
    })
}

impl Fake {
    pub(crate) fn start(
        script: impl Fn(&str, usize) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Script> = Arc::new(script);
        let log = Arc::clone(&asked);
        let answers = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.spawn(answer(stream, Arc::clone(&script), Arc::clone(&log)));
            }
        });
        Self { socket, dir, asked, answers }
    }

    /// What was asked so far, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, what: &str) -> usize {
        self.asked().iter().filter(|asked| *asked == what).count()
    }

    /// Settings that lead there, with little patience.
    pub(crate) fn spec(&self) -> DockerSpec {
        DockerSpec {
            endpoint: EngineEndpoint::Unix(self.socket.clone()),
            image: "shop:1".to_owned(),
            pull: Pull::Never,
            network: NetworkSpec { names: vec!["front".to_owned()], ..NetworkSpec::default() },
            timeout: Duration::from_millis(500),
            ..DockerSpec::default()
        }
    }

    pub(crate) fn provider(&self, spec: DockerSpec) -> DockerProvider {
        let host = super::host(self.dir.path(), foreshadow_shadow::Facility::None);
        DockerProvider::new(&host, spec)
    }
}

async fn answer(mut stream: UnixStream, script: Arc<Script>, log: Arc<Mutex<Vec<String>>>) {
    let Some(asked) = read(&mut stream).await else { return };
    let before = {
        let mut log = log.lock().unwrap();
        log.push(asked.clone());
        log.iter().filter(|one| **one == asked).count() - 1
    };
    let reply = script(&asked, before).unwrap_or_else(|| default(&asked));
    let later = if let Reply::Later(body) = &reply { Some(Arc::clone(body)) } else { None };
    let (bytes, holds) = match reply {
        Reply::Json(status, body) => {
            let length = body.len();
            let head = format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n");
            let length =
                if status == 204 { String::new() } else { format!("Content-Length: {length}\r\n") };
            (format!("{head}{length}Connection: close\r\n\r\n{body}").into_bytes(), false)
        }
        Reply::Raw(bytes) => (bytes, false),
        Reply::Hang => (Vec::new(), true),
        Reply::Stream(_) | Reply::Later(_) => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n";
            let begin = if let Reply::Stream(begin) = reply { begin } else { String::new() };
            (format!("{head}{begin}").into_bytes(), true)
        }
    };
    if let Some(body) = later {
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
        let begun = loop {
            if let Some(begun) = body.lock().unwrap().take() {
                break begun;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        if stream.write_all(begun.as_bytes()).await.is_ok() {
            std::future::pending::<()>().await;
        }
        return;
    }
    // One who has lost patience does not listen any more.
    if stream.write_all(&bytes).await.is_ok() && holds {
        std::future::pending::<()>().await;
    }
}

/// One request to its end; its method and path without version and query.
async fn read(stream: &mut UnixStream) -> Option<String> {
    let mut text = Vec::new();
    let head_end = loop {
        if let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut text).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&text[..head_end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
    while text.len() < head_end + length {
        if stream.read_buf(&mut text).await.ok()? == 0 {
            return None;
        }
    }
    let line = String::from_utf8_lossy(&text).lines().next()?.to_owned();
    let mut words = line.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let path = target.split('?').next()?;
    let path = match path.strip_prefix("/v1.").and_then(|rest| rest.split_once('/')) {
        Some((_, rest)) => format!("/{rest}"),
        None => path.to_owned(),
    };
    Some(format!("{method} {path}"))
}

/// The cause and the whole text of a refusal.
pub(crate) fn refusal<T: std::fmt::Debug>(
    outcome: Result<T, ProviderError>,
) -> (foreshadow_shadow::Cause, String) {
    let error = outcome.expect_err("it is refused");
    let text = error.to_string();
    match error {
        ProviderError::Refused { cause, .. } => (cause, text),
        other => panic!("told in another way: {other}"),
    }
}
