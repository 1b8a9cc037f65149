//! Instances that die, slow down or answer wrongly, and a provider that cannot deliver.

use foreshadow_control::{
    Action, AlertKind, Capacity, Health, InstanceId, Law, MirrorSummary, Observation, Plan,
    PoolSpec, Role, ServiceSpec, Tier,
};

use crate::sim::{Nature, Outcome, Provider, World, spec};

pub(crate) fn calm_world(seed: u64, share: f64) -> World {
    let mut world = World::new(Nature { seed, ..Nature::default() }, spec());
    let rps = share * world.nature.primary_rps();
    world.run(40_000, |_| rps, |_, _, _| {});
    // What was called for while capacity was unknown goes back before the test begins.
    while world.serving_shadows() + world.shadows_at(Tier::Draining) > 0 {
        assert!(world.at_ms < 400_000, "shadows serve for ever");
        world.step(rps);
    }
    world.outcome = Outcome::default();
    world
}

fn laws(plan: &Plan) -> Vec<Law> {
    plan.services[0].actions.iter().map(|a| a.reason.law).collect()
}

#[test]
fn a_dead_primary_is_replaced_within_five_ticks() {
    for seed in 0..5 {
        let mut world = calm_world(seed, 0.4);
        let rps = 0.4 * world.nature.primary_rps();
        world.kill(InstanceId(1));
        world.outcome = Outcome::default();
        let (_, plan) = world.step(rps);
        assert_eq!(world.weight(InstanceId(1)), 0, "dropped in the tick that sees it");
        assert!(laws(&plan).contains(&Law::Failover), "{:?}", plan.services[0].actions);
        let weighted_shadow = |world: &World| {
            world.instances.iter().any(|(id, i)| i.role == Role::Shadow && world.weight(*id) > 0)
        };
        let served = (0..5).any(|_| {
            world.step(rps);
            weighted_shadow(&world)
        });
        assert!(served, "seed {seed}: a shadow serves within five ticks");
        world.run(20_000, |_| rps, |_, _, _| {});
        assert_eq!(world.outcome.failed, 0);
        assert_eq!(world.shadows_at(Tier::Warm), 1, "the pool is whole again");
    }
}

#[test]
fn a_lost_primary_is_made_good_even_where_shadows_have_room_enough() {
    let pool = Some(PoolSpec { shadow: 1, warm: 1, full: 0, max: 10 });
    let roomy = ServiceSpec { pool, ..spec() };
    let mut world = World::new(Nature { seed: 3, ..Nature::default() }, roomy);
    let rps = 1.2 * world.nature.primary_rps();
    world.run(60_000, |_| rps, |_, _, _| {});
    let alive = |world: &World| {
        let up = world.instances.values().filter(|i| !matches!(i.health, Health::Down(_)));
        up.count()
    };
    let before = alive(&world);
    world.kill(InstanceId(1));
    world.run(10_000, |_| rps, |_, _, _| {});
    assert!(alive(&world) >= before, "{} of {before} live", alive(&world));
}

#[test]
fn a_failover_names_the_lost_and_the_witness() {
    let said = |plan: &Plan| {
        let service = &plan.services[0];
        let reasons = service.reasons.iter().chain(service.actions.iter().map(|a| &a.reason));
        let failovers = reasons.filter(|r| r.law == Law::Failover);
        failovers.map(|r| r.text.clone()).collect::<Vec<_>>()
    };
    let mut world = calm_world(1, 0.4);
    let full_rps = world.nature.primary_rps();
    if let Some(primary) = world.instances.get_mut(&InstanceId(2)) {
        primary.health = Health::Ejected;
    }
    let texts = said(&world.step(0.4 * full_rps).1);
    assert!(texts.len() == 3 && texts.iter().all(|t| t.contains("i2 ejected")), "{texts:?}");

    let mut world = calm_world(1, 0.4);
    world.kill(InstanceId(1));
    let texts = said(&world.step(0.4 * full_rps).1);
    assert!(texts.len() == 3, "{texts:?}");
    assert!(texts.iter().all(|t| t.contains("i1 down: process ended")), "{texts:?}");

    world.run(20_000, |_| 0.8 * full_rps, |_, _, _| {});
    let weighted = |i: &InstanceId| world.weight(*i) > 100 && i.0 > 2;
    let id = world.instances.keys().copied().find(weighted).expect("a shadow serves");
    world.kill(id);
    let texts = said(&world.step(0.8 * full_rps).1);
    let exited = format!("{id} exited: signal 9");
    assert!(texts.iter().any(|t| t.starts_with(&exited)), "{texts:?}");
}

