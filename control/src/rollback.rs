//! Taking back what was prepared: weights first, then tiers, in the reverse order of going up.

use serde::{Deserialize, Serialize};

use crate::announced::Asked;
use crate::rolling::RollingMax;
use crate::scene::{Scene, count, shadows_text};
use crate::tiers::Floor;
use crate::{HorizonView, InstanceId, Law, Step, Tier};

/// Demand must fall this far below what would call a shadow back before the shadow goes down, so that
/// demand on the edge calls for nothing. It ends without a margin: for that it was not wanted for as
/// long as it takes to come back, and until then it costs as much as when it is wanted.
pub(crate) const MARGIN: f64 = 0.9;
/// Requests that have not ended after this long do not keep a draining shadow any longer.
const LONGEST_DRAIN_MS: u64 = 30_000;

/// A start-up is not taken to be longer.
const LONGEST_START_UP_MS: u64 = 3_600_000;

/// Taking one shadow's weight back, or one tier, takes about this long. Where a tick is longer,
/// several go in one, and weight and serving end together.
const RETURN_MS: u64 = 500;

/// What was wanted lately, and the shadow whose weight is being taken back.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Rollback {
    /// Shadows wanted serving, warm or more, and at all.
    wanted: RollingMax,
    /// The same over at least the start-up: what is ended takes so long to come back.
    #[serde(default)]
    existing: RollingMax,
    /// The shadow that is losing its weight.
    pub(crate) returning: Option<InstanceId>,
}

impl Rollback {
    /// The evaluation window has another length now.
    pub(crate) fn restart(&mut self) {
        self.wanted.clear();
        self.existing.clear();
    }

    /// Remembers what is wanted now and steps back one shadow where less has been wanted for a
    /// full evaluation window. `has_weight` says whether an instance still carries any.
    pub(crate) fn step(
        &mut self,
        scene: &mut Scene<'_>,
        floor: Floor,
        has_weight: impl Fn(InstanceId) -> bool,
    ) {
        let window_ms = scene.spec.evaluation_window_ms;
        let wanted = wanted_now(scene, floor);
        self.wanted.push(scene.now_ms, window_ms, wanted);
        finish_drains(scene);
        let ending_ms = ending_window_ms(scene);
        self.existing.push(scene.now_ms, ending_ms, wanted);
        let maxima = self.wanted.maxima(scene.now_ms, window_ms);
        let Some([serving, warm, all]) = maxima else {
            self.returning = None;
            return;
        };
        // Nothing is ended before a full window of its own was seen.
        let ending = self.existing.maxima(scene.now_ms, ending_ms);
        let all = ending.map_or_else(|| count(scene.shadows()).max(all), |max| max[2].max(all));
        let at_once = scene.spec.tick_ms / RETURN_MS;
        if at_once > 1 {
            drain_surplus(scene, serving, at_once);
            // One shadow has three tiers to go down.
            let most = 3 * scene.shadows().count() as u64;
            (0..at_once.min(most)).for_each(|_| step_down_idle(scene, warm, all));
            return;
        }
        self.keep_or_choose(scene, serving);
        if let Some(id) = self.returning {
            if !has_weight(id) {
                let text = format!("{id} drains: {}", less_text(scene, serving));
                scene.order(id, Some(Tier::Draining), Law::Rollback, text);
                self.returning = None;
            }
            return;
        }
        let stepping_down = |tier: Option<Tier>| tier == Some(Tier::Draining);
        if scene.shadows().any(|m| stepping_down(m.heading)) {
            return;
        }
        step_down_idle(scene, warm, all);
    }

    fn keep_or_choose(&mut self, scene: &Scene<'_>, serving: u32) {
        let still_wanted = scene.committed() <= serving;
        let gone = |id| !scene.members.iter().any(|m| m.id() == id && m.eligible && !m.busy);
        if still_wanted || self.returning.is_some_and(gone) {
            self.returning = None;
        }
        let one_underway = scene
            .shadows()
            .any(|m| m.seen.tier == Tier::Serving && m.heading != Some(Tier::Serving));
        if still_wanted || self.returning.is_some() || one_underway {
            return;
        }
        self.returning = first_to_return(scene);
    }
}

/// How long a shadow was not wanted when it is ended: the evaluation window, or as many quarters of it
/// as hold the learned start-up.
fn ending_window_ms(scene: &Scene<'_>) -> u64 {
    let quarter_ms = scene.spec.evaluation_window_ms.div_ceil(4).max(1);
    let quarters = scene.start_up_ms().min(LONGEST_START_UP_MS).div_ceil(quarter_ms);
    quarter_ms.saturating_mul(quarters.max(4))
}

/// The reverse of the order in which shadows are filled: far before near, dear before cheap, new before
/// old.
fn first_to_return(scene: &Scene<'_>) -> Option<InstanceId> {
    scene
        .shadows()
        .filter(|m| m.is_committed() && m.eligible && !m.busy)
        .max_by_key(|m| (scene.distance(m), std::cmp::Reverse(m.seen.tier_age_ms), m.id()))
        .map(|m| m.id())
}

/// Drains what serves beyond `serving`, at most so many.
fn drain_surplus(scene: &mut Scene<'_>, serving: u32, most: u64) {
    for _ in 0..most {
        let surplus = scene.committed() > serving;
        let Some(id) = first_to_return(scene).filter(|_| surplus) else { return };
        let text = format!("{id} drains: {}", less_text(scene, serving));
        scene.order(id, Some(Tier::Draining), Law::Rollback, text);
    }
}

