//! What one run measured: latency, failures, and the time between what happened and the answer.

use std::collections::BTreeMap;

use foreshadow_control::{InstanceId, Role, Tier};
use foreshadow_testbed::load::SecondStats;
use serde::Serialize;

use super::acts::Take;
use super::script::{Act, Script, primaries_capacity_rps};
use super::watch::Sample;

/// Requests count as failed by the kill when they fail up to this long after it.
pub(super) const KILL_SHADOW_MS: u64 = 5_000;

/// The figures of one run. Times are Unix milliseconds where the name ends in `at_ms`, and
/// milliseconds since the kill or the end of the spike otherwise.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Figures {
    pub(super) offered: u64,
    pub(super) failed: u64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) seconds: usize,
    pub(super) seconds_beyond: usize,
    pub(super) generator_lag_p99_ms: f64,
    pub(super) acts: Vec<ActFigures>,
    pub(super) ramp: Ramp,
    pub(super) kill: Kill,
    pub(super) spike: Spike,
}

/// One act, from its seconds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ActFigures {
    pub(super) name: &'static str,
    pub(super) failed: u64,
    /// Median over the act's seconds of their medians.
    pub(super) p50_ms: f64,
    /// Largest 99th percentile of the act's seconds.
    pub(super) p99_ms: f64,
    pub(super) seconds_beyond: usize,
}

/// The activation and the saturation it came before.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Ramp {
    pub(super) began_at_ms: u64,
    /// Shadows with weight when it began: with any, there is nothing to activate.
    pub(super) serving_before: usize,
    /// The offered rate crosses what the primaries serve at most.
    pub(super) saturation_at_ms: Option<u64>,
    /// First second beyond the objective whose next one is, too.
    pub(super) measured_saturation_at_ms: Option<u64>,
    /// A shadow has weight, for the first time since the ramp began.
    pub(super) activation_at_ms: Option<u64>,
    /// An answer from a shadow has reached the client, likewise; looked for every 100 ms.
    pub(super) first_answer_at_ms: Option<u64>,
    pub(super) lead_s: Option<f64>,
}

/// The failover.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Kill {
    pub(super) at_ms: u64,
    pub(super) failed: usize,
    pub(super) weight_zero_ms: Option<u64>,
    /// Shadows that had weight when the primary was killed.
    pub(super) shadows_serving: usize,
    /// Its share of the traffic has moved to shadows, by more than half.
    pub(super) carried_ms: Option<u64>,
    /// The first shadow that had no weight at the kill has some.
    pub(super) further_shadow_ms: Option<u64>,
    /// The same as the client sees it: an answer; looked for every 100 ms.
    pub(super) further_answer_ms: Option<u64>,
    pub(super) alive_before: usize,
    /// As many instances live as before the kill, one of them new.
    pub(super) recreated_ms: Option<u64>,
}

/// The spike and its rollback.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Spike {
    pub(super) ended_at_ms: u64,
    pub(super) serving_before: usize,
    pub(super) serving_most: usize,
    pub(super) tiers_before: BTreeMap<Tier, usize>,
    /// No more shadows have weight than before, and it stays so.
    pub(super) weights_back_ms: Option<u64>,
    /// As many shadows rest in each tier as before.
    pub(super) tiers_back_ms: Option<u64>,
}

/// Weights over time, from decision records and from looks at the node.
struct Timeline {
    weights: Vec<(u64, BTreeMap<InstanceId, u32>)>,
    roles: BTreeMap<InstanceId, Role>,
}

impl Timeline {
    fn of(take: &Take) -> Self {
        let recorded = take.decisions.iter().filter_map(|d| {
            let plan = d.plan.as_ref()?;
            Some((d.at_ms, plan.weights.iter().map(|w| (w.instance, w.weight)).collect()))
        });
        let looked = take
            .samples
            .iter()
            .map(|s| (s.at_ms, s.instances.iter().map(|i| (i.instance, i.weight)).collect()));
        let mut weights: Vec<_> = recorded.chain(looked).collect();
        weights.sort_by_key(|(at_ms, _)| *at_ms);
        let instances = take.samples.iter().flat_map(|s| &s.instances);
        let roles = instances.map(|i| (i.instance, i.role)).collect();
        Self { weights, roles }
    }

