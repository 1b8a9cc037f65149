//! Control groups of instances: freezing, processor share and killing the whole tree, by cgroup v2
//! where it can, by v1 where it must.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use foreshadow_control::InstanceId;
use serde::{Deserialize, Serialize};

use super::facilities::{CpuGroup, Facilities, Limiter};
use crate::error::ProviderError;
use crate::provider::CpuShare;

/// A freeze or the end of a group's processes is a matter of microseconds; this is for a machine
/// that hangs in a disk.
const PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_micros(500);

/// What a group is limited to, beside the processor.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) tasks: Option<u64>,
}

/// The control groups of one instance; all absent where the machine gives none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leaf {
    pub(crate) unified: Option<PathBuf>,
    pub(crate) freezer_v1: Option<PathBuf>,
    pub(crate) cpu: Option<CpuGroup>,
    /// On v1, where memory is limited.
    #[serde(default)]
    pub(crate) memory_v1: Option<PathBuf>,
    /// On v1, where tasks are limited.
    #[serde(default)]
    pub(crate) pids_v1: Option<PathBuf>,
}

impl Leaf {
    /// The groups that one instance has, or would have.
    pub(crate) fn of(facilities: &Facilities, id: InstanceId) -> Self {
        let name = id.to_string();
        let below = |base: &Option<PathBuf>| base.as_ref().map(|base| base.join(&name));
        let cpu = facilities.cpu.as_ref().map(|group| match group {
            CpuGroup::V1(base) => CpuGroup::V1(base.join(&name)),
            CpuGroup::V2(base) => CpuGroup::V2(base.join(&name)),
        });
        Self {
            unified: below(&facilities.unified),
            freezer_v1: below(&facilities.freezer_v1),
            cpu,
            memory_v1: facilities.memory.v1().map(|base| base.join(&name)),
            pids_v1: facilities.pids.v1().map(|base| base.join(&name)),
        }
    }

    /// Makes the groups of one instance with these limits: all of them or, on an error, none.
    pub(crate) fn create(
        facilities: &Facilities,
        id: InstanceId,
        limits: Limits,
    ) -> Result<Self, ProviderError> {
        let mut leaf = Self::of(facilities, id);
        leaf.memory_v1 = leaf.memory_v1.filter(|_| limits.memory_bytes.is_some());
        leaf.pids_v1 = leaf.pids_v1.filter(|_| limits.tasks.is_some());
        for dir in leaf.dirs() {
            if let Err(error) = fs::create_dir_all(dir) {
                if let Err(left) = leaf.remove() {
                    tracing::warn!(instance = %id, error = %left, "a control group is left behind");
                }
                return Err(ProviderError::io("create control group", dir.display())(error));
            }
        }
        let limited = leaf.limit(facilities, limits);
        if limited.is_err()
            && let Err(left) = leaf.remove()
        {
            tracing::warn!(instance = %id, error = %left, "a control group is left behind");
        }
        limited.map(|()| leaf)
    }

    fn limit(&self, facilities: &Facilities, limits: Limits) -> Result<(), ProviderError> {
        let absent = |what, why: &str, setting| {
            Err(ProviderError::NoController { what, why: why.to_owned(), setting })
        };
        if let Some(bytes) = limits.memory_bytes {
            match (&facilities.memory, &self.unified, &self.memory_v1) {
                (Limiter::V2, Some(dir), _) => write(&dir.join("memory.max"), &bytes.to_string())?,
                (_, _, Some(dir)) => {
                    write(&dir.join("memory.limit_in_bytes"), &bytes.to_string())?;
                }
                (Limiter::Absent(why), ..) => return absent("memory", why, "memory"),
                _ => return absent("memory", "no group", "memory"),
            }
        }
        if let Some(tasks) = limits.tasks {
            match (&facilities.pids, &self.unified, &self.pids_v1) {
                (Limiter::V2, Some(dir), _) | (_, _, Some(dir)) => {
                    write(&dir.join("pids.max"), &tasks.to_string())?;
                }
                (Limiter::Absent(why), ..) => return absent("tasks", why, "tasks"),
                _ => return absent("tasks", "no group", "tasks"),
            }
        }
        Ok(())
    }

    /// Whether the group knows all processes of the instance, so that the tree can be killed.
    pub(crate) fn holds_tree(&self) -> bool {
        self.unified.is_some() || self.freezer_v1.is_some()
    }

