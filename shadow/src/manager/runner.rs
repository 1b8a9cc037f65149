//! The task of one shadow: walks it to where it should stand, sees it end, keeps it in order.

use std::sync::Arc;
use std::time::Duration;

use foreshadow_control::{Fact, InstanceId, Tier};
use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::steps::StepError;
use super::told::{Told, USAGE_EVERY};
use super::{Inner, Order, replace, whole_ms};
use crate::error::ProviderError;
use crate::lifecycle::{Failure, Lifecycle};
use crate::provider::Handle;
use crate::settings::ServiceShadows;

/// Pause before a step that failed without harm is tried again; doubled each time.
const RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// What still cannot be ended is said again after the first pause, then after twice that each time.
const FIRST_QUIET: Duration = Duration::from_secs(10);
const LONGEST_QUIET: Duration = Duration::from_secs(3_600);

/// Walks one shadow.
pub(super) struct Runner {
    pub(super) inner: Arc<Inner>,
    pub(super) id: InstanceId,
    pub(super) orders: watch::Receiver<Order>,
    pub(super) settings: Arc<ServiceShadows>,
    pub(super) handle: Option<Handle>,
    machine: Lifecycle,
    /// When it was begun, on the manager's clock.
    began: Duration,
    /// When it last began to run: an end soon after that is a failure to run.
    pub(super) woken: Instant,
    stable: bool,
    retry_at: Option<Instant>,
    retries: u32,
    /// It may not be as its tier asks for, such as small or paused where callers meet it: a step failed
    /// in the middle and was not taken back, or it was taken over and nobody knows.
    pub(super) unsettled: bool,
    /// How often it was brought to its tier anew on an order.
    relieved: u64,
    /// When its provider was last found away on its way up, which it then took without it.
    pub(super) away: Option<Instant>,
    next_check: Option<Instant>,
    pub(super) usage_at: Instant,
    /// It is read beside all else: a provider that is slow to tell must hold up neither orders nor the
    /// news of its end.
    pub(super) usage: JoinSet<Told>,
    /// Processor time used, and when that was read.
    pub(super) cpu_read: Option<(u64, Instant)>,
    /// When its provider is asked next whether it was made after something that has changed.
    pub(super) rollout_at: Instant,
}

/// Counts a runner out, however it ends.
struct Done(Arc<Inner>);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.running.send_modify(|running| *running -= 1);
    }
}

impl Runner {
    pub(super) fn new(
        inner: Arc<Inner>,
        id: InstanceId,
        machine: Lifecycle,
        orders: watch::Receiver<Order>,
        handle: Option<Handle>,
    ) -> Self {
        let settings = Arc::clone(&orders.borrow().settings);
        let began = inner.now();
        let unsettled = handle.is_some();
        let mut runner = Self {
            inner,
            id,
            orders,
            settings,
            handle,
            machine,
            began,
            woken: Instant::now(),
            stable: false,
            retry_at: None,
            retries: 0,
            unsettled,
            relieved: 0,
            away: None,
            next_check: None,
            usage_at: Instant::now() + USAGE_EVERY,
            usage: JoinSet::new(),
            cpu_read: None,
            rollout_at: Instant::now(),
        };
        runner.plan_check();
        runner
    }

    /// Runs until the shadow is gone or to be left alone.
    pub(super) async fn run(mut self) {
        let _done = Done(Arc::clone(&self.inner));
        loop {
            let leave = self.sync();
            if leave && self.machine.tier() != Tier::Cold {
                return;
            }
            if leave || self.machine.is_over() {
                return self.end().await;
            }
            let step = if self.retry_at.is_some() { None } else { self.machine.begin() };
            let outcome = match step {
                None if self.unsettled && self.retry_at.is_none() => self.settle().await,
                None => self.idle().await,
                Some(Tier::Cold) => return self.end().await,
                Some(to) => self.step(to).await,
            };
            match outcome {
                Ok(()) => {}
                Err(StepError::Called) => self.machine.fail(Failure::Stays),
                Err(StepError::Stays { to, error }) => self.stays(to, error),
                Err(error) if self.machine.tier() == Tier::Cold => {
                    return self.never_ran(error.into_text()).await;
                }
                Err(StepError::Lost { to, error }) => {
                    self.inner.facts.push(&self.settings.service, self.step_failed(to, &error, 0));
                    return self.gone(error).await;
                }
                Err(StepError::Exited(detail)) => return self.gone(detail).await,
            }
        }
    }

    pub(super) fn tier(&self) -> Tier {
        self.machine.tier()
    }