    fn serving_shadows<'a>(
        &'a self,
        weights: &'a BTreeMap<InstanceId, u32>,
    ) -> impl Iterator<Item = InstanceId> + 'a {
        let shadow = |id: &InstanceId| self.roles.get(id) == Some(&Role::Shadow);
        weights.iter().filter(move |(id, w)| **w > 0 && shadow(id)).map(|(id, _)| *id)
    }

    fn count(&self, weights: &BTreeMap<InstanceId, u32>) -> usize {
        self.serving_shadows(weights).count()
    }

    fn at(&self, ms: u64) -> Option<&BTreeMap<InstanceId, u32>> {
        self.weights.iter().take_while(|(at_ms, _)| *at_ms <= ms).last().map(|(_, w)| w)
    }

    fn from(&self, ms: u64) -> impl Iterator<Item = &(u64, BTreeMap<InstanceId, u32>)> {
        self.weights.iter().filter(move |(at_ms, _)| *at_ms >= ms)
    }
}

impl Figures {
    /// The figures of `take`.
    pub(super) fn of(take: &Take, script: &Script) -> Self {
        let timeline = Timeline::of(take);
        let load = &take.load;
        Self {
            offered: load.totals.offered,
            failed: load.totals.failed.total(),
            p50_ms: load.latency.p50_ms,
            p99_ms: load.latency.p99_ms,
            seconds: load.seconds.len(),
            seconds_beyond: load.seconds_beyond_objective(),
            generator_lag_p99_ms: load.generator_lag.p99_ms,
            acts: script.acts.iter().map(|act| ActFigures::of(act, &load.seconds)).collect(),
            ramp: Ramp::of(take, script, &timeline),
            kill: Kill::of(take, &timeline),
            spike: Spike::of(take, script, &timeline),
        }
    }
}

impl ActFigures {
    fn of(act: &Act, seconds: &[SecondStats]) -> Self {
        let within = |s: &&SecondStats| {
            (act.from_s..act.to_s).contains(&f64::from(s.second)) && s.offered > 0
        };
        let seconds: Vec<_> = seconds.iter().filter(within).collect();
        let mut medians: Vec<f64> = seconds.iter().map(|s| s.latency.p50_ms).collect();
        medians.sort_by(f64::total_cmp);
        Self {
            name: act.name,
            failed: seconds.iter().map(|s| s.failed.total()).sum(),
            p50_ms: medians.get(medians.len() / 2).copied().unwrap_or(0.0),
            p99_ms: seconds.iter().map(|s| s.latency.p99_ms).fold(0.0, f64::max),
            seconds_beyond: seconds.iter().filter(|s| s.is_beyond_objective()).count(),
        }
    }
}

impl Ramp {
    fn of(take: &Take, script: &Script, timeline: &Timeline) -> Self {
        let unix = |offset: std::time::Duration| {
            take.started_ms + u64::try_from(offset.as_millis()).unwrap_or(u64::MAX)
        };
        let saturation_at_ms = script.crossing(primaries_capacity_rps()).map(unix);
        let began_at_ms = unix(script.ramp_from);
        let serving_before = timeline.at(began_at_ms).map_or(0, |w| timeline.count(w));
        let mut since = timeline.from(began_at_ms);
        let activation_at_ms = since.find(|(_, w)| timeline.count(w) > 0).map(|(at_ms, _)| *at_ms);
        let stamps = take.answers.values().flatten();
        let first_answer_at_ms = stamps.copied().filter(|at_ms| *at_ms >= began_at_ms).min();
        let mut pairs = take.load.seconds.windows(2);
        let measured = pairs.find(|p| p.iter().all(SecondStats::is_beyond_objective));
        let lead_s = saturation_at_ms
            .zip(activation_at_ms)
            .map(|(saturated, activated)| (saturated as f64 - activated as f64) / 1e3);
        Self {
            began_at_ms,
            serving_before,
            saturation_at_ms,
            measured_saturation_at_ms: measured.map(|p| p[0].unix_ms),
            activation_at_ms,
            first_answer_at_ms,
            lead_s,
        }
    }
}

