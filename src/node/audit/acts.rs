//! What the controller decides and what becomes of shadows, as entries.

use std::collections::BTreeMap;

use foreshadow_control::{
    Action, Fact, InstanceId, InstanceWeight, Law, Observation, PlaceName, Plan, ServiceName,
    ServiceObservation, ServicePlan, Tier,
};
use serde_json::{Value, json};

use super::entry::{Actor, Entry, Outcome};

/// Ticks that a law must have left the weights alone before what it does is told again: a failover
/// or a rollback moves them tick by tick.
const AGAIN_AFTER_TICKS: u64 = 100;
/// Instances whose weights an entry tells.
const MOST_WEIGHTS: usize = 64;

/// Turns plans into entries; remembers what is under way.
#[derive(Debug, Default)]
pub(crate) struct PlanActs {
    moving: BTreeMap<(ServiceName, Law), u64>,
}

impl PlanActs {
    /// What is done on this plan. `before` is the plan of the tick before.
    pub(crate) fn of(
        &mut self,
        (seen, plan): (&Observation, &Plan),
        before: Option<&Plan>,
        now_ms: u64,
    ) -> Vec<Entry> {
        let mut entries = Vec::new();
        self.moving.retain(|_, last| plan.tick.saturating_sub(*last) < AGAIN_AFTER_TICKS);
        for (seen, decided) in seen.services.iter().zip(&plan.services).filter(|(_, p)| p.act) {
            let stamp = |law, action| Entry {
                tick: plan.tick,
                ..Entry::new(now_ms, Actor::Law(law), action).of(decided.service.as_str())
            };
            for planned in &decided.actions {
                let (law, cause) = (planned.reason.law, &planned.reason.text);
                let (action, instance, to) = asked(&planned.action);
                let mut after = json!({ "tier": to });
                if let Action::Create { place, .. } = &planned.action {
                    named_place(&mut after, place);
                }
                let entry = stamp(law, action)
                    .changed(tier_of(seen, instance), after)
                    .came_to(Outcome::Asked, cause);
                entries.push(Entry { instance, ..entry });
            }
            for reason in &decided.reasons {
                let Some(action) = told(reason.law) else { continue };
                let is_step = reason.law != Law::Rule;
                let under_way = (decided.service.clone(), reason.law);
                if is_step && self.moving.insert(under_way, plan.tick).is_some() {
                    continue;
                }
                let old = before.and_then(|b| same_service(b, decided));
                let (was, is) = weights(old.map_or(&[][..], |old| &old.weights), &decided.weights);
                entries.push(
                    stamp(reason.law, action).changed(was, is).came_to(Outcome::Done, &reason.text),
                );
            }
        }
        entries
    }
}

fn same_service<'a>(plan: &'a Plan, of: &ServicePlan) -> Option<&'a ServicePlan> {
    plan.services.iter().find(|service| service.service == of.service)
}

/// What a reason for other weights is on record as; most are not, they come with every change of
/// demand.
fn told(law: Law) -> Option<&'static str> {
    match law {
        Law::Failover => Some("service.failover"),
        Law::Rollback => Some("service.rollback"),
        Law::Risk => Some("service.relief"),
        Law::Rule => Some("rule.turn"),
        Law::Migrate => Some("service.migrate"),
        Law::Weights
        | Law::WarmUp
        | Law::Prepare
        | Law::Warm
        | Law::Commit
        | Law::ReactiveFloor
        | Law::Pool
        | Law::Recreate
        | Law::Verification
        | Law::Operator
        | Law::Feedback
        | Law::Scale => None,
    }
}

fn asked(action: &Action) -> (&'static str, Option<InstanceId>, Tier) {
    match *action {
        Action::Create { tier, .. } => ("instance.create", None, tier),
        Action::Move { instance, tier } => ("instance.move", Some(instance), tier),
        Action::Destroy { instance } => ("instance.destroy", Some(instance), Tier::Cold),
    }
}

/// Says in which place, where it has a name.
fn named_place(after: &mut Value, place: &PlaceName) {
    if !place.is_default() {
        after["place"] = json!(place);
    }
}

fn tier_of(seen: &ServiceObservation, instance: Option<InstanceId>) -> Value {
    let found = instance.and_then(|id| seen.instances.iter().find(|i| i.instance == id));
    found.map_or(Value::Null, |found| json!({ "tier": found.tier }))
}

/// The weights that differ, before and after.
fn weights(before: &[InstanceWeight], after: &[InstanceWeight]) -> (Value, Value) {
    let by_id = |weights: &[InstanceWeight]| -> BTreeMap<InstanceId, u32> {
        weights.iter().map(|w| (w.instance, w.weight)).collect()
    };
    let (before, after) = (by_id(before), by_id(after));
    let ids = before.keys().chain(after.keys());
    let mut differing: Vec<_> = ids.filter(|id| before.get(id) != after.get(id)).collect();
    differing.sort_unstable();
    differing.dedup();
    differing.truncate(MOST_WEIGHTS);
    let of = |weights: &BTreeMap<InstanceId, u32>| -> Value {
        let told =
            differing.iter().filter_map(|id| Some((id.to_string(), json!(weights.get(id)?))));
        json!({ "weights": told.collect::<serde_json::Map<_, _>>() })
    };
    (of(&before), of(&after))
}

