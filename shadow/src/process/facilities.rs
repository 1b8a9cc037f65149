//! What this machine gives for holding instances, found out once at start.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Which of the machine's facilities may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Facility {
    /// The best there is: cgroup v2, then v1, then signals, each on its own.
    #[default]
    Auto,
    /// Only cgroup v1 and signals.
    V1,
    /// Only signals: no control group is touched.
    None,
}

/// The processor controller of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CpuGroup {
    V1(PathBuf),
    V2(PathBuf),
}

/// What limits memory, or the number of tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Limiter {
    /// The unified group itself.
    V2,
    /// A hierarchy of its own, in which our directory is this.
    V1(PathBuf),
    /// Nothing; why.
    Absent(String),
}

impl Default for Limiter {
    fn default() -> Self {
        Self::Absent("control groups are not used, as configured".to_owned())
    }
}

impl Limiter {
    fn probe(
        (own, unified): (Option<&Path>, Option<&Path>),
        v1: Option<&Path>,
        (controller, file): (&str, &str),
        name: &str,
    ) -> Self {
        let v2 = unified.ok_or_else(|| "no v2 group".to_owned());
        match v2.and_then(|base| enable(own, base, controller)) {
            Ok(()) => Self::V2,
            Err(v2) => match delegated(v1, name, file) {
                Ok(dir) => Self::V1(dir),
                Err(v1) => Self::Absent(format!("v2: {v2}; v1: {v1}")),
            },
        }
    }

    pub(crate) fn v1(&self) -> Option<&Path> {
        match self {
            Self::V1(dir) => Some(dir),
            Self::V2 | Self::Absent(_) => None,
        }
    }
}

/// The directories below which each instance gets its groups; absent where there is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facilities {
    pub(crate) unified: Option<PathBuf>,
    pub(crate) freezer_v1: Option<PathBuf>,
    pub(crate) cpu: Option<CpuGroup>,
    pub(crate) memory: Limiter,
    pub(crate) pids: Limiter,
}

/// The directory of this process's own group in each hierarchy that is mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Own {
    unified: Option<PathBuf>,
    freezer_v1: Option<PathBuf>,
    cpu_v1: Option<PathBuf>,
    memory_v1: Option<PathBuf>,
    pids_v1: Option<PathBuf>,
}

impl Facilities {
    /// Probes the machine and says in one log line what holds instances and why.
    pub(crate) fn probe(choice: Facility, marker: &str) -> Self {
        if choice == Facility::None {
            tracing::info!("instances are held by signals and process groups only, as configured");
            return Self::default();
        }
        let own = match (fs::read_to_string("/proc/self/mountinfo"), own_groups()) {
            (Ok(mounts), Ok(groups)) => own(&mounts, &groups),
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(%error, "cannot read the mounts; no control groups are used");
                Own::default()
            }
        };
        let name = format!("foreshadow-{marker}");
        let unified = match choice {
            Facility::Auto => delegated(own.unified.as_deref(), &name, "cgroup.freeze"),
            Facility::V1 | Facility::None => Err("not used, as configured".to_owned()),
        };
        let freezer_v1 = match &unified {
            Ok(_) => Err("not needed".to_owned()),
            Err(_) => delegated(own.freezer_v1.as_deref(), &name, "freezer.state"),
        };
        let cpu_v2 = unified
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|base| enable(own.unified.as_deref(), base, "cpu").map(|()| base.clone()));
        let cpu_v1 = match &cpu_v2 {
            Ok(_) => Err("not needed".to_owned()),
            Err(_) => delegated(own.cpu_v1.as_deref(), &name, "cpu.cfs_quota_us"),
        };
        let v2 = (own.unified.as_deref(), unified.as_deref().ok());
        let memory = ("memory", "memory.limit_in_bytes");
        let memory = Limiter::probe(v2, own.memory_v1.as_deref(), memory, &name);
        let pids = Limiter::probe(v2, own.pids_v1.as_deref(), ("pids", "cgroup.procs"), &name);
        let word = |result: &Result<PathBuf, String>| match result {
            Ok(dir) => dir.display().to_string(),
            Err(why) => format!("no ({why})"),
        };
        tracing::info!(
            unified = word(&unified),
            freezer_v1 = word(&freezer_v1),
            cpu_v2 = word(&cpu_v2),
            cpu_v1 = word(&cpu_v1),
            ?memory,
            ?pids,
            "control groups that hold instances; signals and process groups where all say no"
        );
        Self {
            unified: unified.ok(),
            freezer_v1: freezer_v1.ok(),
            cpu: cpu_v2.map(CpuGroup::V2).or_else(|_| cpu_v1.map(CpuGroup::V1)).ok(),
            memory,
            pids,
        }
    }
}

