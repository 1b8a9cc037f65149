//! One engine: how it is reached, what of it is ours, and calls within bounds of time and number.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::query_parameters::{ListContainersOptionsBuilder, RemoveContainerOptionsBuilder};
use bollard::{API_DEFAULT_VERSION, ClientVersion, Docker};
use foreshadow_control::InstanceId;
use tokio::sync::{Notify, Semaphore};

use super::body;
use super::clean::Remain;
use super::pulls::Pulls;
use super::spec::{EngineEndpoint, TlsFiles};
use super::told::Trouble;
use super::watching::Watched;
use crate::error::{Cause, ProviderError};
use crate::hash::fnv1a;
use crate::mine::Mine;
use crate::remains::Remains;

/// Calls under way at the same time over all services, apart from pulls; further ones wait within their
/// own time.
const AT_ONCE: usize = 16;
/// Bound that the client library keeps by itself: above any of ours.
const LIBRARY_S: u64 = 24 * 60 * 60;
/// The oldest API that has everything used here (Docker 19.03).
const OLDEST: ClientVersion = ClientVersion { major_version: 1, minor_version: 40 };
/// For what is asked beside the steps of an instance.
pub(super) const ASIDE: Duration = Duration::from_secs(30);

/// The engines that providers of this process lead to.
#[derive(Default)]
pub(crate) struct Engines {
    known: Mutex<BTreeMap<String, Arc<Engine>>>,
    mine: Arc<Mine>,
}

impl Engines {
    /// Notes what a start keeps, wherever that is.
    pub(crate) fn keep(&self, ids: &[InstanceId]) {
        self.mine.keep(ids);
    }

    /// The engine there, reached with these files from now on.
    pub(super) fn at(
        &self,
        endpoint: &EngineEndpoint,
        tls: Option<TlsFiles>,
        owner: &str,
    ) -> Arc<Engine> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let place = endpoint.canonical().to_string();
        let engine = known.entry(place.clone()).or_insert_with(|| {
            Arc::new(Engine {
                place: fnv1a(place.bytes()),
                name: endpoint.to_string(),
                endpoint: endpoint.clone(),
                owner: owner.to_owned(),
                mine: Arc::clone(&self.mine),
                line: Mutex::default(),
                calls: Semaphore::new(AT_ONCE),
                pulls: Pulls::default(),
                watched: Mutex::default(),
                nudge: Arc::default(),
                // One that is named first after a start may have something of an earlier run, too.
                remains: match self.mine.is_known() {
                    true => Remains::unseen(),
                    false => Remains::default(),
                },
                networks: tokio::sync::Mutex::default(),
            })
        });
        engine.line().set_tls(tls);
        Arc::clone(engine)
    }
}

/// One engine, however many providers lead there.
pub(crate) struct Engine {
    pub(super) name: String,
    /// Its name in handles and sweeps.
    pub(super) place: String,
    endpoint: EngineEndpoint,
    pub(super) owner: String,
    pub(super) mine: Arc<Mine>,
    line: Mutex<Line>,
    calls: Semaphore,
    pub(super) pulls: Pulls,
    pub(super) watched: Mutex<Watched>,
    /// Something may be there that nobody knows of: look sooner.
    pub(super) nudge: Arc<Notify>,
    pub(super) remains: Remains<Remain>,
    /// Networks of ours with the instances that need them. Held while one is made or removed, as
    /// the engine would make two of one name.
    pub(super) networks: tokio::sync::Mutex<BTreeMap<String, BTreeSet<InstanceId>>>,
}

/// How the engine is reached.
#[derive(Default)]
struct Line {
    tls: Option<TlsFiles>,
    /// Agreed upon a version.
    client: Option<Docker>,
}

impl Line {
    fn set_tls(&mut self, tls: Option<TlsFiles>) {
        if self.tls != tls {
            self.tls = tls;
            self.client = None;
        }
    }
}

/// A container of ours.
pub(super) struct Seen {
    pub(super) id: InstanceId,
    pub(super) container: String,
    /// Empty where its label was taken from it.
    pub(super) service: String,
    pub(super) runs: bool,
    /// Whether it has run and does no more.
    pub(super) ended: bool,
    /// In the engine's words.
    pub(super) status: String,
}

impl Engine {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_local(&self) -> bool {
        matches!(self.endpoint, EngineEndpoint::Unix(_))
    }

    /// The host of an engine that is reached over the network.
    pub(super) fn host(&self) -> Option<&str> {
        match &self.endpoint {
            EngineEndpoint::Unix(_) => None,
            EngineEndpoint::Tcp { host, .. } => Some(host),
        }
    }

    /// How an order to it begins in an error.
    pub(super) fn asked(&self, what: impl std::fmt::Display) -> String {
        format!("the engine at {} to {what}", self.name)
    }

    /// Calls once, within `patience`.
    pub(super) async fn call<T, F>(
        &self,
        patience: Duration,
        call: impl FnOnce(Docker) -> F + Send,
    ) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, bollard::errors::Error>> + Send,
    {
        let work = async {
            let _permit = self.calls.acquire().await;
            let client = self.client().await?;
            call(client).await.map_err(Trouble::from)
        };
        let done = tokio::time::timeout(patience, work).await;
        let done = done.unwrap_or(Err(Trouble::Late(patience)));
        if done.as_ref().is_err_and(Trouble::is_version) {
            // Another version of the engine answers there than the one that was asked first.
            self.line().client = None;
        }
        done
    }

