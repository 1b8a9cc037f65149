//! The state directory: made, locked against a second Foreshadow, and named by a short marker.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::ShadowError;
use crate::hash::fnv1a;
use crate::process::procfs::Identity;

/// A process killed while it started an instance leaves a child that holds the lock until it
/// executes its program; that is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);

/// Holds the directory for this process until dropped or until the process ends. The descriptor
/// is close-on-exec, so instances that outlive Foreshadow do not hold the lock.
#[derive(Debug)]
pub(crate) struct StateLock {
    _file: File,
}

impl StateLock {
    /// Makes the directory where needed and locks it.
    pub(crate) async fn take(dir: &Path) -> Result<Self, ShadowError> {
        let fail = |source| ShadowError::StateDir { dir: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(fail)?;
        let path = dir.join("foreshadow.lock");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(fail)?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(source)) => return Err(fail(source)),
                Err(TryLockError::WouldBlock) => {
                    let text = std::fs::read_to_string(&path).map_err(fail)?;
                    let holder = serde_json::from_str::<Identity>(&text).ok();
                    let alive = holder.as_ref().is_some_and(Identity::is_alive);
                    if alive || start.elapsed() > PATIENCE {
                        let holder = holder
                            .map_or_else(String::new, |holder| format!(" (pid {})", holder.pid));
                        return Err(ShadowError::Locked { dir: dir.to_owned(), holder });
                    }
                }
            }
            tokio::time::sleep(POLL).await;
        }
        let me = Identity::of(std::process::id());
        let text = serde_json::to_vec(&me).map_err(|e| fail(e.into()))?;
        file.set_len(0).map_err(fail)?;
        file.write_all_at(&text, 0).map_err(fail)?;
        Ok(Self { _file: file })
    }
}

/// A short text that names this state directory among all on the machine: two directories of the
/// same path in different mount namespaces differ, and so do two paths.
pub(crate) fn marker(dir: &Path) -> Result<String, ShadowError> {
    let fail = |source| ShadowError::StateDir { dir: dir.to_owned(), source };
    std::fs::create_dir_all(dir).map_err(fail)?;
    let path = dir.canonicalize().map_err(fail)?;
    let meta = path.metadata().map_err(fail)?;
    let bytes = path
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .copied()
        .chain(meta.dev().to_le_bytes())
        .chain(meta.ino().to_le_bytes());
    Ok(fnv1a(bytes))
}

/// A text that names this state directory among all, wherever it is moved to: written into it once.
/// Two that have the same one are copies.
pub(crate) fn name(dir: &Path) -> Result<String, ShadowError> {
    const FORM: &str = "its file `name` has no name of 16 hexadecimal digits; remove it";
    let fail = |source| ShadowError::StateDir { dir: dir.to_owned(), source };
    std::fs::create_dir_all(dir).map_err(fail)?;
    let path = dir.join("name");
    let made = dir.join(format!("name.{}", std::process::id()));
    if !path.exists() {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&made);
        let text = format!("{:016x}\n", rand::random::<u64>());
        file.and_then(|file| file.write_all_at(text.as_bytes(), 0)).map_err(fail)?;
        // Whole or not at all, and of two at once the first.
        let linked = std::fs::hard_link(&made, &path);
        std::fs::remove_file(&made).map_err(fail)?;
        if let Err(error) = linked
            && error.kind() != std::io::ErrorKind::AlreadyExists
        {
            return Err(fail(error));
        }
    }
    let text = std::fs::read_to_string(&path).map_err(fail)?;
    let name = text.trim();
    let is_name = name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_name.then(|| name.to_ascii_lowercase()).ok_or_else(|| fail(std::io::Error::other(FORM)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_lock_is_refused_with_the_holder_and_works_after_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateLock::take(dir.path()).await.unwrap();
        let error = StateLock::take(dir.path()).await.unwrap_err().to_string();
        assert!(error.contains(&format!("(pid {})", std::process::id())), "{error}");
        drop(first);
        StateLock::take(dir.path()).await.unwrap();
    }

    #[tokio::test]
    async fn a_lock_left_behind_by_a_dead_process_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let held = StateLock::take(dir.path()).await.unwrap();
        let mut dead = Identity::of(std::process::id()).unwrap();
        dead.start_ticks += 1;
        let path = dir.path().join("foreshadow.lock");
        std::fs::write(path, serde_json::to_vec(&dead).unwrap()).unwrap();
        let dir = dir.path().to_owned();
        let waiting = tokio::spawn(async move { StateLock::take(&dir).await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(held);
        waiting.await.unwrap().unwrap();
    }

    #[test]
    fn the_name_goes_where_the_directory_goes() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = name(a.path()).unwrap();
        assert_eq!(name(a.path()).unwrap(), first);
        assert_eq!(a.path().join("name").metadata().unwrap().mode() & 0o777, 0o600);
        assert_ne!(name(b.path()).unwrap(), first);
        let moved = b.path().join("moved");
        std::fs::rename(a.path(), &moved).unwrap();
        assert_eq!(name(&moved).unwrap(), first);
        std::fs::write(moved.join("name"), "a/b").unwrap();
        let error = name(&moved).unwrap_err().to_string();
        assert!(error.contains("16 hexadecimal digits"), "{error}");
    }

    #[test]
    fn the_marker_is_stable_and_differs_between_directories() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert_eq!(marker(a.path()).unwrap(), marker(a.path()).unwrap());
        assert_ne!(marker(a.path()).unwrap(), marker(b.path()).unwrap());
    }
}
