//! One migration under way, and what the law does with it tick by tick.

use serde::{Deserialize, Serialize};

use super::checks::{SAMPLES, Watch, Watched};
use super::paced::Paced;
use super::part::Shift;
use super::{Facts, Said};
use crate::fleet::Member;
use crate::loss::state_text;
use crate::scene::Scene;
use crate::{
    InstanceId, Law, MigrationCheck, MigrationPhase, MigrationSchedule, MigrationSpec,
    MigrationView, Tier,
};

/// One migration that has begun and not ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Running {
    /// Of the order; none where it began by itself.
    pub(super) id: Option<u64>,
    pub(super) schedule: MigrationSchedule,
    pub(super) is_primary: bool,
    pub(super) phase: MigrationPhase,
    pub(super) since_ms: u64,
    pub(super) target: Option<InstanceId>,
    /// When the target was ordered that is being made and cannot be seen yet.
    pub(super) awaited_ms: Option<u64>,
    /// A target was lost and another one took its place.
    pub(super) replaced: bool,
    /// Steps that were passed.
    pub(super) passed: usize,
    pub(super) watch: Watch,
    pub(super) checks: Vec<MigrationCheck>,
    /// A check failed: the target is not kept.
    pub(super) is_fault: bool,
    /// Why it goes back.
    why: String,
    pub(super) text: String,
    /// Part of the source's requests that the target has had in force.
    pub(super) moved: f64,
    /// Since when the source has carried nothing.
    idle_since_ms: Option<u64>,
    /// The plan it shifts by, where that is learned.
    #[serde(default)]
    pub(super) paced: Paced,
}

/// A source that fails may come back: so long its migration waits where it stands.
const SOURCE_PATIENCE_MS: u64 = 30_000;

/// What became of one tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It goes on.
    On,
    /// It is over: how, and why.
    Over(MigrationPhase, String),
}

impl Running {
    pub(super) fn new(
        id: Option<u64>,
        schedule: MigrationSchedule,
        is_primary: bool,
        now_ms: u64,
    ) -> Self {
        Self {
            id,
            schedule,
            is_primary,
            phase: MigrationPhase::Preparing,
            since_ms: now_ms,
            target: None,
            awaited_ms: None,
            replaced: false,
            passed: 0,
            watch: Watch::default(),
            checks: Vec::new(),
            is_fault: false,
            why: String::new(),
            text: String::new(),
            moved: 0.0,
            idle_since_ms: None,
            paced: Paced::default(),
        }
    }

    pub(super) fn source(&self) -> InstanceId {
        self.schedule.instance
    }

    pub(super) fn is_last(&self, spec: &MigrationSpec) -> bool {
        let spec = self.paced.spec(spec);
        self.phase == MigrationPhase::Draining
            || (self.phase == MigrationPhase::Shifting && self.passed + 1 >= spec.count())
    }

    /// What the weights must know of it.
    pub(super) fn shift(&self, spec: &MigrationSpec) -> Option<Shift> {
        let moved = match self.phase {
            MigrationPhase::Shifting => self.paced.spec(spec).part(self.passed),
            MigrationPhase::Draining => 1.0,
            _ => 0.0,
        };
        let urgent = self.phase == MigrationPhase::RollingBack && self.is_fault;
        Some(Shift { source: self.source(), target: self.target?, moved, urgent })
    }

    /// Time in which nothing may be done, or nothing was seen, is not counted.
    pub(super) fn pause(&mut self, now_ms: u64, ms: u64) {
        self.since_ms = self.since_ms.saturating_add(ms).min(now_ms);
        self.idle_since_ms = None;
        self.watch.restart();
    }

    pub(super) fn go(&mut self, phase: MigrationPhase, now_ms: u64, text: String, said: &mut Said) {
        self.phase = phase;
        self.since_ms = now_ms;
        self.watch = Watch::default();
        said.tell(text.clone());
        self.text = text;
    }

    /// One tick of a migration that may go on; `cancelled` says that it is called off.
    pub(super) fn step(
        &mut self,
        scene: &mut Scene<'_>,
        facts: &Facts<'_>,
        cancelled: bool,
        said: &mut Said,
    ) -> Turn {
        self.moved = moved(facts, self.source(), self.target);
        if let Some(turn) = self.step_without_source(scene) {
            return turn;
        }
        match self.phase {
            MigrationPhase::Preparing if cancelled => {
                let text = format!("{}: called off before any request moved", self.name());
                Turn::Over(MigrationPhase::RolledBack, text)
            }
            MigrationPhase::Preparing => self.prepare(scene, facts, said),
            MigrationPhase::Shifting | MigrationPhase::Draining if cancelled => {
                self.roll_back(scene.now_ms, "it was called off".to_owned(), false, said);
                Turn::On
            }
            MigrationPhase::Shifting => self.watch_step(scene, facts, said),
            MigrationPhase::Draining => self.drain(scene, facts, said),
            _ => self.return_all(scene, facts),
        }
    }

