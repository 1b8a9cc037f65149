//! Running one command within bounds of time and output, with everything it starts.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::sync::OnceCell;

use super::ExecSpec;
use super::tree::{MARK, Tree, end_marked};
use super::turns::{ORDERS, Turn, Turns};
use crate::error::{Cause, ProviderError};
use crate::process::{blocking, signals};
use crate::remote::contract::shorten;

/// Most of stdout that is taken; a list of a thousand instances is a fifth of it.
const MOST: usize = 1 << 20;
/// Of stderr the end is kept.
const TAIL: usize = 2 * 1024;
/// After so long the ids of processes may have gone round.
const LONG: Duration = Duration::from_secs(10);

/// What all exec providers share.
pub(crate) struct Commands {
    owner: String,
    settled: OnceCell<()>,
}

/// What is to be run.
pub(super) struct Run<'a> {
    pub(super) spec: &'a ExecSpec,
    pub(super) operation: &'a str,
    /// The instance it is about: one command at a time.
    pub(super) about: Option<&'a str>,
    pub(super) input: Vec<u8>,
    /// Longest time to its end, that until its turn comes included.
    pub(super) patience: Duration,
}

/// What became of a command that ended by itself.
pub(super) struct Output {
    /// Absent when a signal ended it.
    pub(super) code: Option<i32>,
    pub(super) how: String,
    pub(super) stdout: Vec<u8>,
    /// The end of it, on one line.
    pub(super) stderr: String,
    pub(super) took: Duration,
}

impl Commands {
    pub(crate) fn new(owner: &str) -> Self {
        Self { owner: owner.to_owned(), settled: OnceCell::new() }
    }

    /// Ends commands that an earlier run had under way, before they do anything more.
    pub(super) async fn settle(&self) -> Result<(), ProviderError> {
        let end = || async {
            let mark = format!("{}:", self.owner);
            let ended = blocking(move || end_marked(&mark)).await?;
            if ended > 0 {
                tracing::warn!(ended, "ended provider commands that an earlier run had under way");
            }
            Ok(())
        };
        self.settled.get_or_try_init(end).await.map(drop)
    }

    /// Runs a command to its end, or to that of its patience; nothing of it is left then.
    pub(super) async fn run(&self, turns: &Turns, run: Run<'_>) -> Result<Output, (Cause, String)> {
        let failed = |error: ProviderError| (Cause::Failed, error.to_string());
        let Run { spec, operation, about, input, patience } = run;
        let asked = Instant::now();
        let turn = turns.take(about, patience).await.ok_or_else(|| {
            let waited = patience.as_millis();
            let text = format!(
                "its turn did not come within {waited} ms: it runs already for this instance, or \
                 {ORDERS} times for others"
            );
            (Cause::NotAsked, text)
        })?;
        let mark = format!("{}:{:016x}", self.owner, rand::random::<u64>());
        let command = prepare(spec, operation, &self.owner, &mark)?;
        let begun = Instant::now();
        let mut running = Running::start(command, mark, turn).await?;
        let outcome = running.follow(input, patience.saturating_sub(asked.elapsed())).await;
        let tree = running.tree.take().ok_or((Cause::Failed, "it was ended".to_owned()))?;
        let thorough = !matches!(outcome, Followed::Ended) || begun.elapsed() > LONG;
        let (left, code, how) = blocking(move || tree.end(thorough)).await.map_err(failed)?;
        running.drain();
        let stderr = shorten(&String::from_utf8_lossy(&running.stderr), TAIL);
        let ended =
            if stderr.is_empty() { String::new() } else { format!("; its stderr ends: {stderr}") };
        match outcome {
            Followed::Ended => {}
            Followed::Late => {
                let waited = patience.as_millis();
                let text = format!("no end within {waited} ms, so it was killed{ended}");
                return Err((Cause::Late, text));
            }
            Followed::TooMuch => {
                let text = format!("more than {MOST} bytes on stdout, so it was killed{ended}");
                return Err((Cause::Malformed, text));
            }
        }
        if left > 0 {
            tracing::warn!(
                program = spec.command.first(),
                operation,
                left,
                "the command left processes behind, which were ended; what is to outlive it must be \
                 started without {MARK} in its environment and in a session of its own"
            );
        }
        Ok(Output { code, how, stdout: running.stdout, stderr, took: begun.elapsed() })
    }
}

fn prepare(
    spec: &ExecSpec,
    operation: &str,
    owner: &str,
    mark: &str,
) -> Result<Command, (Cause, String)> {
    let Some((program, args)) = spec.command.split_first() else {
        return Err((Cause::Missing, "its `command` is empty".to_owned()));
    };
    let mut command = Command::new(program);
    command
        .args(args)
        .arg(operation)
        .env("FORESHADOW_OPERATION", operation)
        .env("FORESHADOW_OWNER", owner)
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .env(MARK, mark)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    if let Some(dir) = &spec.dir {
        command.current_dir(dir);
    }
    Ok(command)
}