impl Kill {
    fn of(take: &Take, timeline: &Timeline) -> Self {
        let at_ms = take.kill_ms;
        let since = |ms: u64| ms.saturating_sub(at_ms);
        let none = BTreeMap::new();
        let before = timeline.at(at_ms).unwrap_or(&none);
        let serving: Vec<_> = timeline.serving_shadows(before).collect();
        let zero = timeline.from(at_ms).find(|(_, w)| w.get(&take.killed).is_none_or(|w| *w == 0));
        let lost = share(before, &[take.killed]);
        let held = share(before, &serving);
        let carried = timeline.from(at_ms).find(|(_, weights)| {
            let shadows: Vec<_> = timeline.serving_shadows(weights).collect();
            lost > 0.0 && share(weights, &shadows) > held + lost / 2.0
        });
        let further = timeline.from(at_ms).find_map(|(ms, weights)| {
            let new = timeline.serving_shadows(weights).find(|id| !serving.contains(id));
            new.map(|id| (*ms, id))
        });
        let further_answer_ms = further.and_then(|(_, id)| {
            let stamps = take.answers.get(&format!("shadow-{id}"))?;
            stamps.iter().find(|stamp| **stamp >= at_ms).map(|stamp| since(*stamp))
        });
        let alive = |sample: &Sample| sample.alive().count();
        let last = take.samples.iter().take_while(|s| s.at_ms <= at_ms).last();
        let alive_before = last.map_or(0, alive);
        let known: Vec<_> = last.iter().flat_map(|s| &s.instances).map(|i| i.instance).collect();
        let recreated = take.samples.iter().filter(|s| s.at_ms > at_ms).find(|sample| {
            let gone = sample.alive().all(|i| i.instance != take.killed);
            let new = sample.alive().any(|i| !known.contains(&i.instance));
            gone && new && alive(sample) >= alive_before
        });
        let until_ms = at_ms + KILL_SHADOW_MS;
        Self {
            at_ms,
            failed: take.load.failures_between(at_ms, until_ms).count(),
            weight_zero_ms: zero.map(|(ms, _)| since(*ms)),
            shadows_serving: serving.len(),
            carried_ms: carried.map(|(ms, _)| since(*ms)),
            further_shadow_ms: further.map(|(ms, _)| since(ms)),
            further_answer_ms,
            alive_before,
            recreated_ms: recreated.map(|s| since(s.at_ms)),
        }
    }
}

impl Spike {
    fn of(take: &Take, script: &Script, timeline: &Timeline) -> Self {
        let unix = |offset: std::time::Duration| {
            take.started_ms + u64::try_from(offset.as_millis()).unwrap_or(u64::MAX)
        };
        let (from_ms, ended_at_ms) = (unix(script.spike_from), unix(script.spike_to));
        let none = BTreeMap::new();
        let serving_before = timeline.count(timeline.at(from_ms).unwrap_or(&none));
        let serving_most =
            timeline.from(from_ms).map(|(_, w)| timeline.count(w)).max().unwrap_or(0);
        let most_at_ms =
            timeline.from(ended_at_ms).filter(|(_, w)| timeline.count(w) > serving_before).last();
        let stays = timeline.from(most_at_ms.map_or(ended_at_ms, |(ms, _)| ms + 1)).next();
        let before = take.samples.iter().take_while(|s| s.at_ms <= from_ms).last();
        let tiers_before = before.map(tiers).unwrap_or_default();
        let weights_back_at_ms = stays.map(|(ms, _)| *ms);
        let tiers_back = weights_back_at_ms.and_then(|back_ms| {
            take.samples.iter().find(|s| s.at_ms >= back_ms && tiers(s) == tiers_before)
        });
        Self {
            ended_at_ms,
            serving_before,
            serving_most,
            tiers_before,
            weights_back_ms: weights_back_at_ms.map(|ms| ms.saturating_sub(ended_at_ms)),
            tiers_back_ms: tiers_back.map(|s| s.at_ms.saturating_sub(ended_at_ms)),
        }
    }
}

/// Part of all weight that `instances` have.
fn share(weights: &BTreeMap<InstanceId, u32>, instances: &[InstanceId]) -> f64 {
    let total: u32 = weights.values().sum();
    let theirs: u32 = instances.iter().filter_map(|id| weights.get(id)).sum();
    f64::from(theirs) / f64::from(total.max(1))
}

/// Shadows by the tier they rest at.
fn tiers(sample: &Sample) -> BTreeMap<Tier, usize> {
    let counts = Tier::ALL.iter().map(|tier| (*tier, sample.resting_at(*tier)));
    counts.filter(|(_, count)| *count > 0).collect()
}
