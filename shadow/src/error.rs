//! What can go wrong, in words an operator can act on.

use std::path::PathBuf;

use foreshadow_control::InstanceId;

/// A provider could not carry out a step.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The program of a command does not exist or may not be run.
    #[error(
        "cannot run {program:?} in directory {dir:?}{searched}: {source}; {}",
        spawn_remedy(source)
    )]
    Spawn {
        /// The program as it was looked for.
        program: String,
        /// The directory it would have run in.
        dir: PathBuf,
        /// Where it was searched for, in words; empty when its directory was given.
        searched: String,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// Every port of the range is in use.
    #[error("no free port on {host} in {first}-{last}; widen the provider's port range")]
    NoPort {
        /// Address the ports were probed on.
        host: std::net::IpAddr,
        /// First port of the range.
        first: u16,
        /// Last port of the range.
        last: u16,
    },
    /// A command template cannot be used.
    #[error("command {command:?}: {problem}")]
    Command {
        /// The template as configured.
        command: Vec<String>,
        /// What is wrong with it, and the remedy.
        problem: String,
    },
    /// A new process could not be held to what was asked for.
    #[error("cannot {operation}: {source}; {remedy}")]
    Confine {
        /// What was tried.
        operation: &'static str,
        /// What the kernel said.
        source: std::io::Error,
        /// What can be done.
        remedy: &'static str,
    },
    /// This machine gives no means for a limit.
    #[error(
        "cannot limit {what} here: {why}; take `{setting}` out of the provider's `limits`, or give foreshadow a control group that can hand it down"
    )]
    NoController {
        /// What should be limited.
        what: &'static str,
        /// Why it cannot be.
        why: String,
        /// How the setting is called.
        setting: &'static str,
    },
    /// The kernel refused an operation on a file or process.
    #[error("cannot {operation} {subject}: {source}{}", io_remedy(source))]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file, process or group.
        subject: String,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// An operation was started and did not finish in time.
    #[error("{operation} {subject}: not done after {waited_ms} ms")]
    Timeout {
        /// What was tried.
        operation: &'static str,
        /// On which group or process.
        subject: String,
        /// How long it was given.
        waited_ms: u64,
    },
    /// The provider knows no such instance, or its handle was written by something else.
    #[error("{instance}: {problem}")]
    Handle {
        /// The instance.
        instance: InstanceId,
        /// What does not fit.
        problem: String,
    },
    /// A step that this provider, or this machine, has no means for.
    #[error("provider {provider} cannot {operation}")]
    Unsupported {
        /// The kind of provider.
        provider: &'static str,
        /// The step.
        operation: &'static str,
    },
    /// What a provider stands on was asked and did not do it.
    #[error("asked {asked}: {came_back}; {}", cause.next())]
    Refused {
        /// Why, as far as it can be told.
        cause: Cause,
        /// What was asked of whom.
        asked: String,
        /// What came back.
        came_back: String,
    },
    /// Anything a provider beyond this crate wants to say.
    #[error("{0}")]
    Other(String),
}

/// Why something that a provider stands on did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It may not make more.
    Quota,
    /// It does not allow this to us.
    Denied,
    /// A disk is full there.
    DiskFull,
    /// What would have to be run is not there.
    Missing,
    /// The engine does not have the image.
    NoImage,
    /// The program that runs machines is not there.
    NoEmulator,
    /// Machines cannot be run by the processor itself.
    NoKvm,
    /// A cluster's node does not get the image.
    NotPulled,
    /// No node of a cluster has room for it.
    NoRoom,
    /// Another Foreshadow owns what has our name.
    NotOwned,
    /// Something that the settings name is not there.
    Absent,
    /// Something else has that name or port.
    Conflict,
    /// It speaks another version.
    Version,
    /// Nothing answers; it may have heard all the same.
    Unreachable,
    /// It could not be asked at all, so it has done nothing.
    NotAsked,
    /// No answer in time.
    Late,
    /// It has too much to do now.
    Busy,
    /// What came back is not what was agreed.
    Malformed,
    /// It does not know this step.
    Unsupported,
    /// Anything else.
    Failed,
}

impl ProviderError {
    /// Whether what the provider stands on could not be reached or did not answer, which says nothing of
    /// the instance. What was refused is not of this kind.
    pub(crate) fn is_away(&self) -> bool {
        match self {
            Self::Timeout { .. } => true,
            Self::Refused { cause, .. } => {
                matches!(cause, Cause::Unreachable | Cause::NotAsked | Cause::Late | Cause::Busy)
            }
            _ => false,
        }
    }
}

