//! The files of a recording: the one that is written, older ones beside it, and the lock on them.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;

/// Older files that are kept, as `PATH.1` (the newest) and so on. More than one, since each start
/// begins a file: of a node that crashes, is started again and crashes again, the file that says
/// why must not be gone by the time somebody looks.
pub(super) const OLDER: u32 = 5;
/// A process killed while it started an instance leaves a child that holds the lock for a moment.
const PATIENCE: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(5);

/// The files of one path, which nobody else records to while this lives.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    _lock: File,
}

impl Files {
    /// Takes the files of `path` and finds out whether they can be written. What they hold stays:
    /// a start may fail yet.
    pub(super) fn take(path: &Path) -> anyhow::Result<Self> {
        open(path, false)?;
        // A link is followed once, so that it is its target that is moved, and is locked.
        let path = path
            .canonicalize()
            .with_context(|| format!("cannot find the recording {}", path.display()))?;
        let lock = lock(&path)?;
        Ok(Self { path, _lock: lock })
    }

    /// Begins a file, and with `keep` moves the one before away where that holds something.
    pub(super) fn begin(&self, keep: bool) -> anyhow::Result<File> {
        begin(&self.path, keep)
    }
}

pub(super) fn begin(path: &Path, keep: bool) -> anyhow::Result<File> {
    if keep && path.metadata().is_ok_and(|file| file.is_file() && file.len() > 0) {
        let free = (1..OLDER).find(|nth| !beside(path, nth).exists()).unwrap_or(OLDER);
        for nth in (1..free).rev() {
            rename(&beside(path, nth), &beside(path, nth + 1))?;
        }
        rename(path, &beside(path, 1))?;
    }
    open(path, true)
}

/// Only for its owner: what was seen of clients and backends is nobody else's.
fn open(path: &Path, truncate: bool) -> anyhow::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(truncate).mode(0o600);
    options.open(path).with_context(|| format!("cannot create the recording {}", path.display()))
}

fn rename(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::rename(from, to).with_context(|| format!("cannot move {} away", from.display()))
}

fn beside(path: &Path, what: impl std::fmt::Display) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{what}"));
    PathBuf::from(name)
}

/// Locks a file of its own: the recording itself is another file after each time it is begun. It
/// stays behind, since taking it away would let two hold a lock of the same name. It is emptied, so
/// that a link in its place is refused: whoever may write here could have any file emptied by it.
fn lock(path: &Path) -> anyhow::Result<File> {
    let lock_path = beside(path, "lock");
    let cannot = || format!("cannot lock {}", lock_path.display());
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.custom_flags(libc::O_NOFOLLOW);
    let file = options.open(&lock_path).with_context(|| match lock_path.is_symlink() {
        true => format!("{}: it is a link; remove it", cannot()),
        false => cannot(),
    })?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if start.elapsed() < PATIENCE => {
                std::thread::sleep(POLL);
            }
            Err(TryLockError::WouldBlock) => {
                let holder = std::fs::read_to_string(&lock_path).unwrap_or_default();
                let holder = holder.trim().parse::<u32>();
                let holder = holder.map_or_else(|_| String::new(), |pid| format!(" (pid {pid})"));
                anyhow::bail!(
                    "another process{holder} records to {}; stop it, or set another `recording.path`",
                    path.display()
                );
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(cannot),
        }
    }
    file.set_len(0).with_context(cannot)?;
    file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0).with_context(cannot)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_hold_something_are_kept_up_to_a_number_and_empty_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recording.ndjson");
        let files = Files::take(&path).unwrap();
        for nth in 0..=OLDER + 2 {
            // Begun and never written, as by starts that fail: these must cost nothing.
            files.begin(true).unwrap();
            files.begin(true).unwrap();
            std::fs::write(&path, format!("{nth}")).unwrap();
        }
        let text = |path: &Path| std::fs::read_to_string(path).ok();
        assert_eq!(text(&path), Some((OLDER + 2).to_string()));
        for nth in 1..=OLDER {
            assert_eq!(text(&beside(&path, nth)), Some((OLDER + 2 - nth).to_string()));
        }
        assert_eq!(text(&beside(&path, OLDER + 1)), None);
    }

    #[test]
    fn a_second_holder_is_refused_by_whatever_name_and_changes_nothing() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recording.ndjson");
        let first = Files::take(&path).unwrap();
        std::fs::write(&path, "{}\n").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for name in [&path, &link] {
            let error = Files::take(name).unwrap_err().to_string();
            assert!(error.contains(&format!("(pid {})", std::process::id())), "{error}");
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}\n");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        drop(first);
        Files::take(&link).unwrap().begin(true).unwrap();
        assert_eq!(std::fs::read_to_string(beside(&path, 1)).unwrap(), "{}\n");
        assert!(link.is_symlink());
    }

    #[test]
    fn a_link_in_the_place_of_the_lock_empties_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("recording.ndjson"), dir.path().join("other"));
        std::fs::write(&other, "precious").unwrap();
        std::os::unix::fs::symlink(&other, beside(&path, "lock")).unwrap();
        let error = format!("{:#}", Files::take(&path).unwrap_err());
        assert!(error.contains("it is a link; remove it"), "{error}");
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "precious");
    }
}