enum Followed {
    Ended,
    Late,
    TooMuch,
}

/// A command under way.
struct Running {
    tree: Option<Tree>,
    ready: AsyncFd<Arc<OwnedFd>>,
    stdin: Option<pipe::Sender>,
    out: Option<pipe::Receiver>,
    err: Option<pipe::Receiver>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Running {
    async fn start(command: Command, mark: String, turn: Turn) -> Result<Self, (Cause, String)> {
        // Whatever becomes of this future: what comes out of the thread kills when it is dropped.
        let spawned =
            tokio::task::spawn_blocking(move || Tree::begin(command, mark, turn, signals::open));
        let spawned = spawned.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        let (tree, mut child) = spawned.map_err(|error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => {
                (Cause::Missing, "there is no such program, or no such directory".to_owned())
            }
            io::ErrorKind::PermissionDenied => {
                (Cause::Denied, format!("it may not be run: {error}"))
            }
            io::ErrorKind::StorageFull => (Cause::DiskFull, error.to_string()),
            _ => (Cause::Failed, format!("it could not be run: {error}")),
        })?;
        let failed = |error: String| (Cause::Failed, error);
        let ready = tree.watched().map_err(|e| failed(e.to_string()))?;
        let (stdin, out, err) = pipes(&mut child).map_err(|e| failed(e.to_string()))?;
        Ok(Self {
            tree: Some(tree),
            ready,
            stdin,
            out,
            err,
            stdout: Vec::new(),
            stderr: Vec::new(),
        })
    }

    /// Feeds and reads it until it ends; what holds its pipes open beyond that is not waited for.
    async fn follow(&mut self, input: Vec<u8>, patience: Duration) -> Followed {
        let late = tokio::time::sleep(patience);
        tokio::pin!(late);
        let mut written = 0;
        let mut buffer = [0; 4096];
        loop {
            tokio::select! {
                biased;
                _ = self.ready.readable() => return Followed::Ended,
                () = &mut late => return Followed::Late,
                wrote = write_some(self.stdin.as_mut(), &input[written..]) => {
                    written += wrote;
                    if wrote == 0 || written == input.len() {
                        // It sees the end of its input, or has closed it.
                        self.stdin = None;
                    }
                }
                read = read_some(self.out.as_mut(), &mut buffer) => {
                    if read == 0 { self.out = None; }
                    self.stdout.extend_from_slice(&buffer[..read]);
                    if self.stdout.len() > MOST { return Followed::TooMuch; }
                }
                read = read_err(self.err.as_mut()) => {
                    match read {
                        Some(bytes) => keep_tail(&mut self.stderr, &bytes),
                        None => self.err = None,
                    }
                }
            }
        }
    }

    /// Takes what still stands in the pipes, without waiting: the ends here do not block, and what the
    /// runtime has not heard of yet is there all the same.
    fn drain(&mut self) {
        let mut buffer = [0; 4096];
        if let Some(out) = &self.out {
            while let Ok(read @ 1..) = rustix::io::read(out, &mut buffer) {
                self.stdout.extend_from_slice(&buffer[..read]);
                if self.stdout.len() > MOST {
                    break;
                }
            }
        }
        let mut rest = MOST;
        if let Some(err) = &self.err {
            while let Ok(read @ 1..) = rustix::io::read(err, &mut buffer) {
                keep_tail(&mut self.stderr, &buffer[..read]);
                rest = rest.saturating_sub(read);
                if rest == 0 {
                    break;
                }
            }
        }
    }
}

type Pipes = (Option<pipe::Sender>, Option<pipe::Receiver>, Option<pipe::Receiver>);

fn pipes(child: &mut Child) -> io::Result<Pipes> {
    let stdin = child.stdin.take().map(|end| pipe::Sender::from_owned_fd(end.into()));
    let out = child.stdout.take().map(|end| pipe::Receiver::from_owned_fd(end.into()));
    let err = child.stderr.take().map(|end| pipe::Receiver::from_owned_fd(end.into()));
    Ok((stdin.transpose()?, out.transpose()?, err.transpose()?))
}

async fn write_some(pipe: Option<&mut pipe::Sender>, bytes: &[u8]) -> usize {
    match pipe {
        // A command that does not read its input closes it; that is its own affair.
        Some(pipe) => pipe.write(bytes).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}

async fn read_some(pipe: Option<&mut pipe::Receiver>, buffer: &mut [u8]) -> usize {
    match pipe {
        Some(pipe) => pipe.read(buffer).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}

async fn read_err(pipe: Option<&mut pipe::Receiver>) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 4096];
    let read = read_some(pipe, &mut buffer).await;
    buffer.truncate(read);
    (read > 0).then_some(buffer)
}

fn keep_tail(tail: &mut Vec<u8>, bytes: &[u8]) {
    tail.extend_from_slice(bytes);
    let excess = tail.len().saturating_sub(TAIL);
    tail.drain(..excess);
}