/// Something that happened to a shadow.
pub(super) fn of_fact(service: &ServiceName, fact: &Fact, tick: u64, now_ms: u64) -> Entry {
    let stamp = |action, instance| Entry {
        tick,
        instance,
        ..Entry::new(now_ms, Actor::Manager, action).of(service.as_str())
    };
    match fact {
        Fact::TierReached { instance, from, tier, took_ms } => {
            stamp(step(*from, *tier), Some(*instance))
                .changed(json!({ "tier": from }), json!({ "tier": tier, "took_ms": took_ms }))
        }
        Fact::StepFailed { instance, to, error, retry_in_ms, place } => {
            let action = match to {
                Tier::Cold => "instance.destroy",
                _ if instance.is_none() => "instance.create",
                _ => "instance.move",
            };
            let mut after = json!({ "tier": to, "retry_in_ms": retry_in_ms });
            named_place(&mut after, place);
            stamp(action, *instance).changed(Value::Null, after).came_to(Outcome::Failed, error)
        }
        Fact::Exited { instance, tier, detail } => stamp("instance.exit", Some(*instance))
            .changed(json!({ "tier": tier }), json!({ "tier": Tier::Cold }))
            .came_to(Outcome::Done, detail),
        Fact::Adopted { instance, tier } => {
            stamp("instance.adopt", Some(*instance)).changed(Value::Null, json!({ "tier": tier }))
        }
    }
}

/// What a step between two tiers is called.
fn step(from: Tier, to: Tier) -> &'static str {
    match (from, to) {
        (_, Tier::Cold) => "instance.destroy",
        (Tier::Cold, _) => "instance.create",
        (_, Tier::Shadow) => "instance.freeze",
        (Tier::Shadow, _) => "instance.thaw",
        (_, Tier::Serving) => "instance.activate",
        (_, Tier::Draining) => "instance.drain",
        (_, Tier::Warm | Tier::Full) => "instance.resize",
    }
}

#[cfg(test)]
mod tests {
    use foreshadow_control::{Mode, Reason};

    use super::*;

    fn plan(tick: u64, weights: [u32; 2], law: Law) -> Plan {
        let text = "listeners: [{ address: 127.0.0.1:1, routes: [{ service: shop }] }]\n\
                    services: { shop: { primaries: [127.0.0.1:2] } }";
        let format = foreshadow_config::Format::Yaml;
        let config = foreshadow_config::parse(text, format, "test", &|_| None).unwrap();
        let mut controller = foreshadow_control::Controller::new(config.service_specs());
        let mut plan = controller.tick(&seen(tick));
        let service = &mut plan.services[0];
        service.act = true;
        service.weights = [1, 2]
            .into_iter()
            .zip(weights)
            .map(|(id, weight)| InstanceWeight { instance: InstanceId(id), weight })
            .collect();
        service.reasons = vec![Reason { law, text: "why".to_owned() }];
        plan
    }

    fn seen(tick: u64) -> Observation {
        let service = ServiceObservation::quiet("shop".into(), Mode::Act);
        let (at_ms, interval_ms) = (tick * 100, 100);
        Observation { tick, at_ms, interval_ms, kill_switch: false, services: vec![service] }
    }

    #[test]
    fn a_failover_is_told_once_with_the_weights_that_it_moves() {
        let mut acts = PlanActs::default();
        let first = plan(1, [5_000, 5_000], Law::Weights);
        assert!(acts.of((&seen(1), &first), None, 10).is_empty());
        let second = plan(2, [0, 10_000], Law::Failover);
        let told = acts.of((&seen(2), &second), Some(&first), 20);
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].action, told[0].tick, told[0].at_ms), ("service.failover", 2, 20));
        assert_eq!(told[0].before, json!({ "weights": { "i1": 5_000, "i2": 5_000 } }));
        assert_eq!(told[0].after, json!({ "weights": { "i1": 0, "i2": 10_000 } }));
        for tick in 3..=200 {
            let next = plan(tick, [0, 10_000], Law::Failover);
            assert!(acts.of((&seen(tick), &next), Some(&second), 20).is_empty(), "{tick}");
        }
        let again = plan(300, [0, 10_000], Law::Failover);
        assert_eq!(acts.of((&seen(300), &again), Some(&second), 20).len(), 1);
    }

    #[test]
    fn steps_are_called_what_they_do() {
        use Tier::{Cold, Draining, Full, Serving, Shadow, Warm};
        let names = [
            (Cold, Shadow, "create"),
            (Shadow, Warm, "thaw"),
            (Warm, Full, "resize"),
            (Full, Serving, "activate"),
            (Serving, Draining, "drain"),
            (Draining, Serving, "activate"),
            (Draining, Warm, "resize"),
            (Warm, Shadow, "freeze"),
            (Serving, Cold, "destroy"),
        ];
        for (from, to, name) in names {
            assert_eq!(step(from, to), format!("instance.{name}"));
        }
    }
}
