//! Migrations in which something fails, is called off, or must wait.

use foreshadow_control::{
    Action, Health, InstanceId, Law, MigrationOrder, MigrationPhase, Mode, Observation, Plan, Role,
    Tier, WEIGHT_SCALE,
};
use proptest::prelude::*;

use crate::migration::{Told, follow, migrating, order, place, settled, world_of};
use crate::random::Random;
use crate::sim::{Nature, Provider, World};

const SOURCE: InstanceId = InstanceId(1);
const LONG: (u64, f64) = (200_000, 100.0);

/// Two primaries, the first of which is to move west.
fn asked() -> World {
    let mut world = settled(2, 100.0);
    let to = Some("west".into());
    world.migrations.orders.push(MigrationOrder { instance: Some(SOURCE), to, ..order(1) });
    world
}

fn target_of(plan: &Plan) -> Option<InstanceId> {
    plan.services[0].migrations.first().and_then(|view| view.target)
}

fn phase_of(plan: &Plan) -> MigrationPhase {
    plan.services[0].migrations.first().expect("it is told in every tick").phase
}

/// Everything is as before: the source has its part, the target none.
fn is_undone(world: &mut World, told: &Told) {
    assert_eq!(told.view().phase, MigrationPhase::RolledBack, "{told:#?}");
    world.migrations.orders.clear();
    world.run(20_000, |_| 100.0, |_, _, _| {});
    let part = f64::from(world.weight(SOURCE)) / f64::from(WEIGHT_SCALE);
    assert!((0.4..0.6).contains(&part), "{part}: {}", told.text());
    let serves = world.serving_shadows();
    assert_eq!(serves, 0, "{}", told.text());
}

/// Runs with a target that `spoil` makes worse when it gets its first requests.
fn spoilt(spoil: impl Fn(&mut World, InstanceId)) -> (World, Told) {
    let mut world = asked();
    let mut done = false;
    let told = follow(&mut world, Some(1), LONG, |world, _, plan| {
        let shifting = phase_of(plan) == MigrationPhase::Shifting;
        if let Some(target) = target_of(plan).filter(|_| shifting && !done) {
            spoil(world, target);
            done = true;
        }
    });
    (world, told)
}

fn failed_check(told: &Told) -> Vec<&str> {
    let failed = told.view().checks.iter().filter(|check| !check.passed && check.name != "samples");
    failed.map(|check| check.name.as_str()).collect()
}

#[test]
fn a_target_that_fails_requests_gives_them_back_and_ends() {
    let (mut world, told) = spoilt(|world, target| {
        world.instances.get_mut(&target).expect("it serves").failing.0 = 0.5;
    });
    assert_eq!(failed_check(&told), ["errors"]);
    assert!(world.outcome.failed < 12, "{:?}", world.outcome);
    let target = told.view().target.expect("there was one");
    assert!(told.actions.contains(&(Action::Destroy { instance: target }, Law::Migrate)));
    is_undone(&mut world, &told);
}

#[test]
fn a_target_that_answers_late_gives_requests_back() {
    let (mut world, told) = spoilt(|world, target| {
        world.instances.get_mut(&target).expect("it serves").slowness = 12.0;
    });
    assert_eq!(failed_check(&told), ["latency"]);
    is_undone(&mut world, &told);
}

#[test]
fn a_target_that_goes_down_gives_requests_back_at_once() {
    let (mut world, told) = spoilt(|world, target| {
        let down = Health::Down("connection refused".to_owned());
        world.instances.get_mut(&target).expect("it serves").health = down;
    });
    assert_eq!(failed_check(&told), ["health"]);
    assert!(told.text().contains("connection refused"), "{}", told.text());
    is_undone(&mut world, &told);
}

#[test]
fn a_target_that_ends_gives_requests_back_at_once() {
    let (mut world, told) = spoilt(World::kill);
    assert_eq!(failed_check(&told), ["health"]);
    is_undone(&mut world, &told);
}

