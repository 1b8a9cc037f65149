//! Files and directories of the node that are nobody else's: they tell of clients, backends and
//! what operators did, and shadows may write anything.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Makes a directory, and those above it, for its owner only. One that is there stays as it is:
/// whoever made it may have let others in.
///
/// # Errors
/// When it is not there and cannot be made.
pub(crate) fn make_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes an empty file for its owner only, before something else makes it for everybody. One that
/// is there stays as it is. What SQLite writes beside a database is as open as that is.
///
/// # Errors
/// When it is not there and cannot be made.
pub(crate) fn make_file(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}
