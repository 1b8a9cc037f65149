//! Files that a configuration names: never waited for, and no more of them in memory than may be read.

use std::fs::OpenOptions;
use std::io::{Error, Read as _, Result};
use std::os::unix::fs::OpenOptionsExt as _;
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

#[cfg(test)]
mod tests {
    use super::*;

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