    /// The files a process writes `0` to in order to join, opened ahead of its fork.
    pub(crate) fn entrances(&self) -> Result<Vec<File>, ProviderError> {
        self.dirs()
            .into_iter()
            .map(|dir| {
                let path = dir.join("cgroup.procs");
                OpenOptions::new()
                    .write(true)
                    .open(&path)
                    .map_err(ProviderError::io("open", path.display()))
            })
            .collect()
    }

    /// Freezes or thaws the whole tree and waits until that is so; false when the machine gives
    /// no freezer and signals must do.
    pub(crate) fn set_frozen(&self, frozen: bool) -> Result<bool, ProviderError> {
        if let Some(dir) = &self.unified {
            write(&dir.join("cgroup.freeze"), if frozen { "1" } else { "0" })?;
            // Thawed tasks run as soon as they are scheduled; nothing waits for the report.
            if frozen {
                let events = dir.join("cgroup.events");
                wait("freeze", dir, || Ok(read(&events)?.contains("frozen 1")))?;
            }
            return Ok(true);
        }
        if let Some(dir) = &self.freezer_v1 {
            let state = dir.join("freezer.state");
            let word = if frozen { "FROZEN" } else { "THAWED" };
            write(&state, word)?;
            wait("freeze", dir, || Ok(read(&state)?.trim() == word))?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Limits the processor time of the tree; nothing happens where no controller is there.
    pub(crate) fn set_share(&self, share: CpuShare) -> Result<(), ProviderError> {
        // A short period keeps the pauses of a limited instance short; the kernel's least quota
        // is 1 ms, so tiny shares need a longer one.
        let (quota_us, period_us) = match share {
            CpuShare::Unlimited => (None, 100_000),
            CpuShare::Percent(percent) => {
                let percent = u64::from(percent.max(1));
                let period_us = if percent < 5 { 100_000 } else { 20_000 };
                (Some(percent * period_us / 100), period_us)
            }
        };
        match &self.cpu {
            None => Ok(()),
            Some(CpuGroup::V2(dir)) => {
                let quota = quota_us.map_or_else(|| "max".to_owned(), |quota| quota.to_string());
                write(&dir.join("cpu.max"), &format!("{quota} {period_us}"))
            }
            Some(CpuGroup::V1(dir)) => {
                write(&dir.join("cpu.cfs_period_us"), &period_us.to_string())?;
                let quota = quota_us.map_or_else(|| "-1".to_owned(), |quota| quota.to_string());
                write(&dir.join("cpu.cfs_quota_us"), &quota)
            }
        }
    }

    /// Every process of the tree.
    pub(crate) fn members(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        if let Some(dir) = self.unified.as_ref().or(self.freezer_v1.as_ref()) {
            collect_members(dir, &mut pids);
        }
        pids
    }

    /// Kills every process of the tree, frozen or not, and waits until none is left.
    pub(crate) fn kill(&self) -> Result<(), ProviderError> {
        let Some(dir) = self.unified.as_ref().or(self.freezer_v1.as_ref()) else { return Ok(()) };
        if !dir.exists() {
            return Ok(());
        }
        let kill_file = dir.join("cgroup.kill");
        let at_once = self.unified.is_some() && kill_file.exists();
        if at_once {
            write(&kill_file, "1")?;
        } else if self.unified.is_none() {
            // A kill reaches tasks frozen by v1 only after the thaw.
            self.set_frozen(false)?;
        }
        wait("kill", dir, || {
            let members = self.members();
            if !at_once {
                for pid in &members {
                    super::signals::kill_member(*pid)?;
                }
            }
            Ok(members.is_empty())
        })
    }

    /// Removes the groups, which must be empty.
    pub(crate) fn remove(&self) -> Result<(), ProviderError> {
        for dir in self.dirs() {
            // Ended tasks linger in a group for a moment.
            wait("remove control group", dir, || match remove_tree(dir) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(false),
                Err(error) => Err(ProviderError::io("remove control group", dir.display())(error)),
            })?;
        }
        Ok(())
    }

    fn dirs(&self) -> Vec<&Path> {
        let cpu = match &self.cpu {
            Some(CpuGroup::V1(dir)) => Some(dir),
            // The same directory as `unified`.
            Some(CpuGroup::V2(_)) | None => None,
        };
        let limits = [self.memory_v1.as_ref(), self.pids_v1.as_ref()];
        [self.unified.as_ref(), self.freezer_v1.as_ref(), cpu]
            .into_iter()
            .chain(limits)
            .flatten()
            .map(PathBuf::as_path)
            .collect()
    }
}

/// Instances that have groups under these facilities, by directory name.
pub(crate) fn leftovers(facilities: &Facilities) -> Vec<(InstanceId, Leaf)> {
    let mut found = Vec::new();
    let cpu_base = match &facilities.cpu {
        Some(CpuGroup::V1(dir) | CpuGroup::V2(dir)) => Some(dir.as_path()),
        None => None,
    };
    let bases = [facilities.unified.as_deref(), facilities.freezer_v1.as_deref(), cpu_base];
    let limits = [facilities.memory.v1(), facilities.pids.v1()];
    for base in bases.into_iter().chain(limits).flatten() {
        for entry in fs::read_dir(base).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.strip_prefix('i')?.parse().ok());
            if let Some(id) = id.map(InstanceId)
                && found.iter().all(|(known, _)| *known != id)
            {
                found.push((id, Leaf::of(facilities, id)));
            }
        }
    }
    found
}