    /// A client that has agreed upon a version with the engine.
    pub(super) async fn client(&self) -> Result<Docker, Trouble> {
        let (known, tls) = {
            let line = self.line();
            (line.client.clone(), line.tls.clone())
        };
        if let Some(client) = known {
            return Ok(client);
        }
        let client = connect(&self.endpoint, tls.as_ref())?.negotiate_version().await?;
        let spoken = client.client_version();
        if spoken < OLDEST {
            let text = format!("it speaks version {spoken} of its API, {OLDEST} is needed");
            return Err(Trouble::Settings(Cause::Version, text));
        }
        let mut line = self.line();
        if line.tls == tls {
            line.client = Some(client.clone());
        }
        Ok(client)
    }

    /// Every container of ours, whatever its state.
    pub(super) async fn list(&self) -> Result<Vec<Seen>, ProviderError> {
        let filters = body::filter(&self.owner, "shadow");
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let listed =
            self.call(ASIDE, |docker| async move { docker.list_containers(Some(options)).await });
        let listed = listed.await.map_err(|t| t.told(self.asked("list our containers")))?;
        let seen = listed.into_iter().filter_map(|one| {
            let labels = one.labels.as_ref()?;
            let id = instance(labels.get(body::INSTANCE)?)?;
            let service = labels.get(body::SERVICE).cloned().unwrap_or_default();
            let state = one.state.map(|state| state.to_string()).unwrap_or_default();
            Some(Seen {
                id,
                container: one.id?,
                service,
                runs: matches!(state.as_str(), "running" | "paused" | "restarting" | "stopping"),
                ended: matches!(state.as_str(), "exited" | "dead" | "removing"),
                status: one.status.unwrap_or(state),
            })
        });
        Ok(seen.collect())
    }

    /// Ends a container at once and removes it with its own volumes; one that is not there is no
    /// error.
    pub(super) async fn remove(
        &self,
        container: &str,
        patience: Duration,
    ) -> Result<(), ProviderError> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        let removed = self.call(patience, |docker| async move {
            docker.remove_container(container, Some(options)).await
        });
        match removed.await {
            Ok(()) => Ok(()),
            Err(trouble) if trouble.is_absent() => Ok(()),
            // Somebody else's order to do so is under way.
            Err(trouble) if trouble.is_being_removed() => self.gone(container, patience).await,
            Err(trouble) => {
                Err(trouble.told(self.asked(format_args!("remove container {container}"))))
            }
        }
    }

    /// Waits until a container that is being removed is no longer there.
    async fn gone(&self, container: &str, patience: Duration) -> Result<(), ProviderError> {
        const LOOK: Duration = Duration::from_millis(20);
        let end = tokio::time::Instant::now() + patience;
        loop {
            let asked = || self.asked(format_args!("remove container {container}"));
            let found = self.call(patience, |docker| async move {
                docker.inspect_container(container, None).await
            });
            match found.await {
                Err(trouble) if trouble.is_absent() => return Ok(()),
                Err(trouble) => return Err(trouble.told(asked())),
                Ok(_) if tokio::time::Instant::now() > end => {
                    return Err(Trouble::Late(patience).told(asked()));
                }
                Ok(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }
}

/// The instance of that name.
pub(super) fn instance(name: &str) -> Option<InstanceId> {
    name.strip_prefix('i')?.parse().ok().map(InstanceId)
}

fn connect(endpoint: &EngineEndpoint, tls: Option<&TlsFiles>) -> Result<Docker, Trouble> {
    let authority = endpoint.authority();
    let client = match (endpoint, tls) {
        (EngineEndpoint::Unix(path), _) => {
            usable(path, Cause::Unreachable)?;
            Docker::connect_with_unix(&authority, LIBRARY_S, API_DEFAULT_VERSION)
        }
        (EngineEndpoint::Tcp { .. }, None) => {
            Docker::connect_with_http(&authority, LIBRARY_S, API_DEFAULT_VERSION)
        }
        (EngineEndpoint::Tcp { .. }, Some(files)) => {
            for file in [&files.ca, &files.cert, &files.key] {
                usable(file, Cause::Absent)?;
                std::fs::File::open(file).map_err(|error| trouble(file, Cause::Absent, &error))?;
            }
            let TlsFiles { ca, cert, key } = files;
            Docker::connect_with_ssl(&authority, key, cert, ca, LIBRARY_S, API_DEFAULT_VERSION)
        }
    };
    client.map_err(Trouble::from)
}

/// The library says of both cases that there is no such file.
fn usable(path: &Path, absent: Cause) -> Result<(), Trouble> {
    path.metadata().map(drop).map_err(|error| trouble(path, absent, &error))
}

fn trouble(path: &Path, absent: Cause, error: &std::io::Error) -> Trouble {
    let denied = error.kind() == std::io::ErrorKind::PermissionDenied;
    let cause = if denied { Cause::Denied } else { absent };
    Trouble::Settings(cause, format!("{} cannot be used: {error}", path.display()))
}
