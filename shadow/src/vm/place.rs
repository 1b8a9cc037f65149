//! Where the files of machines are: one directory each, made before the machine and removed after it,
//! and one for each snapshot.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use foreshadow_control::InstanceId;

use crate::error::{Cause, ProviderError};
use crate::provider::Snapshot;

/// Names within the directory of a machine.
pub(super) const QMP: &str = "qmp.sock";
pub(super) const DISK: &str = "disk.qcow2";
/// Where memory is sent to while it is saved.
pub(super) const SAVE: &str = "save.sock";
/// There while a machine is stopped to be saved; says whether it ran before.
pub(super) const SAVING: &str = "saving";
/// Names within a snapshot.
pub(super) const MEMORY: &str = "memory";
pub(super) const ABOUT: &str = "about.json";

/// What a snapshot is called while it is made.
const PART: &str = ".part";
/// Memory may hold secrets.
const PRIVATE: u32 = 0o700;
const PASSED: u32 = 0o711;

/// The directory of all machines of a state directory.
#[derive(Clone, Debug)]
pub(crate) struct Place(PathBuf);

impl Place {
    pub(super) fn new(state_dir: &Path) -> Self {
        // The emulator is started in another directory than this process.
        let state_dir = std::path::absolute(state_dir).unwrap_or_else(|_| state_dir.to_owned());
        Self(state_dir.join("vm"))
    }

    pub(super) fn machine(&self, id: InstanceId) -> PathBuf {
        self.0.join(id.to_string())
    }

    fn snapshots(&self) -> PathBuf {
        self.0.join("snapshots")
    }

    /// The directory of a snapshot; nothing for a name that was never given.
    pub(super) fn snapshot(&self, snapshot: &Snapshot) -> Option<PathBuf> {
        let named = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let usable = !snapshot.0.is_empty() && snapshot.0.chars().all(named);
        usable.then(|| self.snapshots().join(&snapshot.0))
    }

    /// Makes the directory of a new machine: what says that there may be one, before there is.
    pub(super) fn open(&self, id: InstanceId) -> Result<PathBuf, ProviderError> {
        let dir = self.machine(id);
        remove(&dir)?;
        make(&dir).map_err(ProviderError::io("make directory", dir.display()))?;
        Ok(dir)
    }

    /// Makes the directory of a snapshot that is not finished yet; returns it with its later name.
    pub(super) fn begin(&self, id: InstanceId) -> Result<(PathBuf, Snapshot), ProviderError> {
        let all = self.snapshots();
        for number in 0_u32.. {
            let snapshot = Snapshot(format!("{id}-{number}"));
            let part = all.join(format!("{}{PART}", snapshot.0));
            if all.join(&snapshot.0).exists() {
                continue;
            }
            match make(&part) {
                Ok(()) => return Ok((part, snapshot)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(ProviderError::io("make directory", part.display())(error));
                }
            }
        }
        Err(ProviderError::Other(format!("{id} has more snapshots than can be numbered")))
    }

    /// Gives a snapshot that is complete its name.
    pub(super) fn finish(&self, part: &Path, snapshot: &Snapshot) -> Result<(), ProviderError> {
        let done = self.snapshots().join(&snapshot.0);
        fs::rename(part, &done).map_err(ProviderError::io("name", done.display()))
    }

    /// Removes what belongs to machines that are not in `keep`, and snapshots that were never finished;
    /// returns the machines of which that is not possible.
    pub(super) fn sweep(&self, keep: &[InstanceId]) -> Vec<(InstanceId, ProviderError)> {
        let mut stuck = Vec::new();
        for path in entries(&self.0) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let id = name.strip_prefix('i').and_then(|number| number.parse().ok()).map(InstanceId);
            let Some(id) = id.filter(|id| !keep.contains(id)) else { continue };
            if let Err(error) = remove(&path) {
                stuck.push((id, error));
            }
        }
        for path in entries(&self.snapshots()) {
            if path.to_string_lossy().ends_with(PART)
                && let Err(error) = remove(&path)
            {
                tracing::error!(%error, "an unfinished snapshot stays until the next start");
            }
        }
        stuck
    }
}

