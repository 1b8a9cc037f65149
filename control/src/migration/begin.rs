//! When a migration begins: by an order whose time has come, or by itself.

use super::candidates::{self, Candidate};
use super::paced::Paced;
use super::running::Running;
use super::{Ended, Facts, Migration, MigrationOrder, MigrationPhase, MigrationView, Said};
use crate::InstanceId;
use crate::fleet::Member;
use crate::scene::Scene;

/// The probability of failing must be above the bound for so long before a migration begins by itself.
const RISK_HOLD_MS: u64 = 5_000;
/// After one that failed none begins by itself for so long, for twice as long after each further one.
const FIRST_REST_MS: u64 = 600_000;
const MOST_DOUBLINGS: u32 = 7;
/// A failure is forgotten when none followed it for so long after its rest.
const FORGOTTEN_AFTER_MS: u64 = 86_400_000;

impl Migration {
    /// What one order comes to in this tick, unless it is under way.
    pub(super) fn follow(
        &mut self,
        order: &MigrationOrder,
        scene: &mut Scene<'_>,
        facts: &Facts<'_>,
        said: &mut Said,
    ) {
        let is_it = |id: Option<u64>| id == Some(order.id);
        let is_running = self.running.as_ref().is_some_and(|running| is_it(running.id));
        if is_running || self.ended.iter().any(|ended| is_it(ended.view.id)) {
            return;
        }
        let mut view = MigrationView {
            id: Some(order.id),
            schedule: None,
            phase: MigrationPhase::Scheduled,
            target: None,
            step: 0,
            moved: 0.0,
            phase_ms: 0,
            checks: Vec::new(),
            text: String::new(),
        };
        let mut over = |ended: &mut Vec<Ended>, phase, text: String| {
            said.tell(text.clone());
            ended.push(Ended { view: MigrationView { phase, text, ..view.clone() }, told: 0 });
        };
        if order.cancelled {
            let text = "called off before it began".to_owned();
            return over(&mut self.ended, MigrationPhase::RolledBack, text);
        }
        let all =
            candidates::all(scene, facts, &self.blocked(), (order.instance, order.to.as_ref()));
        let best = match candidates::best(&all) {
            Ok(best) => best,
            Err(None) => {
                let why = candidates::nobody(scene, facts, order);
                return over(&mut self.ended, MigrationPhase::Refused, format!("refused: {why}"));
            }
            Err(Some(never)) => {
                let text = format!("refused: {never}");
                return over(&mut self.ended, MigrationPhase::Refused, text);
            }
        };
        let mut schedule = best.choice.schedule.clone();
        schedule.start_ms = schedule.start_ms.saturating_add(order.begins_in_ms);
        let waits = if order.begins_in_ms > 0 {
            Some(format!("it begins in {} s", order.begins_in_ms.div_ceil(1_000)))
        } else if let Some(running) = &self.running {
            Some(format!("{} is under way, one moves at a time", running.name()))
        } else {
            best.choice.objections.first().cloned()
        };
        match waits {
            Some(text) => {
                let text = format!("{} to {}: {text}", schedule.instance, schedule.target);
                (view.schedule, view.text) = (Some(schedule), text);
                said.views.push(view);
            }
            None => self.begin(Some(order.id), &best.clone(), scene, said),
        }
    }

    fn begin(
        &mut self,
        id: Option<u64>,
        candidate: &Candidate,
        scene: &mut Scene<'_>,
        said: &mut Said,
    ) {
        let schedule = candidate.choice.schedule.clone();
        let paced = Paced::of(scene, &schedule.target);
        let mut running = Running::new(id, schedule, candidate.is_primary, scene.now_ms);
        let why = paced.text();
        running.paced = paced;
        running.text = format!("{} begins: {}{why}", running.name(), candidate.choice.text);
        said.tell(running.text.clone());
        if let Some(member) = scene.members.iter_mut().find(|m| m.id() == running.source()) {
            member.busy |= member.is_shadow();
        }
        self.running = Some(running);
    }

    /// Begins one by itself where an instance is likely to fail.
    pub(super) fn follow_risk(
        &mut self,
        scene: &mut Scene<'_>,
        facts: &Facts<'_>,
        said: &mut Said,
    ) {
        let Some(bound) = scene.spec.migration.risk.filter(|bound| bound.is_finite()) else {
            self.above.clear();
            self.rests.clear();
            return;
        };
        let is_above = |m: &&Member<'_>| m.able && facts.risk.likely(m.id()) >= bound;
        let above: Vec<InstanceId> =
            scene.members.iter().filter(is_above).map(Member::id).collect();
        let now_ms = scene.now_ms;
        self.above.retain(|id, _| above.contains(id));
        for id in above {
            self.above.entry(id).or_insert(now_ms);
        }
        self.rests.retain(|id, (_, until_ms)| {
            let forgotten_ms = until_ms.saturating_add(FORGOTTEN_AFTER_MS);
            now_ms < forgotten_ms && facts.seen.instances.iter().any(|i| i.instance == *id)
        });
        if self.running.is_some() || !facts.act || facts.seen.migrations.window_in_ms != Some(0) {
            return;
        }
        let lasting = |id: &InstanceId, since: &u64| {
            let rests = self.rests.get(id).is_some_and(|(_, until_ms)| now_ms < *until_ms);
            now_ms.saturating_sub(*since) >= RISK_HOLD_MS && !rests
        };
        let due: Vec<InstanceId> =
            self.above.iter().filter(|(id, since)| lasting(id, since)).map(|(id, _)| *id).collect();
        let mut all: Vec<Candidate> = Vec::new();
        for id in due {
            all.extend(candidates::all(scene, facts, &self.blocked(), (Some(id), None)));
        }
        candidates::rank(&mut all, scene);
        let able = all.into_iter().find(|candidate| candidate.choice.objections.is_empty());
        if let Some(mut candidate) = able {
            let risk = candidate.choice.risk * 100.0;
            candidate.choice.text = format!(
                "it fails with a probability of {risk:.0}%, which has been above {:.0}% for {} s; {}",
                bound * 100.0,
                RISK_HOLD_MS / 1_000,
                candidate.choice.text
            );
            self.begin(None, &candidate, scene, said);
        }
    }

    /// Moving an instance failed: it is not tried again by itself for a while.
    pub(super) fn rest_from(&mut self, source: InstanceId, now_ms: u64) {
        let (times, _) = self.rests.get(&source).copied().unwrap_or((0, 0));
        let rest_ms = FIRST_REST_MS << times.min(MOST_DOUBLINGS);
        self.rests.insert(source, (times.saturating_add(1), now_ms.saturating_add(rest_ms)));
    }
}
