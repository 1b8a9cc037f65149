//! The machine protocol of QEMU (`docs/interop/qmp-spec.txt`): a line of JSON each way, and events in
//! between. A task holds the connection, and makes it again for as long as the emulator runs.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};

use super::place::QMP;
use super::seen::Seen;
use super::told::Trouble;

/// The longest line that is read; answers to what is asked here have a hundredth of it.
const LONGEST: u64 = 1 << 20;
/// Orders that wait for a connection.
const WAITING: usize = 8;
/// Orders without an answer of which it is forgotten who waited.
const OPEN: usize = 64;
/// First and longest pause between two tries to connect.
const AGAIN: (Duration, Duration) = (Duration::from_millis(2), Duration::from_secs(1));
/// Longest time for the greeting, and for a line to be taken.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest path of a socket (unix(7)), with its end.
const PATH: usize = 108;

/// A connection to one emulator, made and kept by a task of its own.
pub(super) struct Monitor {
    orders: mpsc::Sender<Order>,
    seen: watch::Receiver<Seen>,
}

struct Order {
    text: Value,
    answer: oneshot::Sender<Result<Value, Trouble>>,
}

impl Monitor {
    /// Connects to the emulator in `dir`, now or as soon as it listens, until `ended` says something.
    /// Must be called on a runtime.
    pub(super) fn start(dir: PathBuf, ended: watch::Receiver<Option<String>>) -> Self {
        let (orders, taken) = mpsc::channel(WAITING);
        let (tell, seen) = watch::channel(Seen::default());
        tokio::spawn(follow(dir, ended, taken, tell));
        Self { orders, seen }
    }

    /// What was heard of it so far.
    pub(super) fn seen(&self) -> watch::Receiver<Seen> {
        self.seen.clone()
    }

    /// Gives an order and waits for the answer.
    pub(super) async fn call(
        &self,
        execute: &'static str,
        arguments: Value,
        patience: Duration,
    ) -> Result<Value, Trouble> {
        let (answer, answered) = oneshot::channel();
        let mut text = json!({ "execute": execute });
        if !arguments.is_null() {
            text["arguments"] = arguments;
        }
        let asked = async {
            let gone = || Trouble::Gone(self.seen.borrow().trouble.clone());
            self.orders.send(Order { text, answer }).await.map_err(|_| gone())?;
            answered.await.unwrap_or_else(|_| Err(gone()))
        };
        let late = |_| Trouble::Late(patience, self.seen.borrow().trouble.clone());
        tokio::time::timeout(patience, asked).await.map_err(late)?
    }
}

/// Connects again and again, until the emulator has ended and everything it said is read.
async fn follow(
    dir: PathBuf,
    mut ended: watch::Receiver<Option<String>>,
    mut orders: mpsc::Receiver<Order>,
    tell: watch::Sender<Seen>,
) {
    let mut pause = AGAIN.0;
    loop {
        let outcome = match connect(&dir).await {
            Ok(stream) => {
                let mut line = Line::new(stream);
                match line.greet().await {
                    Ok(()) => {
                        tell.send_modify(|seen| seen.connected(true));
                        pause = AGAIN.0;
                        line.serve(&mut orders, &tell).await
                    }
                    Err(why) => Err(why),
                }
            }
            Err(why) => Err(why),
        };
        tell.send_modify(|seen| seen.connected(false));
        match outcome {
            // Nobody gives orders any more.
            Ok(()) => return,
            Err(why) => {
                tell.send_modify(|seen| seen.trouble = Some(why.to_string()));
            }
        }
        if ended.borrow().is_some() {
            tell.send_modify(|seen| seen.closed = true);
            return;
        }
        tokio::select! {
            _ = ended.wait_for(Option::is_some) => {}
            () = tokio::time::sleep(pause) => {}
            () = tell.closed() => return,
        }
        pause = (pause * 2).min(AGAIN.1);
    }
}

async fn connect(dir: &Path) -> io::Result<UnixStream> {
    let (path, _dir) = reachable(dir, QMP)?;
    UnixStream::connect(path).await
}

