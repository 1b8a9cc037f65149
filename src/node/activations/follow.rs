//! From ticks to activations: a look at the actions of each tick, and at the few shadows that are followed.

use std::collections::BTreeMap;

use foreshadow_control::{
    Action, Fact, InstanceId, InstanceObservation, Observation, Plan, PlannedAction, Role,
    ServiceName, ServiceObservation, ServicePlan, Tier,
};

use super::{Activation, DemandSeen, Open, Outcome, Steps};

/// The activations under way.
#[derive(Default)]
pub(crate) struct Following(Open);

/// One of them.
pub(super) struct Followed {
    activation: Activation,
    /// Shadows in reserve before it was taken.
    reserve: usize,
    /// What the primaries carried at its most, less the highest demand; below 0 it was needed.
    needed: Option<bool>,
}

impl Following {
    /// Takes one tick; gives those of which something is new. `target` is the utilisation that a service's
    /// instances are filled to.
    pub(crate) fn follow(
        &mut self,
        (observation, plan): (&Observation, &Plan),
        now_ms: u64,
        target: impl Fn(&ServiceName) -> f64,
    ) -> Vec<Activation> {
        let mut news = Vec::new();
        if !self.0.is_empty() {
            self.forget_services(observation, &mut news);
        }
        for (seen, decided) in observation.services.iter().zip(&plan.services) {
            if !self.0.is_empty() {
                self.carry_on((seen, decided), now_ms, &target, &mut news);
            }
            for planned in decided.actions.iter().filter(|_| decided.act) {
                self.take(seen, decided, planned, now_ms, &mut news);
            }
        }
        news
    }

    fn forget_services(&mut self, observation: &Observation, news: &mut Vec<Activation>) {
        let is_there = |name: &ServiceName| observation.services.iter().any(|s| s.service == *name);
        let gone = self.0.extract_if(.., |_, one| !is_there(&one.activation.service));
        for (_, mut one) in gone {
            one.activation.outcome = Outcome::NotSeen;
            news.push(one.activation);
        }
    }

    /// What an order begins or ends.
    fn take(
        &mut self,
        seen: &ServiceObservation,
        decided: &ServicePlan,
        planned: &PlannedAction,
        now_ms: u64,
        news: &mut Vec<Activation>,
    ) {
        match planned.action {
            Action::Move { instance, tier: Tier::Serving } => {
                let Some(shadow) = find(seen, instance) else { return };
                if self.0.contains_key(&instance) {
                    return;
                }
                let activation = Activation {
                    service: seen.service.clone(),
                    instance,
                    place: shadow.place.clone(),
                    at_ms: now_ms,
                    from: shadow.tier,
                    law: planned.reason.law,
                    why: crate::secrets::cover(&planned.reason.text).into_owned(),
                    steps: Steps::default(),
                    demand: DemandSeen { before_rps: decided.demand_rps, ..DemandSeen::default() },
                    outcome: Outcome::UnderWay,
                };
                news.push(activation.clone());
                let followed = Followed { activation, reserve: reserve(seen), needed: None };
                self.0.insert(instance, followed);
            }
            Action::Move { instance, tier: Tier::Draining } => {
                let Some(one) = self.0.remove(&instance) else { return };
                let (steps, at_ms) = (one.activation.steps, one.activation.at_ms);
                let since_ms = at_ms.saturating_add(steps.redirected_ms.unwrap_or(0));
                let after_s = now_ms.saturating_sub(since_ms) / 1_000;
                let outcome = Outcome::RolledBack { after_s, needed: one.needed };
                news.push(one.end(outcome, decided.demand_rps));
            }
            Action::Destroy { instance } => {
                let Some(one) = self.0.remove(&instance) else { return };
                let error = crate::secrets::cover(&planned.reason.text).into_owned();
                let step = one.next().to_owned();
                news.push(one.end(Outcome::Failed { step, error }, decided.demand_rps));
            }
            Action::Move { .. } | Action::Create { .. } => {}
        }
    }

