//! What a container of an engine on this machine uses, from its control groups.

use std::fs;
use std::path::{Path, PathBuf};

use foreshadow_control::ResourceSample;

use crate::provider::Usage;

/// Where control groups are on every distribution that engines run on.
const ROOT: &str = "/sys/fs/cgroup";

/// Whether a process is of that container: its number may mean another one here.
pub(super) fn belongs(pid: u32, container: &str) -> bool {
    groups(pid).is_some_and(|text| !container.is_empty() && text.contains(container))
}

/// Reads everything that can be read; what cannot is absent. Blocks for some file reads.
pub(super) fn read(pid: u32, container: &str) -> Usage {
    let Some(text) = groups(pid).filter(|text| text.contains(container)) else {
        return Usage::default();
    };
    let unified = group(&text, "").map(|path| Path::new(ROOT).join(path));
    let memory = group(&text, "memory").map(|path| Path::new(ROOT).join("memory").join(path));
    let cpu = group(&text, "cpuacct").map(|path| Path::new(ROOT).join("cpuacct").join(path));
    let number = |dir: &Option<PathBuf>, file: &str| {
        dir.as_ref().and_then(|dir| fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok())
    };
    let idle = [(&unified, "inactive_file"), (&memory, "total_inactive_file")];
    let idle = idle.into_iter().find_map(|(dir, key)| {
        keyed(&fs::read_to_string(dir.as_ref()?.join("memory.stat")).ok()?, key)
    });
    let used: Option<u64> =
        number(&unified, "memory.current").or_else(|| number(&memory, "memory.usage_in_bytes"));
    let limit = number(&unified, "memory.max")
        .or_else(|| number(&memory, "memory.limit_in_bytes"))
        // No limit is shown as the largest one there is.
        .filter(|limit: &u64| *limit < 1 << 62);
    let stat = unified.as_ref().and_then(|dir| fs::read_to_string(dir.join("cpu.stat")).ok());
    let cpu_us = stat
        .and_then(|text| keyed(&text, "usage_usec"))
        .or_else(|| number(&cpu, "cpuacct.usage").map(|ns: u64| ns / 1_000));
    let sample = ResourceSample {
        memory_bytes: used.map(|used| used.saturating_sub(idle.unwrap_or(0))),
        memory_limit_bytes: limit,
        ..ResourceSample::default()
    };
    Usage { sample, cpu_us }
}

fn groups(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()
}

/// The group that a process has with that controller (cgroups(7)), below the root; version 2 has
/// none by name.
fn group<'a>(text: &'a str, controller: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let mut controllers = fields.next()?.split(',');
            controllers.any(|name| name == controller).then(|| fields.next())?
        })
        .map(|path| path.trim_start_matches('/'))
}

/// The number behind `key` in a file of `key number` lines.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_both_versions_are_found() {
        let old = "4:cpu,cpuacct:/docker/c1\n3:memory:/docker/c1\n0::/\n";
        assert_eq!(group(old, "memory"), Some("docker/c1"));
        assert_eq!(group(old, "cpuacct"), Some("docker/c1"));
        assert_eq!(group(old, ""), Some(""));
        let new = "0::/system.slice/docker-c1.scope\n";
        assert_eq!(group(new, ""), Some("system.slice/docker-c1.scope"));
        assert_eq!(group(new, "memory"), None);
        assert!(!belongs(std::process::id(), ""));
    }

    #[test]
    fn numbers_are_found_by_their_key() {
        assert_eq!(keyed("a 1\nusage_usec 42\n", "usage_usec"), Some(42));
        assert_eq!(keyed("usage_usec x\n", "usage_usec"), None);
    }
}
