//! Seeing, tick by tick, what happens when.

use std::collections::BTreeSet;

use foreshadow_control::{AlertKind, Health, InstanceId, Role, Tier};

use super::limits::Scene;
use super::report::Times;

/// Ticks in a row that all must be as before.
const STEADY_TICKS: u32 = 10;

/// What was so before the fault, and what has been seen since.
pub(super) struct Follower {
    victim: InstanceId,
    /// It cannot come back: it was killed.
    is_killed: bool,
    is_shadow: bool,
    /// Instances that existed, those with a weight, and shadows that were made.
    before: BTreeSet<InstanceId>,
    serving: BTreeSet<InstanceId>,
    shadows: usize,
    steady: u32,
    /// When the fault was done, on the clock of ticks.
    fault_ms: u64,
}

impl Follower {
    /// `scene` is the last one before the fault, which comes at `fault_ms`.
    pub(super) fn new(
        scene: &Scene<'_>,
        victim: InstanceId,
        is_killed: bool,
        fault_ms: u64,
    ) -> Self {
        let all = scene.seen.instances.iter().map(|i| i.instance);
        let has_weight = |id: &InstanceId| scene.weight(*id) > 0;
        Self {
            victim,
            is_killed,
            is_shadow: scene.find(victim).is_some_and(|v| v.role == Role::Shadow),
            before: all.clone().collect(),
            serving: all.filter(has_weight).collect(),
            shadows: shadows(scene),
            steady: 0,
            fault_ms,
        }
    }

    /// Takes one more tick.
    pub(super) fn see(&mut self, scene: &Scene<'_>, at_ms: u64, times: &mut Times) {
        let Some(since_ms) = at_ms.checked_sub(self.fault_ms) else { return };
        let had_weight = self.serving.contains(&self.victim);
        if had_weight && scene.weight(self.victim) == 0 {
            times.weight_zero_ms.get_or_insert(since_ms);
        }
        let others = || scene.seen.instances.iter().filter(|i| i.instance != self.victim);
        let taken =
            others().any(|i| i.meters.retries > 0 && i.meters.ok + i.meters.client_errors > 0);
        let victim = scene.find(self.victim);
        let is_left =
            victim.is_none_or(|v| v.meters.requests == 0 && scene.weight(self.victim) == 0);
        let carry = others().any(|i| i.meters.requests > 0);
        if had_weight && (taken || is_left && carry) {
            times.carried_elsewhere_ms.get_or_insert(since_ms);
        }
        let newly =
            others().find(|i| scene.weight(i.instance) > 0 && !self.serving.contains(&i.instance));
        if let (Some(newly), None) = (newly, times.replaced_ms) {
            times.replaced_ms = Some(since_ms);
            times.replaced_by = Some(newly.instance);
        }
        let made = others().find(|i| i.tier >= Tier::Shadow && !self.before.contains(&i.instance));
        if let (Some(made), None) = (made, times.recreated_ms) {
            times.recreated_ms = Some(since_ms);
            times.recreated_as = Some(made.instance);
        }
        if self.is_normal(scene) {
            self.steady += 1;
        } else {
            self.steady = 0;
            times.normal_ms = None;
        }
        // It may have been so all the time: it counts from the end of the fault.
        if self.steady > 0 && times.over_ms.is_some() {
            times.normal_ms.get_or_insert(since_ms);
        }
    }

    /// Whether it has been as before for long enough.
    pub(super) fn is_settled(&self, times: &Times) -> bool {
        times.normal_ms.is_some() && self.steady >= STEADY_TICKS
    }

    /// Whether another instance than the victim failed that carried requests.
    pub(super) fn other_failed(&self, scene: &Scene<'_>) -> Option<InstanceId> {
        let fails = |id: &InstanceId| {
            *id != self.victim
                && scene
                    .find(*id)
                    .is_none_or(|i| matches!(i.health, Health::Down(_) | Health::Ejected))
        };
        // One that went back to the pool in good order is no failure.
        let gone = |id: &InstanceId| scene.find(*id).is_none() && scene.weight(*id) == 0;
        self.serving.iter().copied().find(|id| fails(id) && !gone(id))
    }

    /// All that carries requests is well, nothing is short, and what was lost is there again: the
    /// victim with its weight, or as many shadows as before.
    fn is_normal(&self, scene: &Scene<'_>) -> bool {
        let short = scene
            .plan
            .alerts
            .iter()
            .any(|a| matches!(a.kind, AlertKind::Shortage | AlertKind::NoCapacity));
        let unwell = scene.seen.instances.iter().any(|i| {
            let counts = scene.weight(i.instance) > 0 || i.role == Role::Primary;
            counts && i.health != Health::Up && !i.drained
        });
        let had_weight = self.serving.contains(&self.victim);
        let is_back = match scene.find(self.victim) {
            Some(_) if self.is_killed => false,
            Some(_) => scene.weight(self.victim) > 0 || !had_weight,
            // A primary comes from elsewhere: nobody makes it again.
            None => self.is_shadow && shadows(scene) >= self.shadows,
        };
        !short && !unwell && is_back && scene.carrying().next().is_some()
    }
}

/// Shadows that are made and not on their way out.
fn shadows(scene: &Scene<'_>) -> usize {
    let is_made = |i: &&foreshadow_control::InstanceObservation| {
        i.role == Role::Shadow && i.tier >= Tier::Shadow && i.moving_to != Some(Tier::Cold)
    };
    scene.seen.instances.iter().filter(is_made).count()
}
