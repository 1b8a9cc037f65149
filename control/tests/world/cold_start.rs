//! The first minute of a service nobody knows: what a steady load may start, and what an overload
//! must.

use foreshadow_control::{
    InstanceWeight, Objective, Observation, Plan, PoolSpec, QuantileSpec, ServiceSpec, Tier,
};

use crate::ramps::moves;
use crate::sim::{Nature, OBJECTIVE_MS, World, spec};

/// The defaults of the configuration, where the other tests are more eager.
fn default_spec() -> ServiceSpec {
    ServiceSpec {
        target_utilisation: 0.75,
        quantiles: QuantileSpec { prepare: 0.95, warm: 0.5, commit: 0.1 },
        warm_up_ms: 5_000,
        ..spec()
    }
}

/// Slots, time of service and its variation.
const SERVERS: [(usize, f64, f64); 7] = [
    (1, 2.5, 1.0),
    (2, 5.0, 0.0),
    (4, 10.0, 0.5),
    (4, 10.0, 1.5),
    (8, 20.0, 0.5),
    (16, 40.0, 1.0),
    (32, 60.0, 0.3),
];

/// Each of these servers, on a quiet machine and on one whose other guests make it falter.
pub(crate) fn of_kinds(servers: &[(usize, f64, f64)]) -> Vec<Nature> {
    let nature = |&(slots, service_ms, cv): &(usize, f64, f64)| {
        [0.0, 0.5].map(|faltering| Nature { slots, service_ms, cv, faltering, ..Nature::default() })
    };
    servers.iter().flat_map(nature).collect()
}

/// What a steady load did in its first minute.
#[derive(Debug)]
struct Minute {
    activations: usize,
    /// Ticks in which the weight of a primary changed.
    changes: usize,
    /// Farthest that the first of two equal primaries was from half of their part.
    astray: f64,
}

fn minute(nature: Nature, share: f64) -> Minute {
    let rps = share * nature.primary_rps();
    let mut world = World::new(nature, default_spec());
    let mut seen = Minute { activations: 0, changes: 0, astray: 0.0 };
    let mut last: Vec<InstanceWeight> = Vec::new();
    let look = |_: &mut World, _: &Observation, plan: &Plan| {
        let primaries: Vec<InstanceWeight> = plan.services[0].weights[..2].to_vec();
        seen.activations += moves(plan, Tier::Serving);
        seen.changes += usize::from(!last.is_empty() && primaries != last);
        let sum: u32 = primaries.iter().map(|w| w.weight).sum();
        let first = f64::from(primaries[0].weight) / f64::from(sum.max(1));
        seen.astray = seen.astray.max((first - 0.5).abs());
        last = primaries;
    };
    world.run(60_000, |_| rps, look);
    seen
}

#[test]
fn a_steady_load_far_below_capacity_starts_nothing_and_moves_nothing() {
    let mut changes = Vec::new();
    for nature in of_kinds(&SERVERS) {
        for (share, seed) in
            [0.05, 0.19, 0.33].into_iter().flat_map(|s| (2..5).map(move |n| (s, n)))
        {
            let nature = Nature { seed, ..nature.clone() };
            let seen = minute(nature.clone(), share);
            assert_eq!(seen.activations, 0, "at {share} of {nature:?}");
            assert!(seen.astray < 0.15 && seen.changes <= 12, "{seen:?} at {share} of {nature:?}");
            changes.push(seen.changes);
        }
    }
    assert!(changes.iter().sum::<usize>() < changes.len(), "more than one a minute: {changes:?}");
}

#[test]
fn first_traffic_of_idle_primaries_starts_nothing() {
    // Answers of less than a millisecond, one after the other: 1,600 and 400 requests per second.
    for (slots, service_ms, cv) in [(1, 0.6, 0.3), (1, 0.6, 1.0), (1, 2.5, 0.5)] {
        for seed in 1..=4 {
            let nature = Nature { slots, service_ms, cv, seed, ..Nature::default() };
            let mut world = World::new(nature.clone(), default_spec());
            let (mut serving, mut shadows) = (0, 0);
            let look = |world: &mut World, _: &Observation, plan: &Plan| {
                serving += moves(plan, Tier::Serving);
                shadows = shadows.max(world.serving_shadows());
            };
            let demand_rps = |ms| if ms < 15_000 { 60.0 } else { 250.0 };
            world.run(10_000, |_| 0.0, |_, _, _| ());
            world.run(45_000, demand_rps, look);
            assert_eq!((serving, shadows), (0, 0), "{nature:?}");
        }
    }
}