fn collect_members(dir: &Path, pids: &mut Vec<u32>) {
    if let Ok(text) = fs::read_to_string(dir.join("cgroup.procs")) {
        pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    }
    for child in subdirs(dir) {
        collect_members(&child, pids);
    }
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    for child in subdirs(dir) {
        remove_tree(&child)?;
    }
    fs::remove_dir(dir)
}

fn subdirs(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn read(path: &Path) -> Result<String, ProviderError> {
    fs::read_to_string(path).map_err(ProviderError::io("read", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), ProviderError> {
    fs::write(path, text)
        .map_err(ProviderError::io("write", format!("{text:?} to {}", path.display())))
}

fn wait(
    operation: &'static str,
    dir: &Path,
    mut done: impl FnMut() -> Result<bool, ProviderError>,
) -> Result<(), ProviderError> {
    let start = Instant::now();
    while !done()? {
        if start.elapsed() > PATIENCE {
            let waited_ms = u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX);
            let subject = dir.display().to_string();
            return Err(ProviderError::Timeout { operation, subject, waited_ms });
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::facilities::Facility;

    #[test]
    fn groups_that_cannot_all_be_made_leave_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let base = dir.path().join("unified");
        let facilities = Facilities {
            unified: Some(base.clone()),
            cpu: Some(CpuGroup::V1(file.join("cpu"))),
            ..Facilities::default()
        };
        let error =
            Leaf::create(&facilities, InstanceId(1), Limits::default()).unwrap_err().to_string();
        assert!(error.contains("create control group") && error.contains("cpu/i1"), "{error}");
        assert_eq!(fs::read_dir(&base).unwrap().count(), 0);
    }

    /// On a machine without control groups the leaf is empty and everything is a no-op.
    #[test]
    fn shares_are_written_as_the_kernel_wants_them() {
        let name = format!("unit-test-{}", std::process::id());
        for choice in [Facility::Auto, Facility::V1, Facility::None] {
            let facilities = Facilities::probe(choice, &name);
            let leaf = Leaf::create(&facilities, InstanceId(1), Limits::default()).unwrap();
            for (share, v1, v2) in [
                (CpuShare::Percent(10), "2000", "2000 20000"),
                (CpuShare::Percent(250), "50000", "50000 20000"),
                (CpuShare::Percent(0), "1000", "1000 100000"),
                (CpuShare::Unlimited, "-1", "max 100000"),
            ] {
                leaf.set_share(share).unwrap();
                let (file, expected) = match &leaf.cpu {
                    Some(CpuGroup::V1(dir)) => (dir.join("cpu.cfs_quota_us"), v1),
                    Some(CpuGroup::V2(dir)) => (dir.join("cpu.max"), v2),
                    None => continue,
                };
                assert_eq!(read(&file).unwrap().trim(), expected);
            }
            assert_eq!(leaf.set_frozen(true).unwrap(), leaf.holds_tree());
            leaf.kill().unwrap();
            assert_eq!(leftovers(&facilities).len(), usize::from(leaf != Leaf::default()));
            leaf.remove().unwrap();
            assert!(leftovers(&facilities).is_empty());
            let bases = Leaf {
                memory_v1: facilities.memory.v1().map(Path::to_owned),
                pids_v1: facilities.pids.v1().map(Path::to_owned),
                unified: facilities.unified,
                freezer_v1: facilities.freezer_v1,
                cpu: facilities.cpu,
            };
            bases.remove().unwrap();
        }
    }
}
