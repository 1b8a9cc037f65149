//! Which of the capabilities that kernel programs need this process has.

use std::fmt;

use serde::Serialize;

// Bit numbers from linux/capability.h.
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// The effective capabilities that matter here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// Load programs and make maps.
    pub bpf: bool,
    /// Attach programs to the network and to cgroups.
    pub net_admin: bool,
    /// Load programs that read kernel types (`tp_btf`).
    pub perfmon: bool,
}

impl Capabilities {
    /// Reads them from the text of `/proc/self/status`; none when it has no `CapEff` line.
    /// `CAP_SYS_ADMIN` stands for `CAP_BPF` and `CAP_PERFMON`, as it does in the kernel.
    #[must_use]
    pub fn from_status(status: &str) -> Self {
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))
            .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            .unwrap_or(0);
        let has = |bit: u32| mask & (1 << bit) != 0;
        let admin = has(CAP_SYS_ADMIN);
        Self {
            bpf: admin || has(CAP_BPF),
            net_admin: has(CAP_NET_ADMIN),
            perfmon: admin || has(CAP_PERFMON),
        }
    }

    /// Those of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        std::fs::read_to_string("/proc/self/status")
            .map_or_else(|_| Self::default(), |status| Self::from_status(&status))
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held: Vec<&str> = [
            (self.bpf, "CAP_BPF"),
            (self.net_admin, "CAP_NET_ADMIN"),
            (self.perfmon, "CAP_PERFMON"),
        ]
        .into_iter()
        .filter_map(|(held, name)| held.then_some(name))
        .collect();
        if held.is_empty() { f.write_str("none") } else { f.write_str(&held.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effective(mask: u64) -> Capabilities {
        Capabilities::from_status(&format!("Name:\tx\nCapPrm:\tffff\nCapEff:\t{mask:016x}\n"))
    }

    #[test]
    fn bits_are_read_from_the_effective_set() {
        assert_eq!(effective(0), Capabilities::default());
        assert_eq!(effective(1 << 12).to_string(), "CAP_NET_ADMIN");
        assert_eq!(effective(1 << 39 | 1 << 12).to_string(), "CAP_BPF, CAP_NET_ADMIN");
        assert_eq!(effective(1 << 38).to_string(), "CAP_PERFMON");
        assert_eq!(effective(1 << 21).to_string(), "CAP_BPF, CAP_PERFMON");
    }

    #[test]
    fn unreadable_text_means_none() {
        for text in ["", "CapEff:", "CapEff:\tzz", "CapEff:\tfffffffffffffffffffff"] {
            assert_eq!(Capabilities::from_status(text).to_string(), "none", "{text:?}");
        }
    }
}