#[test]
fn one_that_cannot_be_made_is_given_up_and_the_source_was_never_touched() {
    let mut world = asked();
    world.run(100, |_| 100.0, |_, _, _| {});
    world.instances.retain(|_, i| i.role == Role::Primary);
    world.provider = Provider::Fails(500);
    let told =
        follow(&mut world, Some(1), LONG, |world, _, _| assert!(world.weight(SOURCE) > 4_000));
    assert_eq!(told.phases, [MigrationPhase::Preparing, MigrationPhase::RolledBack]);
    assert!(told.text().contains("within 20000 ms"), "{}", told.text());
}

#[test]
fn a_target_lost_before_it_serves_is_replaced_once() {
    for losses in [1, 2] {
        let mut world = asked();
        let mut lost: Vec<InstanceId> = Vec::new();
        let told = follow(&mut world, Some(1), LONG, |world, _, plan| {
            if phase_of(plan) != MigrationPhase::Preparing || lost.len() == losses {
                return;
            }
            if let Some(target) = target_of(plan).filter(|id| !lost.contains(id)) {
                world.kill(target);
                lost.push(target);
            }
        });
        let ends = if losses == 1 { MigrationPhase::Done } else { MigrationPhase::RolledBack };
        assert_eq!(told.view().phase, ends, "{told:#?}");
        assert!(told.created(Law::Migrate) <= 2, "{told:#?}");
    }
}

#[test]
fn a_source_that_dies_is_taken_over_and_not_returned_to() {
    let mut world = asked();
    let told = follow(&mut world, Some(1), LONG, |world, _, plan| {
        let view = &plan.services[0].migrations[0];
        if view.phase == MigrationPhase::Shifting && view.step == 3 {
            world.kill(SOURCE);
        }
    });
    // It was not watched to the end: the primary may come back, and is not drained for good.
    assert_eq!(told.view().phase, MigrationPhase::RolledBack, "{told:#?}");
    assert!(told.text().contains("is taken over"), "{}", told.text());
    let target = told.view().target.expect("there is one");
    world.run(5_000, |_| 100.0, |_, _, _| {});
    assert!(world.weight(target) > 3_000 && world.weight(SOURCE) == 0);
}

#[test]
fn a_source_that_fails_for_a_moment_moves_on_step_by_step() {
    let mut world = asked();
    let (mut fell_ms, mut steps) = (None, Vec::new());
    let told = follow(&mut world, Some(1), LONG, |world, _, plan| {
        let view = &plan.services[0].migrations[0];
        if view.phase == MigrationPhase::Shifting {
            steps.push(view.step);
            let since_ms = *fell_ms.get_or_insert(world.at_ms);
            let fails = world.at_ms < since_ms + 2_500;
            let health = if fails { Health::Down("hung".to_owned()) } else { Health::Up };
            world.instances.get_mut(&SOURCE).expect("the source").health = health;
        }
    });
    steps.dedup();
    assert_eq!(told.view().phase, MigrationPhase::Done, "{told:#?}");
    assert_eq!(steps, (1..=steps.len() as u32).collect::<Vec<_>>(), "{}", told.text());
    assert!(steps.len() > 1, "{}", told.text());
}

#[test]
fn a_spike_gets_its_own_shadows_and_the_migration_goes_on_after_it() {
    let mut world = asked();
    let mut told = Told::default();
    let mut rps = 100.0;
    let mut most_serving = 0;
    let begin_ms = world.at_ms;
    while world.at_ms < begin_ms + 150_000 {
        let (_, plan) = world.step(rps);
        told.take(Some(1), &plan);
        if told.view().phase.is_over() {
            break;
        }
        if told.view().phase == MigrationPhase::Shifting && told.view().step == 2 {
            rps = 330.0;
        }
        if rps > 300.0 {
            most_serving = most_serving.max(world.serving_shadows());
        }
    }
    assert_eq!(told.view().phase, MigrationPhase::Done, "{told:#?}");
    // 330 rps at 105 each: two shadows beside two primaries, and the target beside them.
    assert!(most_serving >= 3, "{most_serving}");
    assert!(world.outcome.failed == 0, "{:?}", world.outcome);
}

