//! Which shadow goes up a tier.

use crate::announced::Asked;
use crate::fleet::Member;
use crate::loss::{MOST_NAMED, state_text};
use crate::scene::{Scene, asked_text, count, shadows_text};
use crate::verification::{LEAST_AGREEMENT, Verdict};
use crate::{Health, InstanceId, Law, Step, Tier};

/// Failing checks are forgiven a shadow for this long before it is made anew.
const PATIENCE_MS: u64 = 2_000;

/// Shadows that must serve whatever the forecast says, and the law that says so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Floor {
    pub(crate) shadows: u32,
    pub(crate) law: Law,
}

/// The floor under prediction: what is measured, lost or ordered by hand.
pub(crate) fn floor(scene: &Scene<'_>, saturated: bool, operator: u32) -> Floor {
    let committed = scene.committed();
    let measured = scene.supply.shadows_for(scene.outlook.sure_rps);
    let settled = scene.shadows().filter(|m| m.is_committed()).all(|m| m.eligible && m.ramp >= 1.0);
    let relief = if saturated && settled { committed + 1 } else { 0 };
    let law = if scene.loss.is_empty() { Law::ReactiveFloor } else { Law::Failover };
    let mut floor = Floor { shadows: measured.max(relief), law };
    if scene.supply.lost_primaries > floor.shadows {
        floor = Floor { shadows: scene.supply.lost_primaries, law: Law::Failover };
    }
    let stand_ins = scene.at_risk.stand_ins(scene);
    if stand_ins > floor.shadows {
        floor = Floor { shadows: stand_ins, law: Law::Risk };
    }
    if operator > floor.shadows {
        floor = Floor { shadows: operator, law: Law::Operator };
    }
    if scene.claims.serving() > floor.shadows {
        floor = Floor { shadows: scene.claims.serving(), law: Law::Rule };
    }
    Floor { shadows: floor.shadows.min(scene.pool.max), law: floor.law }
}

/// Ends shadows that cannot be used: those whose checks keep failing, and those that disagree with
/// the originals. Of the latter one at a time, not before `verify_from_ms`, since what fails all
/// of them is hardly theirs; and while a primary is lost, never the last that runs. Returns how
/// many there are of both.
pub(crate) fn cull(scene: &mut Scene<'_>, verify_from_ms: u64) -> Culled {
    let mut culled = Culled { dead: 0, unfit: 0 };
    let is_primary_lost = scene.supply.lost_primaries > 0;
    let most_unfit = u32::from(scene.now_ms >= verify_from_ms);
    let doomed: Vec<(InstanceId, Law, String)> = scene
        .shadows()
        .filter(|m| !m.busy && m.heading.is_some())
        .filter_map(|m| Some((m.id(), fault_law(m)?, fault_text(m))))
        .collect();
    for (id, law, text) in doomed {
        if law == Law::Verification {
            let is_last = scene.warm_or_more() <= 1
                && scene.shadows().any(|m| m.id() == id && m.heading >= Some(Tier::Warm));
            if culled.unfit >= most_unfit || (is_primary_lost && is_last) {
                continue;
            }
            culled.unfit += 1;
        } else {
            culled.dead += 1;
        }
        scene.order(id, None, law, text);
    }
    culled
}

/// Shadows ended for a fault, by its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Culled {
    pub(crate) dead: u32,
    pub(crate) unfit: u32,
}

fn is_dead(member: &Member<'_>) -> bool {
    !member.busy
        && matches!(member.seen.health, Health::Down(_))
        && member.lost_ms.is_some_and(|ms| ms >= PATIENCE_MS)
}

fn fault_law(member: &Member<'_>) -> Option<Law> {
    if is_dead(member) {
        return Some(Law::Recreate);
    }
    // One that serves is judged by its own answers; its mirrored ones are from before.
    let serves = matches!(member.seen.tier, Tier::Serving | Tier::Draining);
    (!serves && member.verdict != Verdict::Fit).then_some(Law::Verification)
}

