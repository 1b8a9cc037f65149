//! From the shares the laws want to the weights in force, in every mode, with the reason.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::announced::Asked;
use crate::fleet::{Known, Member};
use crate::loss::{MOST_NAMED, state_text};
use crate::scene::Scene;
use crate::steady::Steady;
use crate::weights::{self, Pace, Target};
use crate::{InstanceId, InstanceWeight, Law, Reason, Tier, WEIGHT_SCALE};

/// After a failure weights may move without limit for this long.
const URGENT_MS: u64 = 2_000;

/// A pair that a migration shares requests out to is off its split beyond this part of both's.
const OFF_SPLIT: f64 = 0.002;

/// After skipped ticks weights move no further than in this time.
const LONGEST_MOVE_MS: u64 = 1_000;

/// What must be remembered to publish weights.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Publisher {
    acting: bool,
    urgent_until_ms: u64,
    #[serde(default)]
    steady: Steady,
}

/// Weights to publish and why they changed.
pub(crate) struct Published {
    pub(crate) weights: Vec<InstanceWeight>,
    pub(crate) advised: Vec<InstanceWeight>,
    pub(crate) reasons: Vec<Reason>,
}

impl Publisher {
    /// Follows the mode. Taking over starts from what is in force, not from what was only advised.
    pub(crate) fn follow(&mut self, act: bool, known: &mut BTreeMap<InstanceId, Known>) {
        if act && !self.acting {
            for known in known.values_mut() {
                known.share = f64::from(known.weight) / f64::from(WEIGHT_SCALE);
            }
        }
        self.acting = act;
    }

    pub(crate) fn publish(
        &mut self,
        scene: &Scene<'_>,
        known: &mut BTreeMap<InstanceId, Known>,
        returning: Option<InstanceId>,
        interval_ms: u64,
    ) -> Published {
        let act = self.acting;
        let elapsed_ms = interval_ms.min(LONGEST_MOVE_MS.max(scene.spec.tick_ms));
        let held = if act { Vec::new() } else { hold(scene, known) };

        let asked = scene.commit_asked(Tier::Warm);
        let asked_rps = asked.rps.max(scene.outlook.now_rps);
        let demand_rps = self.steady.follow(asked_rps, scene.outlook, scene.now_ms, elapsed_ms);
        let target = weights::fill(scene, demand_rps, returning);
        let eligible: Vec<bool> = scene.members.iter().map(|m| m.eligible).collect();
        let former: Vec<f64> =
            scene.members.iter().map(|m| known.get(&m.id()).map_or(0.0, |k| k.share)).collect();
        let mut shares = former.clone();
        let dropped = dropped_text(scene, &former);
        if dropped.is_some() {
            self.urgent_until_ms = scene.now_ms.saturating_add(URGENT_MS);
        }
        let mut pace = self.pace(scene, elapsed_ms);
        hurry(&mut pace, scene, &former, &target.shares);
        let changed = weights::step(&mut shares, &target.shares, &eligible, pace);

        let advised = as_weights(scene, &shares);
        let mut reasons = Vec::new();
        // What the others take over from one that is gone is a change, too.
        if (changed || scene.lost_now || scene.removed.is_some())
            && advised != as_weights(scene, &former)
        {
            let failed = if scene.lost_now { Some(scene.loss.to_owned()) } else { dropped };
            let failed = failed.or_else(|| scene.removed.clone());
            let figures = (demand_rps, asked);
            reasons.push(reason(scene, &target, figures, &advised, failed, returning));
        }
        for (member, share) in scene.members.iter().zip(&shares) {
            if let Some(known) = known.get_mut(&member.id()) {
                known.share = *share;
                if act {
                    known.weight = weights::weight(*share);
                }
            }
        }
        if act {
            return Published { weights: advised, advised: Vec::new(), reasons };
        }
        let advised = if advised == held { Vec::new() } else { advised };
        Published { weights: held, advised, reasons }
    }