    /// Takes the newest order and shows where the shadow stands; returns whether to leave it.
    fn sync(&mut self) -> bool {
        let mut state = self.inner.lock();
        let order = self.orders.borrow_and_update().clone();
        let target_before = self.machine.moving_to();
        self.machine.aim(order.target);
        if self.machine.moving_to() != target_before {
            self.retry_at = None;
        }
        if let Some(entry) = state.entries.get_mut(&self.id) {
            entry.view.tier = self.machine.tier();
            entry.view.moving_to = self.machine.moving_to();
        }
        self.settings = order.settings;
        if std::mem::replace(&mut self.relieved, order.relieve) != order.relieve {
            self.unsettled = true;
            self.retry_at = None;
        }
        order.leave
    }

    async fn step(&mut self, to: Tier) -> Result<(), StepError> {
        let started = Instant::now();
        self.carry_out(self.machine.tier(), to).await?;
        let from = self.machine.complete();
        self.retries = 0;
        self.plan_check();
        {
            let mut state = self.inner.lock();
            if let Some(entry) = state.entries.get_mut(&self.id) {
                entry.view.tier = to;
                entry.view.moving_to = self.machine.moving_to();
                entry.since = Instant::now();
                let outdated = entry.view.outdated;
                let step = (self.id, from);
                replace::reached(&mut state, &self.settings.service, step, outdated);
            }
        }
        let took_ms = whole_ms(started.elapsed());
        let fact = Fact::TierReached { instance: self.id, from, tier: to, took_ms };
        self.inner.facts.push(&self.settings.service, fact);
        tracing::debug!(service = %self.settings.service, instance = %self.id, %from, %to, took_ms, "tier reached");
        self.record(self.inner.registry.tier(self.id, to).await);
        Ok(())
    }

