//! What makes shadow instances.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::{DockerProvider, Endpoint, KubernetesProvider, Token, VmProvider};
use crate::units;

/// What makes instances.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// Processes on this machine.
    Process(Box<ProcessProvider>),
    /// Containers of a Docker Engine.
    Docker(Box<DockerProvider>),
    /// Pods of a Kubernetes cluster.
    Kubernetes(Box<KubernetesProvider>),
    /// Virtual machines on this machine.
    Vm(Box<VmProvider>),
    /// A command that is run per step.
    Exec(Box<ExecProvider>),
    /// An HTTP endpoint that is asked per step.
    Webhook(Box<WebhookProvider>),
}

impl Provider {
    /// Whether what it makes can be paused, as far as the file says it. Where it cannot, shadows that are parked
    /// run on.
    #[must_use]
    pub fn freezes(&self) -> bool {
        match self {
            Self::Process(_) | Self::Docker(_) | Self::Vm(_) => true,
            Self::Kubernetes(_) => false,
            Self::Exec(exec) => exec.contract.can.contains(&Step::Freeze),
            Self::Webhook(webhook) => webhook.can(Step::Freeze),
        }
    }

    /// Whether what it makes can be given less of a processor, as far as the file says it. Where it cannot, what
    /// runs has full size.
    #[must_use]
    pub fn resizes(&self) -> bool {
        match self {
            Self::Exec(exec) => exec.contract.can.contains(&Step::Resize),
            Self::Webhook(webhook) => webhook.can(Step::Resize),
            Self::Process(_) | Self::Docker(_) | Self::Vm(_) | Self::Kubernetes(_) => true,
        }
    }
}

impl WebhookProvider {
    /// A function that is kept warm for few requests is as good as paused.
    fn can(&self, step: Step) -> bool {
        self.concurrency.is_some() || self.contract.can.contains(&step)
    }
}

/// Instances as processes on this machine.
///
/// `command` and the values of `env` may hold `{port}`, `{id}`, `{service}` and `{address}`;
/// `{port}` or `{address}` is there at least once.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProcessProvider {
    /// The program and its arguments; not empty.
    pub command: Vec<String>,
    /// Working directory; absent: Foreshadow's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Environment variables set beyond `environment`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// What of Foreshadow's own environment is passed on.
    pub environment: Environment,
    /// Name or number; absent: Foreshadow's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Name or number; absent: that of the user. Only with a user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Up to 0o777; absent: Foreshadow's own.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "octal")]
    pub umask: Option<u32>,
    /// Whether it can gain no rights by running others' programs.
    pub no_new_privileges: bool,
    /// Whose network it is in.
    pub network: Network,
    /// What it is limited to.
    pub limits: ProcessLimits,
    /// How much of what it writes is kept.
    pub output: Output,
    /// Longest time from its start until its health check passes.
    #[serde(serialize_with = "units::duration::serialize")]
    pub start_timeout: Duration,
    /// Time between the polite signal and the last one.
    #[serde(serialize_with = "units::duration::serialize")]
    pub stop_timeout: Duration,
    /// Ports given to instances; at least as many as the pool's `max`.
    pub ports: PortRange,
    /// CPU by tier.
    pub cpu: CpuShare,
}

/// What of Foreshadow's environment an instance gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// All of it.
    Inherit,
    /// What a program cannot do without.
    Clean,
}

/// Whose network an instance is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Foreshadow's.
    Shared,
    /// Its own, beside the socket it is handed.
    Private,
}

/// What an instance is limited to; absent: not by us. Sizes are in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ProcessLimits {
    /// Open files at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u64>,
    /// Size of a core dump.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "units::size::optional")]
    pub core: Option<u64>,
    /// Address space.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "units::size::optional")]
    pub address_space: Option<u64>,
    /// Processes of its user on the whole machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<u64>,
    /// Memory of all its processes together.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "units::size::optional")]
    pub memory: Option<u64>,
    /// Its threads and processes together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<u64>,
}

/// How much of what an instance writes is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Output {
    /// Bytes beyond which a file is moved aside.
    #[serde(serialize_with = "units::size::serialize")]
    pub max_size: u64,
    /// Files moved aside that are kept.
    pub keep: u32,
}

/// Instances that a command makes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExecProvider {
    /// The program and its arguments; not empty.
    pub command: Vec<String>,
    /// Working directory; absent: Foreshadow's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Environment variables set beyond Foreshadow's own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Steps and times.
    #[serde(flatten)]
    pub contract: Contract,
}

/// Instances that an HTTP endpoint makes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WebhookProvider {
    /// Where it is.
    pub url: Endpoint,
    /// Sent as bearer token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// For functions: the concurrency kept warm, by tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// Steps and times.
    #[serde(flatten)]
    pub contract: Contract,
}

/// What is told about a provider that others wrote.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Contract {
    /// The steps it can do beyond making, listing and ending; each once.
    pub can: Vec<Step>,
    /// Longest time for a step.
    #[serde(serialize_with = "units::duration::serialize")]
    pub timeout: Duration,
    /// Time between two looks at what runs.
    #[serde(serialize_with = "units::duration::serialize")]
    pub poll: Duration,
    /// Longest time from its making until its health check passes.
    #[serde(serialize_with = "units::duration::serialize")]
    pub start_timeout: Duration,
    /// Time an instance has to end by itself.
    #[serde(serialize_with = "units::duration::serialize")]
    pub stop_timeout: Duration,
    /// CPU by tier.
    pub cpu: CpuShare,
}

/// A step that not every provider can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Freeze and thaw.
    Freeze,
    /// Set the share of a processor.
    Resize,
    /// Save a state that others begin from.
    Snapshot,
}

/// Requests at once that a function is kept warm for, by tier; `shadow <= warm <= full`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Concurrency {
    /// While parked.
    pub shadow: u32,
    /// At tier warm.
    pub warm: u32,
    /// At tier full and while serving.
    pub full: u32,
}

#[expect(clippy::ref_option, reason = "serde passes a reference")]
fn octal<S: Serializer>(mask: &Option<u32>, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&format!("{:03o}", mask.unwrap_or(0)))
}

/// Ports from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// At least 1.
    pub first: u16,
    /// At least `first`.
    pub last: u16,
}

impl PortRange {
    /// How many ports there are.
    #[must_use]
    pub fn count(self) -> u32 {
        u32::from(self.last) + 1 - u32::from(self.first)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl Serialize for PortRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// CPU by tier, as a share of one core; a full instance has no limit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CpuShare {
    /// At tier warm, above 0 up to 1; applies where a CPU controller is available.
    #[serde(serialize_with = "units::percent::serialize")]
    pub warm: f64,
}
