//! What instances write to stdout and stderr: kept in one bounded file each, followed into
//! tracing.
//!
//! Instances write to a file, not to a pipe: a pipe would end them (SIGPIPE) or block them when
//! Foreshadow goes away, and they are meant to outlive it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use foreshadow_control::{InstanceId, ServiceName};

use crate::error::ShadowError;

/// How often files are looked at.
const INTERVAL: Duration = Duration::from_millis(100);
/// Read per file and look, which bounds what one chatty instance can put into the log.
const CHUNK: usize = 64 * 1024;
/// Longer lines are cut into pieces of this length.
const LINE: usize = 4 * 1024;
/// Files of ended instances kept for a look afterwards.
const KEPT: usize = 8;
/// Lines and bytes quoted in an error.
const QUOTED_LINES: usize = 10;
const QUOTED_BYTES: u64 = 4 * 1024;

/// Follows the output files of all instances on one thread.
pub(crate) struct Logs {
    dir: PathBuf,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    limit: u64,
}

#[derive(Default)]
struct State {
    tails: BTreeMap<InstanceId, Tail>,
    stop: bool,
}

struct Tail {
    service: ServiceName,
    file: File,
    offset: u64,
    partial: Vec<u8>,
}

impl Logs {
    /// Starts following below `dir`; a file is emptied when it exceeds `limit` bytes.
    pub(crate) fn start(dir: PathBuf, limit: u64) -> Result<Self, ShadowError> {
        const NAME: &str = "foreshadow-logs";
        fs::create_dir_all(&dir)
            .map_err(|source| ShadowError::StateDir { dir: dir.clone(), source })?;
        let shared = Arc::new(Shared { state: Mutex::default(), wake: Condvar::new(), limit });
        let follower = Arc::clone(&shared);
        std::thread::Builder::new()
            .name(NAME.to_owned())
            .spawn(move || follower.follow())
            .map_err(|source| ShadowError::Thread { name: NAME, source })?;
        Ok(Self { dir, shared })
    }

    /// Opens the file a new instance appends to.
    pub(crate) fn open(&self, id: InstanceId) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).open(self.path(id))
    }

    /// Follows an instance's file: from its start for a new one, from its end for one that was
    /// taken over, whose earlier lines were logged by the Foreshadow before.
    pub(crate) fn follow(&self, id: InstanceId, service: &ServiceName, from_start: bool) {
        let opened =
            OpenOptions::new().read(true).write(true).open(self.path(id)).and_then(|file| {
                let offset = if from_start { 0 } else { file.metadata()?.len() };
                Ok(Tail { service: service.clone(), file, offset, partial: Vec::new() })
            });
        match opened {
            Ok(tail) => {
                self.shared.lock().tails.insert(id, tail);
                self.shared.wake.notify_one();
            }
            Err(error) => {
                tracing::warn!(%service, instance = %id, %error, "cannot follow its output");
            }
        }
    }

    /// Logs what is left of an instance's output and puts its file among the last few kept.
    pub(crate) fn end(&self, id: InstanceId) {
        let tail = self.shared.lock().tails.remove(&id);
        if let Some(mut tail) = tail {
            tail.advance(id, self.shared.limit);
            tail.finish(id);
        }
        let kept = self.dir.join(format!("ended-{id}.log"));
        if let Err(error) = fs::rename(self.path(id), kept)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(instance = %id, %error, "cannot put its output file away");
        }
        self.prune();
    }

    /// The last lines an instance wrote, oldest first.
    pub(crate) fn last_lines(&self, id: InstanceId) -> Vec<String> {
        let read = File::open(self.path(id)).and_then(|file| {
            let len = file.metadata()?.len();
            let mut bytes = vec![0; usize::try_from(len.min(QUOTED_BYTES)).unwrap_or(0)];
            file.read_exact_at(&mut bytes, len.saturating_sub(QUOTED_BYTES))?;
            Ok(bytes)
        });
        let text = read.map(|bytes| printable(&bytes)).unwrap_or_default();
        let lines: Vec<String> =
            text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
        lines[lines.len().saturating_sub(QUOTED_LINES)..].to_vec()
    }

    fn path(&self, id: InstanceId) -> PathBuf {
        self.dir.join(format!("{id}.log"))
    }

    fn prune(&self) {
        let mut ended: Vec<(u64, PathBuf)> = fs::read_dir(&self.dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| Some((ended_id(&entry.path())?, entry.path())))
            .collect();
        ended.sort();
        for (_, path) in ended.iter().rev().skip(KEPT) {
            if let Err(error) = fs::remove_file(path) {
                tracing::debug!(?path, %error, "an old output file stays");
            }
        }
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(&self) {
        let mut state = self.lock();
        while !state.stop {
            for (id, tail) in &mut state.tails {
                tail.advance(*id, self.limit);
            }
            state = if state.tails.is_empty() {
                self.wake.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                let waited = self.wake.wait_timeout(state, INTERVAL);
                waited.unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }
}

impl Tail {
    /// Logs what came since the last look, at most one chunk, and keeps the file within bounds.
    fn advance(&mut self, id: InstanceId, limit: u64) {
        let mut chunk = vec![0; CHUNK];
        let read = self.file.read_at(&mut chunk, self.offset).unwrap_or(0);
        self.offset += read as u64;
        self.partial.extend_from_slice(&chunk[..read]);
        while let Some(line) = take_line(&mut self.partial) {
            self.log(id, &line);
        }
        // The instance appends, so after the cut it goes on at the start of the file.
        let len = self.file.metadata().map_or(0, |meta| meta.len());
        if len > limit {
            if self.offset < len {
                tracing::warn!(
                    service = %self.service, instance = %id, skipped = len - self.offset,
                    "it writes faster than is logged; output was skipped"
                );
            }
            match self.file.set_len(0) {
                Ok(()) => self.offset = 0,
                Err(error) => {
                    tracing::warn!(service = %self.service, instance = %id, %error, "cannot cut its output file");
                }
            }
        }
    }

    fn finish(&mut self, id: InstanceId) {
        let rest = std::mem::take(&mut self.partial);
        if !rest.is_empty() {
            self.log(id, &rest);
        }
    }

    fn log(&self, id: InstanceId, line: &[u8]) {
        tracing::info!(target: "foreshadow::instance", service = %self.service, instance = %id, "{}", printable(line));
    }
}

/// Takes one line, or a piece of one that is too long, from the front.
fn take_line(buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = buffer.iter().take(LINE).position(|byte| *byte == b'\n');
    let (text, skip) = match end {
        Some(end) => (end, end + 1),
        None if buffer.len() >= LINE => (LINE, LINE),
        None => return None,
    };
    let mut line: Vec<u8> = buffer.drain(..skip).collect();
    line.truncate(text);
    Some(line)
}

/// Text without control characters, which could forge log lines or drive a terminal.
fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c })
        .collect::<String>()
        .trim_end()
        .to_owned()
}