    /// Waits for whatever comes first: its end, an order, or something due.
    async fn idle(&mut self) -> Result<(), StepError> {
        let provider = Arc::clone(&self.settings.provider);
        let parked = self.machine.tier() == Tier::Shadow && self.machine.moving_to().is_none();
        let check = self.next_check.filter(|_| parked);
        let stable = (!self.stable).then(|| self.woken + self.settings.backoff.stable_after);
        let due = |at: Option<Instant>| async move {
            match at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let handle = self.handle.clone();
        let exited = async {
            match &handle {
                Some(handle) => provider.exited(handle).await.0,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            detail = exited => return Err(StepError::Exited(detail)),
            changed = self.orders.changed() => {
                // The entry, which holds the sender, is only removed by this task.
                debug_assert!(changed.is_ok(), "an entry went away under its runner");
                return Ok(());
            }
            () = due(self.retry_at) => self.retry_at = None,
            () = due(stable) => {
                self.stable = true;
                if let Some(pool) = self.inner.lock().pools.get_mut(&self.settings.service) {
                    pool.backoff(&self.settings.place).succeeded();
                }
            }
            Some(read) = self.usage.join_next() => {
                if let Ok(told) = read {
                    self.show(told);
                }
            }
            () = due(self.handle.is_some().then_some(self.usage_at)) => self.read_usage(),
            () = due(check) => {
                self.plan_check();
                return self.check_parked().await;
            }
        }
        Ok(())
    }

    /// A step failed without harm: it is tried again after a while, unless an order comes.
    fn stays(&mut self, to: Tier, error: String) {
        self.machine.fail(Failure::Stays);
        let pause = RETRY.saturating_mul(1 << self.retries.min(6)).min(LONGEST_RETRY);
        self.retries += 1;
        self.retry_at = Some(Instant::now() + pause);
        // What hears of the fact says it.
        tracing::debug!(service = %self.settings.service, instance = %self.id, %to, error, "a step failed");
        let fact = self.step_failed(to, &error, whole_ms(pause));
        self.inner.facts.push(&self.settings.service, fact);
    }

    /// It could not be made, or was never ready.
    async fn never_ran(mut self, error: String) {
        let service = self.settings.service.clone();
        let pause = self.inner.failed(&self.settings, self.began);
        let retry_in_ms = whole_ms(pause);
        tracing::error!(%service, instance = %self.id, error, retry_in_ms, "a shadow could not be made");
        self.hide();
        self.inner.facts.push(&service, self.step_failed(Tier::Shadow, &error, retry_in_ms));
        self.destroy(Duration::ZERO).await;
    }

    /// It ended by itself, or is of no use any more: seen at once, cleaned up after.
    async fn gone(mut self, detail: String) {
        let service = self.settings.service.clone();
        if self.woken.elapsed() < self.settings.backoff.stable_after {
            self.inner.failed(&self.settings, self.began);
        } else if let Some(pool) = self.inner.lock().pools.get_mut(&service) {
            pool.restarts += 1;
        }
        let tier = self.machine.tier();
        tracing::warn!(%service, instance = %self.id, %tier, detail, "a shadow ended");
        self.hide();
        self.inner.facts.push(&service, Fact::Exited { instance: self.id, tier, detail });
        let grace = match &self.handle {
            Some(handle) => self.settings.provider.leaves_within(handle).await,
            None => None,
        };
        self.destroy(grace.unwrap_or_default()).await;
    }

    /// Ends it as ordered.
    async fn end(mut self) {
        let started = Instant::now();
        let from = self.machine.tier();
        self.destroy(self.settings.stop_timeout).await;
        if from != Tier::Cold {
            let took_ms = whole_ms(started.elapsed());
            let fact = Fact::TierReached { instance: self.id, from, tier: Tier::Cold, took_ms };
            self.inner.facts.push(&self.settings.service, fact);
        }
    }

    /// Destroys it and forgets it, trying until that succeeds: what may still run must not be
    /// forgotten, and keeps its place in the pool.
    async fn destroy(&mut self, grace: Duration) {
        self.usage.abort_all();
        let (mut pause, mut tries) = (RETRY, 0_u32);
        let (mut quiet, mut told) = (FIRST_QUIET, None::<Instant>);
        while let Some(handle) = &self.handle {
            let Err(error) = self.destroy_once(handle, grace).await else { break };
            let error = error.to_string();
            tries += 1;
            match told {
                None => {
                    self.show_unended();
                    let fact = self.step_failed(Tier::Cold, &error, whole_ms(pause));
                    self.inner.facts.push(&self.settings.service, fact);
                }
                Some(at) if at.elapsed() < quiet => {
                    self.pause(&mut pause).await;
                    continue;
                }
                Some(_) => quiet = (quiet * 2).min(LONGEST_QUIET),
            }
            told = Some(Instant::now());
            tracing::error!(service = %self.settings.service, instance = %self.id, error, tries, "could not be ended");
            self.pause(&mut pause).await;
        }
        self.handle = None;
        self.forget().await;
        self.inner.lock().entries.remove(&self.id);
        self.inner.relieved(self.id);
    }

    /// Takes it from the record. What a failed creation may have left behind is nobody's business but its
    /// provider's, and stays on record until that has ended it: nobody else knows of it after a crash.
    async fn forget(&self) {
        let (provider, id) = (Arc::clone(&self.settings.provider), self.id);
        if provider.undone(id).now_or_never().is_some() {
            return self.record(self.inner.registry.ended(id).await);
        }
        let registry = self.inner.registry.clone();
        tokio::spawn(async move {
            provider.undone(id).await;
            if let Err(error) = registry.ended(id).await {
                tracing::error!(instance = %id, %error, "the registry misses a change");
            }
        });
    }

    async fn pause(&self, pause: &mut Duration) {
        tokio::time::sleep(*pause).await;
        *pause = (*pause * 2).min(LONGEST_RETRY);
    }

    /// With a `grace`, unless there is a hurry or one comes meanwhile: then without.
    async fn destroy_once(&self, handle: &Handle, grace: Duration) -> Result<(), ProviderError> {
        let provider = &self.settings.provider;
        if grace.is_zero() {
            return provider.destroy(handle, grace).await;
        }
        let mut hurry = self.inner.hurry.subscribe();
        tokio::select! {
            biased;
            _ = hurry.wait_for(|hurry| *hurry) => {}
            done = provider.destroy(handle, grace) => return done,
        }
        provider.destroy(handle, Duration::ZERO).await
    }

    fn step_failed(&self, to: Tier, error: &str, retry_in_ms: u64) -> Fact {
        let error = error.to_owned();
        Fact::StepFailed {
            instance: Some(self.id),
            to,
            error,
            retry_in_ms,
            place: self.settings.place.clone(),
        }
    }

    pub(super) fn record(&self, written: Result<(), crate::error::ShadowError>) {
        if let Err(error) = written {
            tracing::error!(instance = %self.id, %error, "the registry misses a change");
        }
    }

    /// Parked checks are spread by a tenth each way, so that a pool is not woken all at once.
    fn plan_check(&mut self) {
        let spread = 0.9 + 0.2 * (self.inner.ground.chance)();
        self.next_check =
            self.settings.parked_check.map(|every| Instant::now() + every.mul_f64(spread));
    }
}
