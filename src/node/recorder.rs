//! Recording of observations and plans as JSON lines, for `foreshadow explain --replay`.

mod files;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use arc_swap::ArcSwapOption;
use foreshadow_control::{Controller, Entry};
use serde::Serialize;

use files::Files;

/// Entries that wait for the disk.
const QUEUE: usize = 256;
/// Bytes that are gathered for one write.
const GATHERED_BYTES: usize = 8 * 1024;
/// Rest after a failure of the disk; doubled by each further one, and reset by as much time as
/// [`LONGEST_REST`] without.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(60);

enum Message {
    /// Begin a new file; the next entry is a checkpoint.
    Rotate,
    Entry(Box<Entry>),
}

/// How the recording does.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    path: ArcSwapOption<PathBuf>,
    /// Of the file that is written.
    bytes: AtomicU64,
    /// Files that the writer was told to begin and has, or could not.
    rotations: AtomicU64,
    failures: AtomicU64,
    /// Set by the writer when it could not write, taken back by the loop.
    failed: AtomicBool,
    trouble: ArcSwapOption<String>,
}

/// How the recording does, for API and metrics.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RecordingStatus {
    /// The file; absent where nothing is recorded.
    pub(crate) path: Option<Arc<PathBuf>>,
    /// Bytes of the file.
    pub(crate) bytes: u64,
    /// Failures to begin or write a file since start.
    pub(crate) failures: u64,
    /// What is wrong now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trouble: Option<Arc<String>>,
}

impl RecordingStatus {
    /// Whether ticks are recorded now.
    pub(crate) fn good(&self) -> bool {
        self.path.is_some() && self.trouble.is_none()
    }
}

impl Recording {
    /// How it does.
    pub(crate) fn status(&self) -> RecordingStatus {
        RecordingStatus {
            path: self.path.load_full(),
            bytes: self.bytes.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            trouble: self.trouble.load_full(),
        }
    }

    fn failed(&self, error: &anyhow::Error) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let trouble = format!("nothing is recorded: {error:#}");
        // Said when it begins, and when it changes.
        if self.trouble.load().as_deref() != Some(&trouble) {
            tracing::error!("{trouble}; a new file is tried again and again");
            self.trouble.store(Some(Arc::new(trouble)));
        }
        self.failed.store(true, Ordering::Release);
    }

    fn worked(&self) {
        if self.trouble.swap(None).is_some() {
            tracing::info!("ticks are recorded again");
        }
    }
}

/// Writes entries to a file of bounded size on a thread of its own.
///
/// Every file starts with a checkpoint of the controller, so each replays on its own. The tick
/// never waits: where the disk is too slow, or takes nothing, the file is ended and a new one
/// begun, since a recording with a hole would replay to other plans.
#[derive(Debug)]
pub(crate) struct Recorder {
    queue: Option<SyncSender<Message>>,
    writer: Option<JoinHandle<()>>,
    state: State,
    recording: Arc<Recording>,
    /// Files that the writer was told to begin.
    rotations: u64,
    max_size_bytes: u64,
    first_rest: Duration,
    rest: Duration,
    failed_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// There is no file yet, or it has a hole or is full: a new one must begin.
    Ended,
    /// The file is empty: a checkpoint must come first.
    Empty,
    Running,
    /// Nobody writes any more.
    Gone,
}

impl Recorder {
    /// Takes `path` to record to. With the first tick, and so not by a start that fails, a file of
    /// that name that holds something is moved to `path` with `.1` appended, and those that are
    /// there on to `.2` and so on; the same happens whenever the recording has grown beyond
    /// `max_size_bytes`. How it does is told through `recording`.
    ///
    /// # Errors
    /// When another process records there, the file cannot be written or the thread not started.
    pub(crate) fn start(
        path: &Path,
        max_size_bytes: u64,
        recording: Arc<Recording>,
    ) -> anyhow::Result<Self> {
        let files = Files::take(path)?;
        recording.path.store(Some(Arc::new(path.to_owned())));
        Self::writing(move |keep| files.begin(keep), max_size_bytes, recording, FIRST_REST)
    }

