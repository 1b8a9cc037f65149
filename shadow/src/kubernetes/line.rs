//! The line to an API server: made in a thread of its own, since a kubeconfig may name a command to be
//! run for credentials, and made anew where what it is made of may have changed.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use kube::config::{ExecInteractiveMode, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::spec::ClusterAccess;
use super::told::Trouble;
use crate::error::Cause;

/// An API server that does not answer is looked for anew in files that have not changed after this: what
/// they name may have.
const STALE: Duration = Duration::from_secs(30);

/// What a file was like when it was read: its change, number and length.
type Stamp = (SystemTime, u64, u64);

pub(super) struct Line {
    access: ClusterAccess,
    namespace: String,
    made: Mutex<Option<Made>>,
    /// One at a time is made. Who has no more patience leaves it to the next.
    making: tokio::sync::Mutex<Option<JoinHandle<Result<Made, Trouble>>>>,
}

struct Made {
    client: Client,
    at: Instant,
    file: Option<Stamp>,
}

impl Line {
    pub(super) fn new(access: &ClusterAccess, namespace: &str) -> Self {
        Self {
            access: access.clone(),
            namespace: namespace.to_owned(),
            made: Mutex::default(),
            making: tokio::sync::Mutex::default(),
        }
    }

    fn made(&self) -> MutexGuard<'_, Option<Made>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn there(&self) -> Option<Client> {
        self.made().as_ref().map(|made| made.client.clone())
    }

    /// The client, made where there is none. May be given up at any time.
    pub(super) async fn client(&self) -> Result<Client, Trouble> {
        if let Some(client) = self.there() {
            return Ok(client);
        }
        let mut making = self.making.lock().await;
        if let Some(client) = self.there() {
            return Ok(client);
        }
        let task = making.get_or_insert_with(|| {
            let (access, namespace) = (self.access.clone(), self.namespace.clone());
            tokio::task::spawn_blocking(move || make(&access, namespace))
        });
        let made = task.await;
        *making = None;
        let made = made.map_err(|error| Trouble::Told(Cause::Failed, error.to_string()))??;
        let client = made.client.clone();
        *self.made() = Some(made);
        Ok(client)
    }

    /// Takes what a call came to: where nobody was reached, or nobody knew us, what the file says may be
    /// new by now.
    pub(super) fn doubt(&self, trouble: &Trouble) {
        let mut made = self.made();
        let is_old = |made: &Made| made.at.elapsed() > STALE || made.file != stamp(&self.access);
        if trouble.is_unknown_account()
            || trouble.is_unreached() && made.as_ref().is_some_and(is_old)
        {
            *made = None;
        }
    }

    /// Looks whether the file has changed.
    pub(super) fn refresh(&self) {
        let mut made = self.made();
        if made.as_ref().is_some_and(|made| made.file != stamp(&self.access)) {
            *made = None;
        }
    }
}

fn stamp(access: &ClusterAccess) -> Option<Stamp> {
    let ClusterAccess::Kubeconfig { path, .. } = access else { return None };
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.ino(), meta.len()))
}

fn make(access: &ClusterAccess, namespace: String) -> Result<Made, Trouble> {
    let file = stamp(access);
    let mut config = connect(access)?;
    // Whoever asks has bounds of its own, and knows what it can ask again.
    config.default_retry = false;
    config.default_namespace = namespace;
    if let Some(command) = &mut config.auth_info.exec {
        // Nobody is there to be asked for a password.
        command.interactive_mode = Some(ExecInteractiveMode::Never);
    }
    Ok(Made { client: Client::try_from(config)?, at: Instant::now(), file })
}

fn connect(access: &ClusterAccess) -> Result<Config, Trouble> {
    let (path, context) = match access {
        ClusterAccess::InCluster => {
            return Config::incluster().map_err(|error| {
                let text = format!("this is no pod with an account of a cluster: {error}");
                Trouble::Told(Cause::Absent, text)
            });
        }
        ClusterAccess::Kubeconfig { path, context } => (path, context.clone()),
    };
    let unusable = |path: &Path, error: &dyn std::fmt::Display| {
        Trouble::Told(Cause::Absent, format!("{} cannot be used: {error}", path.display()))
    };
    let file = Kubeconfig::read_from(path).map_err(|error| unusable(path, &error))?;
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    let config = Handle::current().block_on(Config::from_custom_kubeconfig(file, &options));
    config.map_err(|error| unusable(path, &error))
}
