//! The checked configuration: values the rest of the program can use without looking twice.
//!
//! Each type serialises to the form it is written in, so that a printed configuration is itself
//! a configuration. Shares are fractions from 0 to 1, sizes are bytes, rates are per second.

mod address;
mod admin;
mod ahead;
mod alerts;
mod audit;
mod calendar;
mod docker;
mod endpoint;
mod engine;
mod events;
mod history;
mod kubernetes;
mod learning;
mod listener;
mod metrics;
mod migration;
mod own;
mod providers;
mod recurring;
mod route;
mod rule;
mod scaling;
mod service;
mod shadows;
mod shown;
mod signals;
mod vm;
mod zone;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

pub use address::{Cidr, CidrError};
pub(crate) use admin::MASK;
pub use admin::{Admin, AdminAddress, NamedToken, Role, Secret, Token};
pub use alerts::{AlertWebhook, Alerts};
pub use audit::{Audit, AuditKey};
pub(crate) use calendar::{Events, of_calendar};
pub use docker::{
    ContainerLimits, ContainerLog, ContainerMount, DockerProvider, EngineTls, Pull, Ulimit,
};
pub use endpoint::Endpoint;
pub use engine::EngineEndpoint;
pub use events::{CalendarFile, EventRule, LeftOut, Occurrence};
pub(crate) use events::{MOST_LIFT, fingerprint, read_calendar};
pub use history::History;
pub use kubernetes::{KubernetesProvider, PodLimits};
pub use learning::Learning;
pub use listener::{Limits, Listener, ListenerTimeouts, Protocol};
pub use metrics::{LoadReports, Metrics, Scrape, ScrapedSeries, SelectorError, SeriesSelector};
pub use migration::{Migration, MigrationWindow};
pub use own::{Own, OwnAddresses};
pub use providers::{
    Concurrency, Contract, CpuShare, Environment, ExecProvider, Network, Output, PortRange,
    ProcessLimits, ProcessProvider, Provider, Step, WebhookProvider,
};
pub use recurring::RecurringEvent;
pub use route::{HostMatch, PathMatch, Route, RouteMatch};
pub use scaling::{Scaling, ScalingBy, ScalingExec, ScalingKubernetes, ScalingWebhook};
pub use service::{
    Ejection, Forecast, Health, HealthCheck, Primary, Retries, RetryOn, Service, StatusRange,
    Timeouts,
};
pub use shadows::{Cost, Mirror, OnExit, Place, Retry, Shadows};
pub(crate) use shown::{Origins, may_hold_secret};
pub use signals::{Signal, SignalSource};
pub use vm::{Accel, VmProvider};

use foreshadow_control::{Rule, ServiceName, ServiceSpec};

use crate::units;

/// [`Config::state_dir`] where the file names none: a directory in the working directory.
pub const DEFAULT_STATE_DIR: &str = "foreshadow-state";

/// A whole configuration: it was read, checked, and every default is filled in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    /// Where clients connect, in the order of the file; names and addresses are unique.
    pub listeners: Vec<Listener>,
    /// The services that routes point to.
    pub services: BTreeMap<ServiceName, Service>,
    /// The admin API and metrics.
    pub admin: Admin,
    /// Where history, decisions and the instance registry live; made when absent.
    pub state_dir: PathBuf,
    /// Worker threads of the data plane, at least 1.
    pub workers: usize,
    /// What is logged and how.
    pub log: Log,
    /// Longest wait for requests in flight when the process is asked to end.
    #[serde(serialize_with = "units::duration::serialize")]
    pub drain_timeout: Duration,
    /// When the file is read again.
    pub reload: Reload,
    /// Where every tick's observation and plan are recorded for replay; absent: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recording: Option<Recording>,
    /// What is kept of the past.
    pub history: History,
    /// The record of every action.
    pub audit: Audit,
    /// Who is told of alerts.
    pub alerts: Alerts,
    #[serde(skip)]
    pub(crate) origins: Origins,
}

impl Config {
    /// The calendar files of all services.
    pub fn calendar_files(&self) -> impl Iterator<Item = &CalendarFile> {
        self.services.values().flat_map(|service| &service.forecast.calendars)
    }

    /// Files with tokens and the key of the audit, as far as they are known here.
    pub fn secret_files(&self) -> impl Iterator<Item = &Path> {
        let named = self.admin.tokens.iter().map(|named| &named.token);
        let tokens = self.admin.token.iter().chain(named).filter_map(|token| match token {
            Token::File { path, .. } => Some(path.as_path()),
            Token::Value(_) | Token::Env { .. } => None,
        });
        tokens.chain(self.audit.key.iter().map(|key| key.path.as_path()))
    }

    /// What is to be said of those of them that others than their owner may read. Looks at the files.
    #[must_use]
    pub fn exposed(&self) -> Vec<String> {
        self.secret_files().filter_map(crate::file::others_may_read).collect()
    }

    /// What is to be said of it though it is good: what of its calendars is left out, and pools that places
    /// have no room for.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for warning in self.calendar_files().flat_map(CalendarFile::warnings) {
            // Services may share a file.
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
        for (name, service) in &self.services {
            let per_hour = service.cost.map_or(0.0, |cost| cost.per_hour);
            let said = service.shadows.iter().flat_map(|shadows| shadows.warnings(per_hour));
            warnings.extend(said.map(|warning| format!("service {name}: {warning}")));
        }
        warnings
    }

    /// The services as the controller knows them, ordered by name.
    #[must_use]
    pub fn service_specs(&self) -> Vec<ServiceSpec> {
        self.services.iter().map(|(name, service)| service.spec(name.clone())).collect()
    }

    /// What a rule of the service `own` asks for that can never be had: a service that is not
    /// there, or more shadows than there may be. One sentence each.
    #[must_use]
    pub fn impossible(&self, own: &ServiceName, rule: &Rule) -> Vec<String> {
        let problems = crate::check::rules::impossible(rule, own, &self.services);
        problems.into_iter().map(|problem| problem.about("").message()).collect()
    }
}

/// What is logged and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Log {
    /// The least severe level that is logged.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
}

/// Severity of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only failures.
    Error,
    /// And what an operator should look at.
    Warn,
    /// And what the program does.
    Info,
    /// And why.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The level as written in the configuration; a valid `tracing` filter directive.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// Text for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// When the file is read again; `SIGHUP` always does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Reload {
    /// Whether a change of the file reloads it.
    pub watch: bool,
}

/// Where ticks are recorded for replay.
///
/// When the file has grown beyond `max_size` it is moved to `<path>.1` (replacing an older one) and
/// a new one is begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recording {
    /// The file.
    pub path: PathBuf,
    /// Bytes beyond which a new file is begun.
    #[serde(serialize_with = "units::size::serialize")]
    pub max_size: u64,
}
