//! Providers that others write, behind a contract: a command (`exec`) or an HTTP endpoint
//! (`webhook`). What both have in common: documents, watching, adoption, cleaning up.

mod clean;
mod contract;
mod exec;
mod watching;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use foreshadow_control::InstanceId;
use serde::{Deserialize, Serialize};

pub use self::exec::{ExecProvider, ExecSpec};

pub(crate) use self::clean::Places;
pub(crate) use self::exec::Commands;

use self::clean::Place;
use self::contract::{Condition, List, Listed, Operation, Request, shorten};
use self::watching::Watched;
use crate::error::{Cause, ProviderError};
use crate::hash::fnv1a;
use crate::provider::{
    Adoption, Capabilities, CpuShare, CreateRequest, Diagnosis, ExitDetail, Handle, Provider,
    Snapshot, Sweep,
};

/// Characters of an answer quoted in an error.
const QUOTED: usize = 300;

/// What is told about a provider of a contract beside how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traits {
    /// What it can do.
    pub can: Capabilities,
    /// Longest time for an answer; ending an instance has its grace on top.
    pub timeout: Duration,
    /// Time between two looks at what runs, where the other side cannot tell of changes by itself.
    pub poll: Duration,
    /// For functions: the concurrency kept warm, by tier.
    pub concurrency: Option<Concurrency>,
}

impl Default for Traits {
    /// It can do nothing beyond making and ending; 30 s for an answer, a look each second.
    fn default() -> Self {
        Self {
            can: Capabilities::default(),
            timeout: Duration::from_secs(30),
            poll: Duration::from_secs(1),
            concurrency: None,
        }
    }
}

/// Requests at once that one function is kept warm for, by tier; moving between tiers sets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// While parked.
    pub shadow: u32,
    /// At the warm tier.
    pub warm: u32,
    /// At the full tier and beyond.
    pub full: u32,
}

/// How a contract is carried.
#[async_trait]
pub(crate) trait Transport: Send + Sync + 'static {
    fn kind(&self) -> &'static str;
    /// Where it leads, as text that may hold secrets.
    fn place(&self) -> String;
    /// Everything that makes a difference to instances, as text that may hold secrets.
    fn settings(&self) -> String;
    /// Whether a list may wait for news.
    fn can_wait(&self) -> bool;
    /// Ends what an earlier run had under way; done once before anything else.
    async fn settle(&self) -> Result<(), ProviderError>;
    /// Asks once; the answer is a JSON document.
    async fn ask(
        &self,
        operation: Operation,
        request: &Request,
        patience: Duration,
    ) -> Result<serde_json::Value, ProviderError>;
}

/// The provider behind either contract.
pub(crate) struct Remote {
    core: Arc<Core>,
}

struct Core {
    transport: Box<dyn Transport>,
    owner: String,
    traits: Traits,
    place_name: String,
    place: Arc<Place>,
    watched: Mutex<Watched>,
}

/// What the registry keeps of an instance.
#[derive(Serialize, Deserialize)]
struct State {
    place: String,
}

impl Remote {
    pub(crate) fn new(
        transport: impl Transport,
        traits: Traits,
        owner: &str,
        places: &Places,
    ) -> Self {
        let place_name = fnv1a(transport.place().into_bytes());
        Self {
            core: Arc::new(Core {
                place: places.at(transport.kind(), &place_name),
                place_name,
                transport: Box::new(transport),
                owner: owner.to_owned(),
                traits,
                watched: Mutex::default(),
            }),
        }
    }
}

impl Core {
    fn lock(&self) -> std::sync::MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request(&self, id: InstanceId) -> Request {
        let (owner, instance) = (self.owner.clone(), Some(id.to_string()));
        Request { owner, instance, ..Request::default() }
    }

    async fn ask(
        &self,
        operation: Operation,
        request: &Request,
    ) -> Result<serde_json::Value, ProviderError> {
        let more =
            request.grace_ms.or(request.wait_ms).map_or(Duration::ZERO, Duration::from_millis);
        self.transport.ask(operation, request, self.traits.timeout + more).await
    }

    async fn list(
        &self,
        known: Option<String>,
        wait_ms: Option<u64>,
    ) -> Result<List, ProviderError> {
        let request = Request { owner: self.owner.clone(), known, wait_ms, ..Request::default() };
        let answer = self.ask(Operation::List, &request).await?;
        self.parse("list its instances", answer)
    }

    fn parse<T: serde::de::DeserializeOwned>(
        &self,
        asked: &str,
        answer: serde_json::Value,
    ) -> Result<T, ProviderError> {
        let text = shorten(&answer.to_string(), QUOTED);
        serde_json::from_value(answer).map_err(|error| ProviderError::Refused {
            cause: Cause::Malformed,
            asked: format!("the {} provider to {asked}", self.transport.kind()),
            came_back: format!("{text}, in which {error}"),
        })
    }