fn fault_text(member: &Member<'_>) -> String {
    let id = member.id();
    match (&member.seen.health, member.verdict) {
        (Health::Down(why), _) if is_dead(member) => format!(
            "{id} has been down for {} ms ({why}): it is made anew",
            member.lost_ms.unwrap_or(0)
        ),
        (_, Verdict::Disagrees(share)) => format!(
            "{id} agrees with the primaries on {:.1}% of the mirrored requests, {:.0}% are needed: \
             it is made anew",
            share * 100.0,
            LEAST_AGREEMENT * 100.0
        ),
        (_, Verdict::TooSlow(copy_ms, original_ms)) => format!(
            "{id} takes {copy_ms:.1} ms for mirrored requests, the primaries {original_ms:.1} \
             ms: it is made anew"
        ),
        _ => format!("{id} is made anew"),
    }
}

/// Orders shadows up: to serving, then to warm and full.
pub(crate) fn raise(scene: &mut Scene<'_>, floor: Floor) {
    commit(scene, floor);
    warm(scene, floor);
}

/// Moves shadows to serving: as many as the floor asks for, then those that the commit quantile
/// asks for at the lead time of each.
fn commit(scene: &mut Scene<'_>, floor: Floor) {
    for (id, tier) in candidates(scene) {
        let committed = scene.committed();
        let (law, text) = if committed < floor.shadows {
            (floor.law, floor_text(scene, floor, committed))
        } else {
            let asked = scene.commit_asked_of(id, tier);
            let wanted = scene.supply.shadows_asked(asked).min(scene.pool.max);
            if committed >= wanted {
                return;
            }
            (Law::Commit, commit_text(scene, (id, tier), asked, wanted))
        };
        scene.order(id, Some(Tier::Serving), law, format!("{id} to serving: {text}"));
    }
}

/// Shadows that could be ordered to serve, best first: readiest, nearest, cheapest, oldest.
fn candidates(scene: &Scene<'_>) -> Vec<(InstanceId, Tier)> {
    let mut ready: Vec<&Member<'_>> = scene
        .shadows()
        .filter(|m| !m.busy && !m.is_lost() && !m.seen.drained && m.verdict == Verdict::Fit)
        .filter(|m| {
            matches!(m.seen.tier, Tier::Shadow | Tier::Warm | Tier::Full | Tier::Draining)
                && m.heading == Some(m.seen.tier)
        })
        .collect();
    ready.sort_by_key(|m| {
        let readiness = std::cmp::Reverse(m.seen.tier);
        (readiness, scene.distance(m), std::cmp::Reverse(m.seen.tier_age_ms), m.id())
    });
    ready.iter().map(|m| (m.id(), m.seen.tier)).collect()
}

pub(crate) fn floor_text(scene: &Scene<'_>, floor: Floor, committed: u32) -> String {
    let supply = &scene.supply;
    match floor.law {
        Law::Operator => {
            format!(
                "an operator's activation: {} should serve, {committed} do",
                shadows_text(floor.shadows)
            )
        }
        Law::Rule => format!(
            "{}: {} should serve, {committed} do",
            scene.claims.activate.as_ref().map_or("", |claim| &claim.text),
            shadows_text(floor.shadows)
        ),
        Law::Risk => scene.at_risk.floor_text(floor.shadows, committed),
        Law::Failover if supply.lost_primaries > 0 => format!(
            "primaries down or ejected: {} ({}); demand is {:.0} rps, {}: {} should stand in, \
             {committed} do",
            supply.lost_primaries,
            lost_text(scene),
            scene.outlook.now_rps,
            left_text(scene),
            shadows_text(floor.shadows)
        ),
        law => format!(
            "{}demand now is {:.0} rps, primaries carry {:.0} rps at {:.0}% utilisation and a \
             shadow {:.0} rps: {} should serve, {committed} do",
            if law == Law::Failover { format!("{}: ", scene.loss) } else { String::new() },
            scene.outlook.now_rps,
            supply.primary_rps,
            supply.target * 100.0,
            supply.shadow_rps,
            shadows_text(floor.shadows)
        ),
    }
}

fn left_text(scene: &Scene<'_>) -> String {
    let supply = &scene.supply;
    if !supply.known {
        return "no capacity is known yet".to_owned();
    }
    let (rps, percent) = (supply.primary_rps, supply.target * 100.0);
    format!("the primaries left carry {rps:.0} rps at {percent:.0}% utilisation")
}

