//! How likely each instance is to fail, learned tick by tick: what it does is compared with its
//! own past and with its peers, what it uses is followed to the end, and what became of earlier
//! scores corrects later ones.
//!
//! Meters are added up every tick; once a second values, drifts and scores follow from them.
//! What all instances of a service do alike is nobody's fault: a drift counts as far as it goes
//! beyond the median drift of the others.

mod calibration;
mod drift;
mod evidence;
mod history;
mod relief;
mod reported;
mod resources;
mod robust;
mod surprise;
mod tally;
#[cfg(test)]
mod tests;
mod trend;
mod watch;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::calibration::Calibration;
pub use self::drift::{Deviation, Drift, DriftSpec};
pub(crate) use self::relief::AtRisk;
pub use self::surprise::{Surprise, Surprised};
pub use self::trend::{Line, Trend};

use self::evidence::{DRIFTS, Evidence, Findings, Peers, stalled_share};
use self::reported::{Reported, oddest};
use self::resources::Known;
use self::robust::medians_of_others;
use self::tally::Fading;
use self::watch::Watch;
use crate::feedback::AlarmTally;
use crate::fleet::may_take_requests;
use crate::{
    AlarmScore, Fact, Health, InstanceId, InstanceObservation, RiskAssessment, ServiceObservation,
    Tier,
};

/// Length of a period: scores follow at its end.
const PERIOD_MS: u64 = 1_000;
/// Time constant at which an instance that went down and came back is forgiven.
const FLAP_MEMORY_MS: f64 = 300_000.0;
/// Distance of the scores that are held against what became of them.
const SCORED_EVERY_MS: u64 = 10_000;
/// What one outcome tells: half, since scores follow each other closely; an eighth when the load
/// was moved away and the failure it would have caused may have been avoided.
const OUTCOME_WEIGHT: f64 = 0.5;
const AVOIDED_WEIGHT: f64 = 0.125;
/// An alarm needs scores of a second each, as many in a row.
const PERSISTENT: u32 = 3;

/// The risk of all instances of one service.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Risk {
    since_period_ms: u64,
    #[serde(with = "crate::as_pairs")]
    watches: BTreeMap<InstanceId, Watch>,
    far: Calibration,
    soon: Calibration,
    /// What became of alarms.
    #[serde(default)]
    alarms: AlarmTally,
}

impl Risk {
    /// A model whose periods end at another tick than other services', so that the arithmetic of
    /// many services does not fall into one.
    pub(crate) fn new(name: &str) -> Self {
        let sum: u64 = name.bytes().map(u64::from).sum();
        Self { since_period_ms: sum % 10 * 100, ..Self::default() }
    }

    /// Goes on after time in which nothing was seen: what became of the scores before it nobody
    /// knows, and values from before and after it belong to no common drift.
    pub(crate) fn rest(&mut self) {
        self.since_period_ms %= PERIOD_MS;
        for watch in self.watches.values_mut() {
            watch.open.clear();
            watch.interrupt();
        }
    }

    /// Takes one tick; `objective` is the share of requests that may fail.
    pub(crate) fn observe(
        &mut self,
        seen: &ServiceObservation,
        now_ms: u64,
        elapsed_ms: u64,
        objective: f64,
    ) {
        self.outcomes(seen, now_ms);
        for instance in &seen.instances {
            let watch = self.watches.entry(instance.instance).or_insert_with(Watch::new);
            let lost = matches!(instance.health, Health::Down(_) | Health::Ejected);
            if lost && !watch.lost {
                watch.flaps += 1.0;
                watch.interrupt();
            }
            watch.lost = lost;
            if may_take_requests(instance) {
                watch.tally.add(&instance.meters, instance.kernel.as_ref(), elapsed_ms);
            }
        }
        self.since_period_ms = self.since_period_ms.saturating_add(elapsed_ms);
        if self.since_period_ms >= PERIOD_MS {
            let period_ms = std::mem::take(&mut self.since_period_ms);
            self.close(&seen.instances, now_ms, period_ms, objective);
        }
    }

