//! Properties that hold for every world: weights, replay, bounded memory.

use std::collections::BTreeMap;

use foreshadow_control::{
    Controller, Entry, Health, InstanceId, Mode, Observation, Plan, Role, Tier, replay,
};
use proptest::prelude::*;

use crate::hostile::{LIES, liar};
use crate::random::Random;
use crate::sim::{Nature, Provider, World, spec};

/// One tick of mischief.
fn disturb(world: &mut World, random: &mut Random) {
    let ids: Vec<InstanceId> = world.instances.keys().copied().collect();
    let picked = ids[random.below(ids.len() as u64) as usize];
    match random.below(40) {
        0 => world.kill(picked),
        1 | 2 => {
            if let Some(instance) = world.instances.get_mut(&picked) {
                instance.health = match random.below(3) {
                    0 => Health::Ejected,
                    1 => Health::Down("refused".to_owned()),
                    _ => Health::Unknown,
                };
            }
        }
        3..=6 => {
            if let Some(instance) = world.instances.get_mut(&picked) {
                instance.health = Health::Up;
            }
        }
        7 => world.provider = Provider::Fails(random.below(3_000)),
        8 => world.provider = Provider::Works,
        9 => world.activate = random.below(4) as u32,
        10 => world.mode = [Mode::Observe, Mode::Advise, Mode::Act][random.below(3) as usize],
        11 => world.mode = Mode::Act,
        12 => world.kill_switch = random.below(4) == 0,
        _ => {}
    }
}

fn mischief(seed: u64, ticks: u64, mut look: impl FnMut(&World, &Observation, &Plan)) -> World {
    let mut random = Random::seeded(seed);
    let mut world =
        World::new(Nature { seed, primaries: 1 + seed % 3, slots: 3, ..Nature::default() }, spec());
    let full_rps = world.nature.primary_rps();
    let mut rps = 0.3 * full_rps;
    let mut tell = liar(LIES[(seed % LIES.len() as u64) as usize]);
    for _ in 0..ticks {
        disturb(&mut world, &mut random);
        if random.below(30) == 0 {
            rps = full_rps * 1.6 * random.unit();
        }
        let (observation, plan) =
            if seed.is_multiple_of(2) { world.step(rps) } else { world.step_told(rps, &mut tell) };
        look(&world, &observation, &plan);
    }
    world
}