#[test]
fn a_backend_that_stops_far_below_what_its_answers_promise_is_found_out() {
    // Idle at a twentieth, then at once beyond what it can do.
    for seed in 1..=4 {
        let nature = Nature { slots: 1, service_ms: 20.0, cv: 1.0, seed, ..Nature::default() };
        let full_rps = nature.primary_rps();
        let mut world = World::new(nature.clone(), default_spec());
        world.run(10_000, |_| 0.05 * full_rps, |_, _, _| ());
        let mut ordered_ms = None;
        let look = |world: &mut World, _: &Observation, plan: &Plan| {
            if moves(plan, Tier::Serving) > 0 {
                ordered_ms.get_or_insert(world.at_ms - 10_000);
            }
        };
        world.run(10_000, |_| 1.3 * full_rps, look);
        assert!(ordered_ms.is_some_and(|ms| ms <= 5_000), "{ordered_ms:?}: {nature:?}");
    }
}

/// How long after demand became `share` of what the primaries can do a shadow was ordered to serve.
fn ordered_after_ms(nature: Nature, calm_ms: u64, share: f64) -> Option<u64> {
    let full_rps = nature.primary_rps();
    let mut world = World::new(nature, default_spec());
    let mut ordered_ms = None;
    let look = |world: &mut World, _: &Observation, plan: &Plan| {
        if moves(plan, Tier::Serving) > 0 {
            ordered_ms.get_or_insert(world.at_ms.saturating_sub(calm_ms));
        }
    };
    let demand_rps = |ms| full_rps * if ms < calm_ms { 0.2 } else { share };
    world.run(calm_ms + 10_000, demand_rps, look);
    ordered_ms
}

#[test]
fn an_overload_is_acted_on_at_once_however_little_is_known() {
    for nature in of_kinds(&SERVERS) {
        for (calm_ms, share) in [(0, 1.3), (0, 2.0), (1_000, 1.5), (3_000, 1.3), (3_000, 2.0)] {
            let nature = Nature { seed: 1, ..nature.clone() };
            let who = format!("{share} after {calm_ms} ms, {nature:?}");
            let after_ms = ordered_after_ms(nature, calm_ms, share).expect(&who);
            assert!(after_ms <= 2_000, "{after_ms} ms: {who}");
        }
    }
}

#[test]
fn requests_that_only_time_out_are_an_overload() {
    // Twice of what it can do, and nobody waits for the answer long enough.
    let nature = Nature { slots: 32, service_ms: 200.0, cv: 0.3, ..Nature::default() };
    let after_ms = ordered_after_ms(nature, 0, 2.0).expect("a shadow is ordered to serve");
    assert!(after_ms <= 3_000, "{after_ms}");
}

/// What a service that was just begun has come to after its first rush and a calm.
#[derive(Debug)]
struct Settled {
    /// Shadows ordered to serve, once each time.
    activations: usize,
    /// Shadows that still serve.
    serving: usize,
    /// What all primaries are believed to carry within the objective, as a part of what they can.
    believed: f64,
}

/// Idle at first; from nothing to half of what the primaries can do within three seconds, a rush of three more,
/// then a quarter for eight.
fn settled(nature: Nature) -> Settled {
    let full_rps = nature.primary_rps();
    let spec = ServiceSpec {
        objective: Objective { latency_ms: OBJECTIVE_MS, latency_quantile: 0.99, error_rate: 0.01 },
        pool: Some(PoolSpec { shadow: 1, warm: 1, full: 0, max: 8 }),
        horizon_ms: 10_000,
        evaluation_window_ms: 5_000,
        warm_up_ms: 3_000,
        ..default_spec()
    };
    let mut world = World::new(nature, spec);
    let mut seen = Settled { activations: 0, serving: 0, believed: 0.0 };
    let share = |s: f64| {
        let (from, to, part) = match s {
            s if s < 3.0 => (0.125, 0.5, s / 3.0),
            s if s < 6.0 => (0.5, 0.5, 0.0),
            s if s < 7.0 => (0.5, 0.25, s - 6.0),
            _ => (0.25, 0.25, 0.0),
        };
        from + part * (to - from)
    };
    let look = |world: &mut World, _: &Observation, plan: &Plan| {
        seen.activations += moves(plan, Tier::Serving);
        seen.serving = world.serving_shadows();
        let primaries = plan.services[0].capacity.iter().take(world.nature.primaries as usize);
        seen.believed = primaries.map(|c| c.rps).sum::<f64>() / full_rps;
    };
    // How far into a window of the learner's the first request comes must make no difference.
    let idle_ms = 2_000 + 70 * world.nature.seed;
    world.run(idle_ms, |_| 0.0, |_, _, _| ());
    world.run(15_000, |ms| full_rps * share(ms as f64 / 1_000.0), look);
    seen
}

#[test]
fn a_first_rush_is_learned_from_and_not_spread_too_thin_for_it() {
    for faltering in [0.0, 0.3, 0.6] {
        for seed in 1..=8 {
            let nature = Nature {
                slots: 8,
                cv: 0.4,
                warm_up_ms: 3_000.0,
                create_ms: 1_500,
                faltering,
                seed,
                ..Nature::default()
            };
            let seen = settled(nature.clone());
            assert!(seen.activations <= 2 && seen.serving == 0, "{seen:?} of {nature:?}");
            assert!((0.5..1.1).contains(&seen.believed), "{seen:?} of {nature:?}");
        }
    }
}
