//! The configuration file: read once, aside, and neither waited for without end nor read by two.

use std::path::Path;
use std::time::Duration;

use foreshadow_config::{Config, Errors, Source};
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// What a file held, good or bad, or why it could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; SHA256_OUTPUT_LEN]);

impl Fingerprint {
    pub(super) fn of(text: &str) -> Self {
        Self::of_bytes(text.as_bytes())
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        let digest = digest(&SHA256, bytes);
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }
}

/// In hexadecimal, as `sha256sum` prints it for the file.
impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Longest file whose digest is put on record.
const MOST_DIGESTED: u64 = 64 << 20;

/// The files that a configuration names and is made of, as they are now: calendars and networks with
/// their digests, those that hold secrets with the time of their last change, since a digest would let
/// somebody try guesses. Blocks on the disk.
pub(crate) fn included(config: &Config) -> Vec<Value> {
    let networks = config.services.values().filter_map(|service| service.forecast.onnx.as_deref());
    let open = config.calendar_files().map(|calendar| calendar.file.as_path()).chain(networks);
    let digested = |path: &Path| {
        let sha256 = foreshadow_config::file::read_whole(path, MOST_DIGESTED)
            .map(|bytes| Fingerprint::of_bytes(&bytes).to_string());
        json!({ "file": path, "sha256": sha256.ok() })
    };
    let dated = |path: &Path| {
        let modified = std::fs::metadata(path).and_then(|found| found.modified()).ok();
        let since = modified.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        let at_ms = since.and_then(|since| u64::try_from(since.as_millis()).ok());
        json!({ "file": path, "modified_ms": at_ms })
    };
    let mut all: Vec<Value> = open.map(digested).chain(config.secret_files().map(dated)).collect();
    // Services may share a file.
    let mut seen = Vec::new();
    all.retain(|file| {
        let is_new = !seen.contains(file);
        if is_new {
            seen.push(file.clone());
        }
        is_new
    });
    all
}

/// What came of one read of the file.
pub(crate) struct FileRead {
    /// Of the text, or of why there is none.
    pub(crate) fingerprint: Fingerprint,
    /// What the text says; absent where it is what was known.
    pub(crate) config: Option<Result<Config, Errors>>,
    /// The files it names.
    pub(crate) files: Vec<Value>,
}

/// Reads the file at `path`, and checks it unless it is `known`. Blocks.
pub(crate) fn read(path: &Path, known: Option<Fingerprint>) -> FileRead {
    let source = Source::read(path);
    let fingerprint = match &source {
        Ok(source) => Fingerprint::of(source.text()),
        Err(errors) => Fingerprint::of(&errors.to_string()),
    };
    let is_known = known == Some(fingerprint);
    let config = (!is_known).then(|| source.and_then(|source| source.parse()));
    let good = config.as_ref().and_then(|config| config.as_ref().ok());
    let files = good.map(included).unwrap_or_default();
    FileRead { fingerprint, config, files }
}

/// Work that may hang with the file system: one at a time, on a thread of its own.
pub(in crate::node) struct Aside<T> {
    patience: Duration,
    running: Option<JoinHandle<T>>,
}

impl<T: Send + 'static> Aside<T> {
    pub(in crate::node) fn new(patience: Duration) -> Self {
        Self { patience, running: None }
    }

    /// Does `work`. One that is not done in time goes on, and until it has ended no other begins:
    /// each would take one thread more.
    ///
    /// # Errors
    /// When it, or what was begun before, is not done in time.
    pub(in crate::node) async fn run(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        let hangs =
            || anyhow::anyhow!("not read within {:?}: its file system hangs", self.patience);
        if let Some(before) = &mut self.running {
            // Its outcome is old, and nobody asks for it any more.
            drop(tokio::time::timeout(self.patience, before).await.map_err(|_| hangs())?);
        }
        let running = self.running.insert(tokio::task::spawn_blocking(work));
        let done = tokio::time::timeout(self.patience, running).await.map_err(|_| hangs())?;
        self.running = None;
        Ok(done?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[tokio::test]
    async fn work_that_hangs_is_given_up_holds_one_thread_and_is_forgotten_once_it_ends() {
        let mut aside = Aside::new(Duration::from_millis(20));
        let (release, held) = channel::<()>();
        let error = aside.run(move || held.recv().is_ok()).await.unwrap_err().to_string();
        assert!(error.contains("hangs"), "{error}");
        let (began, begins) = channel();
        let second = aside.run(move || began.send(()).is_ok()).await;
        assert!(second.is_err() && begins.recv().is_err(), "begun beside one that hangs");
        drop(release);
        aside.patience = Duration::from_secs(30);
        assert!(aside.run(|| true).await.unwrap());
    }
}