#[test]
fn under_the_kill_switch_everything_stays_as_it_stands() {
    let mut world = asked();
    follow(&mut world, Some(1), (60_000, 100.0), |world, _, plan| {
        let view = &plan.services[0].migrations[0];
        world.kill_switch = view.step == 3 && (view.moved - 0.5).abs() < 0.01;
    });
    let target = |world: &World| {
        let serves =
            |i: &crate::instance::Instance| i.role == Role::Shadow && i.tier == Tier::Serving;
        let found = world.instances.iter().find(|(_, i)| serves(i)).map(|(id, _)| *id);
        (world.weight(SOURCE), found.map(|id| world.weight(id)))
    };
    let held = target(&world);
    world.run(
        30_000,
        |_| 100.0,
        |world, _, plan| {
            assert_eq!(target(world), held);
            assert!(plan.services[0].actions.is_empty() || !plan.services[0].act);
            assert!(plan.services[0].migrations[0].text.contains("the kill switch is on"));
        },
    );
    world.kill_switch = false;
    let told = follow(&mut world, Some(1), LONG, |_, _, _| {});
    assert_eq!(told.view().phase, MigrationPhase::Done, "{told:#?}");
}

#[test]
fn it_can_be_called_off_in_every_phase_and_by_taking_the_order_away() {
    use MigrationPhase::{Draining, Preparing, Shifting};
    for (phase, by_order) in [
        (Preparing, true),
        (Shifting, true),
        (Shifting, false),
        (Draining, true),
        (Preparing, false),
    ] {
        let mut world = asked();
        let told = follow(&mut world, Some(1), LONG, |world, _, plan| {
            let view = &plan.services[0].migrations[0];
            // A drain is over in no time unless a request is still being answered.
            if phase == Draining && view.step == 4 && view.phase == Shifting {
                let source = world.instances.get_mut(&SOURCE).expect("the source");
                source.pending.push((1e12, 1.0));
            }
            let late = phase != Shifting || view.step == 3;
            if view.phase == phase && late && by_order {
                world.migrations.orders[0].cancelled = true;
            } else if view.phase == phase && late {
                world.migrations.orders.clear();
            }
        });
        world.instances.get_mut(&SOURCE).expect("the source").pending.clear();
        assert!(told.phases.contains(&phase), "{told:#?}");
        assert_eq!(world.outcome.failed, 0);
        is_undone(&mut world, &told);
    }
}

#[test]
fn one_that_was_forgotten_in_a_crash_begins_anew_with_the_shadow_that_stands_there() {
    for remembered in [true, false] {
        let mut world = asked();
        let mut former = None;
        let mut ticks = 0;
        follow(&mut world, Some(1), (60_000, 100.0), |world, _, plan| {
            let view = &plan.services[0].migrations[0];
            if view.step == 3 && former.is_none() {
                former = view.target;
                let service = plan.services[0].service.clone();
                let memory = world.controller.memory(&service).expect("it is configured");
                world.controller = foreshadow_control::Controller::new(vec![migrating()]);
                if remembered {
                    world.controller.recall(memory, 2_000).expect("the same service");
                }
            }
            ticks += 1;
        });
        let told = follow(&mut world, Some(1), LONG, |_, _, _| {});
        assert!(former.is_some() && ticks > 0);
        assert_eq!(told.view().phase, MigrationPhase::Done, "{told:#?}");
        assert_eq!(told.view().target, former, "remembered: {remembered}");
        assert_eq!(told.created(Law::Migrate), 0);
    }
}

#[test]
fn the_only_primary_that_moved_is_stood_for_though_everything_was_forgotten() {
    let mut world = world_of(Nature { primaries: 1, ..Nature::default() }, migrating());
    world.run(5_000, |_| 20.0, |_, _, _| {});
    world.instances.get_mut(&SOURCE).expect("the primary").drained = true;
    world.migrations.moved = vec![SOURCE];
    world.run(60_000, |_| 0.5, |_, _, _| {});
    assert_eq!(world.serving_shadows(), 1);
    // The one that stands for it is lost: another does.
    let stands =
        world.instances.iter().find(|(_, i)| i.tier == Tier::Serving && i.role == Role::Shadow);
    let stands = *stands.expect("one serves").0;
    world.kill(stands);
    world.run(30_000, |_| 0.5, |_, _, _| {});
    assert_eq!(world.serving_shadows(), 1);
}