    /// "i3 to west".
    pub(super) fn name(&self) -> String {
        format!("{} to {}", self.schedule.instance, self.schedule.target)
    }

    /// A source that is gone or may take nothing: what it had is with its target and the others by now.
    fn step_without_source(&self, scene: &Scene<'_>) -> Option<Turn> {
        let source = self.source();
        let member = scene.members.iter().find(|m| m.id() == source);
        let verified = self.phase == MigrationPhase::Draining;
        let may_come_back = |m: &Member<'_>| {
            let fails = m.lost_ms.is_some_and(|ms| ms < SOURCE_PATIENCE_MS);
            m.able || (fails && !verified && !m.seen.drained && !m.seen.leaving)
        };
        if member.is_some_and(may_come_back) {
            return None;
        }
        let state = member.map_or_else(|| format!("{source} is gone"), |m| state_text(m.seen));
        let target = scene.members.iter().find(|m| Some(m.id()) == self.target && m.able);
        // A primary is drained for good only where every step was watched.
        let is_taken_over =
            verified || (self.phase == MigrationPhase::Shifting && !self.is_primary);
        let name = self.name();
        Some(match target {
            Some(target) if is_taken_over => {
                let text = format!(
                    "{name}: {state} with {:.0}% of its requests moved: {} has taken over the rest",
                    self.moved * 100.0,
                    target.id()
                );
                Turn::Over(MigrationPhase::Done, text)
            }
            _ => {
                let text = format!(
                    "{name}: {state}; what it had is taken over as after any failure, and the \
                     target belongs to the pool"
                );
                Turn::Over(MigrationPhase::RolledBack, text)
            }
        })
    }

    fn watch_step(&mut self, scene: &mut Scene<'_>, facts: &Facts<'_>, said: &mut Said) -> Turn {
        let spec = scene.spec;
        let Some((member, target)) = self.target.and_then(|id| {
            let target = scene.members.iter().find(|m| m.id() == id)?;
            Some((target, id))
        }) else {
            self.fail("health", "the target is gone".to_owned(), scene.now_ms, said);
            return Turn::On;
        };
        if !member.able {
            let text = format!("{} may take no requests: {}", target, state_text(member.seen));
            self.fail("health", text, scene.now_ms, said);
            return Turn::On;
        }
        let migration = self.paced.spec(&spec.migration);
        let wanted = migration.part(self.passed);
        let there = (self.moved - wanted).abs() <= (0.2 * wanted).min(0.02) && member.ramp >= 1.0;
        let others = facts.tally_others(target);
        let watched = Watched { member, others, there, now_ms: scene.now_ms };
        self.watch.observe(&watched);
        self.paced.observe(&member.seen.meters, others);
        self.checks = self.watch.checks(&watched, spec, migration.verify_ms);
        if let Some(failed) =
            self.checks.iter().find(|check| !check.passed && check.name != SAMPLES)
        {
            let text = format!("{} failed: {}", failed.name, failed.text);
            self.roll_back(scene.now_ms, text, true, said);
            return Turn::On;
        }
        let step = format!("step {} of {}", self.passed + 1, migration.count());
        let moved = self.moved * 100.0;
        if self.watch.lagging_ms(scene.now_ms) > spec.migration.ready_ms {
            let text = format!(
                "{step} was not reached within {} ms: {moved:.0}% moved of {:.0}%, and the rest is \
                 needed where it is",
                spec.migration.ready_ms,
                wanted * 100.0
            );
            self.roll_back(scene.now_ms, text, false, said);
            return Turn::On;
        }
        let Some(verified) = self.watch.verdict(scene.now_ms, migration.verify_ms) else {
            self.text = format!(
                "{}: {step}, {moved:.0}% of {:.0}% moved; {}",
                self.name(),
                wanted * 100.0,
                self.watch.text(scene.now_ms, migration.verify_ms)
            );
            return Turn::On;
        };
        let text = format!("{}: {step} holds at {:.0}%: {verified}", self.name(), wanted * 100.0);
        if self.passed + 1 >= migration.count() {
            self.idle_since_ms = None;
            let text = format!("{text}; {} drains", self.source());
            self.go(MigrationPhase::Draining, scene.now_ms, text, said);
            return Turn::On;
        }
        self.passed += 1;
        let next = migration.part(self.passed) * 100.0;
        let text = format!("{text}; {next:.0}% move next");
        let source = self.watch.source_so_far();
        self.go(MigrationPhase::Shifting, scene.now_ms, text, said);
        self.watch = Watch::after(source);
        Turn::On
    }

    fn fail(&mut self, check: &str, text: String, now_ms: u64, said: &mut Said) {
        let failed = MigrationCheck { name: check.to_owned(), passed: false, text: text.clone() };
        self.checks.retain(|former| former.name != check);
        self.checks.insert(0, failed);
        self.roll_back(now_ms, format!("{check} failed: {text}"), true, said);
    }

    fn roll_back(&mut self, now_ms: u64, why: String, is_fault: bool, said: &mut Said) {
        let text =
            format!("{}: {why}; {:.0}% of the requests go back", self.name(), self.moved * 100.0);
        self.why = why;
        self.is_fault = is_fault;
        self.go(MigrationPhase::RollingBack, now_ms, text, said);
    }

    fn drain(&mut self, scene: &mut Scene<'_>, facts: &Facts<'_>, said: &mut Said) -> Turn {
        let (now_ms, spec) = (scene.now_ms, &scene.spec.migration);
        let find = |id: InstanceId| scene.members.iter().find(|m| m.id() == id);
        let target = self.target.and_then(find);
        let Some(target) = target.filter(|m| m.able).map(Member::id) else {
            let text =
                target.map_or_else(|| "the target is gone".to_owned(), |m| state_text(m.seen));
            self.fail("health", text, now_ms, said);
            return Turn::On;
        };
        let source = self.source();
        let in_flight = find(source).map_or(0, |m| m.seen.meters.in_flight);
        let waited_ms = now_ms.saturating_sub(self.since_ms);
        if facts.share(source) > 0.0 {
            self.idle_since_ms = None;
            self.text = format!("{}: {source} is still needed and carries a part", self.name());
            if waited_ms > spec.ready_ms.saturating_add(spec.drain_ms) {
                self.roll_back(now_ms, format!("{source} is needed where it is"), false, said);
            }
            return Turn::On;
        }
        let idle_ms = now_ms.saturating_sub(*self.idle_since_ms.get_or_insert(now_ms));
        let rested = idle_ms >= 2 * scene.spec.tick_ms;
        if !(rested && in_flight == 0) && idle_ms < spec.drain_ms {
            self.text = format!("{}: {source} answers its last {in_flight} requests", self.name());
            return Turn::On;
        }
        let rest = match in_flight {
            0 => "it has answered its last request".to_owned(),
            _ => format!("{in_flight} requests have not ended within {} ms", spec.drain_ms),
        };
        let text = format!("{}: {target} carries all of {source}: {rest}", self.name());
        Turn::Over(MigrationPhase::Done, text)
    }

    /// Weight first, then the target's tier.
    fn return_all(&mut self, scene: &mut Scene<'_>, facts: &Facts<'_>) -> Turn {
        let over = |why: &str| Turn::Over(MigrationPhase::RolledBack, why.to_owned());
        let why = format!("{}: rolled back: {}", self.name(), self.why);
        let Some(id) = self.target else { return over(&why) };
        let Some(member) = scene.members.iter().find(|m| m.id() == id) else { return over(&why) };
        let (tier, busy, in_flight) = (member.seen.tier, member.busy, member.seen.meters.in_flight);
        let spec = &scene.spec.migration;
        let waited_ms = scene.now_ms.saturating_sub(self.since_ms);
        let is_late = waited_ms > spec.ready_ms.saturating_add(spec.drain_ms);
        // One that failed does not serve again when it comes back.
        let is_lost = member.is_lost() && !self.is_fault;
        if is_lost || member.heading.is_none() || (busy && is_late) {
            return over(&why);
        }
        if facts.share(id) > 0.0 || busy {
            return Turn::On;
        }
        if tier == Tier::Serving {
            if !self.is_fault && facts.floor.shadows > scene.committed() {
                return over(&format!("{why}; {id} goes on serving, as demand asks for it"));
            }
            let text = format!("{id} drains: {why}");
            scene.order(id, Some(Tier::Draining), Law::Migrate, text);
            return Turn::On;
        }
        let drained = in_flight == 0 || waited_ms >= spec.drain_ms;
        if !self.is_fault || !drained {
            return if self.is_fault { Turn::On } else { over(&why) };
        }
        scene.order(id, None, Law::Migrate, format!("{id} ends: {why}"));
        over(&why)
    }

    pub(super) fn view(&self, now_ms: u64) -> MigrationView {
        MigrationView {
            id: self.id,
            schedule: Some(self.schedule.clone()),
            phase: self.phase,
            target: self.target,
            step: match self.phase {
                MigrationPhase::Preparing => 0,
                _ => u32::try_from(self.passed + 1).unwrap_or(u32::MAX),
            },
            moved: (self.moved * 1_000.0).round() / 1_000.0,
            phase_ms: now_ms.saturating_sub(self.since_ms),
            checks: self.checks.clone(),
            text: self.text.clone(),
        }
    }
}

/// Part of both's requests that the target has by the weights in force.
fn moved(facts: &Facts<'_>, source: InstanceId, target: Option<InstanceId>) -> f64 {
    let target = target.map_or(0.0, |id| facts.share(id));
    let both = facts.share(source) + target;
    if both > 0.0 { target / both } else { 0.0 }
}
