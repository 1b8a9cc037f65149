//! A drill from its first look to its verdict.

use std::sync::Arc;
use std::time::Duration;

use foreshadow_control::{AlertKind, Role};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::ask::{Ask, FaultKind};
use super::follow::Follower;
use super::hurt::Hurt;
use super::measure::Meter;
use super::report::{Report, Stage, Verdict};
use super::{Drill, goals, limits, scene, told};
use crate::node::Shared;
use crate::node::audit::{Actor, Entry, Outcome};
use crate::node::decisions::{Decision, Kind};
use crate::node::view::View;

/// How often it is looked whether there was a tick.
const LOOK: Duration = Duration::from_millis(20);
/// What is measured after the fault at least.
const LEAST_AFTER: Duration = Duration::from_secs(3);
/// How long one that was called off is watched at most.
const AFTER_CALL_OFF: Duration = Duration::from_secs(10);

/// What a drill works with.
pub(super) struct Run {
    shared: Arc<Shared>,
    drill: Arc<Drill>,
    hurt: Hurt,
    detection_ms: u64,
    call_off: watch::Receiver<Option<String>>,
    last_tick: u64,
    shown: Option<Instant>,
    meter: Option<Meter>,
}

/// Ends a drill for everybody who waits, however its task ends.
struct Over(Arc<Drill>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.update(|report| {
            report.stage = Stage::Done;
            report.verdict.get_or_insert(Verdict::CalledOff);
        });
        self.0.is_over.send_replace(true);
    }
}

/// Why it goes no further.
type Stopped = String;

impl Run {
    pub(super) fn new(
        shared: Arc<Shared>,
        drill: Arc<Drill>,
        hurt: Hurt,
        detection_ms: u64,
    ) -> Self {
        let call_off = drill.call_off.subscribe();
        Self { shared, drill, hurt, detection_ms, call_off, last_tick: 0, shown: None, meter: None }
    }

    pub(super) async fn run(mut self) {
        let over = Over(Arc::clone(&self.drill));
        let Report { id, service, victim, how, asked, .. } = self.drill.report();
        tracing::warn!(
            drill = id, %service, instance = %victim.instance, fault = asked.fault.as_str(),
            for_ms = asked.for_ms, how, "a failover drill begins"
        );
        let stopped = match self.before(&asked).await {
            Ok(follower) => match self.shared.drills.keep(self.drill.report()).await {
                Ok(()) => self.fault_and_after(follower, &asked).await,
                Err(stopped) => Some(stopped),
            },
            Err(stopped) => Some(stopped),
        };
        self.conclude(stopped);
        let times = self.drill.report().times;
        // What is not right yet is for the next start, which is to tell why.
        if times.over_ms.is_none() || times.put_right_ms.is_some() {
            self.shared.drills.forget().await;
        }
        drop(over);
    }

    /// Measures what is normal, and looks once more whether anything speaks against it.
    async fn before(&mut self, asked: &Ask) -> Result<Follower, Stopped> {
        let end = Instant::now() + Duration::from_millis(asked.before_ms);
        let view = loop {
            let view = self.tick().await?;
            if Instant::now() >= end {
                break view;
            }
        };
        let Report { service, victim, .. } = self.drill.report();
        let scene = scene(&view, &service).ok_or("the service is gone")?;
        let mut objections = limits::objections(&scene, victim.instance, asked);
        objections.retain(|objection| !(objection.may_be_forced && asked.force));
        if !objections.is_empty() {
            return Err(told(&objections));
        }
        let is_killed = asked.fault == FaultKind::Kill && victim.role == Role::Shadow;
        let fault_ms = self.shared.clock.steady_ms();
        Ok(Follower::new(&scene, victim.instance, is_killed, fault_ms))
    }

