//! The state directory: made, locked against a second Foreshadow, and named by a short marker.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::error::ShadowError;

/// Holds the directory for this process until dropped or until the process ends. The descriptor
/// is close-on-exec, so instances that outlive Foreshadow do not hold the lock.
#[derive(Debug)]
pub(crate) struct StateLock {
    _file: File,
}

impl StateLock {
    /// Makes the directory where needed and locks it.
    pub(crate) fn take(dir: &Path) -> Result<Self, ShadowError> {
        let fail = |source| ShadowError::StateDir { dir: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(fail)?;
        let path = dir.join("foreshadow.lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                file.read_to_string(&mut text).map_err(fail)?;
                let pid = text.trim();
                let holder = if pid.is_empty() { String::new() } else { format!(" (pid {pid})") };
                return Err(ShadowError::Locked { dir: dir.to_owned(), holder });
            }
            Err(TryLockError::Error(source)) => return Err(fail(source)),
        }
        file.set_len(0).map_err(fail)?;
        file.rewind().map_err(fail)?;
        writeln!(file, "{}", std::process::id()).map_err(fail)?;
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
    // FNV-1a, 64 bit: http://www.isthe.com/chongo/tech/comp/fnv/
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    Ok(format!("{hash:016x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_refused_with_the_holder_and_works_after_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateLock::take(dir.path()).unwrap();
        let error = StateLock::take(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("(pid {})", std::process::id())), "{error}");
        drop(first);
        StateLock::take(dir.path()).unwrap();
    }

    #[test]
    fn the_marker_is_stable_and_differs_between_directories() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert_eq!(marker(a.path()).unwrap(), marker(a.path()).unwrap());
        assert_ne!(marker(a.path()).unwrap(), marker(b.path()).unwrap());
    }
}
