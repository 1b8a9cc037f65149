//! Observe, advise, act, the kill switch, the operator's hand, and a reload.

use foreshadow_control::{
    Action, Controller, InstanceId, Law, Mode, Observation, Plan, Role, ServiceName, ServiceSpec,
    Tier,
};

use crate::failures::calm_world;
use crate::sim::{Nature, World, spec};

fn world_in(mode: Mode) -> World {
    let mut world = World::new(Nature::default(), spec());
    world.mode = mode;
    world
}

#[test]
fn only_act_changes_anything() {
    for (mode, kill_switch) in [(Mode::Observe, false), (Mode::Advise, false), (Mode::Act, true)] {
        let mut world = world_in(mode);
        world.kill_switch = kill_switch;
        let full_rps = world.nature.primary_rps();
        let mut advice = 0;
        let look = |_: &mut World, _: &Observation, plan: &Plan| {
            let service = &plan.services[0];
            assert!(!service.act);
            let alike = service.weights.iter().all(|w| w.weight == 5_000);
            assert!(alike, "{:?}", service.weights);
            advice += service.actions.len();
        };
        world.run(20_000, |_| 0.8 * full_rps, look);
        assert_eq!(world.instances.len(), 2, "nothing was carried out");
        assert!(advice > 100, "the advice is repeated while it holds");
    }
}

#[test]
fn weights_stay_as_they_were_when_acting_ends_and_go_on_from_there() {
    let mut world = world_in(Mode::Act);
    let full_rps = world.nature.primary_rps();
    world.run(10_000, |_| 0.5 * full_rps, |_, _, _| {});
    world.run(40_000, |_| 0.9 * full_rps, |_, _, _| {});
    assert!(world.serving_shadows() >= 1);
    let (_, before) = world.step(0.9 * full_rps);
    world.mode = Mode::Advise;
    let held = before.services[0].weights.clone();
    let look = |world: &mut World, _: &Observation, plan: &Plan| {
        // A step that was under way ends as it was ordered.
        for (held, now) in held.iter().zip(&plan.services[0].weights) {
            let serves = world.instances[&now.instance].tier == Tier::Serving;
            assert!(held == now || (!serves && now.weight == 0), "{held:?} to {now:?}");
        }
    };
    world.run(20_000, |_| 0.3 * full_rps, look);
    world.mode = Mode::Act;
    let (_, after) = world.step(0.3 * full_rps);
    let most = spec().weights.slew_per_s * 0.1 * 10_000.0;
    for (before, after) in held.iter().zip(&after.services[0].weights) {
        let moved = f64::from(before.weight.abs_diff(after.weight));
        // One step, and what scaling the shares back to one adds to it.
        assert!(moved <= 1.5 * most + 1.0, "{before:?} to {after:?}");
    }
}

#[test]
fn an_operator_brings_shadows_in_for_a_window() {
    let mut world = world_in(Mode::Act);
    let rps = 0.2 * world.nature.primary_rps();
    world.run(20_000, |_| rps, |_, _, _| {});
    assert_eq!(world.serving_shadows(), 0);
    world.activate = 2;
    let mut by_hand = 0;
    let look = |_: &mut World, _: &Observation, plan: &Plan| {
        by_hand +=
            plan.services[0].actions.iter().filter(|a| a.reason.law == Law::Operator).count();
    };
    world.run(9_000, |_| rps, look);
    assert!(by_hand >= 2);
    assert_eq!(world.serving_shadows(), 2);
    world.run(60_000, |_| rps, |_, _, _| {});
    assert_eq!(world.serving_shadows(), 0);
}

#[test]
fn a_drained_instance_gets_no_weight() {
    let mut world = world_in(Mode::Act);
    let rps = 0.3 * world.nature.primary_rps();
    world.run(5_000, |_| rps, |_, _, _| {});
    let mut observation = world.observe(rps);
    observation.services[0].instances[0].drained = true;
    let plan = world.controller.tick(&observation);
    assert_eq!(plan.services[0].weights[0].weight, 0);
    assert!(plan.services[0].weights[1].weight > 0);
}