    async fn fault_and_after(&mut self, mut follower: Follower, asked: &Ask) -> Option<Stopped> {
        self.enter(Stage::Fault);
        let (began, victim) = (Instant::now(), self.drill.report().victim);
        let inflicted = self.hurt.inflict().await;
        self.record("drill.fault", Value::Null, &inflicted);
        let is_killed = asked.fault == FaultKind::Kill && victim.role == Role::Shadow;
        if is_killed {
            // It cannot be taken back: what follows is up to the node.
            self.drill.update(|report| report.times.over_ms = Some(0));
        }
        let is_unsure = inflicted.is_err();
        let mut stopped = inflicted.err();
        let lasts = Duration::from_millis(asked.for_ms);
        while stopped.is_none() && began.elapsed() < lasts {
            stopped = self.look(&mut follower, began + lasts, asked).await.err();
            if is_killed && follower.is_settled(&self.drill.lock().times) {
                break;
            }
        }
        let over_ms = whole_ms(began.elapsed());
        let put_right = self.hurt.put_right().await;
        self.drill.update(|report| {
            report.times.over_ms.get_or_insert(over_ms);
            report.times.put_right_ms = put_right.then(|| whole_ms(began.elapsed()));
        });
        let right = if put_right { Ok(()) } else { Err("not put right yet".to_owned()) };
        self.record("drill.put_right", json!({ "over_ms": over_ms }), &right);
        self.enter(Stage::Settling);
        let patience = Duration::from_millis(asked.settle_ms);
        let patience = if stopped.is_some() { patience.min(AFTER_CALL_OFF) } else { patience };
        self.settle(&mut follower, patience).await;
        if is_unsure {
            // An order that nobody answered may have been carried out since.
            self.hurt.put_right_again().await;
        }
        stopped
    }

    /// One tick of the fault; what calls it off, if anything does.
    async fn look(
        &mut self,
        follower: &mut Follower,
        end: Instant,
        asked: &Ask,
    ) -> Result<(), Stopped> {
        let Ok(view) = tokio::time::timeout_at(end, self.tick()).await else { return Ok(()) };
        let view = view?;
        let service = self.drill.report().service;
        let scene = scene(&view, &service).ok_or("the service is gone")?;
        self.drill.update(|report| follower.see(&scene, view.plan.at_ms, &mut report.times));
        let failed = self.meter.as_ref().map_or(0, Meter::failed);
        let bound = asked.call_off_at();
        if failed > bound {
            return Err(format!("{failed} requests failed; more than {bound} call it off"));
        }
        if scene.is_held {
            return Err("the kill switch was engaged".to_owned());
        }
        if let Some(other) = follower.other_failed(&scene) {
            return Err(format!("{other} failed as well"));
        }
        let mut alerts = scene.plan.alerts.iter();
        if let Some(none) = alerts.find(|alert| alert.kind == AlertKind::NoCapacity) {
            return Err(format!("alert {}: {}", none.kind.as_str(), none.text));
        }
        Ok(())
    }

    /// Waits until the service is as before, for no longer than `patience`.
    async fn settle(&mut self, follower: &mut Follower, patience: Duration) {
        let (began, service) = (Instant::now(), self.drill.report().service);
        let least = LEAST_AFTER.min(patience);
        while began.elapsed() < patience {
            let Ok(Ok(view)) = tokio::time::timeout_at(began + patience, self.tick()).await else {
                return;
            };
            let Some(scene) = scene(&view, &service) else { return };
            let mut is_settled = false;
            self.drill.update(|report| {
                follower.see(&scene, view.plan.at_ms, &mut report.times);
                is_settled = follower.is_settled(&report.times);
            });
            if is_settled && began.elapsed() >= least {
                return;
            }
        }
    }

