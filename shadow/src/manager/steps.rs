//! What each step between two tiers does to the instance.

use std::sync::Arc;
use std::time::Duration;

use foreshadow_control::Tier;
use tokio::time::Instant;

use super::ready::{CallOff, Waited, called, wait_ready};
use super::runner::Runner;
use crate::error::ProviderError;
use crate::provider::{CpuShare, CreateRequest, Handle, Provider};
use crate::settings::ServiceShadows;

/// A creation that met something of the outside is repeated this often before it counts as failed.
const ATTEMPTS: u32 = 3;
/// Longest time a parked shadow may need to answer a check; it has been ready before.
const PARKED_PATIENCE: Duration = Duration::from_secs(5);
/// A provider that was away so recently is not waited for again on the way up.
const AWAY: Duration = Duration::from_secs(10);

/// Why a step, or a wait between steps, ended early.
pub(super) enum StepError {
    /// The shadow stays where it is; the step can be tried again.
    Stays { to: Tier, error: String },
    /// The shadow cannot be relied on any more.
    Lost { to: Tier, error: String },
    /// It ended by itself.
    Exited(String),
    /// An order made the step pointless.
    Called,
}

impl StepError {
    pub(super) fn into_text(self) -> String {
        match self {
            Self::Stays { error, .. } | Self::Lost { error, .. } | Self::Exited(error) => error,
            Self::Called => "called off".to_owned(),
        }
    }
}

impl Runner {
    pub(super) async fn carry_out(&mut self, from: Tier, to: Tier) -> Result<(), StepError> {
        let stays = |e: ProviderError| StepError::Stays { to, error: e.to_string() };
        let provider = Arc::clone(&self.settings.provider);
        let warm = CpuShare::Percent(self.settings.warm_cpu_percent);
        if from == Tier::Cold {
            return self.make().await;
        }
        let handle = self.handle.clone().ok_or(StepError::Called)?;
        // The others leave nothing as they find it, or need no more than what they do.
        let builds_on = |to| matches!(to, Tier::Serving | Tier::Draining | Tier::Full);
        let is_built_on = from == Tier::Shadow || from != Tier::Warm && builds_on(to);
        if self.unsettled && is_built_on && !self.is_away() {
            self.bring_back(&handle, to).await?;
        }
        match (from, to) {
            (Tier::Shadow, Tier::Warm) => {
                match resize(&*provider, &handle, warm).await {
                    Err(error) if error.is_away() => self.go_on_without(to, &error),
                    resized => resized.map_err(stays)?,
                }
                thaw(&*provider, &handle).await.map_err(stays)?;
                self.woken = Instant::now();
                self.verify(&handle, to).await
            }
            (Tier::Warm, Tier::Full) => self.raise(&handle).await,
            (_, Tier::Warm) => {
                self.unsettled = true;
                provider.set_activated(&handle, false).await.map_err(stays)?;
                resize(&*provider, &handle, warm).await.map_err(stays)?;
                self.unsettled = false;
                Ok(())
            }
            (_, Tier::Shadow) => {
                self.unsettled = true;
                // A paused one must not answer to the primary's name.
                provider.set_activated(&handle, false).await.map_err(stays)?;
                freeze(&*provider, &handle).await.map_err(stays)?;
                self.unsettled = false;
                Ok(())
            }
            // The rest is bookkeeping: who gets requests is decided by weights.
            _ => Ok(()),
        }
    }

    /// From warm to full: to full size, and to where callers within its place meet it.
    async fn raise(&mut self, handle: &Handle) -> Result<(), StepError> {
        let to = Tier::Full;
        let stays = |e: ProviderError| StepError::Stays { to, error: e.to_string() };
        let provider = Arc::clone(&self.settings.provider);
        if self.unsettled {
            thaw(&*provider, handle).await.map_err(stays)?;
        }
        self.unsettled = true;
        if self.is_away() {
            return self.verify(handle, to).await;
        }
        let Err(error) = raise(&*provider, handle).await else {
            self.unsettled = false;
            return self.verify(handle, to).await;
        };
        if error.is_away() && self.answers(handle).await? {
            self.go_on_without(to, &error);
            return Ok(());
        }
        if let Err(left) = self.settle().await {
            let left = left.into_text();
            tracing::warn!(instance = %self.id, error = left, "a failed step is not taken back yet");
        }
        Err(stays(error))
    }

