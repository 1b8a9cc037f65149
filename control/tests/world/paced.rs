//! Migrations that shift by what became of earlier ones.

use foreshadow_control::{
    InstanceId, LearningSpec, MigrationOrder, MigrationPhase, Pace, ServiceName, ServiceSpec,
};

use crate::migration::{Told, follow, migrating, order, world_of};
use crate::sim::{Nature, World};

fn learning(steps: bool) -> World {
    let learning = LearningSpec { outcomes: true, steps, ..LearningSpec::default() };
    let spec = ServiceSpec { learning, ..migrating() };
    let mut world = world_of(Nature { primaries: 3, ..Nature::default() }, spec);
    world.run(15_000, |_| 100.0, |_, _, _| {});
    world
}

/// Moves a primary to the west; what serves there fails half of its requests where `fails` says so.
fn moves(world: &mut World, id: u64, primary: u64, fails: bool) -> Told {
    let (instance, to) = (Some(InstanceId(primary)), Some("west".into()));
    world.migrations.orders = vec![MigrationOrder { instance, to, ..order(id) }];
    let told = follow(world, Some(id), (600_000, 100.0), |world, _, plan| {
        let target = plan.services[0].migrations.first().and_then(|view| view.target);
        if let Some(target) = target.and_then(|id| world.instances.get_mut(&id)) {
            target.failing.0 = if fails { 0.5 } else { 0.0 };
        }
    });
    world.migrations.orders.clear();
    world.run(15_000, |_| 100.0, |_, _, _| {});
    told
}

fn said(told: &Told, text: &str) -> bool {
    told.reasons.iter().any(|reason| reason.contains(text))
}

#[test]
fn after_one_that_failed_the_next_to_the_same_place_is_more_careful() {
    let mut world = learning(true);
    let first = moves(&mut world, 1, 1, true);
    assert_eq!(first.view().phase, MigrationPhase::RolledBack, "{:?}", first.reasons);
    assert!(said(&first, "it shifts by the normal plan"), "{:?}", first.reasons);
    let second = moves(&mut world, 2, 1, false);
    assert_eq!(second.view().phase, MigrationPhase::Done, "{:?}", second.reasons);
    assert!(said(&second, "it shifts by the careful plan"), "{:?}", second.reasons);
    assert!(said(&second, "step 1 of 6 holds at 1%"), "{:?}", second.reasons);
    let view = world.controller.feedback(&ServiceName::from("shop")).expect("it is configured");
    let of = |place: &str| {
        let shifts = view.learning.shifts.iter().find(|shifts| shifts.place.as_str() == place);
        let arms = shifts.map(|shifts| shifts.rung.arms.as_slice()).unwrap_or_default();
        arms.iter().map(|arm| (arm.pace, arm.migrations, arm.failed)).collect::<Vec<_>>()
    };
    let untried = |pace| (pace, 0, 0);
    assert_eq!(of("west"), [(Pace::Careful, 1, 0), (Pace::Normal, 1, 1), untried(Pace::Brisk)]);
    assert_eq!(of("east"), Pace::ALL.map(untried));
}

#[test]
fn where_steps_are_not_learned_every_one_shifts_as_configured() {
    let mut world = learning(false);
    let first = moves(&mut world, 1, 1, true);
    assert_eq!(first.view().phase, MigrationPhase::RolledBack, "{:?}", first.reasons);
    let second = moves(&mut world, 2, 1, false);
    assert_eq!(second.view().phase, MigrationPhase::Done, "{:?}", second.reasons);
    assert!(said(&second, "step 1 of 4 holds at 5%"), "{:?}", second.reasons);
    assert!(!said(&second, "it shifts by"), "{:?}", second.reasons);
    let view = world.controller.feedback(&ServiceName::from("shop")).expect("it is configured");
    assert!(view.learning.shifts.is_empty());
}