    async fn end(&self, id: InstanceId, grace: Duration) -> Result<(), ProviderError> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let request = Request { grace_ms: Some(grace_ms), ..self.request(id) };
        self.ask(Operation::Destroy, &request).await.map(drop)
    }

    async fn make(&self, request: &CreateRequest) -> Result<Handle, ProviderError> {
        let ask = Request {
            service: Some(request.service.as_str().to_owned()),
            tier: Some(request.tier.as_str().to_owned()),
            snapshot: request.from.as_ref().map(|snapshot| snapshot.0.clone()),
            concurrency: self.traits.concurrency.map(|figures| figures.full),
            ..self.request(request.id)
        };
        let answer = self.ask(Operation::Create, &ask).await?;
        let made: Listed = self.parse("create an instance", answer)?;
        let malformed = |came_back: String| ProviderError::Refused {
            cause: Cause::Malformed,
            asked: format!("the {} provider to create {}", self.transport.kind(), request.id),
            came_back,
        };
        if made.id() != Some(request.id) {
            let other = shorten(&made.instance, QUOTED);
            return Err(malformed(format!("an answer about {other:?}")));
        }
        let usable =
            |address: &std::net::SocketAddr| address.port() > 0 && !address.ip().is_unspecified();
        let Some(address) = made.address.filter(usable) else {
            return Err(malformed("no address that could be connected to".to_owned()));
        };
        let state = serde_json::to_string(&State { place: self.place_name.clone() })
            .map_err(|e| ProviderError::Other(e.to_string()))?;
        let service = request.service.clone();
        Ok(Handle { id: request.id, service, address, pid: made.pid, state })
    }

    async fn set_concurrency(
        &self,
        handle: &Handle,
        pick: impl FnOnce(Concurrency) -> u32,
    ) -> Result<bool, ProviderError> {
        let Some(figures) = self.traits.concurrency else { return Ok(false) };
        let request = Request { concurrency: Some(pick(figures)), ..self.request(handle.id) };
        self.ask(Operation::Resize, &request).await.map(|_| true)
    }
}

