//! Containers of a Docker Engine.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::{CpuShare, EngineEndpoint};
use crate::units;

/// Instances as containers of a Docker Engine.
///
/// `command` and the values of `env` may hold `{port}`, `{id}` and `{service}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DockerProvider {
    /// The image, as the engine knows it; not empty.
    pub image: String,
    /// When it is fetched.
    pub pull: Pull,
    /// Where the engine is.
    pub endpoint: EngineEndpoint,
    /// For an engine behind TLS; only with `tcp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<EngineTls>,
    /// Empty: the image's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Added to the image's environment.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Where it serves within the container; at least 1.
    pub port: u16,
    /// The address of the engine's machine that the port is published on; never with `isolate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish: Option<IpAddr>,
    /// By name; empty: those of `mirror`, or the engine's default one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
    /// What it is called once activated; only with `isolate`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// A primary's container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<String>,
    /// Whether it is kept in an internal network until it is activated.
    pub isolate: bool,
    /// What of the engine's machine it sees.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<ContainerMount>,
    /// Absent: that of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whether a small init passes signals on and reaps.
    pub init: bool,
    /// What it is limited to.
    pub limits: ContainerLimits,
    /// Where its output goes; absent: as the engine is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<ContainerLog>,
    /// Longest time for one answer of the engine.
    #[serde(serialize_with = "units::duration::serialize")]
    pub timeout: Duration,
    /// Longest time from its making until its health check passes.
    #[serde(serialize_with = "units::duration::serialize")]
    pub start_timeout: Duration,
    /// Time between the polite signal and the last one.
    #[serde(serialize_with = "units::duration::serialize")]
    pub stop_timeout: Duration,
    /// CPU by tier.
    pub cpu: CpuShare,
}

/// When an image is fetched from its registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pull {
    /// Not by Foreshadow.
    Never,
    /// Where the engine does not have it.
    Missing,
    /// Before each instance is made.
    Always,
}

/// Files in PEM form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EngineTls {
    /// Who may have signed the engine's certificate.
    pub ca: PathBuf,
    /// Our own certificate.
    pub cert: PathBuf,
    /// The key of our certificate.
    pub key: PathBuf,
}

/// Something of the engine's machine that is seen in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ContainerMount {
    /// An absolute path, or the name of a volume.
    pub source: String,
    /// An absolute path.
    pub target: String,
    /// Whether it can be written.
    pub write: bool,
}

/// What a container is limited to; absent: not by us. Sizes are in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ContainerLimits {
    /// Cores at full size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// Memory at full size.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "units::size::optional")]
    pub memory: Option<u64>,
    /// Memory at tier warm; less than `memory`, and only with it.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "units::size::optional")]
    pub warm_memory: Option<u64>,
    /// Its threads and processes together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<u64>,
    /// Resource limits by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ulimits: BTreeMap<String, Ulimit>,
}

/// A resource limit; `soft <= hard`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Ulimit {
    /// What it begins with.
    pub soft: u64,
    /// What it can be raised to.
    pub hard: u64,
}

/// Where the output of a container goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ContainerLog {
    /// A driver of the engine.
    pub driver: String,
    /// Options of the driver.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}