/// The primaries that are out of order, each with its witness.
fn lost_text(scene: &Scene<'_>) -> String {
    let lost = scene.members.iter().filter(|m| m.is_supply() && m.is_lost());
    let mut named: Vec<String> = lost.take(MOST_NAMED).map(|m| state_text(m.seen)).collect();
    let vacant = scene.supply.vacant;
    let present = scene.supply.lost_primaries.saturating_sub(vacant) as usize;
    let more = present.saturating_sub(named.len());
    if vacant > 0 {
        named.push(format!("nobody serves in place of {vacant} that moved"));
    }
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", named.join(", "))
}

fn commit_text(
    scene: &Scene<'_>,
    (id, from): (InstanceId, Tier),
    asked: Asked,
    wanted: u32,
) -> String {
    let lead_ms = scene.commit_lead_ms_of(id, from);
    format!(
        "{}, primaries carry {:.0} rps at {:.0}% utilisation and a shadow {:.0} rps: {wanted} \
         should serve, {} do; it needs {lead_ms} ms from {from}",
        asked_text(asked, &scene.in_force.text(Step::Commit), lead_ms),
        scene.supply.primary_rps,
        scene.supply.target * 100.0,
        scene.supply.shadow_rps,
        scene.committed()
    )
}

/// Moves shadows to warm as the median asks, and keeps the pool's warm and full ones.
fn warm(scene: &mut Scene<'_>, floor: Floor) {
    let pool = scene.pool;
    let asked = scene.warm_asked();
    let by_median = scene.supply.shadows_asked(asked).min(pool.max);
    let kept = pool.warm.saturating_add(pool.full);
    let by_pool = floor.shadows.max(scene.committed()).saturating_add(kept);
    let by_rule = scene.claims.running().min(pool.max);
    let wanted = by_median.max(by_pool).max(by_rule);
    let short = scene.shortage.as_ref().map_or(0, |shortage| shortage.missing);
    let have = |scene: &Scene<'_>| scene.warm_or_more() - scene.replaced(Tier::Warm);
    let missing = wanted.saturating_add(short).saturating_sub(have(scene));
    for id in resting_at(scene, Tier::Shadow, missing) {
        let (law, text) = if have(scene) >= wanted {
            (Law::Pool, format!("{id} to warm: {}", scene.shortage_text()))
        } else if by_rule > by_median.max(by_pool) {
            let asked = scene.claims.warm.as_ref().map_or("", |claim| &claim.text);
            (Law::Rule, format!("{id} to warm: {asked}: {} should run", shadows_text(by_rule)))
        } else if by_median > by_pool {
            let text = format!(
                "{id} to warm: {}, {} may be needed",
                asked_text(asked, &scene.in_force.text(Step::Warm), scene.warm_lead_ms()),
                shadows_text(by_median)
            );
            (Law::Warm, text)
        } else {
            (Law::Pool, format!("{id} to warm: the pool keeps {kept} warm or larger and ready"))
        };
        scene.order(id, Some(Tier::Warm), law, text);
    }
    let full = count(scene.shadows().filter(|m| m.heading == Some(Tier::Full) && !m.is_lost()));
    let full = full - scene.replaced(Tier::Full).min(full);
    for id in resting_at(scene, Tier::Warm, pool.full.saturating_sub(full)) {
        let text = format!("{id} to full: the pool keeps {} at full size", pool.full);
        scene.order(id, Some(Tier::Full), Law::Pool, text);
    }
}

/// The best usable shadows of a tier with nothing under way, at most `most`: of the settings in force, near,
/// cheap, long there.
pub(crate) fn resting_at(scene: &Scene<'_>, tier: Tier, most: u32) -> Vec<InstanceId> {
    let mut resting: Vec<&Member<'_>> = scene
        .shadows()
        .filter(|m| m.seen.tier == tier && m.heading == Some(tier))
        .filter(|m| !m.busy && !m.is_lost() && !m.seen.drained)
        .collect();
    resting.sort_by_key(|m| {
        let age = std::cmp::Reverse(m.seen.tier_age_ms);
        (m.seen.outdated, scene.distance(m), age, m.id())
    });
    resting.iter().take(most as usize).map(|m| m.id()).collect()
}