    /// Brings it back to its tier before a step that builds on that. A provider that is away keeps
    /// nothing that runs and answers from being given requests, or from getting no more of them.
    async fn bring_back(&mut self, handle: &Handle, to: Tier) -> Result<(), StepError> {
        let from = self.tier();
        let Err(error) = self.restore(handle).await else { return Ok(()) };
        let stays = |error: ProviderError| {
            let error = format!("not brought back to its tier yet: {error}");
            StepError::Stays { to, error }
        };
        if !error.is_away() || from == Tier::Shadow {
            return Err(stays(error));
        }
        if to != Tier::Draining {
            // It may have been paused, of which a check that only connects sees nothing.
            thaw(&*self.settings.provider, handle).await.map_err(stays)?;
            if !self.answers(handle).await? {
                return Err(stays(error));
            }
        }
        self.go_on_without(to, &error);
        Ok(())
    }

    /// What leads callers to it is its address, which no provider is asked for: it goes on as it is, and
    /// what was left out is done as soon as that is possible.
    fn go_on_without(&mut self, to: Tier, error: &ProviderError) {
        self.unsettled = true;
        self.away = Some(Instant::now());
        tracing::warn!(
            service = %self.settings.service, instance = %self.id, %to, %error,
            "its provider is away; the step is taken as far as it goes without, and the rest is tried again"
        );
    }

    fn is_away(&self) -> bool {
        self.away.is_some_and(|at| at.elapsed() < AWAY)
    }

    /// Whether it can take requests now.
    async fn answers(&mut self, handle: &Handle) -> Result<bool, StepError> {
        let patience = self.settings.start_timeout.min(PARKED_PATIENCE);
        match self.wait(handle, patience, CallOff::AtTheEnd).await {
            Waited::Ready => Ok(true),
            Waited::Late(_) => Ok(false),
            Waited::Exited(detail) => Err(StepError::Exited(detail)),
            Waited::Called => Err(StepError::Called),
        }
    }

    /// Makes the instance, waits until it answers, and parks it.
    async fn make(&mut self) -> Result<(), StepError> {
        let to = Tier::Shadow;
        let lost = |error: String| StepError::Lost { to, error };
        let provider = Arc::clone(&self.settings.provider);
        let service = self.settings.service.clone();
        let intent = self.inner.registry.creating(
            self.id,
            (service.clone(), self.settings.place.clone()),
            provider.name(),
            provider.fingerprint(),
        );
        intent.await.map_err(|e| lost(e.to_string()))?;
        let tier = self.orders.borrow().target;
        let request = CreateRequest { id: self.id, service, tier, from: None };
        for attempt in 1.. {
            let handle = {
                let inner = Arc::clone(&self.inner);
                let _turn = tokio::select! {
                    biased;
                    () = called(&mut self.orders, CallOff::AtTheEnd) => return Err(StepError::Called),
                    turn = inner.creates.turn(&request.service, &*provider) => turn,
                };
                tokio::select! {
                    biased;
                    () = called(&mut self.orders, CallOff::AtTheEnd), if provider.can_call_off() => None,
                    made = provider.create(&request) => Some(made.map_err(|e| lost(e.to_string()))?),
                }
            };
            let Some(handle) = handle else {
                provider.call_off(&request).await;
                return Err(StepError::Called);
            };
            self.handle = Some(handle.clone());
            self.inner.registry.created(&handle).await.map_err(|e| lost(e.to_string()))?;
            let (address, pid) = (handle.address, handle.pid);
            self.inner.update(self.id, |entry| {
                entry.view.address = Some(address);
                entry.view.pid = pid;
                entry.handle = Some(handle.clone());
            });
            let patience = self.settings.start_timeout;
            let why = match self.wait(&handle, patience, CallOff::AtTheEnd).await {
                Waited::Ready => {
                    self.woken = Instant::now();
                    return freeze(&*provider, &handle).await.map_err(|e| lost(e.to_string()));
                }
                Waited::Called => return Err(StepError::Called),
                Waited::Exited(detail) => format!("{detail} before it was ready"),
                Waited::Late(why) => why,
            };
            let diagnosis = provider.diagnose(&handle).await;
            let error = quoting(why, &diagnosis.last_lines);
            if !diagnosis.collision || attempt >= ATTEMPTS {
                return Err(lost(error));
            }
            tracing::warn!(service = %request.service, instance = %self.id, error, "its port was taken meanwhile; trying another");
            provider.destroy(&handle, Duration::ZERO).await.map_err(|e| lost(e.to_string()))?;
            self.handle = None;
        }
        Ok(())
    }

    /// The readiness check after a change that could have broken the instance.
    async fn verify(&mut self, handle: &Handle, to: Tier) -> Result<(), StepError> {
        let patience = self.settings.start_timeout;
        match self.wait(handle, patience, CallOff::AtTheEnd).await {
            Waited::Ready => Ok(()),
            Waited::Exited(detail) => Err(StepError::Exited(detail)),
            Waited::Called => Err(StepError::Called),
            Waited::Late(why) => {
                let error = format!("readiness failed on the way to {to}: {why}");
                Err(StepError::Lost { to, error })
            }
        }
    }