/// A path of a socket in `dir` that is short enough, and what must be kept open while it is used.
pub(super) fn reachable(
    dir: &Path,
    name: &str,
) -> io::Result<(PathBuf, Option<impl Send + use<>>)> {
    let path = dir.join(name);
    if path.as_os_str().len() < PATH {
        return Ok((path, None));
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(dir, flags, Mode::empty())?;
    Ok((PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd())).join(name), Some(fd)))
}

/// One connection.
struct Line {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    /// The begin of a line whose end has not come.
    partial: Vec<u8>,
    open: BTreeMap<u64, oneshot::Sender<Result<Value, Trouble>>>,
    next: u64,
}

impl Line {
    fn new(stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        let reader = BufReader::new(reader);
        Self { reader, writer, partial: Vec::new(), open: BTreeMap::new(), next: 1 }
    }

    /// Takes the greeting, after which orders may be given.
    async fn greet(&mut self) -> io::Result<()> {
        let greeted = async {
            let greeting = read(&mut self.reader, &mut self.partial).await?;
            if !greeting["QMP"].is_object() {
                return Err(strange("a greeting", &greeting));
            }
            self.write(&json!({ "execute": "qmp_capabilities", "id": 0 })).await?;
            loop {
                let value = read(&mut self.reader, &mut self.partial).await?;
                if value["return"].is_object() {
                    return Ok(());
                }
                if value["error"].is_object() {
                    return Err(strange("leave to give orders", &value));
                }
            }
        };
        match tokio::time::timeout(PATIENCE, greeted).await {
            Ok(greeted) => greeted,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "it does not greet")),
        }
    }

    /// Passes orders on and answers back; ends well when nobody gives orders any more.
    async fn serve(
        &mut self,
        orders: &mut mpsc::Receiver<Order>,
        tell: &watch::Sender<Seen>,
    ) -> io::Result<()> {
        loop {
            tokio::select! {
                biased;
                value = read(&mut self.reader, &mut self.partial) => self.take(value?, tell),
                order = orders.recv() => match order {
                    Some(order) => self.order(order).await?,
                    None => return Ok(()),
                },
            }
        }
    }

    fn take(&mut self, mut value: Value, tell: &watch::Sender<Seen>) {
        if let Some(event) = value["event"].as_str() {
            tracing::debug!(event, data = %value["data"], "told by an emulator");
            tell.send_modify(|seen| seen.hear(event, &value["data"]));
            return;
        }
        let Some(answer) = value["id"].as_u64().and_then(|id| self.open.remove(&id)) else {
            tracing::debug!(%value, "an answer that nobody waits for");
            return;
        };
        let said = match value["error"].take() {
            Value::Null => Ok(value["return"].take()),
            error => Err(Trouble::refused(&error)),
        };
        // Who asked may have given up.
        answer.send(said).unwrap_or_default();
    }

    async fn order(&mut self, order: Order) -> io::Result<()> {
        if order.answer.is_closed() {
            return Ok(());
        }
        if self.open.len() >= OPEN {
            self.open.retain(|_, answer| !answer.is_closed());
        }
        let Order { mut text, answer } = order;
        text["id"] = self.next.into();
        self.open.insert(self.next, answer);
        self.next += 1;
        self.write(&text).await
    }

    async fn write(&mut self, text: &Value) -> io::Result<()> {
        let line = format!("{text}\n");
        match tokio::time::timeout(PATIENCE, self.writer.write_all(line.as_bytes())).await {
            Ok(written) => written,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "it takes no orders")),
        }
    }
}

/// Reads one line. Cut off, it goes on where it was when it is called again with the same `partial`.
async fn read(
    reader: &mut (impl AsyncBufRead + Unpin),
    partial: &mut Vec<u8>,
) -> io::Result<Value> {
    loop {
        let left = LONGEST.saturating_sub(partial.len() as u64);
        let read = (&mut *reader).take(left).read_until(b'\n', partial).await?;
        if partial.last() == Some(&b'\n') {
            let line = std::mem::take(partial);
            return serde_json::from_slice(&line)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error));
        }
        if left == 0 {
            let problem = format!("a line of more than {LONGEST} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection"));
        }
    }
}

