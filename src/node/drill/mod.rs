//! Failover drills: an instance is hurt on purpose, within limits; what becomes of it is measured, and
//! all is put right again (docs/drills.md).

mod ask;
mod follow;
mod goals;
mod hurt;
mod kept;
mod limits;
mod measure;
mod report;
mod run;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foreshadow_control::{InstanceId, Role, ServiceName};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::watch;

use super::Shared;
use super::audit::{Actor, Audit, Entry, Outcome};
use super::view::View;
use hurt::Hurt;
use kept::Kept;
use limits::Scene;
use run::Run;

pub(crate) use ask::{Ask, FaultKind};
pub(crate) use report::{Figures, Objection, Report, Stage, Verdict, Victim};

/// Drills whose reports are kept.
const KEPT: usize = 16;
/// How long the end of the node waits for what is hurt to be put right.
const AT_END: Duration = Duration::from_secs(5);

/// All drills since the node started, and one that was cut short before; at most one is under way.
pub(crate) struct Drills {
    state: Mutex<State>,
    kept: Kept,
}

/// Locked by the admin interface and drills, for moments.
#[derive(Default)]
struct State {
    last_id: u64,
    all: VecDeque<Arc<Drill>>,
    counts: BTreeMap<Verdict, u64>,
    refused: u64,
}

/// One of them.
pub(crate) struct Drill {
    report: Mutex<Report>,
    call_off: watch::Sender<Option<String>>,
    is_over: watch::Sender<bool>,
}

impl Drill {
    /// How it stands.
    pub(crate) fn report(&self) -> Report {
        self.lock().clone()
    }

    fn update(&self, change: impl FnOnce(&mut Report)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.lock().stage == Stage::Done
    }
}

/// How a drill would be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outlook {
    /// Whether it would be.
    pub(crate) would_be_done: bool,
    /// To whom.
    pub(crate) victim: Option<Victim>,
    /// How.
    pub(crate) how: String,
    /// What speaks against it.
    pub(crate) objections: Vec<Objection>,
}

/// Why none was begun.
#[derive(Debug)]
pub(crate) enum Refused {
    /// What was asked for makes no sense.
    Malformed(String),
    /// There is no such service any more, or nothing was seen of it yet.
    NotSeen,
    /// It would do harm, or nothing could be learned of it.
    Objected(Vec<Objection>),
}

/// What was begun, or would have been.
pub(crate) enum Begun {
    /// It runs.
    Runs(Box<Report>),
    /// It was only asked about.
    Dry(Outlook),
}

impl Drills {
    /// None yet, but for one that an earlier run did not bring to its end: that is told, in the log and the audit
    /// as well.
    pub(super) fn start(state_dir: &Path, audit: &Audit, now_ms: u64) -> Self {
        let kept = Kept::at(state_dir);
        let mut state = State::default();
        match kept.cut_short() {
            Ok(None) => {}
            Ok(Some(report)) => {
                tracing::warn!(
                    drill = report.id, service = %report.service, instance = %report.victim.instance,
                    fault = report.asked.fault.as_str(),
                    "a failover drill was cut short by the end of the node; this start puts right what it hurt"
                );
                let after = json!({ "drill": report.id, "how": report.how });
                let entry = Entry::new(now_ms, Actor::Node, "drill.cut_short");
                let entry =
                    entry.of(report.service.as_str()).changed(serde_json::Value::Null, after);
                let why = report.called_off.clone().unwrap_or_default();
                let entry = entry.came_to(Outcome::Failed, why);
                audit.record(Entry { instance: Some(report.victim.instance), ..entry });
                state.last_id = report.id;
                state.counts.insert(Verdict::CutShort, 1);
                state.all.push_back(Arc::new(Drill {
                    report: Mutex::new(report),
                    call_off: watch::Sender::default(),
                    is_over: watch::Sender::new(true),
                }));
            }
            Err(error) => {
                tracing::error!(%error, "whether a drill was cut short cannot be read: see the audit");
            }
        }
        if let Err(error) = kept.forget() {
            tracing::error!(%error, "the next start will tell of the same drill again");
        }
        Self { state: Mutex::new(state), kept }
    }

    /// Writes down the drill that is about to hurt somebody.
    async fn keep(&self, report: Report) -> Result<(), String> {
        let kept = self.kept.clone();
        let written = tokio::task::spawn_blocking(move || kept.write(&report)).await;
        let written = written.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        written.map_err(|error| format!("it cannot be written down that it begins: {error}"))
    }