fn wanted_now(scene: &Scene<'_>, floor: Floor) -> [u32; 3] {
    let pool = scene.pool;
    let exactly = |asked: Asked| scene.supply.shadows_asked(asked).min(pool.max);
    let needed = |asked: Asked| exactly(Asked { rps: asked.rps / MARGIN, ..asked });
    // An announced event is the same step for all: a shadow ordered to serve from afar must not
    // go before those that are near are ordered.
    let farthest_ms = scene.commit_lead_ms(Tier::Warm).max(scene.commit_lead_ms(Tier::Shadow));
    let in_force = scene.in_force;
    let confirmed = |step, lead_ms, of: &dyn Fn(&HorizonView) -> f64| {
        scene.holding(scene.outlook.confirmed(lead_ms, of), step, lead_ms)
    };
    let commit = |lead_ms| confirmed(Step::Commit, lead_ms, &|h| in_force.commit(h));
    let ordered = commit(scene.commit_lead_ms(Tier::Warm));
    let from_afar = commit(farthest_ms);
    let is_more = from_afar.event.is_some() && from_afar.rps > ordered.rps;
    let committed = if is_more { from_afar } else { ordered };
    let warming = confirmed(Step::Warm, scene.warm_lead_ms(), &|h| in_force.warm(h));
    let preparing = confirmed(Step::Prepare, scene.prepare_lead_ms(), &|h| in_force.prepare(h));
    let serving = floor.shadows.max(needed(committed));
    let running = serving.saturating_add(pool.full).saturating_add(pool.warm);
    let warm = running.max(needed(warming));
    let all = running
        .saturating_add(pool.shadow)
        .max(exactly(preparing))
        .saturating_add(scene.supply.lost_primaries);
    let claims = &scene.claims;
    let warm = warm.max(claims.running().min(pool.max));
    let all = all.max(warm).max(claims.existing().min(pool.max)).max(scene.least);
    // What cannot be made is stood in for by what exists, so long as that is so.
    let short = scene.shortage.map_or(0, |shortage| shortage.missing);
    let warm = warm.saturating_add(short).min(pool.max);
    if claims.hold {
        let exist = count(scene.shadows().filter(|m| m.heading.is_some()));
        return [serving.max(scene.committed()), warm.max(scene.warm_or_more()), all.max(exist)];
    }
    [serving, warm, all]
}

fn less_text(scene: &Scene<'_>, serving: u32) -> String {
    format!(
        "for {} ms demand ({:.0} rps now) and its {} stayed below what primaries \
         ({:.0} rps at {:.0}% utilisation) and {} carry",
        scene.spec.evaluation_window_ms,
        scene.outlook.now_rps,
        scene.in_force.text(Step::Commit),
        scene.supply.primary_rps,
        scene.supply.target * 100.0,
        shadows_text(serving)
    )
}

/// Shadows that have answered their last request go back to warm.
fn finish_drains(scene: &mut Scene<'_>) {
    if scene.spec.pool.is_none() {
        // A reload took the provider away; whoever holds the shadows ends them.
        return;
    }
    let drained: Vec<(InstanceId, u64)> = scene
        .shadows()
        .filter(|m| m.seen.tier == Tier::Draining && !m.busy)
        .filter(|m| m.seen.meters.in_flight == 0 || m.seen.tier_age_ms > LONGEST_DRAIN_MS)
        .map(|m| (m.id(), m.seen.meters.in_flight))
        .collect();
    for (id, in_flight) in drained {
        let text = match in_flight {
            0 => format!("{id} to warm: it has answered its last request"),
            _ => format!(
                "{id} to warm: {in_flight} requests on it have not ended within \
                 {LONGEST_DRAIN_MS} ms and are not waited for"
            ),
        };
        scene.order(id, Some(Tier::Warm), Law::Rollback, text);
    }
}

/// One surplus shadow that does not serve goes down one tier, or ends at the last.
fn step_down_idle(scene: &mut Scene<'_>, warm: u32, all: u32) {
    // One that stays until another stands in its place is no surplus, and neither is that one.
    let full = count(scene.shadows().filter(|m| m.heading == Some(Tier::Full)));
    let full = full - scene.replaced(Tier::Full).min(full);
    let exist = count(scene.shadows().filter(|m| m.heading.is_some()));
    let exist = exist - scene.replaced(Tier::Shadow).min(exist);
    let running = scene.warm_or_more();
    let running = running - scene.replaced(Tier::Warm).min(running);
    let step = if full > scene.pool.full && !scene.claims.hold {
        (Tier::Full, Some(Tier::Warm))
    } else if running > warm {
        (Tier::Warm, Some(Tier::Shadow))
    } else if exist > all {
        (Tier::Shadow, None)
    } else {
        return;
    };
    let (from, to) = step;
    let youngest = scene
        .shadows()
        .filter(|m| m.seen.tier == from && m.heading == Some(from) && !m.busy)
        .min_by_key(|m| {
            (std::cmp::Reverse(scene.distance(m)), m.seen.tier_age_ms, std::cmp::Reverse(m.id()))
        })
        .map(|m| m.id());
    let Some(id) = youngest else { return };
    let goes = to.map_or_else(|| "ends".to_owned(), |tier| format!("to {tier}"));
    let text = format!(
        "{id} {goes}: for {} ms no more than {} had to be warm or serving, and {all} in all; there \
         are {} and {exist}",
        scene.spec.evaluation_window_ms,
        shadows_text(warm),
        scene.warm_or_more()
    );
    scene.order(id, to, Law::Rollback, text);
}