fn strange(wanted: &str, found: &Value) -> io::Error {
    let found = crate::remote::shorten(&found.to_string(), 100);
    io::Error::new(io::ErrorKind::InvalidData, format!("expected {wanted}, found {found}"))
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    const SOON: Duration = Duration::from_millis(50);
    const GREETING: &str = "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\n";

    /// A server that says `lines` after it has read as many lines as come before each.
    async fn serve(dir: &Path, lines: &'static [&'static str]) -> tokio::task::JoinHandle<()> {
        let listener = UnixListener::bind(dir.join(QMP)).unwrap();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (reader, mut writer) = stream.into_split();
            let mut asked = BufReader::new(reader).lines();
            for (number, line) in lines.iter().enumerate() {
                if number > 0 {
                    asked.next_line().await.unwrap();
                }
                writer.write_all(line.as_bytes()).await.unwrap();
            }
            // Nothing more is said, and it stays.
            while let Ok(Some(_)) = asked.next_line().await {}
        })
    }

    fn monitor(dir: &Path) -> (Monitor, watch::Sender<Option<String>>) {
        let (end, ended) = watch::channel(None);
        (Monitor::start(dir.to_owned(), ended), end)
    }

    #[tokio::test]
    async fn answers_find_who_asked_and_events_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let server = serve(
            dir.path(),
            &[
                GREETING,
                "{\"return\": {}, \"id\": 0}\n",
                "{\"event\": \"STOP\"}\n{\"return\": {\"status\": \"paused\"}, \"id\": 1}\n",
                "{\"id\": 2, \"error\": {\"class\": \"GenericError\", \"desc\": \"no such thing\"}}\n",
            ],
        );
        let _server = server.await;
        let (monitor, _end) = monitor(dir.path());
        let answer = monitor.call("query-status", Value::Null, PATIENCE).await.unwrap();
        assert_eq!(answer["status"], "paused");
        assert!(monitor.seen().borrow().stopped);
        let error = monitor.call("cont", Value::Null, PATIENCE).await.unwrap_err();
        assert!(matches!(&error, Trouble::Refused(text) if text == "no such thing"), "{error:?}");
    }

    #[tokio::test]
    async fn one_that_is_silent_is_given_up_in_time_and_said_to_be() {
        for said in [&[][..], &[GREETING][..], &[GREETING, "{\"return\": {}}\n"][..]] {
            let dir = tempfile::tempdir().unwrap();
            let _server = serve(dir.path(), said).await;
            let (monitor, _end) = monitor(dir.path());
            let error = monitor.call("stop", Value::Null, SOON).await.unwrap_err();
            assert!(matches!(error, Trouble::Late(SOON, _)), "{error:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_machine_protocol_is_said_and_a_line_without_end_is_not_kept() {
        let endless: &'static str = Box::leak("x".repeat(3 << 20).into_boxed_str());
        for said in [&["hello\n"][..], &["{\"ok\": 1}\n"][..], Box::leak(Box::new([endless]))] {
            let dir = tempfile::tempdir().unwrap();
            let server = serve(dir.path(), said).await;
            let (monitor, _end) = monitor(dir.path());
            let mut seen = monitor.seen();
            let told = seen.wait_for(|seen| seen.trouble.is_some()).await.unwrap().clone();
            let why = told.trouble.unwrap();
            assert!(
                ["expected value", "expected a greeting", "a line of more"]
                    .iter()
                    .any(|part| why.contains(part)),
                "{why}"
            );
            server.abort();
        }
    }

    #[tokio::test]
    async fn the_end_of_the_emulator_ends_what_waits_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let (monitor, end) = monitor(dir.path());
        end.send_replace(Some("exited".to_owned()));
        let error = monitor.call("stop", Value::Null, PATIENCE).await.unwrap_err();
        assert!(matches!(error, Trouble::Gone(_)), "{error:?}");
        assert!(monitor.seen().borrow().closed);
    }

    #[tokio::test]
    async fn a_directory_with_a_long_name_is_reached_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("x".repeat(200));
        std::fs::create_dir(&long).unwrap();
        let (path, _kept) = reachable(&long, QMP).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        let (connected, accepted) = tokio::join!(connect(&long), listener.accept());
        connected.unwrap();
        accepted.unwrap();
    }
}
