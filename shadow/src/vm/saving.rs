//! Snapshots: memory as the emulator sends it, and the layer of the disk as it is then.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foreshadow_control::InstanceId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::time::Instant;

use super::making::{LOOK, MEMORY_TIMES};
use super::place::{self, ABOUT, DISK, MEMORY, Place, SAVE, SAVING};
use super::qmp::{Monitor, reachable};
use super::told::Trouble;
use super::{VmProvider, VmSpec};
use crate::error::{Cause, ProviderError};
use crate::process::{ProcessHost, blocking};
use crate::provider::Snapshot;

/// What was saved, so that it is not read into something else.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct About {
    settings: String,
    /// Length and time of change of the image, where there is one.
    image: Option<(u64, i64, i64)>,
}

impl About {
    fn of(spec: &VmSpec) -> Result<Self, ProviderError> {
        let seen = |path: &PathBuf| {
            let meta = place::opened("image", path)?.metadata();
            let meta = meta.map_err(ProviderError::io("look at", path.display()))?;
            Ok((meta.len(), meta.mtime(), meta.mtime_nsec()))
        };
        let image = spec.image.as_ref().map(seen).transpose()?;
        Ok(Self { settings: spec.fingerprint(), image })
    }
}

/// A snapshot that a machine can begin from.
pub(super) struct Saved {
    pub(super) memory: File,
    pub(super) disk: PathBuf,
}

/// Opens a snapshot: removed meanwhile, it can be read all the same. Blocks.
pub(super) fn opened(
    place: &Place,
    spec: &VmSpec,
    snapshot: &Snapshot,
) -> Result<Saved, ProviderError> {
    let refused = |came_back: String| ProviderError::Refused {
        cause: Cause::Absent,
        asked: format!("for the snapshot {:?}", snapshot.0),
        came_back,
    };
    let none = || refused("there is none of that name".to_owned());
    let dir = place.snapshot(snapshot).filter(|dir| dir.is_dir()).ok_or_else(none)?;
    let about = fs::read(dir.join(ABOUT)).map_err(|error| refused(error.to_string()))?;
    let about: About = serde_json::from_slice(&about)
        .map_err(|error| refused(format!("it was written by something else: {error}")))?;
    let now = About::of(spec)?;
    if about.settings != now.settings {
        return Err(refused("it was taken of a machine with other settings".to_owned()));
    }
    if about.image != now.image {
        return Err(refused("its image has been changed since it was taken".to_owned()));
    }
    let memory = place::opened("memory", &dir.join(MEMORY))?;
    Ok(Saved { memory, disk: dir.join(DISK) })
}

/// Copies the layer of a disk. Blocks.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), ProviderError> {
    let copied = fs::copy(from, to).map(drop);
    copied.map_err(ProviderError::io("write", to.display()))
}

/// What one snapshot needs, whoever waits for it.
struct Saving {
    id: InstanceId,
    host: Arc<ProcessHost>,
    spec: VmSpec,
    monitor: Arc<Monitor>,
    dir: PathBuf,
}

impl VmProvider {
    pub(super) async fn save(&self, id: InstanceId) -> Result<Snapshot, ProviderError> {
        let saving = self.saving(id)?;
        // A task of its own: a machine that is stopped for it must go on, whoever gives up waiting.
        match tokio::spawn(saving.save()).await {
            Ok(saved) => saved,
            Err(error) => Err(ProviderError::Other(format!("{id} was not saved: {error}"))),
        }
    }

    /// Lets a machine go on that an earlier run had stopped to save it.
    pub(super) async fn finish_saving(&self, id: InstanceId) -> Result<(), ProviderError> {
        let saving = self.saving(id)?;
        let Ok(text) = fs::read_to_string(saving.dir.join(SAVING)) else { return Ok(()) };
        tracing::warn!(instance = %id, "it was being saved; that is given up");
        saving.cancel().await;
        saving.go_on(text == RAN).await
    }

    fn saving(&self, id: InstanceId) -> Result<Saving, ProviderError> {
        let machines = &self.host.machines;
        let problem = "no such machine is watched; it has ended or was never made".to_owned();
        let monitor = machines.get(id).ok_or(ProviderError::Handle { instance: id, problem })?;
        let (host, spec) = (Arc::clone(&self.host), self.spec.clone());
        Ok(Saving { id, host, spec, monitor, dir: machines.place.machine(id) })
    }
}

/// What the note of an unfinished snapshot says of a machine that ran.
const RAN: &str = "ran";

impl Saving {
    async fn call(&self, order: &'static str, with: Value) -> Result<Value, ProviderError> {
        let said = self.monitor.call(order, with, self.spec.timeout).await;
        said.map_err(|trouble| trouble.told(self.id, order))
    }

    async fn save(self) -> Result<Snapshot, ProviderError> {
        let status = self.call("query-status", Value::Null).await?["status"].take();
        let ran = status == "running";
        let (host, id) = (Arc::clone(&self.host), self.id);
        let (part, snapshot) = blocking(move || host.machines.place.begin(id)).await?;
        let noted = self.note(ran).await;
        let saved = match noted {
            Ok(()) => self.state(&status, &part).await,
            Err(error) => Err(error),
        };
        if saved.is_err() {
            self.cancel().await;
        }
        let resumed = self.go_on(ran).await;
        let (host, name) = (Arc::clone(&self.host), snapshot.clone());
        blocking(move || {
            let done = saved.and(resumed).and_then(|()| {
                settle(&part)?;
                host.machines.place.finish(&part, &name)
            });
            if done.is_err()
                && let Err(left) = place::remove(&part)
            {
                tracing::warn!(instance = %id, error = %left, "half a snapshot is left behind");
            }
            done
        })
        .await?;
        Ok(snapshot)
    }