impl Place {
    /// Gives the directory of a machine, and its disk, to the user that its emulator runs as.
    pub(super) fn give(
        &self,
        dir: &Path,
        has_disk: bool,
        uid: u32,
        gid: u32,
    ) -> Result<(), ProviderError> {
        // It is passed through, and nothing is listed in it.
        let passed = fs::Permissions::from_mode(PASSED);
        fs::set_permissions(&self.0, passed)
            .map_err(ProviderError::io("open the way to", self.0.display()))?;
        let disk = has_disk.then(|| dir.join(DISK));
        for path in disk.iter().map(PathBuf::as_path).chain([dir]) {
            chown(path, Some(uid), Some(gid))
                .map_err(ProviderError::io("give to its user", path.display()))?;
        }
        Ok(())
    }
}

/// Refuses a disk that has less than `least` bytes for others than root.
pub(super) fn check_room(dir: &Path, least: u64) -> Result<(), ProviderError> {
    let about = rustix::fs::statvfs(dir)
        .map_err(|error| ProviderError::io("see the room at", dir.display())(error.into()))?;
    let free = about.f_bavail.saturating_mul(about.f_frsize);
    if free >= least {
        return Ok(());
    }
    Err(ProviderError::Refused {
        cause: Cause::DiskFull,
        asked: format!("for {} MiB for a new machine at {}", least >> 20, dir.display()),
        came_back: format!("{} MiB are free", free >> 20),
    })
}

/// Makes a directory that must not be there yet, and those above it.
fn make(dir: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.mode(PRIVATE);
    if let Some(parent) = dir.parent() {
        builder.recursive(true).create(parent)?;
    }
    builder.recursive(false).create(dir)
}

/// Removes a directory with what is in it; one that is not there is no error.
pub(super) fn remove(dir: &Path) -> Result<(), ProviderError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(ProviderError::io("remove directory", dir.display())(error))
        }
        _ => Ok(()),
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    match fs::read_dir(dir) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(error) => {
            if error.kind() != ErrorKind::NotFound {
                tracing::error!(dir = %dir.display(), %error, "what was left there stays");
            }
            Vec::new()
        }
    }
}

/// Opens a file that the settings name.
pub(super) fn opened(what: &'static str, path: &Path) -> Result<File, ProviderError> {
    let opened = File::open(path).and_then(|file| {
        let kind = file.metadata()?.file_type();
        if kind.is_dir() { Err(ErrorKind::IsADirectory.into()) } else { Ok(file) }
    });
    opened.map_err(|source| match source.kind() {
        ErrorKind::PermissionDenied => ProviderError::io("open", path.display())(source),
        _ => ProviderError::Refused {
            cause: Cause::Absent,
            asked: format!("for the {what} {}", path.display()),
            came_back: source.to_string(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_keeps_is_removed_and_snapshots_that_are_finished_stay() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path());
        assert!(place.sweep(&[]).is_empty(), "nothing is there yet");
        let (kept, lost) = (InstanceId(1), InstanceId(2));
        for id in [kept, lost] {
            fs::write(place.open(id).unwrap().join(DISK), "x").unwrap();
        }
        let (done, one) = place.begin(kept).unwrap();
        place.finish(&done, &one).unwrap();
        let (half, two) = place.begin(kept).unwrap();
        assert_ne!(one, two);
        assert!(place.sweep(&[kept]).is_empty());
        assert!(place.machine(kept).exists() && !place.machine(lost).exists());
        assert!(place.snapshot(&one).unwrap().exists() && !half.exists());
    }

    #[test]
    fn a_disk_without_room_gets_no_machine() {
        let dir = tempfile::tempdir().unwrap();
        check_room(dir.path(), 1).unwrap();
        let error = check_room(dir.path(), u64::MAX).unwrap_err().to_string();
        assert!(error.contains("MiB are free; make room on that disk"), "{error}");
    }

    #[test]
    fn a_name_cannot_lead_out_of_the_directory() {
        let place = Place::new(Path::new("/x"));
        for name in ["", "..", "a/b", "/etc", "i1.part"] {
            assert_eq!(place.snapshot(&Snapshot(name.to_owned())), None, "{name:?}");
        }
        assert_eq!(
            place.snapshot(&Snapshot("i1-0".to_owned())),
            Some("/x/vm/snapshots/i1-0".into())
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_named_with_what_it_was_for() {
        let dir = tempfile::tempdir().unwrap();
        let missing = opened("kernel", &dir.path().join("vmlinuz")).unwrap_err().to_string();
        assert!(missing.starts_with("asked for the kernel /"), "{missing}");
        assert!(missing.contains("correct the provider's settings"), "{missing}");
        let no_file = opened("image", dir.path()).unwrap_err().to_string();
        assert!(no_file.contains("is a directory"), "{no_file}");
    }
}