/// One tick of mischief while migrations come and go.
fn disturb(world: &mut World, random: &mut Random) {
    let ids: Vec<InstanceId> = world.instances.keys().copied().collect();
    let picked = ids[random.below(ids.len() as u64) as usize];
    let with = |world: &mut World, change: &dyn Fn(&mut crate::instance::Instance)| {
        if let Some(instance) = world.instances.get_mut(&picked) {
            change(instance);
        }
    };
    match random.below(300) {
        0 => world.kill(picked),
        1 => with(world, &|i| i.health = Health::Ejected),
        2 => with(world, &|i| i.health = Health::Down("refused".to_owned())),
        3 => with(world, &|i| i.failing.0 = 0.2),
        4 => with(world, &|i| i.slowness = 6.0),
        5..=20 => with(world, &|i| i.health = Health::Up),
        21 => world.provider = Provider::Fails(random.below(2_000)),
        22..=30 => world.provider = Provider::Works,
        31 => world.mode = Mode::Advise,
        32 => world.kill_switch = true,
        33..=45 => (world.mode, world.kill_switch) = (Mode::Act, false),
        46 => world.migrations.orders.iter_mut().for_each(|order| order.cancelled = true),
        _ => {}
    }
}

fn check(observation: &Observation, plan: &Plan) -> Result<(), TestCaseError> {
    let (seen, planned) = (&observation.services[0], &plan.services[0]);
    let mut anybody = false;
    let mut any_weight = false;
    for instance in &seen.instances {
        let able =
            instance.health == Health::Up && !instance.drained && instance.tier == Tier::Serving;
        let leaves = instance.moving_to.is_some_and(|to| to != Tier::Serving);
        let weight = planned.weights.iter().find(|w| w.instance == instance.instance);
        let weight = weight.map_or(0, |w| w.weight);
        prop_assert!(able && !leaves || weight == 0, "{instance:?} has {weight}");
        anybody |= able && instance.role == Role::Primary;
        any_weight |= weight > 0;
    }
    prop_assert!(!anybody || any_weight, "nobody gets anything: {:?}", planned.migrations);
    let underway = planned
        .migrations
        .iter()
        .filter(|view| !view.phase.is_over() && view.phase != MigrationPhase::Scheduled);
    prop_assert!(underway.count() <= 1);
    let shadows = seen.instances.iter().filter(|i| i.role == Role::Shadow).count();
    prop_assert!(shadows <= 6, "{shadows} shadows");
    for text in planned.migrations.iter().map(|view| &view.text) {
        prop_assert!(!text.is_empty() && !text.contains("NaN") && !text.contains("inf"), "{text}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_migration_ends_and_somebody_serves(seed in any::<u64>()) {
        let mut random = Random::seeded(seed);
        let mut spec = migrating();
        spec.places.push(place("north"));
        spec.migration.ready_ms = 8_000;
        spec.migration.verify_ms = 1_000;
        let nature = Nature { seed, primaries: 1 + seed % 3, ..Nature::default() };
        let mut world = world_of(nature, spec);
        let mut rps = 60.0;
        let mut next = 1;
        for tick in 0..1_500 {
            disturb(&mut world, &mut random);
            if random.below(100) == 0 {
                rps = 300.0 * random.unit();
            }
            if tick > 50 && world.migrations.orders.len() < 2 {
                world.migrations.orders.push(order(next));
                next += 1;
            }
            let (observation, plan) = world.step(rps);
            check(&observation, &plan)?;
            let over = |id| plan.services[0].migrations.iter().any(|v| v.id == Some(id) && v.phase.is_over());
            world.migrations.orders.retain(|order| !over(order.id));
        }
        // Once nothing fails any more, what is under way comes to an end.
        world.provider = Provider::Works;
        (world.mode, world.kill_switch) = (Mode::Act, false);
        for instance in world.instances.values_mut() {
            (instance.health, instance.failing.0, instance.slowness) = (Health::Up, 0.0, 1.0);
        }
        for _ in 0..1_200 {
            let (observation, plan) = world.step(60.0);
            check(&observation, &plan)?;
            let over = |id| plan.services[0].migrations.iter().any(|v| v.id == Some(id) && v.phase.is_over());
            world.migrations.orders.retain(|order| !over(order.id));
        }
        let (_, plan) = world.step(60.0);
        prop_assert!(world.migrations.orders.is_empty(), "{:#?}", plan.services[0].migrations);
    }
}
