//! Files that a configuration names: never waited for, and no more of them in memory than may be read.

use std::fs::OpenOptions;
use std::io::{Error, Read as _, Result};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// At most `limit` bytes of the regular file at `path`.
///
/// Opened without waiting, since a pipe in its place has nobody at its other end, and looked at
/// once it is open, since what is at a path may change.
///
/// # Errors
/// When there is none, or it cannot be read.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut options = OpenOptions::new();
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = options.read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// All bytes of the regular file at `path`, which may have `limit` of them.
///
/// # Errors
/// When there is none, it cannot be read or is larger, whatever size it says it has.
pub fn read_whole(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let bytes = read(path, limit.saturating_add(1))?;
    if bytes.len() as u64 > limit {
        return Err(Error::other(format!("it is larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// The text in the regular file at `path`, which may have `limit` bytes.
///
/// # Errors
/// Those of [`read_whole`], and when it is not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> Result<String> {
    let bytes = read_whole(path, limit)?;
    String::from_utf8(bytes).map_err(|error| Error::other(error.utf8_error()))
}

/// The text of a file that holds a secret. Who may read it is for [`others_may_read`] to say; one that
/// others may write is theirs, as OpenSSH sees its configuration and `authorized_keys`.
///
/// # Errors
/// Those of [`read_text`], and when its group or everybody may write it.
pub(crate) fn read_secret(path: &Path, limit: u64) -> Result<String> {
    let text = read_text(path, limit)?;
    match mode(path)? {
        mode if mode & 0o022 == 0 => Ok(text),
        mode => Err(Error::other(format!(
            "others than its owner may write it, mode {mode:04o}: chmod go-w"
        ))),
    }
}

/// What is to be said of a file with a secret that its group or everybody may read.
pub(crate) fn others_may_read(path: &Path) -> Option<String> {
    let mode = mode(path).ok().filter(|mode| mode & 0o044 != 0)?;
    let path = path.display();
    Some(format!("{path} holds a secret, and others than its owner may read it, mode {mode:04o}"))
}

fn mode(path: &Path) -> Result<u32> {
    std::fs::metadata(path).map(|found| found.mode() & 0o7777)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn secrets_that_others_may_write_are_none_and_those_that_they_may_read_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "text").unwrap();
        for (mode, is_read, is_told) in [
            (0o600, true, false),
            (0o400, true, false),
            (0o640, true, true),
            (0o604, true, true),
            (0o620, false, false),
            (0o602, false, false),
            (0o666, false, true),
        ] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_secret(&path, 9).is_ok(), is_read, "{mode:o}");
            assert_eq!(others_may_read(&path).is_some(), is_told, "{mode:o}");
        }
        let error = read_secret(&path, 9).unwrap_err().to_string();
        assert!(error.contains("mode 0666: chmod go-w"), "{error}");
    }

    #[test]
    fn only_files_are_read_and_not_beyond_the_most() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, b"1234").unwrap();
        assert_eq!(read_whole(&file, 4).unwrap(), b"1234");
        let error = |path: &Path, limit| read_whole(path, limit).unwrap_err().to_string();
        assert!(error(&file, 3).contains("larger than 3 bytes"));
        // A file that says it has no bytes, and has.
        assert!(error(Path::new("/proc/self/stat"), 4).contains("larger than 4"));
        let pipe = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        for none in [dir.path(), Path::new("/dev/zero"), &pipe] {
            assert!(error(none, 4).contains("not a regular file"), "{}", none.display());
        }
    }
}