impl Cause {
    /// What the operator can do, and what happens meanwhile.
    #[must_use]
    pub fn next(self) -> &'static str {
        match self {
            Self::Quota => {
                "raise the quota or lower the pool's `max`; meanwhile it is asked again after pauses"
            }
            Self::Denied => {
                "give this account the right, or set the right token; meanwhile it is asked again after pauses"
            }
            Self::DiskFull => "make room on that disk; it is asked again after a pause",
            Self::Missing => {
                "install it or correct the provider's `command`; it is run again after a pause"
            }
            Self::NoImage => {
                "load it into that engine (docker pull, docker load), correct `image`, or set \
                 `pull: missing`; it is asked again after a pause"
            }
            Self::NoEmulator => {
                "install it (Debian: qemu-system-x86) or say in `binary` where it is; it is run again \
                 after a pause"
            }
            Self::NoKvm => {
                "load the kvm module and give foreshadow's user the right to /dev/kvm, or set \
                 `accel: tcg`; it is run again after a pause"
            }
            Self::NotPulled => {
                "correct `image`, push it to its registry, or give the pod the right to pull it \
                 (imagePullSecrets); it is asked again after a pause"
            }
            Self::NoRoom => {
                "add nodes, ask for less, or lower the pool's `max`; it is asked again after a pause"
            }
            Self::NotOwned => {
                "end the other one, or give it a state directory of its own; it is asked again after \
                 a pause, and what runs goes on"
            }
            Self::Absent => {
                "make it there or correct the provider's settings; it is asked again after a pause"
            }
            Self::Conflict => "remove or rename what has it; it is asked again after a pause",
            Self::Version => {
                "use an engine of version 19.03 or newer; it is asked again after a pause"
            }
            Self::Unreachable | Self::NotAsked => {
                "see whether it runs and the address is right; it is asked again after a pause"
            }
            Self::Late => {
                "see why it takes so long, or raise `timeout`; it is asked again after a pause"
            }
            Self::Busy => "it is asked again after a pause",
            Self::Malformed => {
                "correct what it sends, see docs/providers.md; it is asked again after a pause"
            }
            Self::Unsupported => "take the step out of the provider's `can`",
            Self::Failed => "see its own log; it is asked again after a pause",
        }
    }
}

impl ProviderError {
    pub(crate) fn unsupported(provider: &'static str, operation: &'static str) -> Self {
        Self::Unsupported { provider, operation }
    }

    pub(crate) fn io(
        operation: &'static str,
        subject: impl std::fmt::Display,
    ) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { operation, subject: subject.to_string(), source }
    }
}

/// The Shadow Instance Manager could not start or lost its registry.
#[derive(Debug, thiserror::Error)]
pub enum ShadowError {
    /// Another Foreshadow runs on the same state directory.
    #[error(
        "another foreshadow{holder} is running on state directory {dir:?}; stop it, or set another `state_dir`"
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// " (pid N)" where known, or empty.
        holder: String,
    },
    /// The state directory cannot be made or written.
    #[error("state directory {dir:?}: {source}; make it writable for this user or set `state_dir`")]
    StateDir {
        /// The directory.
        dir: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The database could not be opened, read or written.
    #[error("registry {path:?}: {source}{}", registry_remedy(source))]
    Registry {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The database was written by a newer Foreshadow.
    #[error(
        "registry {path:?} has schema version {found}, this foreshadow knows up to {known}; run the newer version"
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// Version found.
        found: i64,
        /// Newest version known.
        known: i64,
    },
    /// The registry's thread has ended; nothing can be recorded any more.
    #[error("the registry has stopped; see the log for its last error and restart foreshadow")]
    RegistryGone,
    /// A thread could not be started.
    #[error("cannot start thread {name:?}: {source}")]
    Thread {
        /// The thread's name.
        name: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A provider's host facilities could not be prepared.
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

fn spawn_remedy(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::PermissionDenied => {
            "make it executable, and its directories open, for the user it runs as"
        }
        // fork(2) and execve(2), where a user or a control group may have no more processes.
        std::io::ErrorKind::WouldBlock => {
            "its user or control group may have no more processes; raise that limit \
             (`limits: { processes: N }`, ulimit -u, pids.max) or lower the pool's `max`"
        }
        std::io::ErrorKind::OutOfMemory => "free memory on this machine, or lower the pool's `max`",
        _ => "install it, give its full path, or set the provider's `dir`",
    }
}

fn io_remedy(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            "; make room on that disk, it is tried again after a pause"
        }
        std::io::ErrorKind::PermissionDenied => "; give foreshadow's user the right to",
        _ => "",
    }
}

fn registry_remedy(source: &rusqlite::Error) -> &'static str {
    match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
            "; restore it from a copy, or move it away to start with an empty one"
        }
        Some(rusqlite::ErrorCode::DiskFull) => "; make room on the disk",
        Some(rusqlite::ErrorCode::ReadOnly | rusqlite::ErrorCode::CannotOpen) => {
            "; make it writable for this user or set another `state_dir`"
        }
        _ => "",
    }
}