    /// What became of those of a service since the last tick.
    fn carry_on(
        &mut self,
        (seen, decided): (&ServiceObservation, &ServicePlan),
        now_ms: u64,
        target: &impl Fn(&ServiceName) -> f64,
        news: &mut Vec<Activation>,
    ) {
        for fact in &seen.facts {
            let (id, outcome) = match fact {
                Fact::TierReached { instance, tier, .. } => {
                    if let Some(one) = self.0.get_mut(instance)
                        && one.reached(*tier, now_ms)
                    {
                        news.push(one.activation.clone());
                    }
                    continue;
                }
                Fact::StepFailed { instance: Some(id), error, .. } => (*id, error),
                Fact::Exited { instance, detail, .. } => (*instance, detail),
                Fact::StepFailed { instance: None, .. } | Fact::Adopted { .. } => continue,
            };
            if let Some(one) = self.0.remove(&id) {
                let error = crate::secrets::cover(outcome).into_owned();
                let step = one.next().to_owned();
                news.push(one.end(Outcome::Failed { step, error }, decided.demand_rps));
            }
        }
        let reserve = reserve(seen);
        let mut carried: Option<Option<f64>> = None;
        for (id, one) in &mut self.0 {
            if one.activation.service != seen.service {
                continue;
            }
            let weight = decided.weights.iter().find(|w| w.instance == *id).map_or(0, |w| w.weight);
            let steps = &mut one.activation.steps;
            let passed_ms = now_ms.saturating_sub(one.activation.at_ms);
            let mut is_new = false;
            if weight > 0 && steps.redirected_ms.is_none() {
                steps.redirected_ms = Some(passed_ms);
                one.activation.outcome = Outcome::Serves;
                is_new = true;
            }
            if steps.refilled_ms.is_none() && passed_ms > 0 && reserve >= one.reserve {
                steps.refilled_ms = Some(passed_ms);
                is_new = true;
            }
            if weight > 0 {
                let demand = &mut one.activation.demand;
                demand.highest_rps = demand.highest_rps.max(decided.demand_rps);
                let carried = *carried
                    .get_or_insert_with(|| carried_rps(seen, decided, target(&seen.service)));
                if let Some(carried) = carried {
                    one.needed = Some(one.needed.unwrap_or(false) || decided.demand_rps > carried);
                }
            }
            if is_new {
                news.push(one.activation.clone());
            }
        }
    }
}

impl Followed {
    /// Notes a tier; whether that was news.
    fn reached(&mut self, tier: Tier, now_ms: u64) -> bool {
        let passed_ms = Some(now_ms.saturating_sub(self.activation.at_ms));
        let steps = &mut self.activation.steps;
        match tier {
            Tier::Full if steps.configured_ms.is_none() => steps.configured_ms = passed_ms,
            Tier::Serving if steps.verified_ms.is_none() => {
                steps.configured_ms = steps.configured_ms.or(passed_ms);
                steps.verified_ms = passed_ms;
            }
            _ => return false,
        }
        true
    }

    /// The first step that has not come about.
    fn next(&self) -> &'static str {
        let steps = &self.activation.steps;
        match (steps.configured_ms, steps.verified_ms, steps.redirected_ms) {
            (None, ..) => "configured",
            (_, None, _) => "verified",
            (_, _, None) => "redirected",
            _ => "serving",
        }
    }

    fn end(mut self, outcome: Outcome, after_rps: f64) -> Activation {
        self.activation.outcome = outcome;
        self.activation.demand.after_rps = Some(after_rps);
        self.activation
    }
}

fn find(seen: &ServiceObservation, id: InstanceId) -> Option<&InstanceObservation> {
    seen.instances.iter().find(|i| i.instance == id && i.role == Role::Shadow)
}

/// Shadows that are kept and do not serve, and are not on their way there or to their end.
fn reserve(seen: &ServiceObservation) -> usize {
    let kept = Tier::Shadow..=Tier::Full;
    let is_kept = |i: &&InstanceObservation| {
        i.role == Role::Shadow
            && kept.contains(&i.tier)
            && i.moving_to.is_none_or(|to| kept.contains(&to))
    };
    seen.instances.iter().filter(is_kept).count()
}

/// What the primaries that have a weight carry at `target` utilisation; nothing where that is not known of one.
fn carried_rps(seen: &ServiceObservation, decided: &ServicePlan, target: f64) -> Option<f64> {
    let weights: BTreeMap<InstanceId, u32> =
        decided.weights.iter().map(|w| (w.instance, w.weight)).collect();
    let primaries = seen.instances.iter().filter(|i| {
        i.role == Role::Primary && weights.get(&i.instance).is_some_and(|weight| *weight > 0)
    });
    let rps = |i: &InstanceObservation| {
        decided.capacity.iter().find(|c| c.instance == i.instance).map(|c| c.rps * target)
    };
    primaries.map(rps).sum()
}

#[cfg(test)]
mod tests {
    use foreshadow_control::{CapacityView, InstanceWeight, Law, Mode, Reason};
    use serde_json::json;

    use super::*;

    const SHADOW: InstanceId = InstanceId(2);

    /// A primary that carries 100 rps, and shadows at their tiers.
    fn tick(shadows: &[(u64, Tier)], facts: Vec<Fact>, rps: f64) -> (Observation, Plan) {
        let mut seen: ServiceObservation = serde_json::from_value(json!({
            "service": "shop", "mode": "act", "arrivals": 0, "unserved": 0, "instances": [], "facts": [],
        }))
        .unwrap();
        seen.facts = facts;
        let idle = InstanceObservation::idle;
        seen.instances.push(idle(InstanceId(1), Role::Primary, Tier::Serving));
        seen.instances
            .extend(shadows.iter().map(|(id, tier)| idle(InstanceId(*id), Role::Shadow, *tier)));
        let decided: ServicePlan = serde_json::from_value(json!({
            "service": "shop", "mode": "act", "act": true, "weights": [], "demand_rps": rps,
            "forecast": [], "capacity": [],
        }))
        .unwrap();
        let decided = ServicePlan {
            mode: Mode::Act,
            weights: vec![InstanceWeight { instance: InstanceId(1), weight: 10_000 }],
            capacity: vec![CapacityView {
                instance: InstanceId(1),
                rps: 100.0,
                lower_rps: 0.0,
                upper_rps: None,
                pinned: true,
            }],
            ..decided
        };
        let observation = Observation {
            tick: 1,
            at_ms: 0,
            interval_ms: 100,
            kill_switch: false,
            services: vec![seen],
        };
        (observation, Plan { tick: 1, at_ms: 0, services: vec![decided] })
    }