fn own_groups() -> std::io::Result<String> {
    fs::read_to_string("/proc/self/cgroup")
}

/// Makes the directory for our instances below our own group, where this user may.
fn delegated(own: Option<&Path>, name: &str, needs: &str) -> Result<PathBuf, String> {
    let own = own.ok_or("not mounted")?;
    // Moving a process needs the right to write to the group both places have in common.
    let procs = own.join("cgroup.procs");
    OpenOptions::new().write(true).open(&procs).map_err(|e| format!("{}: {e}", procs.display()))?;
    let base = own.join(name);
    fs::create_dir_all(&base).map_err(|e| format!("{}: {e}", base.display()))?;
    if base.join(needs).exists() {
        return Ok(base);
    }
    fs::remove_dir(&base).map_err(|e| format!("{}: {e}", base.display()))?;
    Err(format!("this kernel has no {needs}"))
}

/// Hands a v2 controller down to the groups of instances.
fn enable(own: Option<&Path>, base: &Path, controller: &str) -> Result<(), String> {
    let own = own.ok_or("not mounted")?;
    let has = |file: PathBuf| {
        fs::read_to_string(file)
            .is_ok_and(|text| text.split_whitespace().any(|name| name == controller))
    };
    if !has(own.join("cgroup.controllers")) {
        return Err(format!("the {controller} controller is not on v2 here"));
    }
    for dir in [own, base] {
        let control = dir.join("cgroup.subtree_control");
        if !has(control.clone()) {
            fs::write(&control, format!("+{controller}"))
                .map_err(|e| format!("{}: {e}", control.display()))?;
        }
    }
    Ok(())
}

/// Finds our own group in `/proc/self/mountinfo` and `/proc/self/cgroup` (cgroups(7)).
fn own(mountinfo: &str, groups: &str) -> Own {
    let group = |controller: &str| {
        groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (number, names, path) = (fields.next()?, fields.next()?, fields.next()?);
            let here = match controller {
                "" => number == "0" && names.is_empty(),
                controller => names.split(',').any(|name| name == controller),
            };
            here.then_some(path)
        })
    };
    let mut own = Own::default();
    for line in mountinfo.lines() {
        let Some((mount, kind)) = line.split_once(" - ") else { continue };
        let mut mount = mount.split(' ').skip(3);
        let (Some(root), Some(point)) = (mount.next(), mount.next()) else { continue };
        let mut kind = kind.split(' ');
        let (fs, options) = (kind.next().unwrap_or(""), kind.nth(1).unwrap_or(""));
        let dir = |controller: &str| {
            let path = group(controller)?;
            let below = Path::new(path).strip_prefix(unescape(root)).unwrap_or(Path::new(""));
            Some(PathBuf::from(unescape(point)).join(below))
        };
        let has = |controller: &str| options.split(',').any(|option| option == controller);
        match fs {
            "cgroup2" => own.unified = own.unified.or_else(|| dir("")),
            "cgroup" if has("freezer") => own.freezer_v1 = dir("freezer"),
            "cgroup" if has("cpu") => own.cpu_v1 = dir("cpu"),
            "cgroup" if has("memory") => own.memory_v1 = dir("memory"),
            "cgroup" if has("pids") => own.pids_v1 = dir("pids"),
            _ => {}
        }
    }
    own
}

/// Undoes the octal escapes of mountinfo: space, tab, newline and backslash.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_machine_has_each_controller_where_it_is_mounted() {
        let mounts = "\
33 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:34 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
        let groups = "6:freezer:/\n1:cpu,cpuacct:/a/b\n0::/user.slice";
        let found = own(mounts, groups);
        assert_eq!(found.unified, Some("/sys/fs/cgroup/unified/user.slice".into()));
        assert_eq!(found.freezer_v1, Some("/sys/fs/cgroup/freezer".into()));
        assert_eq!(found.cpu_v1, Some("/sys/fs/cgroup/cpu,cpuacct/a/b".into()));
    }

    #[test]
    fn a_container_sees_its_own_part_of_the_tree() {
        let mounts = "30 1 0:9 /docker/x /sys/fs/cg\\040roup ro - cgroup2 cgroup rw,nsdelegate";
        let found = own(mounts, "0::/docker/x/inner\n");
        assert_eq!(found.unified, Some("/sys/fs/cg roup/inner".into()));
        assert_eq!((found.freezer_v1, found.cpu_v1), (None, None));
    }

    #[test]
    fn nonsense_finds_nothing() {
        assert_eq!(own("", ""), Own::default());
        assert_eq!(own("a b - c\n - \n1 2 3 / /x rw - cgroup2", "nonsense"), Own::default());
    }
}