#[test]
fn a_primary_that_returns_takes_over_gently_and_sends_the_shadow_back() {
    let mut world = calm_world(1, 0.35);
    let rps = 0.35 * world.nature.primary_rps();
    world.kill(InstanceId(1));
    world.run(15_000, |_| rps, |_, _, _| {});
    assert_eq!(world.serving_shadows(), 1);
    if let Some(primary) = world.instances.get_mut(&InstanceId(1)) {
        primary.health = Health::Up;
    }
    let (_, plan) = world.step(rps);
    let total: u32 = plan.services[0].weights.iter().map(|w| w.weight).sum();
    assert!(world.weight(InstanceId(1)) * 5 < total, "not at once: {:?}", plan.services[0].weights);
    world.run(40_000, |_| rps, |_, _, _| {});
    assert_eq!(world.serving_shadows(), 0);
    assert!(world.weight(InstanceId(1)) > 3_000);
}

#[test]
fn serving_shadows_that_die_are_replaced_and_made_anew() {
    let mut world = calm_world(2, 0.4);
    let full_rps = world.nature.primary_rps();
    world.run(20_000, |_| full_rps, |_, _, _| {});
    let serving: Vec<InstanceId> = world
        .instances
        .iter()
        .filter(|(_, i)| i.role == Role::Shadow && i.tier == Tier::Serving)
        .map(|(id, _)| *id)
        .collect();
    let before = serving.len();
    assert!(before >= 1);
    for id in serving {
        world.kill(id);
    }
    let mut seen = Vec::new();
    let look = |_: &mut World, _: &Observation, plan: &Plan| seen.extend(laws(plan));
    world.run(3_000, |_| full_rps, look);
    assert!(seen.contains(&Law::Failover), "{seen:?}");
    assert!(seen.contains(&Law::Recreate), "{seen:?}");
    world.run(5_000, |_| full_rps, |_, _, _| {});
    assert!(world.serving_shadows() >= 1);
    assert!(world.instances.len() >= 2 + before);
}

#[test]
fn a_provider_that_fails_is_left_alone_for_as_long_as_it_asks() {
    let mut world = World::new(Nature::default(), spec());
    world.provider = Provider::Fails(5_000);
    let rps = 0.4 * world.nature.primary_rps();
    let mut creations = Vec::new();
    let mut alerted = 0;
    let look = |world: &mut World, _: &Observation, plan: &Plan| {
        let service = &plan.services[0];
        let creates = |a: &Action| matches!(a, Action::Create { .. });
        if service.actions.iter().any(|a| creates(&a.action)) {
            creations.push(world.at_ms);
        }
        for alert in service.alerts.iter().filter(|a| a.kind == AlertKind::ProviderFailing) {
            assert!(alert.text.contains("out of memory"), "{}", alert.text);
            alerted += 1;
        }
    };
    world.run(30_000, |_| rps, look);
    assert!((5..=7).contains(&creations.len()), "{creations:?}");
    assert!(creations.windows(2).all(|pair| pair[1] - pair[0] >= 5_000), "{creations:?}");
    assert!(alerted > 250, "the alert stands: {alerted} of 300 ticks");

    world.provider = Provider::Works;
    let mut last = Vec::new();
    let look = |_: &mut World, _: &Observation, plan: &Plan| {
        last.clone_from(&plan.services[0].alerts);
    };
    world.run(10_000, |_| rps, look);
    assert!(world.instances.len() >= 4, "the pool is whole");
    assert!(last.is_empty(), "{last:?}");
}

#[test]
fn creations_that_fail_unseen_are_tried_again_after_the_back_off() {
    let mut world = World::new(Nature::default(), spec());
    world.provider = Provider::FailsUnseen(300);
    let rps = 0.4 * world.nature.primary_rps();
    let mut creations = Vec::new();
    let look = |world: &mut World, _: &Observation, plan: &Plan| {
        let creates = |a: &Action| matches!(a, Action::Create { .. });
        if plan.services[0].actions.iter().any(|a| creates(&a.action)) {
            creations.push(world.at_ms);
        }
    };
    world.run(10_000, |_| rps, look);
    let waits: Vec<u64> = creations.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.len() > 10 && waits.iter().all(|ms| (300..=500).contains(ms)), "{waits:?}");
}

