//! Providers that others write, behind a contract: a command (`exec`) or an HTTP endpoint
//! (`webhook`). What both have in common: documents, watching, adoption, cleaning up.

mod clean;
mod contract;
mod exec;
mod provider;
mod scaler;
mod watching;
mod webhook;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use foreshadow_control::InstanceId;
use serde::{Deserialize, Serialize};

pub use self::exec::{ExecProvider, ExecSpec};
pub use self::scaler::RemoteScaler;
pub use self::webhook::{BearerToken, Endpoint, WebhookProvider, WebhookSpec};

pub(crate) use self::clean::Places;
pub(crate) use self::contract::{Operation, Request, shorten};
pub(crate) use self::exec::Commands;

use self::clean::Place;
use self::contract::{List, Listed};
use self::watching::Watched;
use crate::error::{Cause, ProviderError};
use crate::hash::fnv1a;
use crate::process::procfs::Identity;
use crate::provider::{Capabilities, CpuShare, CreateRequest, Handle};

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
    /// Its process on this machine, where the provider told one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    process: Option<Identity>,
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

    /// Asks for an instance; returns it with its process, where that is on this machine.
    async fn make(
        &self,
        request: &CreateRequest,
    ) -> Result<(Handle, Option<Identity>), ProviderError> {
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
        let process = made.pid.and_then(Identity::of);
        let state = State { place: self.place_name.clone(), process };
        let text =
            serde_json::to_string(&state).map_err(|e| ProviderError::Other(e.to_string()))?;
        let service = request.service.clone();
        let handle = Handle { id: request.id, service, address, pid: made.pid, state: text };
        Ok((handle, state.process))
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

impl Concurrency {
    fn of(self, share: CpuShare) -> u32 {
        match share {
            CpuShare::Percent(_) => self.warm,
            CpuShare::Unlimited => self.full,
        }
    }
}