    fn order(plan: &mut Plan, action: Action) {
        let reason = Reason { law: Law::Commit, text: "figures".to_owned() };
        plan.services[0].actions.push(PlannedAction { action, reason });
    }

    fn reached(tier: Tier) -> Fact {
        Fact::TierReached { instance: SHADOW, from: Tier::Warm, tier, took_ms: 30 }
    }

    fn follow(
        following: &mut Following,
        ticked: &(Observation, Plan),
        now_ms: u64,
    ) -> Vec<Activation> {
        following.follow((&ticked.0, &ticked.1), now_ms, |_| 0.5)
    }

    fn begun(following: &mut Following) {
        let mut first = tick(&[(2, Tier::Warm), (3, Tier::Shadow)], Vec::new(), 40.0);
        order(&mut first.1, Action::Move { instance: SHADOW, tier: Tier::Serving });
        let news = follow(following, &first, 1_000);
        assert_eq!((news.len(), &news[0].outcome), (1, &Outcome::UnderWay));
        assert_eq!((news[0].from, news[0].demand.before_rps), (Tier::Warm, 40.0));
    }

    #[test]
    fn an_activation_has_the_time_of_each_step_and_what_became_of_it() {
        let mut following = Following::default();
        begun(&mut following);
        let both = [(2, Tier::Serving), (3, Tier::Shadow)];
        let facts = vec![reached(Tier::Full), reached(Tier::Serving)];
        assert_eq!(follow(&mut following, &tick(&both, facts, 40.0), 1_100).len(), 2);
        let mut serves = tick(&both, Vec::new(), 60.0);
        serves.1.services[0].weights.push(InstanceWeight { instance: SHADOW, weight: 10 });
        let news = follow(&mut following, &serves, 1_200);
        assert_eq!(news[0].outcome, Outcome::Serves);
        assert!(follow(&mut following, &serves, 1_300).is_empty(), "nothing is new");
        let whole = [(2, Tier::Serving), (3, Tier::Shadow), (4, Tier::Shadow)];
        let news = follow(&mut following, &tick(&whole, Vec::new(), 30.0), 1_900);
        let steps = Steps {
            configured_ms: Some(100),
            verified_ms: Some(100),
            redirected_ms: Some(200),
            refilled_ms: Some(900),
        };
        assert_eq!(news[0].steps, steps);
        let mut last = tick(&whole, Vec::new(), 30.0);
        order(&mut last.1, Action::Move { instance: SHADOW, tier: Tier::Draining });
        let news = follow(&mut following, &last, 8_300);
        let outcome = Outcome::RolledBack { after_s: 7, needed: Some(true) };
        assert_eq!(news[0].outcome, outcome, "60 rps are more than half of 100");
        assert_eq!((news[0].demand.highest_rps, news[0].demand.after_rps), (60.0, Some(30.0)));
        assert!(following.0.is_empty());
    }

    #[test]
    fn a_step_that_fails_is_named_with_what_came_back() {
        let fails = [
            (Vec::new(), "configured"),
            (vec![reached(Tier::Full)], "verified"),
            (vec![reached(Tier::Full), reached(Tier::Serving)], "redirected"),
        ];
        for (before, step) in fails {
            let mut following = Following::default();
            begun(&mut following);
            let mut facts = before;
            facts.push(Fact::Exited {
                instance: SHADOW,
                tier: Tier::Warm,
                detail: "signal 9".to_owned(),
            });
            let news = follow(&mut following, &tick(&[(3, Tier::Shadow)], facts, 40.0), 1_100);
            let outcome = Outcome::Failed { step: step.to_owned(), error: "signal 9".to_owned() };
            assert_eq!(news.last().map(|one| &one.outcome), Some(&outcome));
        }
    }

    #[test]
    fn what_is_only_advised_is_no_activation_and_a_service_that_goes_ends_its_own() {
        let mut following = Following::default();
        let mut advised = tick(&[(2, Tier::Warm)], Vec::new(), 40.0);
        order(&mut advised.1, Action::Move { instance: SHADOW, tier: Tier::Serving });
        advised.1.services[0].act = false;
        assert!(follow(&mut following, &advised, 500).is_empty());
        begun(&mut following);
        let (mut observation, mut plan) = tick(&[], Vec::new(), 0.0);
        observation.services.clear();
        plan.services.clear();
        let news = follow(&mut following, &(observation, plan), 2_000);
        assert_eq!(news[0].outcome, Outcome::NotSeen);
    }
}