#[test]
fn a_shadow_that_disagrees_never_serves() {
    let mut world = calm_world(3, 0.4);
    let full_rps = world.nature.primary_rps();
    let wrong = |world: &mut World| {
        for instance in world.instances.values_mut().filter(|i| i.tier == Tier::Warm) {
            instance.mirror = Some(MirrorSummary {
                compared: 40,
                agreed: 30,
                original_sum_ms: 800.0,
                copy_sum_ms: 800.0,
            });
        }
    };
    wrong(&mut world);
    let warm: Vec<InstanceId> =
        world.instances.iter().filter(|(_, i)| i.tier == Tier::Warm).map(|(id, _)| *id).collect();
    let (_, plan) = world.step(1.2 * full_rps);
    let destroyed = plan.services[0]
        .actions
        .iter()
        .find(|a| a.action == Action::Destroy { instance: warm[0] })
        .expect("it is made anew");
    assert_eq!(destroyed.reason.law, Law::Verification);
    assert!(destroyed.reason.text.contains("75.0%"), "{}", destroyed.reason.text);
}

/// Lets every warm shadow disagree with the originals.
fn disagree(world: &mut World) {
    for instance in world.instances.values_mut().filter(|i| i.tier == Tier::Warm) {
        instance.mirror = Some(MirrorSummary { compared: 40, agreed: 30, ..Default::default() });
    }
}

fn verified(plan: &Plan) -> usize {
    laws(plan).iter().filter(|law| **law == Law::Verification).count()
}

#[test]
fn shadows_that_all_disagree_are_ended_one_in_ten_seconds() {
    let pool = PoolSpec { shadow: 0, warm: 3, full: 0, max: 4 };
    let mut world = World::new(Nature::default(), ServiceSpec { pool: Some(pool), ..spec() });
    let rps = 0.2 * world.nature.primary_rps();
    world.run(60_000, |_| rps, |_, _, _| {});
    let mut ended = Vec::new();
    let look = |world: &mut World, _: &Observation, plan: &Plan| {
        disagree(world);
        ended.extend((0..verified(plan)).map(|_| world.at_ms));
    };
    world.run(45_000, |_| rps, look);
    assert!(ended.len() >= 4, "{ended:?}");
    assert!(ended.windows(2).all(|pair| pair[1] - pair[0] >= 10_000), "{ended:?}");
}

#[test]
fn the_last_warm_shadow_is_not_ended_while_a_primary_is_down() {
    let pool = PoolSpec { shadow: 0, warm: 1, full: 0, max: 1 };
    let mut world = World::new(Nature::default(), ServiceSpec { pool: Some(pool), ..spec() });
    let rps = 0.2 * world.nature.primary_rps();
    world.run(60_000, |_| rps, |_, _, _| {});
    assert_eq!(world.shadows_at(Tier::Warm), 1);
    world.kill(InstanceId(1));
    disagree(&mut world);
    let mut ended = 0;
    world.run(15_000, |_| rps, |_, _, plan| ended += verified(plan));
    assert_eq!(ended, 0);
    if let Some(primary) = world.instances.get_mut(&InstanceId(1)) {
        primary.health = Health::Up;
    }
    world.run(1_000, |_| rps, |_, _, plan| ended += verified(plan));
    assert_eq!(ended, 1);
}

#[test]
fn a_server_that_slows_down_is_believed_within_three_seconds() {
    for seed in 0..5 {
        let mut world = calm_world(seed, 0.45);
        let rps = 0.45 * world.nature.primary_rps();
        let (_, plan) = world.step(rps);
        let before = plan.services[0].capacity[0].rps;
        if let Some(primary) = world.instances.get_mut(&InstanceId(1)) {
            primary.slowness = 1.8;
        }
        let mut lowest = before;
        let look = |_: &mut World, _: &Observation, plan: &Plan| {
            lowest = lowest.min(plan.services[0].capacity[0].rps);
        };
        world.run(6_000, |_| rps, look);
        assert!(lowest < 0.85 * before, "seed {seed}: {before} to {lowest}");
    }
}

