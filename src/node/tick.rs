//! The loop: observe, forecast and decide, publish, act, record; every 100 ms, on its own thread.

mod migrations;
mod orders;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use foreshadow_control::{
    Controller, Entry, FeedbackView, Law, MetricForecasts, Observation, Plan, ReservationBasis,
    ServiceName, ServiceObservation, ServicePlan,
};
use foreshadow_mirror::Mirrorer;
use foreshadow_proxy::DataPlane;
use foreshadow_shadow::Manager;
use tokio::sync::oneshot;

use super::Shared;
use super::activations::Following;
use super::audit::PlanActs;
use super::decisions::{Decision, Kind};
use super::health_log::HealthLog;
use super::history::LearnedTurns;
use super::metrics::Report;
use super::migrations::{DryRun, Due, Follower};
use super::observe::{Moment, Observer, Sources, mirror_targets};
use super::operator::{Orders, Request};
use super::recorder::Recorder;
use super::said::{Said, tell};
use super::scaling;
use super::translate::{Members, Wiring};
use super::view::View;

/// The length of a tick.
const TICK_MS: u64 = 100;
/// Ticks until forecasts of metrics are told again.
const TELL_METRICS_TICKS: u64 = 10;
/// Ticks between two looks at how decisions turned out.
const FEEDBACK_TICKS: u32 = 10;

/// A new configuration on its way to the loop.
pub(super) struct Configure {
    /// What is derived from it.
    pub(super) wiring: Box<Wiring>,
    /// Answered once the loop runs on it and has published its table.
    pub(super) done: oneshot::Sender<()>,
}

/// What reaches the loop from others; all of it bounded.
pub(super) struct Inboxes {
    pub(super) requests: Receiver<Request>,
    pub(super) configures: Receiver<Configure>,
    pub(super) reports: Receiver<Report>,
    pub(super) dry_runs: Receiver<DryRun>,
    /// Told to end, or gone.
    pub(super) stop: Receiver<()>,
}

/// What the loop works with. Only the loop's thread touches it.
pub(super) struct Loop {
    shared: Arc<Shared>,
    plane: Arc<DataPlane>,
    manager: Arc<Manager>,
    mirror: Arc<Mirrorer>,
    controller: Controller,
    wiring: Wiring,
    observer: Observer,
    orders: Orders,
    recorder: Option<Recorder>,
    inboxes: Inboxes,
    forecasts: MetricForecasts,
    published: Option<Published>,
    said: Said,
    acts: PlanActs,
    activations: Following,
    health: HealthLog,
    learned: LearnedTurns,
    /// When migrations may begin, and how they went.
    due: Due,
    migrations: Follower,
    feedback: Arc<BTreeMap<ServiceName, FeedbackView>>,
    bases: Arc<BTreeMap<ServiceName, ReservationBasis>>,
    /// Ticks until it is looked up again.
    feedback_in: u32,
}

/// What the data plane was last given, to publish only what changed.
#[derive(PartialEq)]
struct Published {
    members: Members,
    generation: u64,
}

impl Loop {
    /// A loop on the configuration, standing orders and announced events that `shared` holds.
    pub(super) fn new(
        shared: &Arc<Shared>,
        wiring: Wiring,
        inboxes: Inboxes,
    ) -> anyhow::Result<Self> {
        let mut observer = Observer::default();
        let events = shared.decisions.events(shared.clock.now_ms())?;
        observer.announce(&events.into_iter().map(|(_, event)| event).collect::<Vec<_>>());
        let recording = shared.config.load().recording.clone();
        let told = || Arc::clone(&shared.recording);
        let recorder =
            recording.map(|r| Recorder::start(&r.path, r.max_size, told())).transpose()?;
        let orders = Orders::clone(&shared.orders.load());
        let mut controller = Controller::new(orders.specs(&wiring.specs));
        shared.history.recall(&mut controller, shared.clock.now_ms());
        Ok(Self {
            plane: Arc::clone(&shared.plane),
            manager: Arc::clone(&shared.manager),
            mirror: Arc::clone(&shared.mirror),
            controller,
            orders,
            shared: Arc::clone(shared),
            wiring,
            observer,
            recorder,
            inboxes,
            forecasts: MetricForecasts::default(),
            published: None,
            said: Said::default(),
            acts: PlanActs::default(),
            activations: Following::default(),
            health: HealthLog::default(),
            learned: LearnedTurns::new(shared.history.learned_every_ms()),
            due: Due::default(),
            migrations: Follower::default(),
            feedback: Arc::default(),
            bases: Arc::default(),
            feedback_in: 0,
        })
    }

