//! What holds of scaled primaries whatever is forecast, answered or done to the world.

use foreshadow_control::{
    Capacity, Controller, Entry, InstanceId, Mode, Plan, ScalingSeen, ServiceSpec, replay,
};
use proptest::prelude::*;

use crate::hostile::{LIES, liar};
use crate::random::Random;
use crate::scaler::{Scaler, Temper};
use crate::scaling::scaled;
use crate::sim::{Nature, World};

/// A world that is scaled within seconds.
fn quick(seed: u64) -> World {
    let mut spec = scaled();
    if let Some(scaling) = &mut spec.scaling {
        scaling.lead_time_ms = 3_000;
        scaling.stabilisation_ms = 15_000;
        scaling.cooldown_ms = 1_000;
        scaling.respect_ms = 10_000;
    }
    let spec = ServiceSpec { evaluation_window_ms: 3_000, ..spec };
    let mut world = World::new(Nature { seed, ..Nature::default() }, spec);
    world.scaler = Some(Scaler::of(&world, 2_000));
    world
}

/// One tick of mischief with the scaler.
fn disturb(world: &mut World, random: &mut Random) {
    match random.below(100) {
        0 => world.mode = [Mode::Observe, Mode::Advise, Mode::Act][random.below(3) as usize],
        1..=3 => world.mode = Mode::Act,
        4 => world.kill_switch = !world.kill_switch,
        _ => {}
    }
    let scaler = world.scaler.as_mut().expect("there is one");
    match random.below(200) {
        0 => scaler.wanted = 1 + random.below(9) as u32,
        1 => scaler.temper = Temper::Fails,
        2..=6 => scaler.temper = Temper::Works,
        7 => scaler.makes_ms = random.below(20_000),
        _ => {}
    }
}

fn order(plan: &Plan) -> Option<(u32, u32)> {
    let order = plan.services[0].scaling.as_ref()?.order.as_ref()?;
    Some((order.was, order.primaries))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn orders_stay_within_their_bounds_and_replay_byte_for_byte(seed in any::<u64>(), cut in 0u64..600) {
        let mut random = Random::seeded(seed);
        let mut world = quick(seed);
        let full_rps = world.nature.primary_rps();
        let mut rps = 0.4 * full_rps;
        let mut lines = Vec::new();
        let write = |entry: &Entry| serde_json::to_string(entry).expect("plain data");
        for tick in 0..1_200 {
            disturb(&mut world, &mut random);
            if random.below(100) == 0 {
                rps = full_rps * 2.5 * random.unit();
            }
            if tick == cut {
                let controller = Box::new(world.controller.clone());
                lines.push(write(&Entry::Checkpoint { controller }));
            }
            let (observation, plan) = world.step(rps);
            let wanted = observation.services[0].scaling.as_ref().and_then(|s| s.wanted);
            if let Some((_, to)) = order(&plan) {
                // More than its most was set by others, and is not brought down at once.
                prop_assert!(to <= 8 || wanted.is_some_and(|wanted| to <= wanted), "{to}, {wanted:?}");
                prop_assert!(to >= 1);
            }
            let scale = plan.services[0].reasons.iter().filter(|r| r.text.starts_with("primaries"));
            for reason in scale {
                prop_assert!(!reason.text.contains("NaN") && !reason.text.contains("inf "), "{}", reason.text);
            }
            if tick >= cut {
                let tick = Entry::Tick { observation: Box::new(observation), plan: Box::new(plan) };
                lines.push(write(&tick));
            }
        }
        let read = |line: &String| serde_json::from_str::<Entry>(line).expect("what was written");
        let report = replay(lines.iter().map(read));
        prop_assert_eq!(report.ticks, 1_200 - cut);
        prop_assert!(report.divergence.is_none(), "{:?}", report.divergence);
    }

    /// Numbers and names that no scaler should say.
    #[test]
    fn answers_that_cannot_be_break_nothing(seed in any::<u64>()) {
        let mut random = Random::seeded(seed);
        let mut world = quick(seed);
        let full_rps = world.nature.primary_rps();
        let mut controller = Controller::new(vec![scaled()]);
        for _ in 0..400 {
            let mut observation = world.observe(1.5 * full_rps * random.unit());
            let mut number = || match random.below(5) {
                0 => None,
                1 => Some(u32::MAX),
                2 => Some(0),
                _ => Some(random.below(12) as u32),
            };
            let (wanted, asked, original) = (number(), number(), number());
            let ids = |random: &mut Random| -> Vec<InstanceId> {
                (0..random.below(5)).map(|_| InstanceId(random.below(6))).collect()
            };
            let (ready, leaving) = (ids(&mut random), ids(&mut random));
            let trouble = (random.below(3) == 0).then(|| "asked it: no".to_owned());
            let unlisted = ids(&mut random);
            let seen =
                ScalingSeen { wanted, ready, leaving, unlisted, asked, original, trouble };
            observation.services[0].scaling = Some(seen);
            let plan = controller.tick(&observation);
            serde_json::to_string(&plan).expect("plain data");
            if let Some((was, to)) = order(&plan) {
                prop_assert!(to <= 8 || to <= was, "{was} to {to}");
            }
        }
    }
}

/// A forecast may add primaries or hold them: what is measured keeps them, whatever is said of the
/// time to come.
#[test]
fn no_forecast_takes_a_primary_that_measured_demand_needs() {
    for lie in LIES {
        let mut world = quick(5);
        let spec =
            ServiceSpec { capacity: Capacity::Pinned(200.0), ..world.controller.specs().remove(0) };
        world.controller.configure(vec![spec]);
        let full_rps = world.nature.primary_rps();
        let rps = 1.2 * full_rps;
        world.run(60_000, |_| rps, |_, _, _| {});
        let scaler = world.scaler.as_ref().expect("there is one");
        assert!(scaler.ready() >= 4, "{}", scaler.ready());
        let mut tell = liar(lie);
        for _ in 0..1_500 {
            let (_, plan) = world.step_told(rps, &mut tell);
            // 480 rps at 140 rps each.
            assert!(order(&plan).is_none_or(|(_, to)| to >= 4), "{lie:?}: {:?}", order(&plan));
        }
        let scaler = world.scaler.as_ref().expect("there is one");
        assert!((4..=8).contains(&scaler.ready()), "{lie:?}: {}", scaler.ready());
    }
}
