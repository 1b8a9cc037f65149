//! Primaries that go: only for what the others were seen to carry, and back at once where that was wrong.

use foreshadow_control::{Capacity, Plan, ServiceSpec};

use crate::scaler::Scaler;
use crate::scaling::scaled;
use crate::sim::{Nature, World};

/// A world whose primaries may go within seconds, down to one.
fn world(nature: Nature, capacity: Capacity) -> World {
    let mut spec = ServiceSpec { capacity, evaluation_window_ms: 3_000, ..scaled() };
    if let Some(scaling) = &mut spec.scaling {
        scaling.min = Some(1);
        scaling.lead_time_ms = 3_000;
        scaling.stabilisation_ms = 15_000;
        scaling.cooldown_ms = 2_000;
    }
    let mut world = World::new(nature, spec);
    world.scaler = Some(Scaler::of(&world, 2_000));
    world
}

fn ready(world: &World) -> u32 {
    world.scaler.as_ref().expect("there is one").ready()
}

/// What is wanted, and what is ordered instead.
fn order(plan: &Plan) -> Option<(u32, u32)> {
    let order = plan.services[0].scaling.as_ref()?.order.as_ref()?;
    Some((order.was, order.primaries))
}

/// Lower ends of the capacities of all primaries, and whether every one has an upper end, too.
fn carried(world: &World, plan: &Plan) -> (Vec<f64>, bool) {
    let primaries = || {
        let views = plan.services[0].capacity.iter();
        views.filter(|view| {
            world.instances[&view.instance].role == foreshadow_control::Role::Primary
        })
    };
    let lower: Vec<f64> = primaries().map(|view| view.lower_rps).collect();
    let measured = !lower.is_empty() && primaries().all(|view| view.upper_rps.is_some());
    (lower, measured)
}

/// While no primary was ever full, nobody knows what one carries: that a tenth of what they have carried comes
/// is no reason to have fewer than were found.
#[test]
fn no_guess_at_capacity_takes_a_primary() {
    for seed in 0..3 {
        let nature = Nature { seed, primaries: 3, slots: 16, cv: 0.1, ..Nature::default() };
        let mut world = world(nature, Capacity::Learned);
        let full_rps = world.nature.primary_rps();
        let demand = |ms: u64| full_rps * if ms < 60_000 { 0.5 } else { 0.1 };
        world.run(180_000, demand, |world, _, plan| {
            let (lower_rps, measured) = carried(world, plan);
            assert!(!measured, "seed {seed}: it was measured: {:?}", plan.services[0].capacity);
            let known = world.at_ms > 60_000;
            // One would do, by what they have carried.
            assert!(!known || lower_rps.iter().all(|rps| *rps > 0.3 * full_rps / 3.0));
            let to = order(plan).map_or(3, |(_, to)| to);
            assert!(to >= 3, "seed {seed} at {}: {:?}", world.at_ms, order(plan));
        });
        assert_eq!(ready(&world), 3, "seed {seed}");
    }
}

/// Where capacity was measured, a primary counts by what it was seen to carry for sure.
#[test]
fn a_primary_goes_only_for_what_the_others_were_seen_to_carry() {
    let mut steps = 0;
    for (seed, part) in (0..3).flat_map(|seed| (0..8).map(move |n| (seed, 0.05 * f64::from(n)))) {
        let nature = Nature { seed, ..Nature::default() };
        let mut world = world(nature, Capacity::Learned);
        let full_rps = world.nature.primary_rps();
        // Two are full, more come, and what they were needed for goes in part.
        let demand = |ms: u64| full_rps * if ms < 90_000 { 1.3 } else { 0.95 - part };
        let mut former = None;
        world.run(200_000, demand, |world, _, plan| {
            let given = order(plan);
            if let Some((was, to)) = given.filter(|(was, to)| to < was && former != given) {
                let (lower_rps, _) = carried(world, plan);
                let each_rps = lower_rps.iter().sum::<f64>() / lower_rps.len() as f64;
                let carried_rps = 0.7 * each_rps * f64::from(to);
                // With the margin of a tenth; chance moves what is measured.
                let least_rps = 0.95 * demand(world.at_ms) / 0.9;
                assert!(
                    carried_rps >= least_rps,
                    "seed {seed}: {was} to {to}: {carried_rps} of {least_rps}"
                );
                steps += 1;
            }
            former = given;
        });
    }
    assert!(steps >= 12, "{steps}");
}

/// A capacity that is given five times too high asks for one primary where three are needed: only what becomes
/// of requests tells.
#[test]
fn a_step_after_which_requests_come_late_is_taken_back_at_once_and_tried_again_ever_later() {
    for seed in 0..3 {
        let nature = Nature { seed, primaries: 4, ..Nature::default() };
        let mut world = world(nature, Capacity::Pinned(1_000.0));
        let mut spec = ServiceSpec { pool: None, ..world.controller.specs().remove(0) };
        if let Some(scaling) = &mut spec.scaling {
            scaling.cooldown_ms = 25_000;
        }
        world.controller.configure(vec![spec]);
        let mut said = Vec::new();
        world.run(
            1_500_000,
            |_| 500.0,
            |_, _, plan| {
                said.extend(plan.services[0].reasons.iter().map(|reason| reason.text.clone()));
            },
        );
        let orders = &world.scaler.as_ref().expect("there is one").orders;
        let who = format!("seed {seed}: {orders:?} {:?}", world.outcome);
        assert_eq!(
            orders.iter().map(|(_, to)| *to).take(3).collect::<Vec<_>>(),
            [3, 2, 3],
            "{who}"
        );
        assert!(orders.iter().all(|(_, to)| *to >= 2), "{who}");
        let tries: Vec<usize> = (0..orders.len()).filter(|n| orders[*n].1 == 2).collect();
        let back = tries.iter().filter_map(|n| Some((orders[*n].0, orders.get(n + 1)?)));
        for (at_ms, (back_ms, to)) in back {
            assert!(*to >= 3 && back_ms - at_ms < 6_000, "{at_ms}: {who}");
        }
        let at_ms: Vec<u64> = tries.iter().map(|n| orders[*n].0).collect();
        let gaps: Vec<u64> = at_ms.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.len() >= 3 && gaps.windows(2).all(|g| 2 * g[1] >= 3 * g[0]), "{gaps:?} {who}");
        let again = said.iter().filter(|text| text.contains("primaries 2 to 3 again: ")).count();
        assert_eq!(again, tries.len(), "{said:#?}");
        assert!(world.outcome.bad() * 25 < world.outcome.requests, "{who}");
    }
}
