//! The instances of one service: what is remembered of each, and how each stands in this tick.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::belief::{Belief, common_rps, shrunk_rps};
use crate::capacity::CapacityModel;
use crate::errors::{Errors, Trust};
use crate::migration::Part;
use crate::verification::{Verdict, verdict};
use crate::warm_up::{WarmUp, Warming};
use crate::{
    Capacity, CapacityView, Fact, Health, InstanceId, InstanceObservation, PlaceName, Role,
    ServiceObservation, ServiceSpec, Tier,
};

/// Share of its capacity that an instance is given when its warm-up begins.
const RAMP_FLOOR: f64 = 0.1;

/// Part of the warm-up that an instance keeps while it does not serve: frozen or on a small share it
/// stays the same process, with its caches and compiled code, and only opens connections again.
const KEPT: f64 = 0.8;

/// How fast what is known of an instance ages while nobody looks, relative to while it is watched.
const UNSEEN_AGEING: f64 = 0.02;
/// No instance serves more; a capacity beyond it is a slip of the pen.
const MOST_RPS: f64 = 1e12;

/// What is remembered of one instance between ticks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Known {
    pub(crate) capacity: CapacityModel,
    /// Share of the service's requests, as slewed, 0 to 1.
    pub(crate) share: f64,
    /// Weight in force.
    pub(crate) weight: u32,
    /// Since when checks fail or it is ejected.
    pub(crate) lost_since_ms: Option<u64>,
    /// When it came back after that.
    pub(crate) back_since_ms: Option<u64>,
    pub(crate) issued: Option<Issued>,
    /// Steps of it are refused until then.
    pub(crate) blocked_until_ms: u64,
    warming: Warming,
    /// How long it has served by now, and how long before that.
    #[serde(default)]
    stint_ms: u64,
    #[serde(default)]
    served_ms: u64,
    #[serde(default)]
    pub(crate) errors: Errors,
    /// Where it was made, if it is a shadow.
    #[serde(default, skip_serializing_if = "PlaceName::is_default")]
    pub(crate) place: PlaceName,
}

/// An order given and not yet seen to be under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Issued {
    /// Where it should go; none when it should end.
    pub(crate) to: Option<Tier>,
    pub(crate) expires_ms: u64,
}

impl Known {
    fn new(id: InstanceId) -> Self {
        Self {
            capacity: CapacityModel::new(id.0),
            share: 0.0,
            weight: 0,
            lost_since_ms: None,
            back_since_ms: None,
            issued: None,
            blocked_until_ms: 0,
            warming: Warming::default(),
            stint_ms: 0,
            served_ms: 0,
            errors: Errors::default(),
            place: PlaceName::default(),
        }
    }
}

/// How one instance stands in this tick.
#[derive(Clone, Debug)]
pub(crate) struct Member<'a> {
    pub(crate) seen: &'a InstanceObservation,
    /// The tier it will have once what is under way is done; none when it is to end.
    pub(crate) heading: Option<Tier>,
    /// A step is under way, ordered, or refused for now.
    pub(crate) busy: bool,
    /// For how long checks have failed or it has been ejected, if they do or it is.
    pub(crate) lost_ms: Option<u64>,
    /// May take requests now, as far as it and orders already given are concerned.
    pub(crate) able: bool,
    /// The same, with the orders of this tick.
    pub(crate) eligible: bool,
    pub(crate) belief: Option<Belief>,
    pub(crate) pinned: bool,
    /// Capacity used in decisions: believed, or that of its peers.
    pub(crate) rps: f64,
    /// Part of its capacity it may be given now, 0 to 1.
    pub(crate) ramp: f64,
    pub(crate) trust: Trust,
    /// Part of its load that it keeps while it is likely to fail, 0 to 1.
    pub(crate) kept: f64,
    pub(crate) verdict: Verdict,
    pub(crate) part: Part,
}

impl Member<'_> {
    pub(crate) fn id(&self) -> InstanceId {
        self.seen.instance
    }

    /// Checks fail or it is ejected.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost_ms.is_some()
    }

    pub(crate) fn is_primary(&self) -> bool {
        self.seen.role == Role::Primary
    }

    pub(crate) fn is_shadow(&self) -> bool {
        self.seen.role == Role::Shadow && !self.part.hidden
    }

    /// A shadow that is, or will be, serving and is not out of order.
    pub(crate) fn is_committed(&self) -> bool {
        self.is_shadow()
            && self.heading == Some(Tier::Serving)
            && !self.is_lost()
            && !self.seen.drained
    }

    /// Its capacity, where anything is known of it or, as `peers_known` says, of its peers'.
    pub(crate) fn view(&self, peers_known: bool) -> Option<CapacityView> {
        let of_peers = Belief { rps: self.rps, lower_rps: 0.0, upper_rps: None, error: 1.0 };
        let belief = self.belief.or_else(|| peers_known.then_some(of_peers))?;
        Some(CapacityView {
            instance: self.id(),
            rps: self.rps,
            lower_rps: belief.lower_rps.min(self.rps),
            upper_rps: belief.upper_rps.map(|upper| upper.max(self.rps)),
            pinned: self.pinned,
        })
    }
}

