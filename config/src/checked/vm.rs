//! Virtual machines.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::{CpuShare, Output, PortRange, ProcessLimits};
use crate::units;

/// Instances as virtual machines on this machine; with an image, a kernel or both.
///
/// `append` and `args` may hold `{id}` and `{service}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VmProvider {
    /// A disk that is never written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<PathBuf>,
    /// A kernel that is started instead of what is on the disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<PathBuf>,
    /// Its first file system; only with a kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initrd: Option<PathBuf>,
    /// Its command line; only with a kernel.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub append: String,
    /// The emulator, by name or path; not empty.
    pub binary: String,
    /// The kind of machine, in the emulator's words; not empty.
    pub machine: String,
    /// Who runs its instructions.
    pub accel: Accel,
    /// Virtual processors; 1 to 1024.
    pub cpus: u32,
    /// Bytes of memory; whole MiB.
    #[serde(serialize_with = "units::size::serialize")]
    pub memory: u64,
    /// Where it serves within the machine; at least 1.
    pub port: u16,
    /// Whether it may open connections to the outside.
    pub outbound: bool,
    /// Added to the emulator's command; none that Foreshadow sets itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Whether it gives up system calls that it has no use for.
    pub sandbox: bool,
    /// The user it runs as; absent: Foreshadow's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Its group; only with a user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// What it is limited to.
    pub limits: ProcessLimits,
    /// Ports of this machine; at least as many as the pool's `max`.
    pub ports: PortRange,
    /// How much of its serial console is kept.
    pub output: Output,
    /// Longest time for one answer of the emulator.
    #[serde(serialize_with = "units::duration::serialize")]
    pub timeout: Duration,
    /// Longest time from its making until its health check passes.
    #[serde(serialize_with = "units::duration::serialize")]
    pub start_timeout: Duration,
    /// Time between its power button and its end.
    #[serde(serialize_with = "units::duration::serialize")]
    pub stop_timeout: Duration,
    /// CPU by tier.
    pub cpu: CpuShare,
}

/// Who runs the instructions of a virtual machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// The processor where the emulator can make it, else the emulator.
    Auto,
    /// The processor.
    Kvm,
    /// The emulator.
    Tcg,
}
