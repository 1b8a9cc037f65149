//! What instances write to stdout and stderr: kept in one bounded file each, followed into
//! tracing.
//!
//! Instances write to a file, not to a pipe: a pipe would end them (SIGPIPE) or block them when
//! Foreshadow goes away, and they are meant to outlive it.

mod pace;
mod tail;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foreshadow_control::{InstanceId, ServiceName};

use crate::error::ShadowError;
use tail::{Rotation, Tail, aged, printable};

/// How often files are looked at.
const INTERVAL: Duration = Duration::from_millis(100);
/// Files of ended instances kept for a look afterwards.
const KEPT: usize = 8;
/// Of the files: what instances write may hold secrets.
const PRIVATE: u32 = 0o600;
/// Lines and bytes quoted in an error.
const QUOTED_LINES: usize = 10;
const QUOTED_BYTES: u64 = 4 * 1024;

/// How much of an instance's output is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputBounds {
    /// A file that grows beyond this many bytes is moved aside.
    pub max_bytes: u64,
    /// How many files that were moved aside are kept.
    pub keep: u32,
}

impl Default for OutputBounds {
    /// 8 MiB, and one file aside.
    fn default() -> Self {
        Self { max_bytes: 8 << 20, keep: 1 }
    }
}

/// Follows the output files of all instances on one thread.
pub(crate) struct Logs {
    dir: PathBuf,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

/// Each file has a lock of its own: moving one aside takes as long as the disk does, and holds up
/// nobody who begins or ends another.
#[derive(Default)]
struct State {
    tails: BTreeMap<InstanceId, Arc<Mutex<Tail>>>,
    stop: bool,
}

impl Logs {
    /// Starts following below `dir`.
    pub(crate) fn start(dir: PathBuf) -> Result<Self, ShadowError> {
        const NAME: &str = "foreshadow-logs";
        fs::create_dir_all(&dir)
            .map_err(|source| ShadowError::StateDir { dir: dir.clone(), source })?;
        let shared = Arc::new(Shared { state: Mutex::default(), wake: Condvar::new() });
        let follower = Arc::clone(&shared);
        std::thread::Builder::new()
            .name(NAME.to_owned())
            .spawn(move || follower.follow())
            .map_err(|source| ShadowError::Thread { name: NAME, source })?;
        Ok(Self { dir, shared })
    }

    /// Opens the file a new instance appends to.
    pub(crate) fn open(&self, id: InstanceId) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).mode(PRIVATE).open(self.path(id))
    }

    /// Follows an instance's file: from its start for a new one, from its end for one that was
    /// taken over, whose earlier lines were logged by the Foreshadow before.
    pub(crate) fn follow(
        &self,
        id: InstanceId,
        service: &ServiceName,
        bounds: OutputBounds,
        from_start: bool,
    ) {
        let path = self.path(id);
        let opened = OpenOptions::new().read(true).write(true).open(&path).and_then(|file| {
            let offset = if from_start { 0 } else { file.metadata()?.len() };
            Ok(Tail::new(service.clone(), file, Rotation { path, bounds }, offset, Instant::now()))
        });
        match opened {
            Ok(tail) => {
                self.shared.lock().tails.insert(id, Arc::new(Mutex::new(tail)));
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
        if let Some(tail) = tail {
            let mut tail = locked(&tail);
            let now = Instant::now();
            tail.advance(id, now);
            tail.finish(id, now);
        }
        let kept = self.dir.join(format!("ended-{id}.log"));
        for age in 0.. {
            match fs::rename(aged(&self.path(id), age), aged(&kept, age)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => {
                    tracing::warn!(instance = %id, %error, "cannot put its output file away");
                    break;
                }
            }
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
            for path in (0..).map(|age| aged(path, age)).take_while(|path| path.exists()) {
                if let Err(error) = fs::remove_file(&path) {
                    tracing::debug!(?path, %error, "an old output file stays");
                    break;
                }
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
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(&self) {
        let mut state = self.lock();
        while !state.stop {
            let tails: Vec<_> =
                state.tails.iter().map(|(id, tail)| (*id, Arc::clone(tail))).collect();
            drop(state);
            for (id, tail) in tails {
                locked(&tail).advance(id, Instant::now());
            }
            state = self.lock();
            if state.stop {
                return;
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

fn locked(tail: &Mutex<Tail>) -> MutexGuard<'_, Tail> {
    tail.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ended_id(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.strip_prefix("ended-i")?.strip_suffix(".log")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn only_the_newest_files_of_ended_instances_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Logs::start(dir.path().to_owned()).unwrap();
        let service = ServiceName::from("shop");
        for id in (1..=20).map(InstanceId) {
            writeln!(logs.open(id).unwrap(), "line of {id}").unwrap();
            logs.follow(id, &service, OutputBounds::default(), true);
            fs::write(aged(&logs.path(id), 1), "older").unwrap();
            assert_eq!(logs.last_lines(id), [format!("line of {id}")]);
            logs.end(id);
        }
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        let expected =
            (13..=20).flat_map(|id| [format!("ended-i{id}.log"), format!("ended-i{id}.log.1")]);
        assert_eq!(names, expected.collect::<Vec<_>>());
    }

    #[test]
    fn a_file_that_takes_its_time_holds_up_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Logs::start(dir.path().to_owned()).unwrap();
        let service = ServiceName::from("shop");
        writeln!(logs.open(InstanceId(1)).unwrap(), "slow").unwrap();
        logs.follow(InstanceId(1), &service, OutputBounds::default(), true);
        let slow = Arc::clone(&logs.shared.lock().tails[&InstanceId(1)]);
        let held = locked(&slow);
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            writeln!(logs.open(InstanceId(2)).unwrap(), "quick").unwrap();
            logs.follow(InstanceId(2), &service, OutputBounds::default(), true);
            logs.end(InstanceId(2));
            done.send(logs).unwrap();
        });
        let logs = is_done.recv_timeout(Duration::from_secs(30)).unwrap();
        drop(held);
        logs.end(InstanceId(1));
        assert!(dir.path().join("ended-i1.log").exists());
    }

    #[test]
    fn only_foreshadows_own_user_may_read_what_instances_write() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let logs = Logs::start(dir.path().to_owned()).unwrap();
        let mode = logs.open(InstanceId(1)).unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