    /// Forgets it once all is right.
    async fn forget(&self) {
        let kept = self.kept.clone();
        let gone = tokio::task::spawn_blocking(move || kept.forget()).await;
        if let Err(error) = gone.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            tracing::error!(%error, "the next start will tell of a drill that is over");
        }
    }

    /// The newest ones, newest first.
    pub(crate) fn all(&self) -> Vec<Report> {
        self.lock().all.iter().rev().map(|drill| drill.report()).collect()
    }

    /// One of the newest.
    pub(crate) fn find(&self, id: u64) -> Option<Arc<Drill>> {
        self.lock().all.iter().find(|drill| drill.lock().id == id).cloned()
    }

    /// Finished ones by verdict, and those refused, since the node started.
    pub(crate) fn counts(&self) -> (BTreeMap<Verdict, u64>, u64) {
        let state = self.lock();
        (state.counts.clone(), state.refused)
    }

    /// Whether one is under way.
    pub(crate) fn is_under_way(&self) -> bool {
        self.lock().all.back().is_some_and(|drill| !drill.is_over())
    }

    /// Whether one of this service is under way.
    pub(crate) fn is_under_way_of(&self, service: &ServiceName) -> bool {
        let state = self.lock();
        let running = state.all.back().filter(|drill| !drill.is_over());
        running.is_some_and(|drill| drill.lock().service == *service)
    }

    /// Begins one, if none is under way.
    fn claim(&self, report: impl FnOnce(u64) -> Report) -> Result<Arc<Drill>, Objection> {
        let mut state = self.lock();
        if let Some(other) = state.all.back().filter(|drill| !drill.is_over()) {
            let other = other.lock();
            let text = format!("drill {} of {} is under way", other.id, other.service);
            let help =
                format!("wait for its end, or call it off: `DELETE /api/v1/drills/{}`", other.id);
            return Err(Objection::hard("another_drill", text, help));
        }
        state.last_id += 1;
        let drill = Arc::new(Drill {
            report: Mutex::new(report(state.last_id)),
            call_off: watch::Sender::default(),
            is_over: watch::Sender::default(),
        });
        if state.all.len() >= KEPT {
            state.all.pop_front();
        }
        state.all.push_back(Arc::clone(&drill));
        Ok(drill)
    }

    /// Calls off what is under way, and waits until what it hurt is put right: before requests drain,
    /// since it may have some of them.
    pub(super) async fn end(&self) {
        let Some(drill) = self.lock().all.back().filter(|drill| !drill.is_over()).cloned() else {
            return;
        };
        drill.call_off.send_replace(Some("the node is ending".to_owned()));
        let mut over = drill.is_over.subscribe();
        let ended = tokio::time::timeout(AT_END, over.wait_for(|over| *over)).await;
        if ended.is_err() {
            tracing::error!("what a drill hurt is not put right yet; the next start does it");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Begins the drill that is asked for, or says what speaks against it.
    pub(crate) fn drill(
        self: &Arc<Self>,
        service: &ServiceName,
        ask: Ask,
        by: Actor,
    ) -> Result<Begun, Refused> {
        let is_dry = ask.dry_run;
        let asked = json!(ask);
        let begun = self.try_drill(service, ask);
        let entry = Entry::new(self.clock.now_ms(), by, "drill.ask").of(service.as_str());
        let entry = entry.changed(serde_json::Value::Null, asked);
        match &begun {
            Ok(_) if is_dry => {}
            Ok(_) => self.audit.record(entry.came_to(Outcome::Asked, "")),
            Err(refused) => {
                let why = match refused {
                    Refused::Malformed(why) => why.clone(),
                    Refused::NotSeen => "nothing was seen of the service yet".to_owned(),
                    Refused::Objected(all) => told(all),
                };
                self.drills.lock().refused += 1;
                self.audit.record(entry.came_to(Outcome::Failed, why));
            }
        }
        begun
    }

    fn try_drill(self: &Arc<Self>, service: &ServiceName, ask: Ask) -> Result<Begun, Refused> {
        let config = self.config.load();
        let configured = config.services.get(service).ok_or(Refused::NotSeen)?;
        ask.check(configured.timeouts.first_byte).map_err(Refused::Malformed)?;
        let detection_ms = goals::detection_ms(&configured.health);
        let view = self.view().ok_or(Refused::NotSeen)?;
        let scene = scene(&view, service).ok_or(Refused::NotSeen)?;
        let outlook = self.outlook(&view, &scene, &ask).map_err(Refused::Malformed)?;
        if ask.dry_run {
            return Ok(Begun::Dry(outlook));
        }
        let victim = match outlook.victim {
            Some(victim) if outlook.would_be_done => victim,
            _ => return Err(Refused::Objected(outlook.objections)),
        };
        let parts = (&self.plane, &self.manager);
        let hurt = Hurt::new(parts, (service, victim.instance, victim.role), &ask);
        let began_ms = self.clock.now_ms();
        let report = |id| Report {
            id,
            service: service.clone(),
            victim,
            how: outlook.how,
            asked: ask,
            forced: outlook.objections,
            began_ms,
            stage: Stage::Before,
            verdict: None,
            called_off: None,
            times: report::Times::default(),
            figures: report::Parts::default(),
            seconds: Vec::new(),
            goals: Vec::new(),
            notes: Vec::new(),
        };
        let drill = self.drills.claim(report).map_err(|other| Refused::Objected(vec![other]))?;
        let run = Run::new(Arc::clone(self), Arc::clone(&drill), hurt, detection_ms);
        tokio::spawn(run.run());
        Ok(Begun::Runs(Box::new(drill.report())))
    }

    fn outlook(&self, view: &View, scene: &Scene<'_>, ask: &Ask) -> Result<Outlook, String> {
        let service = &scene.seen.service;
        let named = ask.named().transpose()?;
        let Some(id) = named.or_else(|| scene.choose()) else {
            let text = format!("no instance of {service} carries requests");
            let none = Objection::hard("idle", text, "repair the service first");
            let (victim, how, objections) = (None, String::new(), vec![none]);
            return Ok(Outlook { would_be_done: false, victim, how, objections });
        };
        let mut objections = limits::objections(scene, id, ask);
        let trouble = self.loop_trouble().filter(|_| !self.is_draining());
        if let Some(trouble) =
            trouble.or_else(|| self.is_draining().then(|| "the node is ending".to_owned()))
        {
            objections.push(Objection::hard("node", trouble, "see the log"));
        }
        let Some(seen) = scene.find(id) else {
            let (victim, how) = (None, String::new());
            return Ok(Outlook { would_be_done: false, victim, how, objections });
        };
        let hurt = Hurt::new((&self.plane, &self.manager), (service, id, seen.role), ask);
        if let Err(why) = hurt.check() {
            let help = "ask for another fault (`kill`, `hang`, `slow`), or another instance";
            objections.push(Objection::hard("unsupported", why, help));
        }
        let would_be_done = objections.iter().all(|o| o.may_be_forced && ask.force);
        Ok(Outlook {
            would_be_done,
            victim: Some(victim(view, scene, id, seen.role)),
            how: hurt.how(),
            objections,
        })
    }

    /// Calls a drill off; what it was told then, or that there is none such.
    pub(crate) fn call_off_drill(&self, id: u64, by: Actor, who: &str) -> Option<Report> {
        let drill = self.drills.find(id)?;
        if !drill.is_over() {
            drill.call_off.send_replace(Some(format!("called off by {who}")));
            let entry = Entry::new(self.clock.now_ms(), by, "drill.call_off");
            let entry = entry.of(drill.lock().service.as_str());
            self.audit.record(entry.changed(serde_json::Value::Null, json!({ "drill": id })));
        }
        Some(drill.report())
    }
}

fn victim(view: &View, scene: &Scene<'_>, instance: InstanceId, role: Role) -> Victim {
    let address = view.addresses.get(&instance).map(ToString::to_string).unwrap_or_default();
    Victim { instance, role, address, weight: scene.weight(instance) }
}

/// A service in a view.
fn scene<'a>(view: &'a View, service: &ServiceName) -> Option<Scene<'a>> {
    let seen = view.observation.services.iter().find(|s| s.service == *service)?;
    let plan = view.plan.services.iter().find(|s| s.service == *service)?;
    Some(Scene { seen, plan, is_held: view.observation.kill_switch })
}

/// Objections as one sentence.
fn told(all: &[Objection]) -> String {
    let texts: Vec<&str> = all.iter().map(|objection| objection.text.as_str()).collect();
    texts.join("; ")
}