#[async_trait]
impl Provider for Remote {
    fn name(&self) -> &'static str {
        self.core.transport.kind()
    }

    fn fingerprint(&self) -> String {
        // Hashed, since it is kept in the database and the settings may hold secrets.
        fnv1a(
            format!("{} {:?}", self.core.transport.settings(), self.core.traits.concurrency)
                .into_bytes(),
        )
    }

    fn capabilities(&self) -> Capabilities {
        let (can, functions) = (self.core.traits.can, self.core.traits.concurrency.is_some());
        Capabilities { freeze: can.freeze || functions, resize: can.resize || functions, ..can }
    }

    fn place(&self) -> String {
        self.core.place_name.clone()
    }

    async fn create(&self, request: &CreateRequest) -> Result<Handle, ProviderError> {
        if request.from.is_some() && !self.core.traits.can.snapshot {
            return Err(ProviderError::unsupported(self.name(), "begin from a snapshot"));
        }
        self.core.clean().await?;
        match self.core.make(request).await {
            Ok(handle) => {
                Core::watch(&self.core, &handle);
                Ok(handle)
            }
            Err(error) => {
                // What was never heard has made nothing; all else may have.
                let unheard = matches!(error, ProviderError::Refused { cause: Cause::Missing, .. })
                    || matches!(error, ProviderError::Spawn { .. });
                if !unheard {
                    Core::undo(&self.core, request.id).await;
                }
                Err(error)
            }
        }
    }

    async fn freeze(&self, handle: &Handle) -> Result<(), ProviderError> {
        if self.core.set_concurrency(handle, |figures| figures.shadow).await? {
            return Ok(());
        }
        if !self.core.traits.can.freeze {
            return Err(ProviderError::unsupported(self.name(), "freeze"));
        }
        self.core.ask(Operation::Freeze, &self.core.request(handle.id)).await.map(drop)
    }

    async fn thaw(&self, handle: &Handle) -> Result<(), ProviderError> {
        let share = self.core.lock().share(handle.id);
        if self.core.set_concurrency(handle, |figures| figures.of(share)).await? {
            return Ok(());
        }
        if !self.core.traits.can.freeze {
            return Err(ProviderError::unsupported(self.name(), "freeze"));
        }
        self.core.ask(Operation::Thaw, &self.core.request(handle.id)).await.map(drop)
    }

    async fn set_share(&self, handle: &Handle, share: CpuShare) -> Result<(), ProviderError> {
        self.core.lock().set_share(handle.id, share);
        if self.core.set_concurrency(handle, |figures| figures.of(share)).await? {
            return Ok(());
        }
        if !self.core.traits.can.resize {
            return Err(ProviderError::unsupported(self.name(), "resize"));
        }
        let cpu_percent = match share {
            CpuShare::Percent(percent) => Some(percent),
            CpuShare::Unlimited => None,
        };
        let request = Request { cpu_percent, ..self.core.request(handle.id) };
        self.core.ask(Operation::Resize, &request).await.map(drop)
    }

    async fn snapshot(&self, handle: &Handle) -> Result<Snapshot, ProviderError> {
        if !self.core.traits.can.snapshot {
            return Err(ProviderError::unsupported(self.name(), "snapshot"));
        }
        let name = format!("{}-{:08x}", handle.id, rand::random::<u32>());
        let request = Request { snapshot: Some(name.clone()), ..self.core.request(handle.id) };
        let snapshot = Snapshot(name);
        if let Err(error) = self.core.ask(Operation::Snapshot, &request).await {
            if let Err(left) = self.discard(&snapshot).await {
                tracing::warn!(snapshot = snapshot.0, error = %left, "a failed snapshot may be left behind");
            }
            return Err(error);
        }
        Ok(snapshot)
    }

    async fn discard(&self, snapshot: &Snapshot) -> Result<(), ProviderError> {
        if !self.core.traits.can.snapshot {
            return Err(ProviderError::unsupported(self.name(), "snapshot"));
        }
        let owner = self.core.owner.clone();
        let request = Request { owner, snapshot: Some(snapshot.0.clone()), ..Request::default() };
        self.core.ask(Operation::Discard, &request).await.map(drop)
    }

    async fn destroy(&self, handle: &Handle, grace: Duration) -> Result<(), ProviderError> {
        self.core.end(handle.id, grace).await?;
        self.core.lock().forget(handle.id);
        Ok(())
    }

    async fn adopt(&self, handle: &Handle) -> Result<Adoption, ProviderError> {
        self.core.transport.settle().await?;
        let state: State = serde_json::from_str(&handle.state).map_err(|error| {
            let problem = format!("its record was not written by this kind of provider: {error}");
            ProviderError::Handle { instance: handle.id, problem }
        })?;
        let elsewhere = state.place != self.core.place_name;
        let list = match self.core.list(None, None).await {
            Ok(list) => list,
            Err(error) => {
                if elsewhere {
                    return Ok(Adoption::OutOfReach(error.to_string()));
                }
                // It ran when it was last seen; its health check and the next list will tell.
                tracing::warn!(instance = %handle.id, %error, "taken over unseen");
                Core::watch(&self.core, handle);
                return Ok(Adoption::Running);
            }
        };
        let found = list.instances.into_iter().find(|listed| listed.id() == Some(handle.id));
        match found {
            None if elsewhere => Ok(Adoption::OutOfReach(
                "the provider's settings lead to another place than the one that made it; \
                 set them back for one more start, or end it by hand"
                    .to_owned(),
            )),
            None => Ok(Adoption::Gone("it is not among those that the provider lists".to_owned())),
            Some(found) if found.state == Condition::Ended => {
                Ok(Adoption::Gone(watching::ending(&found)))
            }
            Some(found) if found.address != Some(handle.address) => {
                let now = found.address.map_or_else(|| "none".to_owned(), |a| a.to_string());
                Ok(Adoption::Gone(format!("its address was {}, now {now}", handle.address)))
            }
            Some(_) => {
                Core::watch(&self.core, handle);
                Ok(Adoption::Running)
            }
        }
    }

    async fn exited(&self, handle: &Handle) -> ExitDetail {
        let Some(mut ended) = self.core.lock().ended(handle.id) else {
            return ExitDetail("ended".to_owned());
        };
        let text = ended.wait_for(Option::is_some).await.ok().and_then(|text| text.clone());
        // Forgotten while it was waited for: it was ended on purpose.
        ExitDetail(text.unwrap_or_else(|| "ended".to_owned()))
    }

    async fn diagnose(&self, handle: &Handle) -> Diagnosis {
        let last_lines = match self.core.list(None, None).await {
            Ok(list) => list
                .instances
                .iter()
                .find(|listed| listed.id() == Some(handle.id))
                .map(|listed| {
                    let detail = listed.detail.iter().map(|detail| shorten(detail, QUOTED));
                    listed.last_lines().into_iter().chain(detail).collect()
                })
                .unwrap_or_default(),
            Err(error) => vec![error.to_string()],
        };
        Diagnosis { last_lines, collision: false }
    }

    async fn sweep(&self, what: &Sweep) -> Result<usize, ProviderError> {
        self.core.transport.settle().await?;
        self.core.place.order(what.clone()).await;
        match self.core.clean().await {
            Ok(ended) => Ok(ended),
            Err(error) => {
                // A balancer that serves is worth more than one that waits for its provider.
                tracing::error!(
                    provider = self.name(), %error,
                    "what earlier runs left behind cannot be seen or ended yet; nothing new is made there before"
                );
                Ok(0)
            }
        }
    }
}

impl Concurrency {
    fn of(self, share: CpuShare) -> u32 {
        match share {
            CpuShare::Percent(_) => self.warm,
            CpuShare::Unlimited => self.full,
        }
    }
}
