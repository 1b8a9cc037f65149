//! Recording of observations and plans as JSON lines, for `foreshadow explain --replay`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use anyhow::Context;
use foreshadow_control::{Controller, Entry};

/// Entries that wait for the disk.
const QUEUE: usize = 256;

enum Message {
    /// Begin a new file; the next entry is a checkpoint.
    Rotate,
    Entry(Box<Entry>),
}

/// Writes entries to a file of bounded size on a thread of its own.
///
/// Every file starts with a checkpoint of the controller, so each replays on its own. The tick
/// never waits: where the disk is too slow, the file is ended and a new one begun, since a
/// recording with a hole would replay to other plans.
#[derive(Debug)]
pub(crate) struct Recorder {
    queue: Option<SyncSender<Message>>,
    writer: Option<JoinHandle<()>>,
    state: State,
    written_bytes: Arc<AtomicU64>,
    max_size_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The file has a hole or is full: a new one must begin.
    Ended,
    /// The file is empty: a checkpoint must come first.
    Empty,
    Running,
}

impl Recorder {
    /// Starts recording to `path`. A file of that name is moved to `path` with `.1` appended, now
    /// and whenever the recording has grown beyond `max_size_bytes`.
    ///
    /// # Errors
    /// When the file cannot be created or the thread not started.
    pub(crate) fn start(path: &Path, max_size_bytes: u64) -> anyhow::Result<Self> {
        let file = begin(path)?;
        let (queue, messages) = sync_channel(QUEUE);
        let written_bytes = Arc::new(AtomicU64::new(0));
        let written = Arc::clone(&written_bytes);
        let path = path.to_owned();
        let writer = std::thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || {
                if let Err(error) = write_all(&path, file, &messages, &written) {
                    tracing::error!(%error, "recording has ended");
                }
            })
            .context("cannot start the recorder")?;
        Ok(Self {
            queue: Some(queue),
            writer: Some(writer),
            state: State::Empty,
            written_bytes,
            max_size_bytes,
        })
    }

    /// Called before a tick, while `controller` is as the tick will find it: begins a new file
    /// where one is due.
    pub(crate) fn before_tick(&mut self, controller: &Controller) {
        if self.written_bytes.load(Ordering::Relaxed) > self.max_size_bytes {
            self.state = State::Ended;
        }
        if self.state == State::Ended && self.send(Message::Rotate) {
            self.written_bytes.store(0, Ordering::Relaxed);
            self.state = State::Empty;
        }
        if self.state == State::Empty {
            let checkpoint = Entry::Checkpoint { controller: Box::new(controller.clone()) };
            if self.send(Message::Entry(Box::new(checkpoint))) {
                self.state = State::Running;
            }
        }
    }

    /// Queues an entry.
    pub(crate) fn record(&mut self, entry: Entry) {
        if self.state == State::Running && !self.send(Message::Entry(Box::new(entry))) {
            tracing::warn!("recording fell behind the disk; it starts anew");
            self.state = State::Ended;
        }
    }

    fn send(&self, message: Message) -> bool {
        self.queue.as_ref().is_some_and(|queue| queue.try_send(message).is_ok())
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

fn begin(path: &Path) -> anyhow::Result<File> {
    if path.exists() {
        let mut older = path.as_os_str().to_owned();
        older.push(".1");
        std::fs::rename(path, PathBuf::from(older))
            .with_context(|| format!("cannot move {} away", path.display()))?;
    }
    File::create(path).with_context(|| format!("cannot create the recording {}", path.display()))
}

fn write_all(
    path: &Path,
    file: File,
    messages: &Receiver<Message>,
    written: &AtomicU64,
) -> anyhow::Result<()> {
    let mut out = BufWriter::new(file);
    while let Ok(message) = messages.recv() {
        match message {
            Message::Rotate => {
                out.flush()?;
                out = BufWriter::new(begin(path)?);
            }
            Message::Entry(entry) => {
                let mut line = serde_json::to_vec(&*entry)?;
                line.push(b'\n');
                out.write_all(&line)?;
                written.fetch_add(line.len() as u64, Ordering::Relaxed);
            }
        }
    }
    out.flush()?;
    Ok(())
}