#[test]
fn a_reload_keeps_what_was_learned() {
    let mut world = world_in(Mode::Act);
    let rps = 0.5 * world.nature.primary_rps();
    world.run(60_000, |_| rps, |_, _, _| {});
    let (_, before) = world.step(rps);
    let mut changed = spec();
    changed.target_utilisation = 0.6;
    world.controller.configure(vec![changed]);
    let (_, after) = world.step(rps);
    let (before, after) = (&before.services[0], &after.services[0]);
    assert!((before.demand_rps - after.demand_rps).abs() < 0.3 * before.demand_rps);
    assert!((before.capacity[0].rps - after.capacity[0].rps).abs() < 0.2 * before.capacity[0].rps);
    assert!(!after.forecast.is_empty());
}

#[test]
fn a_service_nobody_described_shares_alike() {
    let mut world = world_in(Mode::Act);
    let mut observation = world.observe(100.0);
    observation.services[0].service = ServiceName::from("unknown");
    let plan = Controller::new(vec![spec()]).tick(&observation);
    let weights: Vec<u32> = plan.services[0].weights.iter().map(|w| w.weight).collect();
    assert_eq!(weights, [5_000, 5_000]);
    assert!(plan.services[0].actions.is_empty());
}

#[test]
fn without_services_or_instances_there_is_a_plan_all_the_same() {
    let mut world = world_in(Mode::Act);
    let mut observation = world.observe(0.0);
    observation.services[0].instances.clear();
    let plan = world.controller.tick(&observation);
    assert!(plan.services[0].weights.is_empty());
    observation.services.clear();
    assert!(world.controller.tick(&observation).services.is_empty());
}

#[test]
fn shadows_found_running_are_kept_and_then_judged_like_any() {
    let mut world = world_in(Mode::Act);
    let full_rps = world.nature.primary_rps();
    world.run(10_000, |_| 0.5 * full_rps, |_, _, _| {});
    world.run(40_000, |_| 0.9 * full_rps, |_, _, _| {});
    let serving = world.serving_shadows();
    assert!(serving >= 1);
    world.controller = Controller::new(vec![spec()]);
    world.run(5_000, |_| 0.9 * full_rps, |_, _, _| {});
    assert!(world.serving_shadows() >= serving, "nothing is dropped for want of memory");
    assert!(world.weight(InstanceId(1)) > 0);
    world.run(60_000, |_| 0.2 * full_rps, |_, _, _| {});
    assert_eq!(world.serving_shadows() + world.shadows_at(Tier::Draining), 0);
}

#[test]
fn a_reload_that_takes_the_provider_away_leaves_draining_shadows_to_whoever_ends_them() {
    for keeps_provider in [true, false] {
        let mut world = calm_world(1, 0.4);
        let rps = 0.4 * world.nature.primary_rps();
        let (id, shadow) = world
            .instances
            .iter_mut()
            .find(|(_, i)| i.role == Role::Shadow && i.tier == Tier::Warm)
            .expect("the pool keeps one warm");
        let id = *id;
        // As the manager does with those that serve.
        shadow.tier = Tier::Draining;
        if !keeps_provider {
            world.controller.configure(vec![ServiceSpec { pool: None, ..spec() }]);
        }
        let mut ordered = Vec::new();
        world.run(
            60_000,
            |_| rps,
            |_, _, plan| {
                let actions = plan.services[0].actions.iter().map(|a| a.action.clone());
                ordered.extend(actions.filter(|action| match action {
                    Action::Create { .. } => false,
                    Action::Move { instance, .. } | Action::Destroy { instance } => *instance == id,
                }));
            },
        );
        let to_warm = Action::Move { instance: id, tier: Tier::Warm };
        match keeps_provider {
            true => assert_eq!(ordered.first(), Some(&to_warm)),
            false => assert_eq!(ordered, []),
        }
    }
}