#[test]
fn nothing_left_to_serve_is_said() {
    let mut world = calm_world(5, 0.2);
    world.provider = Provider::Fails(60_000);
    for id in world.instances.keys().copied().collect::<Vec<_>>() {
        world.kill(id);
    }
    let (_, plan) = world.step(50.0);
    let service = &plan.services[0];
    assert!(service.alerts.iter().any(|a| a.kind == AlertKind::NoCapacity));
    assert!(service.weights.iter().all(|w| w.weight == 0));
    for alert in &service.alerts {
        assert!(!alert.text.contains("-0 rps"), "{}", alert.text);
    }
}

#[test]
fn dead_primaries_without_a_provider_are_one_alert() {
    let mut world = World::new(Nature::default(), ServiceSpec { pool: None, ..spec() });
    let rps = 0.4 * world.nature.primary_rps();
    world.run(20_000, |_| rps, |_, _, _| {});
    let kinds = |plan: &Plan| plan.services[0].alerts.iter().map(|a| a.kind).collect::<Vec<_>>();
    world.kill(InstanceId(1));
    world.run(500, |_| 2.0 * rps, |_, _, _| {});
    let (_, plan) = world.step(2.0 * rps);
    assert_eq!(kinds(&plan), [AlertKind::Shortage], "one is left and too little");
    world.kill(InstanceId(2));
    let (_, plan) = world.step(rps);
    assert_eq!(kinds(&plan), [AlertKind::NoCapacity]);
}

#[test]
fn more_than_the_pool_allows_is_a_shortage() {
    let mut world = calm_world(6, 0.4);
    let full_rps = world.nature.primary_rps();
    let mut short = 0;
    let look = |world: &mut World, _: &Observation, plan: &Plan| {
        let alerts = &plan.services[0].alerts;
        short += alerts.iter().filter(|a| a.kind == AlertKind::Shortage).count();
        let shadows = world.instances.values().filter(|i| i.role == Role::Shadow).count();
        assert!(shadows <= 4, "the pool's max holds");
    };
    world.run(30_000, |ms| full_rps * (0.4 + ms as f64 / 6_000.0).min(4.0), look);
    assert!(short > 100, "{short}");
}

#[test]
fn demand_on_the_edge_of_a_shortage_is_one_alert() {
    for seed in 0..4 {
        let spec = ServiceSpec { capacity: Capacity::Pinned(100.0), ..spec() };
        let mut world = World::new(Nature { seed, ..Nature::default() }, spec);
        // Two primaries and four shadows carry 420 rps at the target.
        world.run(30_000, |_| 415.0, |_, _, _| {});
        let (mut stood, mut turns) = (None, 0);
        let look = |_: &mut World, _: &Observation, plan: &Plan| {
            let mut alerts = plan.services[0].alerts.iter();
            let stands = Some(alerts.any(|a| a.kind == AlertKind::Shortage));
            turns += usize::from(stood.is_some() && stood != stands);
            stood = stands;
        };
        world.run(30_000, |_| 415.0, look);
        assert!(turns <= 3, "seed {seed}: {turns}");
    }
}

#[test]
fn an_ejected_primary_gets_nothing_and_comes_back_by_ramp() {
    let mut world = calm_world(7, 0.3);
    let rps = 0.3 * world.nature.primary_rps();
    if let Some(primary) = world.instances.get_mut(&InstanceId(2)) {
        primary.health = Health::Ejected;
    }
    world.step(rps);
    assert_eq!(world.weight(InstanceId(2)), 0);
    if let Some(primary) = world.instances.get_mut(&InstanceId(2)) {
        primary.health = Health::Up;
    }
    world.step(rps);
    let first = world.weight(InstanceId(2));
    assert!(first > 0);
    world.run(10_000, |_| rps, |_, _, _| {});
    assert!(world.weight(InstanceId(2)) > 2 * first);
}

#[test]
fn a_provider_that_asks_for_no_pause_is_not_told_to_be_tried_in_no_time() {
    for (retry_in_ms, next) in [(0, "may follow at once"), (700, "is in 0.7 s at the earliest")] {
        let mut world = World::new(Nature::default(), spec());
        world.provider = Provider::Fails(retry_in_ms);
        let mut told = String::new();
        world.run(
            3_000,
            |_| 10.0,
            |_, _, plan| {
                let alerts = plan.services[0].alerts.iter();
                told.extend(
                    alerts.filter(|a| a.kind == AlertKind::ProviderFailing).map(|a| &*a.text),
                );
            },
        );
        assert!(told.contains(next) && !told.contains("in 0.0 s"), "{told}");
    }
}
