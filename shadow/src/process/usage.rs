//! What an instance uses of its machine, from its control group where there is one, from `/proc`
//! where there is none.

use std::fs;
use std::path::Path;

use foreshadow_control::ResourceSample;
use rustix::param::page_size;

use super::cgroup::Leaf;
use crate::provider::Usage;

/// Reads everything that can be read; what cannot is absent. Blocks for some file reads.
pub(crate) fn read(leaf: &Leaf, pid: u32) -> Usage {
    let group = leaf.unified.as_deref();
    let memory = group.and_then(group_memory).or_else(|| tree_memory(leaf, pid));
    let pressure = |what: &str| {
        let text = group.and_then(|dir| text(dir, &format!("{what}.pressure")));
        text.map_or((None, None), |text| (stall(&text, "some"), stall(&text, "full")))
    };
    let (cpu_some_share, _) = pressure("cpu");
    let (memory_some_share, memory_full_share) = pressure("memory");
    let (io_some_share, io_full_share) = pressure("io");
    let sample = ResourceSample {
        memory_bytes: memory,
        memory_limit_bytes: memory.and_then(|used| memory_limit(group, used)),
        cpu_limit_cores: group.and_then(|dir| cores(&text(dir, "cpu.max")?)),
        cpu_some_share,
        memory_some_share,
        memory_full_share,
        io_some_share,
        io_full_share,
        ..ResourceSample::default()
    };
    let cpu_us = group.and_then(|dir| keyed(&text(dir, "cpu.stat")?, "usage_usec"));
    Usage { sample, cpu_us }
}

/// Memory in use without file pages that can go at once: the working set, as Kubernetes counts it.
fn group_memory(dir: &Path) -> Option<u64> {
    let used: u64 = text(dir, "memory.current")?.trim().parse().ok()?;
    let idle = text(dir, "memory.stat").and_then(|text| keyed(&text, "inactive_file"));
    Some(used.saturating_sub(idle.unwrap_or(0)))
}

/// The same by `/proc` (proc_pid_statm(5)): pages of their own of all processes, and once the
/// largest part that may be shared.
fn tree_memory(leaf: &Leaf, pid: u32) -> Option<u64> {
    let mut pids = leaf.members();
    if pids.is_empty() {
        pids.push(pid);
    }
    let pages: Vec<(u64, u64)> = pids
        .iter()
        .filter_map(|pid| statm(&fs::read_to_string(format!("/proc/{pid}/statm")).ok()?))
        .collect();
    let shared = pages.iter().map(|(_, shared)| *shared).max()?;
    let own: u64 = pages.iter().map(|(resident, shared)| resident.saturating_sub(*shared)).sum();
    Some((own + shared).saturating_mul(page_size() as u64))
}

/// Resident and shared pages.
fn statm(text: &str) -> Option<(u64, u64)> {
    let mut fields = text.split_ascii_whitespace().skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// The group's limit, or what the machine can still give if that is less.
fn memory_limit(group: Option<&Path>, used: u64) -> Option<u64> {
    let limit: Option<u64> =
        group.and_then(|dir| text(dir, "memory.max")).and_then(|text| text.trim().parse().ok());
    let free = fs::read_to_string("/proc/meminfo").ok().and_then(|text| available_bytes(&text));
    let machine = free.map(|free| used.saturating_add(free));
    match (limit, machine) {
        (Some(limit), Some(machine)) => Some(limit.min(machine)),
        (limit, machine) => limit.or(machine),
    }
}

fn available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib.saturating_mul(1024))
}

/// The number behind `key` in a file of `key number` lines.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok())?
    })
}

/// A quota and its period as cores; none without a quota.
fn cores(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0.0).then_some(quota / period)
}

/// The share of the last 10 s in which `kind` of the tasks waited (Documentation/accounting/psi).
fn stall(text: &str, kind: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
    let percent = line.split_ascii_whitespace().find_map(|field| field.strip_prefix("avg10="))?;
    Some(percent.parse::<f64>().ok()? / 100.0)
}

fn text(dir: &Path, file: &str) -> Option<String> {
    fs::read_to_string(dir.join(file)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_kernel_are_read() {
        let pressure = "some avg10=12.50 avg60=0.07 avg300=0.04 total=7774492\n\
                        full avg10=3.00 avg60=0.00 avg300=0.00 total=1293996\n";
        assert_eq!(stall(pressure, "some"), Some(0.125));
        assert_eq!(stall(pressure, "full"), Some(0.03));
        assert_eq!(stall("some\n", "full"), None);
        assert_eq!(keyed("user_usec 7\nusage_usec 12\n", "usage_usec"), Some(12));
        assert_eq!(cores("2000 20000\n"), Some(0.1));
        assert_eq!(cores("max 100000\n"), None);
        assert_eq!(available_bytes("MemTotal: 9 kB\nMemAvailable:   2 kB\n"), Some(2_048));
        assert_eq!(statm("100 40 15 1 0 20 0\n"), Some((40, 15)));
        assert_eq!(statm("x"), None);
    }

    #[test]
    fn a_group_with_limits_is_read_from_its_files() {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("memory.current", "1000\n"),
            ("memory.stat", "anon 500\ninactive_file 300\n"),
            ("memory.max", "4000\n"),
            ("memory.pressure", "some avg10=50.00 avg60=0 avg300=0 total=1\n"),
            ("cpu.stat", "usage_usec 77\n"),
            ("cpu.max", "max 100000\n"),
        ] {
            fs::write(dir.path().join(file), text).unwrap();
        }
        let leaf = Leaf { unified: Some(dir.path().to_owned()), ..Leaf::default() };
        let usage = read(&leaf, 0);
        assert_eq!(usage.sample.memory_bytes, Some(700));
        assert_eq!(usage.sample.memory_limit_bytes, Some(4_000));
        assert_eq!(usage.sample.memory_some_share, Some(0.5));
        assert_eq!(usage.sample.memory_full_share, None);
        assert_eq!((usage.cpu_us, usage.sample.cpu_limit_cores), (Some(77), None));
    }

    #[test]
    fn this_process_uses_memory_and_less_than_there_is() {
        let usage = read(&Leaf::default(), std::process::id()).sample;
        let (used, limit) = (usage.memory_bytes.unwrap(), usage.memory_limit_bytes.unwrap());
        assert!(used > 100_000 && used < limit, "{used} of {limit}");
        assert_eq!(usage.cpu_some_share, None);
    }
}
