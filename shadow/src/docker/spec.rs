//! What is told about containers of a service, and where their engine is.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::hash::fnv1a;

/// How containers of a service are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerSpec {
    /// Where the engine is.
    pub endpoint: EngineEndpoint,
    /// For an engine behind TLS.
    pub tls: Option<TlsFiles>,
    /// The image, as the engine knows it.
    pub image: String,
    /// When the image is fetched from its registry.
    pub pull: Pull,
    /// Replaces the image's own command where it is not empty. `{port}`, `{id}` and `{service}` are
    /// replaced in each word; so they are in the values of `env`.
    pub command: Vec<String>,
    /// Added to the image's environment; `PORT` is always set.
    pub env: Vec<(String, String)>,
    /// The port it serves on within the container.
    pub port: u16,
    /// Publishes that port on this address of the engine's machine, at a port that the engine
    /// chooses; absent: it is reached by the container's own address.
    pub publish: Option<IpAddr>,
    /// Which networks it is in, and when.
    pub network: NetworkSpec,
    /// What of the engine's machine it sees.
    pub mounts: Vec<MountSpec>,
    /// The user it runs as; absent: that of the image.
    pub user: Option<String>,
    /// Whether a small init of the engine's passes signals on and reaps.
    pub init: bool,
    /// What it is limited to.
    pub limits: ContainerLimits,
    /// Where its output goes; absent: where the engine's own setting says.
    pub log: Option<LogSpec>,
    /// Longest time for one answer of the engine; ending has its grace on top, pulling ten times it.
    pub timeout: Duration,
}

impl Default for DockerSpec {
    /// No image; the local engine, port 8080, nothing pulled, mounted or limited; 30 s an answer.
    fn default() -> Self {
        Self {
            endpoint: EngineEndpoint::default(),
            tls: None,
            image: String::new(),
            pull: Pull::Never,
            command: Vec::new(),
            env: Vec::new(),
            port: 8080,
            publish: None,
            network: NetworkSpec::default(),
            mounts: Vec::new(),
            user: None,
            init: false,
            limits: ContainerLimits::default(),
            log: None,
            timeout: Duration::from_secs(30),
        }
    }
}

impl DockerSpec {
    /// Everything that makes a difference to instances, hashed since it may hold secrets.
    pub(super) fn fingerprint(&self) -> String {
        let plain = Self { timeout: Duration::ZERO, tls: None, pull: Pull::Never, ..self.clone() };
        fnv1a(format!("{plain:?}").into_bytes())
    }
}

/// When an image is fetched from its registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pull {
    /// Not by Foreshadow.
    #[default]
    Never,
    /// Where the engine does not have it.
    Missing,
    /// Before each instance is made.
    Always,
}

/// Which networks a container is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSpec {
    /// By name; empty: the engine's default network, or those of `mirror`.
    pub names: Vec<String>,
    /// What it is called in them once it is activated.
    pub aliases: Vec<String>,
    /// The container of a primary: its networks and aliases are added to those above.
    pub mirror: Option<String>,
    /// Whether it is in an internal network of its service's shadows only, until it is activated.
    pub isolate: bool,
}

/// Something of the engine's machine that is seen in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountSpec {
    /// An absolute path, or the name of a volume.
    pub source: String,
    /// An absolute path.
    pub target: String,
    /// Whether it can be written.
    pub write: bool,
}

/// What a container is limited to; absent: not by us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerLimits {
    /// Processor time at full size, percent of one core.
    pub cpu_percent: Option<u32>,
    /// Memory at full size, in bytes; there is no swap beyond it.
    pub memory_bytes: Option<u64>,
    /// Memory at the warm tier, in bytes; set where what is in use leaves a quarter of it free.
    pub warm_memory_bytes: Option<u64>,
    /// Threads and processes together.
    pub tasks: Option<u64>,
    /// By name as in setrlimit(2) without `RLIMIT_`, lower case: soft and hard.
    pub ulimits: BTreeMap<String, (u64, u64)>,
}

/// Where the output of a container goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSpec {
    /// A driver of the engine.
    pub driver: String,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
}

/// Files in PEM form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Who may have signed the engine's certificate, beside what the system trusts.
    pub ca: PathBuf,
    /// Our own certificate.
    pub cert: PathBuf,
    /// The key of our certificate.
    pub key: PathBuf,
}

/// Where an engine is, in the words of `DOCKER_HOST`; who configures it has checked its form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineEndpoint {
    /// A socket in the file system.
    Unix(PathBuf),
    /// Host and port.
    Tcp {
        /// A name or an address, in brackets where that is one of IPv6.
        host: String,
        /// Above 0.
        port: u16,
    },
}

impl Default for EngineEndpoint {
    fn default() -> Self {
        Self::Unix("/var/run/docker.sock".into())
    }
}

impl EngineEndpoint {
    /// What the client library takes: a path, or `HOST:PORT`.
    pub(super) fn authority(&self) -> String {
        match self {
            Self::Unix(path) => path.display().to_string(),
            Self::Tcp { host, port } => format!("{host}:{port}"),
        }
    }

    /// The same for all spellings of a place, such as `/var/run` where that is a link to `/run`. The
    /// socket itself need not be there yet, its directory must.
    pub(super) fn canonical(&self) -> Self {
        let Self::Unix(path) = self else { return self.clone() };
        let whole = || path.canonicalize().ok();
        let dir = || Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
        whole().or_else(dir).map_or_else(|| self.clone(), Self::Unix)
    }
}

impl fmt::Display for EngineEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_difference_to_instances_does_not_replace_them() {
        let spec = DockerSpec { image: "shop:1".to_owned(), ..DockerSpec::default() };
        let patient =
            DockerSpec { timeout: Duration::from_secs(99), pull: Pull::Always, ..spec.clone() };
        assert_eq!(spec.fingerprint(), patient.fingerprint());
        let other = DockerSpec { image: "shop:2".to_owned(), ..spec.clone() };
        assert_ne!(spec.fingerprint(), other.fingerprint());
    }
}
