//! What is said of a decision: the figures, the law it is filed under, and no alarm without cause.

use foreshadow_control::{
    AlertKind, Law, Observation, Plan, PoolSpec, Role, ServicePlan, ServiceSpec, Tier,
};

use crate::sim::{Nature, Provider, World, spec};

fn without_provider() -> ServiceSpec {
    ServiceSpec { pool: None, ..spec() }
}

fn calm_world() -> World {
    let mut world = World::new(Nature::default(), spec());
    let rps = 0.4 * world.nature.primary_rps();
    world.run(20_000, |_| rps, |_, _, _| {});
    world
}

/// Takes the provider and its shadows out of the configuration, as a reload does: those that serve
/// drain.
fn reload_without_provider(world: &mut World) {
    world.controller.configure(vec![without_provider()]);
    for shadow in world.instances.values_mut().filter(|i| i.role == Role::Shadow) {
        (shadow.tier, shadow.moving, shadow.reached_ms) = (Tier::Draining, None, world.at_ms);
    }
}

fn alerts(plan: &Plan) -> Vec<AlertKind> {
    plan.services[0].alerts.iter().map(|alert| alert.kind).collect()
}

/// The requests per second that a plan's sentence sends to shadows.
fn said_rps(plan: &ServicePlan) -> Option<f64> {
    let text = plan.reasons.iter().find_map(|r| r.text.split_once(" rps go to shadows"))?.0;
    text.rsplit(' ').next()?.parse().ok()
}

#[test]
fn what_stand_ins_carry_is_said_to_go_to_shadows() {
    let mut world = calm_world();
    let rps = 0.4 * world.nature.primary_rps();
    let first = *world.instances.keys().next().expect("there are primaries");
    world.kill(first);
    let mut said = 0;
    let look = |world: &mut World, _: &Observation, plan: &Plan| {
        let Some(rps) = said_rps(&plan.services[0]) else { return };
        let is_shadow = |id| world.instances.get(&id).is_some_and(|i| i.role == Role::Shadow);
        let given = plan.services[0].weights.iter().any(|w| w.weight > 0 && is_shadow(w.instance));
        assert!(!given || rps > 0.0, "{:?}", plan.services[0].reasons);
        said += usize::from(given);
    };
    world.run(3_000, |_| rps, look);
    assert!(said > 0, "a shadow stood in and nothing was said of it");
}

#[test]
fn a_shadow_that_served_before_is_not_cold_again() {
    let pool = Some(PoolSpec { shadow: 0, warm: 1, full: 0, max: 1 });
    let mut world = World::new(Nature::default(), ServiceSpec { pool, ..spec() });
    let rps = 0.3 * world.nature.primary_rps();
    let mut first_weights = Vec::new();
    for _ in 0..2 {
        world.run(10_000, |_| rps, |_, _, _| {});
        world.activate = 1;
        let mut first_weight = None;
        let look = |world: &mut World, _: &Observation, plan: &Plan| {
            let service = &plan.services[0];
            let shadow = service.weights.iter().skip(2).map(|w| w.weight).find(|w| *w > 0);
            if world.serving_shadows() > 0 && first_weight.is_none() {
                first_weight = shadow;
            }
            for action in &service.actions {
                assert!(!action.reason.text.contains(" 1 shadows"), "{}", action.reason.text);
            }
        };
        world.run(40_000, |_| rps, look);
        assert_eq!((world.serving_shadows(), world.shadows_at(Tier::Warm)), (0, 1));
        first_weights.push(first_weight.expect("it served"));
    }
    assert!(first_weights[1] > 4 * first_weights[0], "{first_weights:?}");
}

#[test]
fn a_provider_that_is_gone_is_not_failing() {
    let mut world = World::new(Nature::default(), spec());
    world.provider = Provider::Fails(60_000);
    world.run(5_000, |_| 50.0, |_, _, _| {});
    let (_, plan) = world.step(50.0);
    assert_eq!(alerts(&plan), [AlertKind::ProviderFailing]);
    reload_without_provider(&mut world);
    let (_, plan) = world.step(50.0);
    assert_eq!(alerts(&plan), []);
}

#[test]
fn taking_something_out_of_the_configuration_is_no_failover() {
    let mut world = calm_world();
    let rps = 0.4 * world.nature.primary_rps();
    world.activate = 1;
    world.run(3_000, |_| rps, |_, _, _| {});
    assert_eq!(world.serving_shadows(), 1);
    let laws = |plan: &Plan| plan.services[0].reasons.iter().map(|r| r.law).collect::<Vec<_>>();
    reload_without_provider(&mut world);
    let (_, plan) = world.step(rps);
    assert_eq!(laws(&plan), [Law::Operator], "{:?}", plan.services[0].reasons);

    let mut world = calm_world();
    let first = *world.instances.keys().next().expect("there are primaries");
    world.instances.remove(&first);
    let (_, plan) = world.step(rps);
    assert_eq!(laws(&plan), [Law::Operator], "{:?}", plan.services[0].reasons);
    assert!(plan.services[0].reasons[0].text.contains("taken out of service"));
}

#[test]
fn a_burst_that_nothing_has_shown_to_be_too_much_is_no_shortage() {
    let mut world = World::new(Nature::default(), without_provider());
    let full_rps = world.nature.primary_rps();
    world.run(5_000, |_| 0.1 * full_rps, |_, _, _| {});
    let quiet = |_: &mut World, _: &Observation, plan: &Plan| assert_eq!(alerts(plan), []);
    world.run(4_000, |_| 0.5 * full_rps, quiet);
    world.run(5_000, |_| 0.1 * full_rps, quiet);
    let mut told_ms = None;
    let start_ms = world.at_ms;
    let look = |world: &mut World, _: &Observation, plan: &Plan| {
        if alerts(plan).contains(&AlertKind::Shortage) {
            told_ms.get_or_insert(world.at_ms - start_ms);
        }
    };
    world.run(10_000, |_| 1.5 * full_rps, look);
    assert!(told_ms.expect("more than all can do is a shortage") <= 4_000, "{told_ms:?}");
}

#[test]
fn no_demand_is_a_zero() {
    let mut world = calm_world();
    world.run(20_000, |_| 0.0, |_, _, _| {});
    let (_, plan) = world.step(0.0);
    assert_eq!(plan.services[0].demand_rps, 0.0);
}
