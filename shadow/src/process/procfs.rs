//! What `/proc` says of processes: who they are, and which of them carry our marker.

use std::fs;

use foreshadow_control::InstanceId;
use serde::{Deserialize, Serialize};

/// Environment variable every instance and its descendants carry: `<state directory>:<instance>`.
pub(crate) const MARKER: &str = "FORESHADOW_INSTANCE";

/// One process for the life of the machine: pids come around again, start times do not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    /// Clock ticks between boot and its start.
    pub(crate) start_ticks: u64,
    /// Which boot.
    pub(crate) boot: String,
}

/// What is used of `/proc/<pid>/stat` (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) state: char,
    pub(crate) start_ticks: u64,
}

impl Identity {
    /// The identity of a process that exists now.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let start_ticks = stat(pid)?.start_ticks;
        Some(Self { pid, start_ticks, boot: boot_id() })
    }

    /// Whether that very process still runs; one that has ended and waits to be reaped does not.
    pub(crate) fn is_alive(&self) -> bool {
        stat(self.pid).is_some_and(|stat| {
            stat.start_ticks == self.start_ticks && !matches!(stat.state, 'Z' | 'X')
        }) && self.boot == boot_id()
    }
}

/// Reads the state of a process; `None` when there is none of that number.
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name, in parentheses, may itself hold spaces and parentheses.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let start_ticks = fields.nth(18)?.parse().ok()?;
    Some(Stat { state, start_ticks })
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// Processes whose environment names this state directory, with their instance. Only those this
/// user may read are seen; ours are among them.
pub(crate) fn marked(state_marker: &str) -> Vec<(u32, InstanceId)> {
    let mut found = Vec::new();
    for pid in pids() {
        if let Some(id) = marked_instance(pid, state_marker) {
            found.push((pid, id));
        }
    }
    found
}

/// The instance a process belongs to, by its environment.
pub(crate) fn marked_instance(pid: u32, state_marker: &str) -> Option<InstanceId> {
    let value = variable(pid, MARKER)?;
    let (marker, id) = value.split_once(':')?;
    (marker == state_marker).then(|| id.parse().ok().map(InstanceId))?
}

/// A variable of the environment that a process was started with.
pub(crate) fn variable(pid: u32, name: &str) -> Option<String> {
    let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
    environ.split(|byte| *byte == 0).find_map(|entry| {
        let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        std::str::from_utf8(value).ok().map(str::to_owned)
    })
}

/// The id that was given out last (proc_loadavg(5)).
pub(crate) fn last_pid() -> Option<u32> {
    fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().last()?.parse().ok()
}

/// Every process there is.
pub(crate) fn pids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let text = "42 (a) b (c)) S 1 77 77 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 123456 9 9";
        assert_eq!(parse_stat(text), Some(Stat { state: 'S', start_ticks: 123_456 }));
        assert_eq!(parse_stat("42 (short) S 1"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn this_process_is_alive_and_its_pid_with_another_start_time_is_not() {
        let me = Identity::of(std::process::id()).unwrap();
        assert!(me.is_alive());
        assert!(!Identity { start_ticks: me.start_ticks + 1, ..me.clone() }.is_alive());
        assert!(!Identity { boot: "another".to_owned(), ..me }.is_alive());
    }
}
