//! What is kept of every action, and with which key.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::Secret;
use crate::units;

/// The record of every action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// How long entries are kept.
    #[serde(serialize_with = "units::duration::serialize")]
    pub keep: Duration,
    /// Bytes the record is held to.
    #[serde(serialize_with = "units::size::serialize")]
    pub max_size: u64,
    /// The key that hashes are made with; absent: none.
    #[serde(rename = "key_file", skip_serializing_if = "Option::is_none")]
    pub key: Option<AuditKey>,
    /// How often the newest entry is told to the log.
    #[serde(serialize_with = "units::duration::serialize")]
    pub checkpoint_interval: Duration,
}

/// A key and the file it came from. Printed, it shows the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditKey {
    /// The file.
    pub path: PathBuf,
    /// Its content when the configuration was read, without space around it.
    pub secret: Secret,
}

impl AuditKey {
    /// Longest key file that is read, in bytes.
    pub const MAX_BYTES: u64 = 4096;
    /// Fewest characters that are a key.
    pub const LEAST: usize = 32;

    /// The key in the file at `path`.
    ///
    /// # Errors
    /// When it cannot be read, others may write it, or it is too short for a key; what it holds is not repeated.
    pub fn read(path: &std::path::Path) -> Result<Self, String> {
        let text = crate::file::read_secret(path, Self::MAX_BYTES)
            .map_err(|error| format!("which cannot be read ({error})"))?;
        let text = text.trim();
        if text.len() < Self::LEAST {
            return Err(format!("with {} bytes", text.len()));
        }
        Ok(Self { path: path.to_owned(), secret: Secret::new(text.to_owned()) })
    }
}

impl Serialize for AuditKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.path.serialize(serializer)
    }
}