    fn pace(&self, scene: &Scene<'_>, elapsed_ms: u64) -> Pace {
        let spec = scene.spec.weights;
        let slew_per_s = if spec.slew_per_s.is_nan() { 0.5 } else { spec.slew_per_s.max(0.01) };
        let urgent = scene.now_ms < self.urgent_until_ms;
        let step = slew_per_s * (elapsed_ms as f64 / 1_000.0);
        Pace {
            most: if urgent { 1.0 } else { step.min(1.0) },
            hysteresis: if urgent || spec.hysteresis.is_nan() {
                0.0
            } else {
                spec.hysteresis.clamp(0.0, 0.5)
            },
        }
    }
}

/// A pair's split is followed exactly: a small step is a step. What goes back for a failure goes at once.
fn hurry(pace: &mut Pace, scene: &Scene<'_>, former: &[f64], target: &[f64]) {
    let Some(shift) = scene.shift else { return };
    let at = |id| scene.members.iter().position(|m| m.id() == id);
    let (Some(from), Some(to)) = (at(shift.source), at(shift.target)) else { return };
    let part = |shares: &[f64]| shares[to] / (shares[from] + shares[to]).max(1e-9);
    if (part(former) - part(target)).abs() > OFF_SPLIT {
        pace.hysteresis = 0.0;
        pace.most = if shift.urgent { 1.0 } else { pace.most };
    }
}

/// The weights in force, with those at zero that may take no requests now. A primary that has
/// none gets what the others have on average; when nobody has any, all are alike.
fn hold(scene: &Scene<'_>, known: &mut BTreeMap<InstanceId, Known>) -> Vec<InstanceWeight> {
    let in_force = |id: InstanceId, known: &BTreeMap<InstanceId, Known>| {
        known.get(&id).map_or(0, |k| k.weight)
    };
    let primaries: Vec<u32> = scene
        .members
        .iter()
        .filter(|m| m.is_primary())
        .map(|m| in_force(m.id(), known))
        .filter(|weight| *weight > 0)
        .collect();
    let count = crate::scene::count(scene.members.iter().filter(|m| m.is_primary())).max(1);
    let average = match primaries.len() {
        0 => (WEIGHT_SCALE / count).max(1),
        n => (primaries.iter().sum::<u32>() / u32::try_from(n).unwrap_or(1)).max(1),
    };
    let mut held: Vec<InstanceWeight> = Vec::with_capacity(scene.members.len());
    for member in &scene.members {
        let id = member.id();
        if member.is_primary()
            && in_force(id, known) == 0
            && let Some(known) = known.get_mut(&id)
        {
            known.weight = average;
        }
        let weight = if member.able { in_force(id, known) } else { 0 };
        held.push(InstanceWeight { instance: id, weight });
    }
    if held.iter().all(|w| w.weight == 0) {
        for (weight, member) in held.iter_mut().zip(&scene.members) {
            weight.weight = if member.able { average } else { 0 };
        }
    }
    held
}

fn as_weights(scene: &Scene<'_>, shares: &[f64]) -> Vec<InstanceWeight> {
    scene
        .members
        .iter()
        .zip(shares)
        .map(|(m, share)| InstanceWeight { instance: m.id(), weight: weights::weight(*share) })
        .collect()
}

/// Those that had a share of the requests, are there and may take none now, each with its witness.
fn dropped_text(scene: &Scene<'_>, former: &[f64]) -> Option<String> {
    let dropped: Vec<String> = scene
        .members
        .iter()
        .zip(former)
        .filter(|(member, share)| **share > 0.0 && !member.eligible)
        .map(|(member, _)| state_text(member.seen))
        .collect();
    let named = dropped.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join(", ");
    match dropped.len().saturating_sub(MOST_NAMED) {
        _ if dropped.is_empty() => None,
        0 => Some(named),
        more => Some(format!("{named} and {more} more")),
    }
}

/// What takes the load of those that may take none now: a failure, or an operator who drained them
/// or took them out of the configuration.
fn dropped_law(scene: &Scene<'_>) -> Law {
    let by_hand = scene.removed.is_some()
        || scene.spec.pool.is_none()
        || scene.members.iter().any(|m| m.seen.drained);
    let is_failure = scene.lost_now || scene.members.iter().any(|m| m.is_lost() && !m.eligible);
    match (by_hand, is_failure) {
        (_, true) => Law::Failover,
        _ if scene.members.iter().any(|m| m.seen.leaving) => Law::Scale,
        (true, false) => Law::Operator,
        (false, false) => Law::Failover,
    }
}