    /// Wakes a parked shadow, asks whether it still answers, and parks it again.
    pub(super) async fn check_parked(&mut self) -> Result<(), StepError> {
        let to = Tier::Shadow;
        let stays = |e: ProviderError| StepError::Stays { to, error: e.to_string() };
        let provider = Arc::clone(&self.settings.provider);
        let Some(handle) = self.handle.clone() else { return Ok(()) };
        self.unsettled = true;
        thaw(&*provider, &handle).await.map_err(stays)?;
        let patience = self.settings.start_timeout.min(PARKED_PATIENCE);
        match self.wait(&handle, patience, CallOff::AtAnyOrder).await {
            Waited::Ready | Waited::Called => {
                freeze(&*provider, &handle).await.map_err(stays)?;
                self.unsettled = false;
                Ok(())
            }
            Waited::Exited(detail) => Err(StepError::Exited(detail)),
            // Its tier did not change, so there is no failed step to report, only its end.
            Waited::Late(why) => {
                Err(StepError::Exited(format!("readiness failed while parked: {why}")))
            }
        }
    }

    /// Brings an instance into the state that its tier asks for: a step that failed, or the run before,
    /// may have ended in the middle of one.
    pub(super) async fn settle(&mut self) -> Result<(), StepError> {
        let Some(handle) = self.handle.clone() else { return Ok(()) };
        let to = self.tier();
        self.restore(&handle).await.map_err(|error| {
            let error = format!("not brought back to its tier yet: {error}");
            StepError::Stays { to, error }
        })
    }

    async fn restore(&mut self, handle: &Handle) -> Result<(), ProviderError> {
        let (tier, warm_cpu_percent) = (self.tier(), self.settings.warm_cpu_percent);
        restore(&*self.settings.provider, handle, tier, warm_cpu_percent).await?;
        self.unsettled = false;
        self.away = None;
        self.inner.relieved(self.id);
        Ok(())
    }

    async fn wait(&mut self, handle: &Handle, patience: Duration, call_off: CallOff) -> Waited {
        let provider = Arc::clone(&self.settings.provider);
        wait_ready(&self.inner, &*provider, handle, patience, &mut self.orders, call_off).await
    }
}

/// Says once per service which steps its provider has no means for, and what that comes to.
pub(super) fn tell_gaps(settings: &ServiceShadows) {
    let (can, service) = (settings.provider.capabilities(), &settings.service);
    let provider = settings.provider.name();
    if !can.freeze {
        tracing::warn!(%service, provider, "its provider cannot freeze: parked shadows keep running");
    }
    if !can.resize {
        tracing::warn!(%service, provider, "its provider cannot resize: warm shadows have full size");
    }
}

/// Full size first: it is met by callers from then on.
async fn raise(provider: &dyn Provider, handle: &Handle) -> Result<(), ProviderError> {
    resize(provider, handle, CpuShare::Unlimited).await?;
    provider.set_activated(handle, true).await
}

async fn restore(
    provider: &dyn Provider,
    handle: &Handle,
    tier: Tier,
    warm_cpu_percent: u32,
) -> Result<(), ProviderError> {
    provider.set_activated(handle, tier >= Tier::Full).await?;
    let share = match tier {
        Tier::Shadow => return freeze(provider, handle).await,
        Tier::Warm => CpuShare::Percent(warm_cpu_percent),
        _ => CpuShare::Unlimited,
    };
    resize(provider, handle, share).await?;
    thaw(provider, handle).await
}

async fn freeze(provider: &dyn Provider, handle: &Handle) -> Result<(), ProviderError> {
    if provider.capabilities().freeze { provider.freeze(handle).await } else { Ok(()) }
}

async fn thaw(provider: &dyn Provider, handle: &Handle) -> Result<(), ProviderError> {
    if provider.capabilities().freeze { provider.thaw(handle).await } else { Ok(()) }
}

async fn resize(
    provider: &dyn Provider,
    handle: &Handle,
    share: CpuShare,
) -> Result<(), ProviderError> {
    if provider.capabilities().resize { provider.set_share(handle, share).await } else { Ok(()) }
}

fn quoting(why: String, last_lines: &[String]) -> String {
    if last_lines.is_empty() {
        return format!("{why}; it wrote nothing");
    }
    format!("{why}; it wrote last: {}", last_lines.join(" | "))
}