fn ended_id(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.strip_prefix("ended-i")?.strip_suffix(".log")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn tail(dir: &Path, text: &[u8]) -> Tail {
        let path = dir.join("i1.log");
        fs::write(&path, text).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        Tail { service: ServiceName::from("shop"), file, offset: 0, partial: Vec::new() }
    }

    #[test]
    fn lines_are_cut_at_the_bound_and_need_no_end() {
        let mut buffer = vec![b'x'; LINE + 5];
        buffer.extend(b"\nnext\nrest");
        assert_eq!(take_line(&mut buffer).unwrap().len(), LINE);
        assert_eq!(take_line(&mut buffer).unwrap(), b"xxxxx");
        assert_eq!(take_line(&mut buffer).unwrap(), b"next");
        assert_eq!(take_line(&mut buffer), None);
        assert_eq!(buffer, b"rest");
    }

    #[test]
    fn control_characters_and_invalid_text_become_harmless() {
        assert_eq!(printable(b"a\x1b[31m\xff\r"), "a\u{fffd}[31m\u{fffd}\u{fffd}");
    }

    #[test]
    fn a_file_beyond_the_limit_is_emptied_and_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut tail = tail(dir.path(), b"one\ntwo\n");
        let mut writer = OpenOptions::new().append(true).open(dir.path().join("i1.log")).unwrap();
        tail.advance(InstanceId(1), 4);
        assert_eq!(tail.file.metadata().unwrap().len(), 0);
        writer.write_all(b"six").unwrap();
        tail.advance(InstanceId(1), 4);
        assert_eq!((tail.offset, tail.partial.as_slice()), (3, b"six".as_slice()));
    }

    #[test]
    fn only_the_newest_files_of_ended_instances_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Logs::start(dir.path().to_owned(), 1_000).unwrap();
        let service = ServiceName::from("shop");
        for id in (1..=20).map(InstanceId) {
            writeln!(logs.open(id).unwrap(), "line of {id}").unwrap();
            logs.follow(id, &service, true);
            assert_eq!(logs.last_lines(id), [format!("line of {id}")]);
            logs.end(id);
        }
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| ended_id(&entry.unwrap().path()).unwrap())
            .collect();
        names.sort_unstable();
        assert_eq!(names, (13..=20).collect::<Vec<_>>());
    }
}
