//! Running one command within bounds of time and output, with everything it starts.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::sync::{OnceCell, Semaphore};

use super::ExecSpec;
use crate::error::{Cause, ProviderError};
use crate::process::{blocking, procfs, signals};
use crate::remote::contract::shorten;

/// Environment variable of a command and of what belongs to it: `<state directory>:<run>`.
const MARK: &str = "FORESHADOW_COMMAND";
/// Most of stdout that is taken; a list of a thousand instances is a fifth of it.
const MOST: usize = 1 << 20;
/// Of stderr the end is kept.
const TAIL: usize = 2 * 1024;
/// Commands of all services that run at the same time.
const AT_ONCE: usize = 16;
const KILL_ROUNDS: u32 = 400;
const KILL_POLL: Duration = Duration::from_millis(5);

/// What all exec providers share.
pub(crate) struct Commands {
    owner: String,
    settled: OnceCell<()>,
    at_once: Semaphore,
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
        Self { owner: owner.to_owned(), settled: OnceCell::new(), at_once: Semaphore::new(AT_ONCE) }
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

    /// Runs a command to its end, or to that of `patience`; nothing of it is left then.
    pub(super) async fn run(
        &self,
        spec: &ExecSpec,
        operation: &str,
        input: Vec<u8>,
        patience: Duration,
    ) -> Result<Output, (Cause, String)> {
        let failed = |error: ProviderError| (Cause::Failed, error.to_string());
        let _permit = self.at_once.acquire().await;
        let mark = format!("{}:{:016x}", self.owner, rand::random::<u64>());
        let command = prepare(spec, operation, &self.owner, &mark)?;
        let begun = Instant::now();
        let mut running = Running::start(command, mark).await?;
        let outcome = running.follow(input, patience).await;
        let tree = running.tree.take().ok_or((Cause::Failed, "it was ended".to_owned()))?;
        let (left, code, how) = blocking(move || tree.end()).await.map_err(failed)?;
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
    async fn start(mut command: Command, mark: String) -> Result<Self, (Cause, String)> {
        let spawned = tokio::task::spawn_blocking(move || {
            let child = command.spawn()?;
            // Not reaped before it is followed, so the pid is still its own.
            let pidfd = signals::open(child.id()).map_err(io::Error::other)?;
            Ok((child, Arc::new(pidfd)))
        });
        let spawned = spawned.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        let (mut child, pidfd) = spawned.map_err(|error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => {
                (Cause::Missing, "there is no such program, or no such directory".to_owned())
            }
            io::ErrorKind::PermissionDenied => {
                (Cause::Denied, format!("it may not be run: {error}"))
            }
            io::ErrorKind::StorageFull => (Cause::DiskFull, error.to_string()),
            _ => (Cause::Failed, format!("it could not be run: {error}")),
        })?;
        let tree = Tree { leader: child.id(), pidfd: Arc::clone(&pidfd), mark, over: false };
        let failed = |error: String| (Cause::Failed, error);
        let ready = signals::watched(pidfd, tree.leader).map_err(|e| failed(e.to_string()))?;
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

    /// Takes what still stands in the pipes, without waiting.
    fn drain(&mut self) {
        let mut buffer = [0; 4096];
        while let Some(Ok(read @ 1..)) = self.out.as_ref().map(|out| out.try_read(&mut buffer)) {
            self.stdout.extend_from_slice(&buffer[..read]);
            if self.stdout.len() > MOST {
                break;
            }
        }
        let mut rest = MOST;
        while let Some(Ok(read @ 1..)) = self.err.as_ref().map(|err| err.try_read(&mut buffer)) {
            keep_tail(&mut self.stderr, &buffer[..read]);
            rest = rest.saturating_sub(read);
            if rest == 0 {
                break;
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

/// A command with everything it started that belongs to it.
struct Tree {
    leader: u32,
    pidfd: Arc<OwnedFd>,
    mark: String,
    over: bool,
}

impl Tree {
    /// Kills what is left of it; returns how much was left beside the command itself, and how that
    /// ended. Blocks.
    fn end(mut self) -> Result<(usize, Option<i32>, String), ProviderError> {
        self.over = true;
        self.kill()
    }

    fn kill(&self) -> Result<(usize, Option<i32>, String), ProviderError> {
        let alive = procfs::stat(self.leader).is_some_and(|stat| stat.state != 'Z');
        if alive {
            signals::send(&self.pidfd, Signal::KILL)?;
        }
        let left = end_marked(&self.mark)?;
        // The leader has not been reaped, so its number still means its group.
        signals::send_group(self.leader, Signal::KILL)?;
        for _ in 0..KILL_ROUNDS {
            if let Some((code, how)) = signals::take_status(&self.pidfd) {
                return Ok((left.saturating_sub(usize::from(alive)), code, how));
            }
            std::thread::sleep(KILL_POLL);
        }
        let waited_ms = u64::try_from((KILL_POLL * KILL_ROUNDS).as_millis()).unwrap_or(u64::MAX);
        let subject = format!("command with process {}", self.leader);
        Err(ProviderError::Timeout { operation: "kill", subject, waited_ms })
    }
}

impl Drop for Tree {
    /// Nobody waits for it any more.
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let tree =
            Self { mark: self.mark.clone(), pidfd: Arc::clone(&self.pidfd), over: true, ..*self };
        let thread = std::thread::Builder::new().name("foreshadow-command".to_owned());
        let spawned = thread.spawn(move || {
            if let Err(error) = tree.kill() {
                tracing::warn!(%error, "a command that was called off may still run");
            }
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "a command that was called off may still run");
        }
    }
}

/// Kills processes whose mark begins so, until none is found; returns how many there were.
fn end_marked(mark: &str) -> Result<usize, ProviderError> {
    let is_it = |pid: u32| procfs::variable(pid, MARK).is_some_and(|value| value.starts_with(mark));
    let mut ended = 0;
    for round in 0..KILL_ROUNDS {
        let found: Vec<u32> = procfs::pids().filter(|pid| is_it(*pid)).collect();
        if found.is_empty() {
            return Ok(ended);
        }
        for pid in found {
            let killed = signals::kill_if(pid, || is_it(pid))?;
            ended += usize::from(killed && round == 0);
        }
        std::thread::sleep(KILL_POLL);
    }
    let waited_ms = u64::try_from((KILL_POLL * KILL_ROUNDS).as_millis()).unwrap_or(u64::MAX);
    let subject = "processes of a provider's command".to_owned();
    Err(ProviderError::Timeout { operation: "kill", subject, waited_ms })
}
