//! The steps of a provider, as questions of the contract.

use std::time::Duration;

use async_trait::async_trait;
use foreshadow_control::InstanceId;

use super::contract::{Condition, Operation, Request, shorten};
use super::{Core, QUOTED, Remote, State, watching};
use crate::error::{Cause, ProviderError};
use crate::hash::fnv1a;
use crate::provider::{
    Adoption, Capabilities, CpuShare, CreateRequest, Diagnosis, ExitDetail, Handle, Provider,
    Snapshot, Sweep,
};

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
        self.core.clean(Some(&request.service)).await?;
        match self.core.make(request).await {
            Ok((handle, process)) => {
                Core::watch(&self.core, &handle, process.as_ref());
                Ok(handle)
            }
            Err(error) => {
                // What was never heard has made nothing; all else may have.
                let unheard = matches!(
                    error,
                    ProviderError::Refused { cause: Cause::Missing | Cause::NotAsked, .. }
                );
                if !unheard {
                    Core::undo(&self.core, request.id, &request.service).await;
                }
                Err(error)
            }
        }
    }

    /// An order to make it may be under way for as long as nobody has taken the one to end it.
    async fn undone(&self, id: InstanceId) {
        self.core.place.gone(id).await;
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
        Core::doubt(&self.core, handle.id, &handle.service);
        Ok(())
    }

    async fn adopt(&self, handle: &Handle) -> Result<Adoption, ProviderError> {
        self.core.transport.settle().await?;
        let state: State = serde_json::from_str(&handle.state).map_err(|error| {
            let problem = format!("its record was not written by this kind of provider: {error}");
            ProviderError::Handle { instance: handle.id, problem }
        })?;
        let elsewhere = state.place != self.core.place_name;
        let list = match self.core.seen().await {
            Ok(list) => list,
            Err(error) => {
                if elsewhere {
                    return Ok(Adoption::OutOfReach(error));
                }
                // It ran when it was last seen; its health check and the next list will tell.
                tracing::warn!(instance = %handle.id, %error, "taken over unseen");
                Core::watch(&self.core, handle, state.process.as_ref());
                return Ok(Adoption::Running);
            }
        };
        let found = list.instances.iter().find(|listed| listed.id() == Some(handle.id));
        match found {
            None if elsewhere => Ok(Adoption::OutOfReach(
                "the provider's settings lead to another place than the one that made it; \
                 set them back for one more start, or end it by hand"
                    .to_owned(),
            )),
            None => Ok(Adoption::Gone("it is not among those that the provider lists".to_owned())),
            Some(found) if found.state == Condition::Ended => {
                Ok(Adoption::Gone(watching::ending(found)))
            }
            Some(found) if found.address != Some(handle.address) => {
                let now = found.address.map_or_else(|| "none".to_owned(), |a| a.to_string());
                Ok(Adoption::Gone(format!("its address was {}, now {now}", handle.address)))
            }
            Some(found) => {
                // Another process than the one that was made, or none, is left to the lists.
                let process = state.process.as_ref().filter(|known| found.pid == Some(known.pid));
                Core::watch(&self.core, handle, process);
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
        Ok(Core::sweep(&self.core, what.clone()).await)
    }

    fn is_swept(&self) -> bool {
        self.core.place.is_swept()
    }
}
