//! Steady demand: what chance arrivals may do to the weights.

use foreshadow_control::{Capacity, InstanceId, InstanceWeight, Observation, Plan, ServiceSpec};

use crate::sim::{Nature, World, spec};

/// A minute of steady demand after two to settle: ticks that changed a weight, and
/// the serving shadows at its ends.
fn minute(rps: f64, spec: ServiceSpec, nature: Nature) -> (usize, [usize; 2]) {
    let mut world = World::new(nature, spec);
    world.run(20_000, |_| 0.5 * rps, |_, _, _| {});
    world.run(90_000, |_| rps, |_, _, _| {});
    let before = world.serving_shadows();
    let mut last: Vec<InstanceWeight> = Vec::new();
    let mut changes = 0;
    let look = |_: &mut World, _: &Observation, plan: &Plan| {
        let weights = &plan.services[0].weights;
        changes += usize::from(!last.is_empty() && *weights != last);
        last.clone_from(weights);
    };
    world.run(60_000, |_| rps, look);
    (changes, [before, world.serving_shadows()])
}

/// Ticks out of 600 that changed a weight, by seed.
fn changes(rps: f64, spec: &ServiceSpec, slots: usize) -> Vec<usize> {
    let one = |seed| {
        let nature = Nature { seed, slots, ..Nature::default() };
        let (changes, serving) = minute(rps, spec.clone(), nature);
        assert!(serving.iter().all(|shadows| *shadows > 0), "{rps} rps: {serving:?}");
        changes
    };
    (0..5).map(one).collect()
}

#[test]
fn chance_arrivals_do_not_move_weights() {
    // Pinned capacity, so that the last shadow carries a part of what overflows.
    for (rps, capacity_rps) in [(150.0, 80.0), (250.0, 130.0), (450.0, 200.0), (450.0, 170.0)] {
        let spec = ServiceSpec { capacity: Capacity::Pinned(capacity_rps), ..spec() };
        let changes = changes(rps, &spec, 4);
        assert!(changes.iter().all(|n| *n <= 15), "{rps} rps: {changes:?}");
        assert!(changes.iter().sum::<usize>() <= 6 * changes.len(), "{rps} rps: {changes:?}");
    }
}

#[test]
fn chance_in_what_is_learned_hardly_moves_weights() {
    for (rps, slots) in [(150.0, 2), (250.0, 3), (450.0, 4)] {
        let changes = changes(rps, &spec(), slots);
        assert!(changes.iter().all(|n| *n <= 20), "{rps} rps: {changes:?}");
        assert!(changes.iter().sum::<usize>() <= 10 * changes.len(), "{rps} rps: {changes:?}");
    }
}

#[test]
fn a_step_is_followed_within_a_second() {
    for seed in 0..5 {
        let spec = ServiceSpec { capacity: Capacity::Pinned(80.0), ..spec() };
        let mut world = World::new(Nature { seed, ..Nature::default() }, spec);
        world.run(90_000, |_| 120.0, |_, _, _| {});
        let share = |world: &World| {
            let total: u32 = world.instances.keys().map(|id| world.weight(*id)).sum();
            let primaries = world.weight(InstanceId(1)) + world.weight(InstanceId(2));
            f64::from(primaries) / f64::from(total)
        };
        // Two primaries carry 112 rps at the target.
        let before = share(&world);
        world.run(1_000, |_| 240.0, |_, _, _| {});
        let after = share(&world);
        assert!(before > 0.85 && after < 0.7, "seed {seed}: {before} to {after}");
    }
}