    /// Says on disk that the machine is stopped and why, before it is.
    async fn note(&self, ran: bool) -> Result<(), ProviderError> {
        let path = self.dir.join(SAVING);
        blocking(move || {
            let text = if ran { RAN } else { "stood" };
            fs::write(&path, text).map_err(ProviderError::io("write", path.display()))
        })
        .await
    }

    /// Stops the machine and writes what it is to `part`.
    async fn state(&self, status: &Value, part: &Path) -> Result<(), ProviderError> {
        if status == "postmigrate" {
            // An emulator sends its memory once for each time that it runs.
            self.call("cont", Value::Null).await?;
        }
        self.call("stop", Value::Null).await?;
        self.memory(part).await?;
        let (spec, dir, part) = (self.spec.clone(), self.dir.clone(), part.to_owned());
        blocking(move || {
            if spec.image.is_some() {
                copy(&dir.join(DISK), &part.join(DISK))?;
            }
            let about = serde_json::to_vec(&About::of(&spec)?)
                .map_err(|error| ProviderError::Other(error.to_string()))?;
            let path = part.join(ABOUT);
            fs::write(&path, about).map_err(ProviderError::io("write", path.display()))
        })
        .await
    }

    /// Takes the memory from the emulator. It is not left to write a file by itself: what goes wrong
    /// with that would be told as a connection that was closed.
    async fn memory(&self, part: &Path) -> Result<(), ProviderError> {
        let refused = |error| ProviderError::io("listen in", self.dir.display())(error);
        let (path, _kept) = reachable(&self.dir, SAVE).map_err(refused)?;
        let listener = UnixListener::bind(&path).map_err(refused)?;
        if let Some((uid, gid)) = self.spec.confinement.owner()? {
            chown(&path, Some(uid), Some(gid)).map_err(refused)?;
        }
        self.call("migrate-set-parameters", json!({ "max-bandwidth": 1_u64 << 40 })).await?;
        self.call("migrate", json!({ "uri": format!("unix:{SAVE}") })).await?;
        let accepted = tokio::time::timeout(self.spec.timeout, listener.accept()).await;
        let late = |_| Trouble::Late(self.spec.timeout, None).told(self.id, "send its memory");
        let (stream, _) = accepted.map_err(late)?.map_err(refused)?;
        let (patience, file) = (self.spec.timeout, part.join(MEMORY));
        let stream = stream.into_std().map_err(refused)?;
        blocking(move || {
            let taken = take(stream, &file, patience);
            taken.map_err(ProviderError::io("save memory to", file.display()))
        })
        .await?;
        self.sent().await
    }

    /// Waits until the emulator is done with sending, well or not.
    async fn sent(&self) -> Result<(), ProviderError> {
        let patience = self.spec.timeout * MEMORY_TIMES;
        let end = Instant::now() + patience;
        loop {
            let found = self.call("query-migrate", Value::Null).await?;
            match found["status"].as_str() {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled" | "none") | None => {
                    let why = found["error-desc"].as_str().unwrap_or("it sent not all of it");
                    let trouble = Trouble::Refused(why.to_owned());
                    return Err(trouble.told(self.id, "send its memory"));
                }
                Some(_) if Instant::now() > end => {
                    return Err(Trouble::Late(patience, None).told(self.id, "send its memory"));
                }
                Some(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Makes sure that no memory is being sent.
    async fn cancel(&self) {
        if let Err(error) = self.call("migrate_cancel", Value::Null).await {
            tracing::debug!(instance = %self.id, %error, "nothing was being saved");
        }
        // It says so by an error, as it should.
        if let Err(error) = self.sent().await {
            tracing::debug!(instance = %self.id, %error, "no memory is being sent");
        }
    }

    /// Lets the machine run again if it did.
    async fn go_on(&self, ran: bool) -> Result<(), ProviderError> {
        if ran {
            self.call("cont", Value::Null).await?;
        }
        let files = [self.dir.join(SAVE), self.dir.join(SAVING)];
        blocking(move || {
            for file in files {
                match fs::remove_file(&file) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(ProviderError::io("remove", file.display())(error));
                    }
                    _ => {}
                }
            }
            Ok(())
        })
        .await
    }
}

fn take(
    mut stream: std::os::unix::net::UnixStream,
    file: &Path,
    patience: std::time::Duration,
) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(patience))?;
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(file)?;
    io::copy(&mut stream, &mut file).map(drop)
}

/// Makes a snapshot that is said to be there outlast a power cut.
fn settle(part: &Path) -> Result<(), ProviderError> {
    for name in [MEMORY, DISK, ABOUT] {
        let path = part.join(name);
        match File::open(&path).and_then(|file| file.sync_all()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ProviderError::io("keep", path.display())(error));
            }
            _ => {}
        }
    }
    Ok(())
}