/// What changed in who is there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sighted {
    /// Shadows seen for the first time.
    pub(crate) new_shadows: Vec<(InstanceId, PlaceName)>,
    /// Instances that are there no longer, with where they were.
    pub(crate) gone: Vec<(InstanceId, PlaceName)>,
    /// Those that had a share of the requests and are gone or out of order.
    pub(crate) lost_serving: Vec<InstanceId>,
    /// Those that had a share and are gone though nothing happened to them: they are not in the
    /// configuration any more.
    pub(crate) removed_serving: Vec<InstanceId>,
}

/// All instances of a service, as remembered.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Fleet {
    #[serde(with = "crate::as_pairs")]
    pub(crate) known: BTreeMap<InstanceId, Known>,
    /// What the instances last known could do in common; outlives them.
    pub(crate) typical_rps: Option<f64>,
    /// Whether that is what they can do, not only what they have carried so far.
    #[serde(default)]
    typical_known: bool,
    pub(crate) warm_up: WarmUp,
    /// Nobody looked before the next tick: who is gone by then went meanwhile.
    #[serde(default)]
    rested: bool,
}

impl Fleet {
    /// Takes in what was seen.
    pub(crate) fn observe(
        &mut self,
        spec: &ServiceSpec,
        observed: &ServiceObservation,
        now_ms: u64,
        elapsed_ms: u64,
    ) -> Sighted {
        let instances = &observed.instances;
        let mut sighted = Sighted::default();
        let rested = std::mem::take(&mut self.rested);
        let mut warmed = Vec::new();
        self.known.retain(|id, known| {
            let remains = instances.iter().any(|i| i.instance == *id);
            if !remains {
                sighted.gone.push((*id, known.place.clone()));
                let ended =
                    |fact: &Fact| matches!(fact, Fact::Exited { instance, .. } if instance == id);
                if known.share > 0.0 && observed.facts.iter().any(ended) {
                    sighted.lost_serving.push(*id);
                } else if known.share > 0.0 && !rested {
                    sighted.removed_serving.push(*id);
                }
            }
            remains
        });
        for seen in instances {
            let peers_rps = self.typical_rps.filter(|_| self.typical_known);
            let known = self.known.entry(seen.instance).or_insert_with(|| {
                let found = (seen.instance, seen.place.clone());
                sighted.new_shadows.extend((seen.role == Role::Shadow).then_some(found));
                Known::new(seen.instance)
            });
            if known.place != seen.place {
                known.place.clone_from(&seen.place);
            }
            known.settle(seen, now_ms);
            known.errors.observe(&seen.meters, elapsed_ms);
            let lost = known.share > 0.0 && is_lost(&seen.health);
            sighted.lost_serving.extend(lost.then_some(seen.instance));
            if seen.role == Role::Shadow && may_take_requests(seen) {
                let age_ms = seen.tier_age_ms;
                known.stint_ms = age_ms;
                let took_ms = known.warming.observe(&seen.meters, age_ms, spec.warm_up_ms);
                // One that served before says nothing of those that are cold.
                let fresh = took_ms.filter(|_| known.served_ms == 0);
                warmed.extend(fresh.map(|took_ms| (took_ms, &seen.place)));
            } else {
                known.warming = Warming::default();
                known.served_ms = known.served_ms.saturating_add(known.stint_ms);
                known.stint_ms = 0;
            }
            let warm = known.ramp(seen, self.warm_up.of(seen, spec.warm_up_ms), now_ms) >= 1.0;
            if may_take_requests(seen) && warm {
                let is_made = seen.role == Role::Shadow || seen.joined_ms.is_some();
                if let Some(peers_rps) = peers_rps.filter(|_| is_made) {
                    known.capacity.expect(peers_rps);
                }
                seen.resources.iter().for_each(|r| known.capacity.look_into(r, elapsed_ms));
                known.capacity.observe(&seen.meters, elapsed_ms, &spec.objective);
            } else {
                known.capacity.interrupt();
            }
        }
        for (took_ms, place) in warmed {
            self.warm_up.learn(took_ms, Some(place).filter(|_| spec.tells_places_apart()));
        }
        sighted
    }

    /// Time passed unseen. It counts for little: an instance changes slowly by itself, and what
    /// changes it is not more frequent when nobody looks.
    pub(crate) fn rest(&mut self, gap_ms: u64) {
        self.rested = true;
        for known in self.known.values_mut() {
            known.capacity.rest(UNSEEN_AGEING * gap_ms as f64 / 1_000.0);
        }
    }