    /// `begin` begins a file, and keeps the one before where that holds something.
    fn writing(
        begin: impl FnMut(bool) -> anyhow::Result<File> + Send + 'static,
        max_size_bytes: u64,
        recording: Arc<Recording>,
        first_rest: Duration,
    ) -> anyhow::Result<Self> {
        let (queue, messages) = sync_channel(QUEUE);
        let told = Arc::clone(&recording);
        let writer = std::thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || write_all(begin, &messages, &told))
            .context("cannot start the recorder")?;
        Ok(Self {
            queue: Some(queue),
            writer: Some(writer),
            state: State::Ended,
            recording,
            rotations: 0,
            max_size_bytes,
            first_rest,
            rest: first_rest,
            failed_at: None,
        })
    }

    /// Called before a tick, while `controller` is as the tick will find it: begins a new file
    /// where one is due.
    pub(crate) fn before_tick(&mut self, controller: &Controller) {
        if self.state == State::Gone {
            return;
        }
        if self.recording.failed.swap(false, Ordering::Acquire) {
            self.failed();
        }
        // Until the writer has come to the file that it was told to begin, it is the former's size.
        let current = self.recording.rotations.load(Ordering::Acquire) == self.rotations;
        if current && self.recording.bytes.load(Ordering::Relaxed) > self.max_size_bytes {
            self.state = State::Ended;
        }
        let rests = self.failed_at.is_some_and(|at| at.elapsed() < self.rest);
        if self.state == State::Ended && !rests && self.send(Message::Rotate) {
            self.rotations += 1;
            self.state = State::Empty;
        }
        if self.state == State::Empty {
            let checkpoint = Entry::Checkpoint { controller: Box::new(controller.clone()) };
            if self.send(Message::Entry(Box::new(checkpoint))) {
                self.state = State::Running;
            }
        }
    }

    /// The disk took nothing: the next file waits, longer each time.
    fn failed(&mut self) {
        self.rest = match self.failed_at {
            Some(at) if at.elapsed() < self.rest + LONGEST_REST => {
                (self.rest * 2).min(LONGEST_REST)
            }
            _ => self.first_rest,
        };
        self.failed_at = Some(Instant::now());
        self.state = State::Ended;
    }

    /// Queues an entry.
    pub(crate) fn record(&mut self, entry: Entry) {
        if self.state != State::Running || self.send(Message::Entry(Box::new(entry))) {
            return;
        }
        if self.state != State::Gone {
            tracing::warn!("recording fell behind the disk; it starts anew");
            self.state = State::Ended;
        }
    }

    fn send(&mut self, message: Message) -> bool {
        match self.queue.as_ref().map(|queue| queue.try_send(message)) {
            Some(Ok(())) => true,
            Some(Err(TrySendError::Full(_))) => false,
            Some(Err(TrySendError::Disconnected(_))) | None => {
                self.state = State::Gone;
                let trouble = anyhow::anyhow!("the recorder has panicked; please report this");
                self.recording.failed(&trouble);
                false
            }
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        drop(self.queue.take());
        if self.writer.take().is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the recorder ended badly; the recording may be cut short");
        }
    }
}

/// An open file, and the whole lines that are to be written to it.
struct Out {
    file: File,
    lines: Vec<u8>,
    written_bytes: u64,
}

impl Out {
    fn new(file: File) -> Self {
        Self { file, lines: Vec::new(), written_bytes: 0 }
    }

    fn take(&mut self, entry: &Entry) -> anyhow::Result<u64> {
        let before = self.lines.len();
        serde_json::to_writer(&mut self.lines, entry)?;
        self.lines.push(b'\n');
        let length = self.lines.len() - before;
        if self.lines.len() >= GATHERED_BYTES {
            self.flush()?;
        }
        Ok(length as u64)
    }

    /// Writes what was gathered: all of it or, as far as the disk can be told, nothing, since half
    /// a line would spoil what is there.
    fn flush(&mut self) -> anyhow::Result<()> {
        if let Err(error) = self.file.write_all(&self.lines) {
            if let Err(error) = self.file.set_len(self.written_bytes) {
                tracing::warn!(%error, "the last line of the recording may be cut short");
            }
            return Err(error).context("cannot write the recording");
        }
        self.written_bytes += self.lines.len() as u64;
        self.lines.clear();
        Ok(())
    }
}

/// Writes until nothing more can come. After a failure it leaves out what comes until it is told
/// to begin anew.
fn write_all(
    mut begin: impl FnMut(bool) -> anyhow::Result<File>,
    messages: &Receiver<Message>,
    recording: &Recording,
) {
    let mut out: Option<Out> = None;
    // Whether the file holds something: of one that does not, nothing is kept. Of what was there
    // before the first, nothing is known here.
    let mut holds = true;
    while let Ok(message) = messages.recv() {
        let done = match (message, out.as_mut()) {
            (Message::Rotate, open) => {
                let flushed = open.map_or(Ok(()), Out::flush);
                holds |= out.as_ref().is_some_and(|out| out.written_bytes > 0);
                out = None;
                recording.bytes.store(0, Ordering::Relaxed);
                recording.rotations.fetch_add(1, Ordering::Release);
                flushed.and_then(|()| begin(holds)).map(|file| {
                    holds = false;
                    out = Some(Out::new(file));
                })
            }
            (Message::Entry(entry), Some(open)) => open.take(&entry).map(|bytes| {
                recording.bytes.fetch_add(bytes, Ordering::Relaxed);
                if open.written_bytes > 0 {
                    recording.worked();
                }
            }),
            (Message::Entry(_), None) => Ok(()),
        };
        if let Err(error) = done {
            holds |= out.take().is_some_and(|out| out.written_bytes > 0);
            recording.failed(&error);
        }
    }
    if let Some(Err(error)) = out.as_mut().map(Out::flush) {
        tracing::error!("the end of the recording is lost: {error:#}");
    }
}

#[cfg(test)]
mod tests;