    /// Runs until told to stop, once told to go ahead. A tick that runs late is counted and left
    /// out, never queued.
    pub(super) fn run(mut self, go_ahead: &Receiver<()>) {
        if go_ahead.recv().is_err() {
            return;
        }
        let start = Instant::now();
        let mut tick = 0_u64;
        let mut last = start;
        loop {
            let due = start + Duration::from_millis(TICK_MS.saturating_mul(tick + 1));
            match self.inboxes.stop.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = Instant::now();
            let passed = u64::try_from((now - start).as_millis()).unwrap_or(u64::MAX) / TICK_MS;
            let number = passed.max(tick + 1);
            let skipped = number - tick - 1;
            tick = number;
            self.tick(tick, now - last);
            last = now;
            let took_us = u64::try_from(now.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.shared.ticks.ticked(took_us, skipped);
            if skipped > 0 {
                tracing::debug!(skipped, "the loop ran late; ticks were left out");
            }
        }
        let history = &self.shared.history;
        history.keep_all_learned(&self.controller, &self.wiring, self.shared.clock.now_ms());
    }

    fn tick(&mut self, tick: u64, interval: Duration) {
        self.shared.clock.follow();
        let (at_ms, now_ms) = (self.shared.clock.steady_ms(), self.shared.clock.now_ms());
        let configured = self.take_configuration();
        let answers = self.take_orders(now_ms, tick);
        self.observer.hear(&self.inboxes.reports, at_ms);
        let migrations = self.migrations_due(now_ms);
        let sources = Sources {
            wiring: &self.wiring,
            orders: &self.orders,
            manager: &self.manager,
            plane: &self.plane,
            mirror: &self.mirror,
            draining: self.shared.is_draining(),
            long: &self.shared.long,
            metrics: &self.shared.metrics,
            audit: &self.shared.audit,
            scaling: &self.shared.scaling,
            migrations: &migrations,
        };
        let observation = self.observer.observe(Moment { tick, at_ms, now_ms, interval }, &sources);
        self.remember_events(now_ms);
        if let Some(recorder) = &mut self.recorder {
            recorder.before_tick(&self.controller);
        }
        self.forget_gone(&observation);
        let plan = self.controller.tick(&observation);
        self.forecast_metrics(&observation);
        self.health.tell(&observation, self.observer.addresses());
        self.publish(&observation, &plan);
        self.feed_mirror(&observation);
        self.act(&plan);
        self.record(&observation, &plan, now_ms);
        self.follow_migrations(&observation, &plan, now_ms);
        self.try_migrations(&observation);
        self.show(observation, plan, now_ms);
        self.keep_learned(at_ms, now_ms);
        // Whoever asked may have gone away; what was asked stands all the same.
        for done in configured {
            done.send(()).ok();
        }
        for (done, orders) in answers {
            done.send(orders).ok();
        }
    }

    /// Forecasts what is reported; what comes of it is for looking at, and so told once a second.
    fn forecast_metrics(&mut self, observation: &Observation) {
        self.forecasts.observe(observation);
        if observation.tick.is_multiple_of(TELL_METRICS_TICKS) {
            let services = observation.services.iter().map(|seen| &seen.service);
            let views = services.map(|name| (name.clone(), self.forecasts.views(name)));
            self.shared.metrics.forecasts.store(Arc::new(views.collect()));
        }
    }

    fn take_configuration(&mut self) -> Vec<oneshot::Sender<()>> {
        let mut configured = Vec::new();
        while let Ok(Configure { wiring, done }) = self.inboxes.configures.try_recv() {
            self.wiring = *wiring;
            self.configure();
            self.due.forget();
            self.observer.retain(&self.wiring);
            self.shared.orders.store(Arc::new(self.orders.clone()));
            configured.push(done);
        }
        configured
    }

    /// Gives the controller the specs in force.
    fn configure(&mut self) {
        let specs = self.orders.specs(&self.wiring.specs);
        if let Some(recorder) = &mut self.recorder {
            recorder.record(Entry::Configure { specs: specs.clone() });
        }
        self.controller.configure(specs);
    }

    /// Gives the data plane a new table when weights or members changed, and only then.
    fn publish(&mut self, observation: &Observation, plan: &Plan) {
        let wanted = Published {
            members: self.wiring.members(observation, plan, self.observer.addresses()),
            generation: self.wiring.generation,
        };
        if self.published.as_ref() == Some(&wanted) {
            return;
        }
        match self.plane.publish(&self.wiring.table(&wanted.members)) {
            Ok(()) => self.published = Some(wanted),
            Err(error) => {
                tracing::error!(%error, "the new table was refused; the one before stays")
            }
        }
    }

    fn feed_mirror(&self, observation: &Observation) {
        for seen in &observation.services {
            let targets = mirror_targets(seen, self.observer.addresses());
            self.mirror.set_targets(&seen.service, &targets);
        }
        // By what exists, not by facts: shadows end in many ways, and some with their service.
        let addresses = self.observer.addresses();
        self.mirror.retain(|instance| addresses.contains_key(&instance));
    }

    fn act(&self, plan: &Plan) {
        for service in plan.services.iter().filter(|s| s.act && !s.actions.is_empty()) {
            let actions: Vec<_> = service.actions.iter().map(|a| a.action.clone()).collect();
            self.manager.apply(&service.service, &actions);
        }
        scaling::wish(&self.shared.scaling, plan);
    }

    fn record(&mut self, observation: &Observation, plan: &Plan, now_ms: u64) {
        if let Some(recorder) = &mut self.recorder {
            recorder.record(Entry::Tick {
                observation: Box::new(observation.clone()),
                plan: Box::new(plan.clone()),
            });
        }
        let before = self.shared.view();
        let before = before.as_ref().map(|view| &view.plan);
        let scaled = scaling::entries(self.shared.scaling.take_events(), plan.tick, now_ms);
        let ordered = scaling::ordered(plan, before, now_ms);
        let acts = self.acts.of((observation, plan), before, now_ms);
        for entry in scaled.into_iter().chain(acts).chain(ordered) {
            self.shared.audit.record(entry);
        }
        self.follow_activations(observation, plan, now_ms);
        for (seen, decided) in observation.services.iter().zip(&plan.services) {
            let Some(summary) = self.said.news((plan.tick, now_ms), decided) else { continue };
            tell(decided, &summary);
            self.shared.decisions.record(Decision {
                at_ms: now_ms,
                tick: plan.tick,
                service: decided.service.to_string(),
                kind: Kind::Plan,
                laws: laws(decided),
                summary,
                alerts: decided.alerts.iter().map(|a| a.kind).collect(),
                observation: Some(seen.clone()),
                plan: Some(decided.clone()),
            });
        }
        self.said.retain(now_ms, |service| self.wiring.services.contains_key(service));
        let turns = self.said.take_turns();
        if self.shared.config.load().alerts.webhook.is_some() {
            self.shared.alerting.tell(turns.iter().map(|(service, turn)| turn.news(service)));
        }
    }

    fn follow_activations(&mut self, observation: &Observation, plan: &Plan, now_ms: u64) {
        let specs = &self.wiring.specs;
        let target = |name: &ServiceName| {
            let spec = specs.iter().find(|spec| spec.name == *name);
            spec.map_or(1.0, |spec| spec.target_utilisation)
        };
        let news = self.activations.follow((observation, plan), now_ms, target);
        self.shared.activations.record(news);
    }

    fn show(&mut self, observation: Observation, plan: Plan, now_ms: u64) {
        self.look_up(&observation);
        let view = Arc::new(View {
            now_ms,
            observation,
            plan,
            addresses: self.observer.addresses().clone(),
            shadow_counts: self.observer.counts().clone(),
            workloads: self.observer.workloads().clone(),
            feedback: Arc::clone(&self.feedback),
            bases: Arc::clone(&self.bases),
        });
        self.shared.history.observe(&view);
        self.shared.view.store(Some(view));
    }

    /// How decisions turned out and what reservations are reckoned with; looked up once a second, since it
    /// hardly changes between ticks.
    fn look_up(&mut self, observation: &Observation) {
        if self.feedback_in == 0 {
            self.feedback_in = FEEDBACK_TICKS;
            let of =
                |service: &ServiceName| Some((service.clone(), self.controller.feedback(service)?));
            self.feedback = Arc::new(self.wiring.services.keys().filter_map(of).collect());
            let basis = |seen: &ServiceObservation| {
                Some((seen.service.clone(), self.controller.reservation_basis(seen)?))
            };
            self.bases = Arc::new(observation.services.iter().filter_map(basis).collect());
        }
        self.feedback_in -= 1;
    }

    fn remember_events(&mut self, now_ms: u64) {
        let started = self.observer.newly_started(&self.shared.long.calendar(), now_ms);
        if !started.is_empty() && !self.shared.history.remember_events(started) {
            tracing::warn!(
                "the effect of an event that starts now will not be learned: history is busy"
            );
        }
    }

    /// Hands what is known of one service on to be kept, when it is its turn.
    fn keep_learned(&mut self, at_ms: u64, now_ms: u64) {
        let services = &self.wiring.services;
        if let Some(service) =
            self.learned.next(at_ms, services.len(), |nth| services.keys().nth(nth))
        {
            let kept = self.shared.history.keep_learned(&self.controller, service, now_ms);
            if !kept {
                tracing::debug!(%service, "what is known is kept later: the history writer is busy");
            }
        }
    }
}

fn laws(plan: &ServicePlan) -> Vec<Law> {
    let reasons = plan.reasons.iter().chain(plan.actions.iter().map(|a| &a.reason));
    let mut laws: Vec<_> = reasons.map(|reason| reason.law).collect();
    laws.sort_unstable();
    laws.dedup();
    laws
}