/// Those that are given less for their failures.
fn distrust_text(scene: &Scene<'_>) -> String {
    let distrusted = scene.members.iter().filter(|m| m.eligible && m.trust.part < 1.0);
    let named = distrusted.take(MOST_NAMED).map(|m| {
        format!(
            "{} fails {:.1}% of its requests where {:.1}% are allowed and is given {:.0}% of its \
             part: ",
            m.id(),
            m.trust.failed * 100.0,
            m.trust.allowed * 100.0,
            m.trust.part * 100.0
        )
    });
    named.collect()
}

/// Those that are relieved since they are likely to fail.
fn relief_text(scene: &Scene<'_>) -> String {
    let relieved: Vec<&Member<'_>> =
        scene.members.iter().filter(|m| m.eligible && m.kept < 1.0).collect();
    if relieved.is_empty() {
        return String::new();
    }
    let kept = |m: &&Member<'_>| format!("{} keeps {:.0}% of its part, ", m.id(), m.kept * 100.0);
    let kept: String = relieved.iter().take(MOST_NAMED).map(kept).collect();
    let why =
        if scene.at_risk.text.is_empty() { "an alarm has ended" } else { &scene.at_risk.text };
    format!("{kept}since {why}: ")
}

/// The pair that shares what one of both would be given.
fn shift_text(scene: &Scene<'_>) -> String {
    scene.shift.map_or_else(String::new, |shift| {
        let (source, target, moved) = (shift.source, shift.target, shift.moved * 100.0);
        format!("{source} moves to {target}, which is to have {moved:.0}% of its requests: ")
    })
}

fn reason(
    scene: &Scene<'_>,
    target: &Target,
    (demand_rps, asked): (f64, Asked),
    weights: &[InstanceWeight],
    failed: Option<String>,
    returning: Option<InstanceId>,
) -> Reason {
    let warming = scene.shadows().any(|m| m.eligible && m.ramp < 1.0);
    let law = match returning {
        _ if failed.is_some() => dropped_law(scene),
        Some(_) => Law::Rollback,
        None if scene.shift.is_some() => Law::Migrate,
        None if scene.members.iter().any(|m| m.eligible && m.kept < 1.0) => Law::Risk,
        None if warming => Law::WarmUp,
        None => Law::Weights,
    };
    let carried = if !scene.supply.known {
        "no capacity is known yet and all share alike".to_owned()
    } else if target.short {
        "all instances together carry less and share it by capacity".to_owned()
    } else {
        let members = scene.members.iter().zip(&target.shares);
        let shadows = members.filter(|(m, _)| m.is_shadow());
        let share = shadows.fold(0.0, |sum, (_, share)| sum + share);
        format!("{:.0} rps go to shadows", share * demand_rps)
    };
    let carried = if scene.supply.known {
        format!(
            "primaries carry {:.0} rps at {:.0}% utilisation, {carried}",
            scene.supply.primary_rps,
            scene.supply.target * 100.0
        )
    } else {
        carried
    };
    let event = asked.event.map_or_else(String::new, |event| format!("{event}: "));
    let failed = failed.map_or_else(String::new, |failed| format!("{failed}: "));
    let mut text = format!(
        "{failed}{}{}{}{event}demand is {:.0} rps now and {:.0} rps within {} ms, without chance \
         {demand_rps:.0} rps, {carried}; weights:",
        shift_text(scene),
        relief_text(scene),
        distrust_text(scene),
        scene.outlook.now_rps,
        asked.rps.max(scene.outlook.now_rps),
        scene.commit_lead_ms(Tier::Warm)
    );
    for weight in weights.iter().take(16) {
        text.push_str(&format!(" {}={}", weight.instance, weight.weight));
    }
    if weights.len() > 16 {
        text.push_str(&format!(" and {} more", weights.len() - 16));
    }
    Reason { law, text }
}
