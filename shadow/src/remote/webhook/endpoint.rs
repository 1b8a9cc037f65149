//! Where an endpoint is: `http://host:port/prefix`, or `unix:/path`.

use std::fmt;
use std::path::PathBuf;

/// The place of an endpoint; who configures it has checked its form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Host and port, and what stands before the contract's paths.
    Tcp {
        /// As in the `Host` header.
        authority: String,
        /// Empty, or a path without its last slash.
        prefix: String,
    },
    /// A socket in the file system.
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { authority, prefix } => write!(f, "http://{authority}{prefix}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