    /// Waits for the next tick and counts what it brought.
    async fn tick(&mut self) -> Result<Arc<View>, Stopped> {
        loop {
            if self.call_off.has_changed().unwrap_or(true) {
                let why = self.call_off.borrow_and_update().clone();
                return Err(why.unwrap_or_else(|| "called off".to_owned()));
            }
            if self.shared.is_draining() {
                return Err("the node is ending".to_owned());
            }
            if let Some(trouble) = self.shared.loop_trouble() {
                return Err(trouble);
            }
            if let Some(view) = self.shared.view().filter(|v| v.plan.tick != self.last_tick) {
                self.last_tick = view.plan.tick;
                self.measure(view.plan.at_ms);
                return Ok(view);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn measure(&mut self, at_ms: u64) {
        let totals = self.shared.totals();
        match &mut self.meter {
            Some(meter) => meter.take(&totals, at_ms),
            None => self.meter = Meter::start(&self.drill.lock().service, &totals, at_ms),
        }
        if self.shown.is_none_or(|at| at.elapsed() >= Duration::from_secs(1)) {
            self.shown = Some(Instant::now());
            self.show();
        }
    }

    fn show(&self) {
        let Some(meter) = &self.meter else { return };
        let (figures, seconds) = meter.figures();
        self.drill.update(|report| (report.figures, report.seconds) = (figures, seconds));
    }

    fn enter(&mut self, stage: Stage) {
        if let Some(meter) = &mut self.meter {
            meter.enter(stage);
        }
        self.drill.update(|report| report.stage = stage);
        self.show();
    }

    /// The verdict, said and on record.
    fn conclude(&mut self, stopped: Option<Stopped>) {
        if let Some(meter) = &mut self.meter {
            meter.enter(Stage::Done);
        }
        self.show();
        let mut report = self.drill.report();
        // Called off before the fault, nothing was tried.
        if report.times.over_ms.is_some() {
            report.goals = goals::judge(&report, self.detection_ms);
        }
        let met = report.goals.iter().all(|goal| goal.met);
        let verdict = match &stopped {
            Some(_) => Verdict::CalledOff,
            None if met => Verdict::Passed,
            None => Verdict::Failed,
        };
        report.called_off = stopped;
        let (during, after) = (&report.figures.during, &report.figures.after);
        if during.retried + after.retried > 0 {
            let note = "latencies are those of attempts that were answered: requests that were tried \
                        again took longer";
            report.notes.push(note.to_owned());
        }
        (report.stage, report.verdict) = (Stage::Done, Some(verdict));
        self.tell(&report, verdict);
        // Last and at once: who waits for the end finds all of it.
        self.drill.update(|shown| *shown = report);
    }

    fn tell(&self, report: &Report, verdict: Verdict) {
        *self.shared.drills.lock().counts.entry(verdict).or_default() += 1;
        let summary = summary(report, verdict);
        tracing::warn!(
            drill = report.id, service = %report.service, instance = %report.victim.instance,
            "a failover drill is over: {summary}"
        );
        let came_to = match verdict {
            Verdict::Passed => Ok(()),
            Verdict::Failed | Verdict::CalledOff | Verdict::CutShort => Err(summary.clone()),
        };
        let after = json!({
            "drill": report.id, "verdict": verdict, "times": report.times, "figures": report.figures,
        });
        self.record("drill.end", after, &came_to);
        self.shared.decisions.record(Decision {
            at_ms: self.shared.clock.now_ms(),
            tick: self.last_tick,
            service: report.service.to_string(),
            kind: Kind::Operator,
            laws: Vec::new(),
            summary: vec![format!("drill {} {}: {summary}", report.id, report.victim.instance)],
            alerts: Vec::new(),
            observation: None,
            plan: None,
        });
    }

    fn record(&self, action: &'static str, after: Value, came_to: &Result<(), String>) {
        let Report { id, service, victim, how, .. } = self.drill.report();
        let after = if after.is_null() { json!({ "drill": id, "how": how }) } else { after };
        let entry = Entry::new(self.shared.clock.now_ms(), Actor::Node, action);
        let entry = entry.of(service.as_str()).changed(Value::Null, after);
        let entry = match came_to {
            Ok(()) => entry.came_to(Outcome::Done, ""),
            Err(why) => entry.came_to(Outcome::Failed, why.as_str()),
        };
        let tick = self.last_tick;
        self.shared.audit.record(Entry { tick, instance: Some(victim.instance), ..entry });
    }
}

fn summary(report: &Report, verdict: Verdict) -> String {
    let (during, after) = (&report.figures.during, &report.figures.after);
    let failed = during.failed + after.failed;
    let requests = during.requests + after.requests;
    let mut text = format!("{}; {failed} of {requests} requests failed", verdict.as_str());
    for goal in report.goals.iter().filter(|goal| !goal.met) {
        text.push_str(&format!("; {} {}, expected {}", goal.what, goal.found, goal.expected));
    }
    if let Some(why) = &report.called_off {
        text.push_str("; ");
        text.push_str(why);
    }
    text
}

fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