fn check_weights(observation: &Observation, plan: &Plan) -> Result<(), TestCaseError> {
    let (seen, planned) = (&observation.services[0], &plan.services[0]);
    let weights: BTreeMap<InstanceId, u32> =
        planned.weights.iter().map(|w| (w.instance, w.weight)).collect();
    prop_assert_eq!(weights.len(), seen.instances.len());
    let mut anybody = false;
    for instance in &seen.instances {
        let able = match instance.role {
            Role::Primary => matches!(instance.health, Health::Up | Health::Unknown),
            Role::Shadow => instance.health == Health::Up && instance.tier == Tier::Serving,
        };
        let leaves = instance.moving_to.is_some_and(|to| to != Tier::Serving);
        anybody |= instance.role == Role::Primary && able;
        let weight = weights[&instance.instance];
        prop_assert!(weight <= foreshadow_control::WEIGHT_SCALE);
        prop_assert!(able && !leaves || weight == 0, "{:?} has {}", instance, weight);
    }
    prop_assert!(!anybody || weights.values().any(|w| *w > 0), "nobody gets anything");
    for entry in planned.actions.iter().map(|a| &a.reason).chain(&planned.reasons) {
        prop_assert!(!entry.text.is_empty());
        prop_assert!(!entry.text.contains("NaN") && !entry.text.contains("inf"), "{}", entry.text);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Invariant 1, as far as the plan decides it.
    #[test]
    fn only_the_able_get_weight(seed in any::<u64>()) {
        let mut verdict = Ok(());
        mischief(seed, 300, |_, observation, plan| {
            if verdict.is_ok() {
                verdict = check_weights(observation, plan);
            }
        });
        verdict?;
    }

    /// Invariant 3: a recording, cut anywhere and taken through JSON, replays byte for byte.
    #[test]
    fn a_recording_replays_byte_for_byte(seed in any::<u64>(), cut in 0u64..200) {
        let mut lines = Vec::new();
        let write = |entry: &Entry| serde_json::to_string(entry).expect("plain data");
        let mut random = Random::seeded(seed);
        let mut world = World::new(Nature { seed, ..Nature::default() }, spec());
        let full_rps = world.nature.primary_rps();
        for tick in 0..260 {
            disturb(&mut world, &mut random);
            if tick == cut {
                let controller = Box::new(world.controller.clone());
                lines.push(write(&Entry::Checkpoint { controller }));
            }
            if tick == cut + 20 {
                let mut changed = spec();
                changed.target_utilisation = 0.6;
                world.controller.configure(vec![changed.clone()]);
                lines.push(write(&Entry::Configure { specs: vec![changed] }));
            }
            let (observation, plan) = world.step(full_rps * (0.4 + tick as f64 / 200.0));
            if tick >= cut {
                let tick = Entry::Tick { observation: Box::new(observation), plan: Box::new(plan) };
                lines.push(write(&tick));
            }
        }
        let read = |line: &String| serde_json::from_str::<Entry>(line).expect("what was written");
        let report = replay(lines.iter().map(read));
        prop_assert_eq!(report.ticks, 260 - cut);
        prop_assert!(report.divergence.is_none(), "{:?}", report.divergence);

        let mut controller = Controller::default();
        for line in &lines {
            match read(line) {
                Entry::Checkpoint { controller: found } => controller = *found,
                Entry::Configure { specs } => controller.configure(specs),
                Entry::Tick { observation, plan } => {
                    let again = controller.tick(&observation);
                    let bytes = |plan: &Plan| serde_json::to_string(plan).expect("plain data");
                    prop_assert_eq!(bytes(&again), bytes(&plan));
                }
            }
        }
    }
}

/// A number from where measurements break: tiny, huge, negative, none at all.
fn wild(random: &mut Random) -> f64 {
    match random.below(6) {
        0 => f64::from_bits(random.next()),
        1 => f64::INFINITY,
        2 => 1e308,
        3 => 0.0,
        _ => random.unit() * 100.0,
    }
}

fn wild_count(random: &mut Random) -> u64 {
    match random.below(5) {
        0 => random.next(),
        1 => u64::MAX,
        2 => 0,
        _ => random.below(100),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn broken_measurements_break_nothing(seed in any::<u64>()) {
        let mut random = Random::seeded(seed);
        let mut world = World::new(Nature { seed, ..Nature::default() }, spec());
        for _ in 0..200 {
            let mut observation = world.observe(150.0);
            let service = &mut observation.services[0];
            if random.below(4) == 0 {
                service.arrivals = wild_count(&mut random);
                service.unserved = wild_count(&mut random);
            }
            for instance in &mut service.instances {
                if random.below(4) > 0 {
                    continue;
                }
                instance.capacity_rps = (random.below(3) == 0).then(|| wild(&mut random));
                instance.tier_age_ms = wild_count(&mut random);
                let meters = &mut instance.meters;
                meters.requests = wild_count(&mut random);
                meters.in_flight = wild_count(&mut random);
                meters.timeouts = wild_count(&mut random);
                meters.latency.count = wild_count(&mut random);
                meters.latency.over_objective = wild_count(&mut random);
                meters.latency.sum_ms = wild(&mut random);
                meters.latency.p50_ms = wild(&mut random);
                meters.latency.p90_ms = wild(&mut random);
            }
            let plan = world.controller.tick(&observation);
            world.carry_out(&plan);
            prop_assert!(plan.services[0].weights.iter().any(|w| w.weight > 0));
            let finite = |c: &foreshadow_control::CapacityView| {
                c.rps.is_finite() && c.lower_rps.is_finite() && c.upper_rps.is_none_or(f64::is_finite)
            };
            prop_assert!(plan.services[0].capacity.iter().all(finite), "{:?}", plan.services[0].capacity);
        }
        let written = serde_json::to_string(&world.controller).expect("plain data");
        let read: Result<Controller, _> = serde_json::from_str(&written);
        prop_assert!(read.is_ok(), "{:?}", read.err());
    }
}

#[test]
fn a_changed_plan_is_found_by_replay() {
    let mut world = World::new(Nature::default(), spec());
    let mut entries = vec![Entry::Configure { specs: vec![spec()] }];
    for _ in 0..20 {
        let (observation, plan) = world.step(100.0);
        entries.push(Entry::Tick { observation: Box::new(observation), plan: Box::new(plan) });
    }
    if let Entry::Tick { plan, .. } = &mut entries[11] {
        plan.services[0].weights[0].weight += 1;
    }
    let report = replay(entries.into_iter());
    assert_eq!(report.divergence.expect("it was changed").entry, 11);
    let stray = Entry::Tick {
        observation: Box::new(world.observe(1.0)),
        plan: Box::new(Plan { tick: 0, at_ms: 0, services: Vec::new() }),
    };
    assert_eq!(replay(std::iter::once(stray)).unreplayable, 1);
}

#[test]
fn what_is_gone_is_forgotten() {
    let size = |ticks: u64| {
        let world = mischief(2, ticks, |_, _, _| {});
        serde_json::to_string(&world.controller).expect("plain data").len()
    };
    let (early, late) = (size(1_500), size(4_500));
    assert!(late < early + early / 2, "{early} to {late} bytes");
}

#[test]
fn an_order_under_way_is_not_repeated() {
    // The world panics when a shadow is moved while it is being moved; creations are counted here.
    let mut most = 0;
    mischief(6, 3_000, |world, _, _| {
        most = most.max(world.instances.values().filter(|i| i.role == Role::Shadow).count());
    });
    assert!(most <= 4, "{most}");
}