    /// Learns from those that failed, and from scores whose time is over.
    fn outcomes(&mut self, seen: &ServiceObservation, now_ms: u64) {
        let mut failed: Vec<InstanceId> = Vec::new();
        for fact in &seen.facts {
            if let Fact::Exited { instance, tier: Tier::Serving, .. } = fact {
                failed.push(*instance);
            }
        }
        for instance in &seen.instances {
            let is_lost = matches!(instance.health, Health::Down(_) | Health::Ejected);
            let was_well = |watch: &Watch| !watch.lost;
            if is_lost && self.watches.get(&instance.instance).is_some_and(was_well) {
                failed.push(instance.instance);
            }
        }
        for id in failed {
            let Some(watch) = self.watches.get_mut(&id) else { continue };
            match watch.alarm.take() {
                Some((began_ms, _)) => self.alarms.came_true(now_ms.saturating_sub(began_ms)),
                None => self.alarms.missed(),
            }
            for (at_ms, far, soon, _) in std::mem::take(&mut watch.open) {
                let within_ms = now_ms.saturating_sub(at_ms);
                self.far.learn(far, within_ms <= RiskAssessment::HORIZON_MS, OUTCOME_WEIGHT);
                self.soon.learn(soon, within_ms <= RiskAssessment::SOON_MS, OUTCOME_WEIGHT);
            }
        }
        self.watches.retain(|id, _| seen.instances.iter().any(|i| i.instance == *id));
    }

    fn close(
        &mut self,
        instances: &[InstanceObservation],
        now_ms: u64,
        period_ms: u64,
        objective: f64,
    ) {
        let fading = Fading::over(period_ms);
        let forgiven = libm::exp(-(period_ms as f64) / FLAP_MEMORY_MS);
        for instance in instances {
            let Some(watch) = self.watches.get_mut(&instance.instance) else { continue };
            watch.uses(Known::of(instance), now_ms);
            watch.reported.observe(&instance.reported, now_ms);
            watch.flaps *= forgiven;
            if let Some(values) = watch.tally.close(&mut watch.failures, fading) {
                watch.drift(values);
            }
            if let Some((began_ms, moved)) = &mut watch.alarm {
                *moved |= watch.relief.is_moving();
                let over = now_ms.saturating_sub(*began_ms) > RiskAssessment::HORIZON_MS;
                if over && !watch.relief.is_alarmed() {
                    self.alarms.came_to_nothing(*moved);
                    watch.alarm = None;
                }
            }
            while let Some((at_ms, far, soon, moved)) = watch.open.front().copied() {
                if now_ms.saturating_sub(at_ms) < RiskAssessment::HORIZON_MS {
                    break;
                }
                watch.open.pop_front();
                let weight = if moved { AVOIDED_WEIGHT } else { OUTCOME_WEIGHT };
                self.far.learn(far, false, weight);
                self.soon.learn(soon, false, weight);
            }
        }
        self.assess(instances, now_ms, objective);
    }

    fn assess(&mut self, instances: &[InstanceObservation], now_ms: u64, objective: f64) {
        let mut able: Vec<InstanceId> =
            instances.iter().filter(|i| may_take_requests(i)).map(|i| i.instance).collect();
        able.sort_unstable();
        for (id, watch) in &mut self.watches {
            if able.binary_search(id).is_err() {
                (watch.assessment, watch.measured) = (None, 0.0);
            }
        }
        let findings = self.findings(&able);
        let peers = self.peers(&able, objective);
        for ((id, findings), peers) in able.iter().zip(findings).zip(peers) {
            let Some(watch) = self.watches.get_mut(id) else { continue };
            let evidence = Evidence::of(watch, &findings, peers);
            let (far, soon) = evidence.log_odds();
            watch.measured = evidence.measured();
            watch.seen_idle = evidence.is_seen_idle();
            let is_due = watch
                .open
                .back()
                .is_none_or(|last| now_ms >= last.0.saturating_add(SCORED_EVERY_MS));
            if is_due {
                watch.open.push_back((now_ms, far, soon, watch.relief.is_moving()));
            }
            watch.assessment = Some(RiskAssessment {
                instance: *id,
                score: self.far.probability(far),
                horizon_ms: RiskAssessment::HORIZON_MS,
                soon_score: self.soon.probability(soon),
                predicted_load_rps: 0.0,
                kept: 1.0,
                exhaustion: evidence.exhaustion,
                contributors: evidence.contributors(),
            });
            let score = self.far.probability(far);
            let was_alarmed = watch.relief.is_alarmed();
            watch.relief.follow(score, PERSISTENT, now_ms);
            if watch.relief.is_alarmed() && !was_alarmed {
                watch.alarm.get_or_insert((now_ms, false));
            }
        }
    }