    /// What is known of their capacities.
    pub(crate) fn views(&self, members: &[Member<'_>]) -> Vec<CapacityView> {
        members.iter().filter_map(|m| m.view(self.typical_rps.is_some())).collect()
    }

    /// How every instance stands, in the order observed.
    pub(crate) fn members<'a>(
        &mut self,
        spec: &ServiceSpec,
        instances: &'a [InstanceObservation],
        now_ms: u64,
    ) -> Vec<Member<'a>> {
        let target = target_utilisation(spec);
        let warm_up_ms = |seen| self.warm_up.of(seen, spec.warm_up_ms);
        let mut members: Vec<Member<'a>> = instances
            .iter()
            .filter_map(|seen| {
                Some(self.known.get(&seen.instance)?.member(spec, seen, warm_up_ms(seen), now_ms))
            })
            .collect();
        for member in &mut members {
            if member.belief.is_none() {
                let known = self.known.get(&member.id());
                member.belief = known.and_then(|k| k.capacity.belief(target));
            }
        }
        let beliefs: Vec<Belief> =
            members.iter().filter_map(|m| m.belief).filter(|b| b.rps > 0.0).collect();
        if let Some(common_rps) = common_rps(&beliefs) {
            self.typical_rps = Some(common_rps);
            self.typical_known = beliefs.iter().any(|b| b.upper_rps.is_some());
        }
        for member in &mut members {
            let rps = match (member.belief, self.typical_rps) {
                (Some(belief), _) if member.pinned => belief.rps,
                (Some(belief), Some(typical_rps)) => shrunk_rps(&belief, typical_rps),
                (_, typical_rps) => typical_rps.unwrap_or(1.0),
            };
            member.rps = rps.max(1e-3);
        }
        crate::errors::judge(&mut members, &mut self.known, spec.objective.error_rate);
        members
    }
}

impl Known {
    /// Follows health, and drops an order that was carried out, is visibly under way, or is lost.
    fn settle(&mut self, seen: &InstanceObservation, now_ms: u64) {
        if is_lost(&seen.health) {
            self.lost_since_ms.get_or_insert(now_ms);
            self.back_since_ms = None;
        } else if self.lost_since_ms.take().is_some() {
            self.back_since_ms = Some(now_ms);
        }
        if let Some(issued) = self.issued {
            let done = issued.to == Some(seen.tier) && seen.moving_to.is_none();
            let visible = issued.to.is_some() && seen.moving_to.is_some();
            if done || visible || now_ms >= issued.expires_ms {
                self.issued = None;
            }
        }
    }

    fn ramp(&self, seen: &InstanceObservation, warm_up_ms: u64, now_ms: u64) -> f64 {
        let kept_ms = (KEPT * self.served_ms.min(warm_up_ms) as f64) as u64;
        let served_ms = match seen.role {
            Role::Primary => seen.joined_ms.unwrap_or(u64::MAX),
            Role::Shadow => seen.tier_age_ms.saturating_add(kept_ms),
        };
        let back_ms = self.back_since_ms.map_or(u64::MAX, |since| now_ms.saturating_sub(since));
        let warm = served_ms.min(back_ms) as f64 / warm_up_ms.max(1) as f64;
        RAMP_FLOOR + (1.0 - RAMP_FLOOR) * warm.min(1.0)
    }

    fn member<'a>(
        &self,
        spec: &ServiceSpec,
        seen: &'a InstanceObservation,
        warm_up_ms: u64,
        now_ms: u64,
    ) -> Member<'a> {
        let heading = match self.issued {
            Some(issued) => issued.to,
            None => Some(seen.moving_to.unwrap_or(seen.tier)),
        };
        let of_all = if let Capacity::Pinned(rps) = spec.capacity { Some(rps) } else { None };
        let pinned_rps = seen.capacity_rps.or(of_all).filter(|rps| *rps > 0.0 && *rps <= MOST_RPS);
        let exactly = |rps| Belief { rps, lower_rps: rps, upper_rps: Some(rps), error: 0.0 };
        let able = may_take_requests(seen)
            && (seen.role == Role::Primary || heading == Some(Tier::Serving));
        Member {
            seen,
            heading,
            busy: seen.moving_to.is_some()
                || self.issued.is_some()
                || now_ms < self.blocked_until_ms,
            lost_ms: self.lost_since_ms.map(|since| now_ms.saturating_sub(since)),
            able,
            eligible: able,
            belief: pinned_rps.map(exactly),
            pinned: pinned_rps.is_some(),
            rps: 1.0,
            ramp: self.ramp(seen, warm_up_ms, now_ms),
            trust: Trust::default(),
            kept: 1.0,
            verdict: verdict(seen.mirror.as_ref(), &spec.objective),
            part: Part::default(),
        }
    }
}

/// Whether health, tier and operator let an instance take requests.
pub(crate) fn may_take_requests(seen: &InstanceObservation) -> bool {
    if seen.drained || seen.leaving {
        return false;
    }
    match seen.role {
        Role::Primary if seen.joined_ms.is_some() => seen.health == Health::Up,
        Role::Primary => matches!(seen.health, Health::Up | Health::Unknown),
        Role::Shadow => {
            seen.health == Health::Up
                && seen.tier == Tier::Serving
                && seen.moving_to.is_none_or(|to| to == Tier::Serving)
        }
    }
}

fn is_lost(health: &Health) -> bool {
    matches!(health, Health::Down(_) | Health::Ejected)
}

/// The utilisation instances are filled to, as a number that can be divided by.
pub(crate) fn target_utilisation(spec: &ServiceSpec) -> f64 {
    if spec.target_utilisation.is_finite() { spec.target_utilisation.clamp(0.05, 1.0) } else { 0.7 }
}
