//! Demand that grows, jumps, swings and falls.

use foreshadow_control::Tier;

use crate::sim::{Nature, World, spec};

fn calm(world: &mut World, share: f64) {
    let rps = share * world.nature.primary_rps();
    world.run(30_000, |_| rps, |_, _, _| {});
}

#[test]
fn a_steady_moderate_load_starts_nothing() {
    for seed in 0..5 {
        let mut world = World::new(Nature { seed, ..Nature::default() }, spec());
        let rps = 0.4 * world.nature.primary_rps();
        world.run(
            300_000,
            |_| rps,
            |world, _, plan| {
                let cap: Vec<_> = plan.services[0]
                    .capacity
                    .iter()
                    .map(|c| (c.rps as u64, c.lower_rps as u64, c.upper_rps.map(|u| u as u64)))
                    .collect();
                if plan.tick % 100 == 0 {
                    println!("{} {} {cap:?}", world.at_ms, world.serving_shadows());
                }
                for a in &plan.services[0].actions {
                    println!("{a:?}");
                }
            },
        );
        assert_eq!(world.serving_shadows(), 0, "seed {seed}");
        assert_eq!(world.shadows_at(Tier::Warm), 1);
    }
}

#[test]
fn a_ramp_is_met_before_the_primaries_are_full() {
    for seed in 0..5 {
        let mut world = World::new(Nature { seed, ..Nature::default() }, spec());
        calm(&mut world, 0.4);
        let full_rps = world.nature.primary_rps();
        let ramp = |ms: u64| full_rps * (0.4 + ms as f64 / 30_000.0);
        let crosses_ms = 18_000;
        let start_ms = world.at_ms;
        let mut served_ms = None;
        world.outcome = Default::default();
        world.run(30_000, ramp, |world, _, plan| {
            let cap: Vec<_> = plan.services[0]
                .capacity
                .iter()
                .map(|c| (c.rps as u64, c.lower_rps as u64, c.upper_rps.map(|u| u as u64)))
                .collect();
            if plan.tick % 10 == 0 {
                println!(
                    "{} {} {} {cap:?} {:?}",
                    world.at_ms - start_ms,
                    world.serving_shadows(),
                    plan.services[0].demand_rps,
                    plan.services[0].weights.iter().map(|w| w.weight).collect::<Vec<_>>()
                );
            }
            for a in &plan.services[0].actions {
                println!("{a:?}");
            }
            if world.serving_shadows() > 0 {
                served_ms.get_or_insert(world.at_ms - start_ms);
            }
        });
        println!("{:?}", world.outcome);
        let served_ms = served_ms.expect("a shadow serves");
        assert!(served_ms + 1_000 <= crosses_ms, "seed {seed}: {served_ms}");
        assert!(world.outcome.bad() * 100 < world.outcome.requests, "{:?}", world.outcome);
    }
}