    /// What is odd of each one beyond its peers.
    fn findings(&self, able: &[InstanceId]) -> Vec<Findings> {
        let watches: Vec<&Watch> = able.iter().filter_map(|id| self.watches.get(id)).collect();
        let quick = drifts(&watches, |watch| &watch.drifts);
        let slow = drifts(&watches, |watch| &watch.slow_drifts);
        let reported: Vec<&Reported> = watches.iter().map(|watch| &watch.reported).collect();
        let all = quick.into_iter().zip(slow).zip(oddest(&reported));
        all.map(|((quick, slow), odd)| Findings { quick, slow, odd }).collect()
    }

    fn peers(&self, able: &[InstanceId], objective: f64) -> Vec<Peers> {
        let objective = if objective.is_finite() { objective.clamp(0.0, 1.0) } else { 0.0 };
        let of = |what: &dyn Fn(&Watch) -> Option<f64>| {
            let values: Vec<Option<f64>> =
                able.iter().map(|id| self.watches.get(id).and_then(what)).collect();
            medians_of_others(&values)
        };
        let asked = |watch: &Watch| watch.failures.asked >= 1.0;
        let failed = of(&|w| asked(w).then(|| w.failures.share()));
        let unconnected = of(&|w| asked(w).then(|| w.failures.unconnected_share()));
        let stalled = of(&|w| w.resources.as_ref().map(stalled_share));
        let all = failed.into_iter().zip(unconnected).zip(stalled);
        all.map(|((failed, unconnected), stalled)| Peers {
            failed: failed.unwrap_or(0.0).max(objective),
            unconnected: unconnected.unwrap_or(0.0),
            stalled: stalled.unwrap_or(0.0),
            any: able.len() > 1,
        })
        .collect()
    }

    /// What became of alarms.
    pub(crate) fn score(&self) -> AlarmScore {
        self.alarms.score(None)
    }

    /// Probability that one fails within the farther horizon; 0 of one that may take no requests.
    pub(crate) fn likely(&self, id: InstanceId) -> f64 {
        let assessment = self.watches.get(&id).and_then(|watch| watch.assessment.as_ref());
        assessment.map_or(0.0, |assessment| assessment.score)
    }

    /// The assessments of all that may take requests, ordered by id; `load_rps` says what an
    /// instance would get.
    pub(crate) fn assessments(&self, load_rps: impl Fn(InstanceId) -> f64) -> Vec<RiskAssessment> {
        let known = self.watches.iter().filter_map(|(id, watch)| {
            let mut assessment = watch.assessment.clone()?;
            assessment.predicted_load_rps = load_rps(*id).max(0.0);
            assessment.kept = watch.relief.kept();
            Some(assessment)
        });
        known.collect()
    }
}

/// Drifts beyond the median of the peers' where that is a drift for the worse, too.
fn drifts(watches: &[&Watch], of: fn(&Watch) -> &[Drift; 4]) -> Vec<[Option<Deviation>; 4]> {
    let mut drifts = vec![[None; 4]; watches.len()];
    for kind in 0..DRIFTS.len() {
        let own: Vec<Option<Deviation>> =
            watches.iter().map(|watch| of(watch)[kind].deviation()).collect();
        let sizes: Vec<Option<f64>> = own.iter().map(|drift| Some((*drift)?.size)).collect();
        let shared = medians_of_others(&sizes);
        for ((own, shared), drifts) in own.iter().zip(shared).zip(&mut drifts) {
            drifts[kind] = own.map(|own| own.beyond(shared.unwrap_or(0.0).max(0.0)));
        }
    }
    drifts
}
