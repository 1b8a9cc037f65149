//! Forecasts from kept history: ready before the second morning, harmless when they lie.

use foreshadow_control::{
    Controller, DemandHorizon, Entry, Mode, Observation, Plan, PoolSpec, ServiceSpec, Tier, replay,
};

use crate::random::Random;
use crate::sim::{Nature, Outcome, World, spec};

/// A day of twelve minutes: a night, a morning that comes within ten seconds, a day, an evening.
const DAY_MS: u64 = 720_000;
const MORNING_MS: u64 = 390_000;
const EVENING_MS: u64 = 540_000;
const BUCKET_MS: u64 = 10_000;

fn demand_rps(full_rps: f64, day_ms: u64) -> f64 {
    let share = |at_ms: u64| (day_ms.saturating_sub(at_ms) as f64 / 10_000.0).min(1.0);
    full_rps * (0.3 + 1.3 * (share(MORNING_MS) - share(EVENING_MS)))
}

/// A provider that takes a minute to make an instance, and no pool that would have one.
fn slow_world(seed: u64) -> World {
    let nature =
        Nature { create_ms: 90_000, warm_ms: 4_000, serve_ms: 500, seed, ..Nature::default() };
    let pool = Some(PoolSpec { shadow: 0, warm: 0, full: 0, max: 4 });
    World::new(nature, ServiceSpec { pool, ..spec() })
}

/// What a day taught, and what it says of the next: the same, give or take a tenth.
#[derive(Clone, Default)]
struct Yesterday(Vec<f64>);

impl Yesterday {
    fn learn(&mut self, day_ms: u64, arrivals: u64) {
        let bucket = (day_ms / BUCKET_MS) as usize;
        self.0.resize(self.0.len().max(bucket + 1), 0.0);
        self.0[bucket] += arrivals as f64 * 1_000.0 / BUCKET_MS as f64;
    }

    fn tell(&self, day_ms: u64) -> Vec<DemandHorizon> {
        let at = |horizon_ms: u64| {
            let bucket = ((day_ms + horizon_ms) % DAY_MS / BUCKET_MS) as usize;
            let rps = self.0.get(bucket).copied().unwrap_or(0.0);
            DemandHorizon {
                horizon_ms,
                lower_rps: 0.9 * rps,
                median_rps: rps,
                upper_rps: 1.1 * rps,
            }
        };
        [0, 60_000, 120_000, 180_000, 300_000, 600_000].map(at).to_vec()
    }
}

/// The first day, in which the only help comes from what is measured.
fn first_day(seed: u64) -> (World, Yesterday) {
    let mut world = slow_world(seed);
    let full_rps = world.nature.primary_rps();
    let mut yesterday = Yesterday::default();
    let start_ms = world.at_ms;
    world.run(
        DAY_MS,
        |at_ms| demand_rps(full_rps, at_ms),
        |world, seen, _| {
            yesterday.learn(world.at_ms - start_ms - 100, seen.services[0].arrivals);
        },
    );
    assert_eq!(world.serving_shadows(), 0, "the night needs none");
    world.outcome = Outcome::default();
    (world, yesterday)
}

#[test]
fn what_repeats_daily_is_met_before_the_second_morning() {
    let (world, yesterday) = first_day(1);
    let full_rps = world.nature.primary_rps();
    let mut reactive = world.clone();
    reactive.run(DAY_MS, |at_ms| demand_rps(full_rps, at_ms), |_, _, _| {});

    let mut told = world;
    let mut at_dawn = 0;
    let mut in_the_night = 0;
    for tick in 0..DAY_MS / 100 {
        let day_ms = tick * 100;
        told.long_range = yesterday.tell(day_ms);
        told.step(demand_rps(full_rps, day_ms));
        match day_ms {
            MORNING_MS => at_dawn = told.serving_shadows(),
            ms if ms < MORNING_MS - 240_000 => in_the_night += told.instances.len() - 2,
            _ => {}
        }
    }
    assert!(at_dawn >= 2, "{at_dawn} shadows serve when the morning begins");
    assert_eq!(in_the_night, 0, "none is made long before it is needed");
    let (with, without) = (told.outcome, reactive.outcome);
    assert!(without.bad() > 10_000, "{without:?}");
    assert!(with.bad() * 20 < without.bad(), "{with:?}, without {without:?}");
    assert_eq!(told.serving_shadows(), 0, "and the evening gives them back");
}

/// How what is told may be wrong.
#[derive(Clone, Copy, Debug)]
enum Lie {
    Always(f64),
    Times(f64),
    Hours(u64),
    Reversed,
    Noise,
}

const LIES: [Lie; 11] = [
    Lie::Always(f64::NAN),
    Lie::Always(f64::INFINITY),
    Lie::Always(-1.0),
    Lie::Always(0.0),
    Lie::Always(1e308),
    Lie::Always(500.0),
    Lie::Times(0.2),
    Lie::Times(5.0),
    Lie::Hours(DAY_MS / 2),
    Lie::Reversed,
    Lie::Noise,
];

impl Lie {
    fn tell(self, yesterday: &Yesterday, day_ms: u64, random: &mut Random) -> Vec<DemandHorizon> {
        let mut told = match self {
            Self::Hours(by_ms) => yesterday.tell(day_ms + by_ms),
            _ => yesterday.tell(day_ms),
        };
        for point in &mut told {
            let factor = match self {
                Self::Times(factor) => factor,
                Self::Noise => libm::pow(10.0, random.unit() * 40.0 - 20.0),
                _ => 1.0,
            };
            (point.lower_rps, point.median_rps, point.upper_rps) = match self {
                Self::Always(rps) => (rps, rps, rps),
                Self::Reversed => (point.upper_rps, point.median_rps, point.lower_rps),
                _ => {
                    (factor * point.lower_rps, factor * point.median_rps, factor * point.upper_rps)
                }
            };
        }
        if let Self::Reversed = self {
            told.reverse();
        }
        told
    }
}

/// A whole day of nothing but lies, or of silence.
fn lied_to(mut world: World, yesterday: &Yesterday, mode: Mode, lie: Option<Lie>) -> World {
    let full_rps = world.nature.primary_rps();
    let mut random = Random::seeded(9);
    world.mode = mode;
    for tick in 0..DAY_MS / 100 {
        let day_ms = tick * 100;
        world.long_range =
            lie.map_or_else(Vec::new, |lie| lie.tell(yesterday, day_ms, &mut random));
        world.step(demand_rps(full_rps, day_ms));
        assert!(world.instances.len() <= 2 + 4, "{lie:?}");
    }
    world
}

/// Invariant 4 for what is told from outside: against the same world that is told nothing, and
/// against one that only looks.
fn assert_harmless(seed: u64, lies: &[Lie]) {
    let (world, yesterday) = first_day(seed);
    let observed = lied_to(world.clone(), &yesterday, Mode::Observe, None).outcome;
    let untold = lied_to(world.clone(), &yesterday, Mode::Act, None).outcome;
    for lie in lies {
        let told = lied_to(world.clone(), &yesterday, Mode::Act, Some(*lie)).outcome;
        let bound = told.requests / 100;
        assert!(told.bad() <= observed.bad() + bound, "{lie:?}: {told:?}, {observed:?}");
        assert!(told.bad() <= untold.bad() + bound, "{lie:?}: {told:?}, {untold:?}");
    }
}

#[test]
fn no_nonsense_from_history_makes_it_worse_than_observing_by_more_than_the_bound() {
    assert_harmless(2, &LIES[..5]);
}

#[test]
fn no_lie_from_history_makes_it_worse_than_observing_by_more_than_the_bound() {
    assert_harmless(7, &LIES[5..8]);
}

#[test]
fn no_history_of_another_time_makes_it_worse_than_observing_by_more_than_the_bound() {
    assert_harmless(8, &LIES[8..]);
}

#[test]
fn a_lie_is_seen_through_within_minutes() {
    let (mut world, _) = first_day(3);
    let calm_rps = 0.3 * world.nature.primary_rps();
    let mut serving_ms = 0;
    for _ in 0..6_000 {
        let lie = |horizon_ms| {
            let rps = 4.0 * calm_rps;
            let now = if horizon_ms == 0 { calm_rps } else { rps };
            DemandHorizon { horizon_ms, lower_rps: now, median_rps: now, upper_rps: now }
        };
        world.long_range = [0, 60_000, 300_000].map(lie).to_vec();
        world.step(calm_rps);
        serving_ms += 100 * world.serving_shadows() as u64;
    }
    assert_eq!(serving_ms, 0, "without a record it commits nothing, and it never gets one");
    let awake = world.shadows_at(Tier::Warm) + world.shadows_at(Tier::Full);
    assert_eq!(awake, 0, "nor does it warm any longer");
}

#[test]
fn what_was_told_is_part_of_the_recording() {
    let (mut world, yesterday) = first_day(4);
    let full_rps = world.nature.primary_rps();
    let mut lines = Vec::new();
    let write = |entry: &Entry| serde_json::to_string(entry).expect("plain data");
    for tick in 0..(MORNING_MS + 20_000) / 100 {
        let day_ms = tick * 100;
        world.long_range = yesterday.tell(day_ms);
        if day_ms == MORNING_MS - 200_000 {
            let controller = Box::new(world.controller.clone());
            lines.push(write(&Entry::Checkpoint { controller }));
        }
        let (observation, plan) = world.step(demand_rps(full_rps, day_ms));
        if !lines.is_empty() {
            let (observation, plan) = (Box::new(observation), Box::new(plan));
            lines.push(write(&Entry::Tick { observation, plan }));
        }
    }
    assert!(world.serving_shadows() >= 2);
    let read = |line: &String| serde_json::from_str::<Entry>(line).expect("what was written");
    let report = replay(lines.iter().map(read));
    assert_eq!(report.ticks, 2_200);
    assert!(report.divergence.is_none(), "{:?}", report.divergence);
}

#[test]
fn a_restart_goes_on_with_what_was_learned() {
    let (mut world, _) = first_day(5);
    let full_rps = world.nature.primary_rps();
    world.run(60_000, |_| 0.5 * full_rps, |_, _, _| {});
    let last = |world: &mut World| -> (Observation, Plan) { world.step(0.5 * full_rps) };
    let (_, before) = last(&mut world);
    let name = &before.services[0].service;
    let memory = world.controller.memory(name).expect("it is configured");
    let text = serde_json::to_string(&memory).expect("plain data");
    assert_eq!(memory.service(), name);

    let pool = Some(PoolSpec { shadow: 0, warm: 0, full: 0, max: 4 });
    let mut fresh = Controller::new(vec![ServiceSpec { pool, ..spec() }]);
    let memory = serde_json::from_str(&text).expect("what was written");
    assert_eq!(fresh.recall(memory, 600_000), Ok(foreshadow_control::Recalled::Whole));
    world.controller = fresh;
    world.at_ms += 600_000;
    let (_, after) = last(&mut world);
    let (was, is) = (&before.services[0], &after.services[0]);
    for (was, is) in was.capacity.iter().zip(&is.capacity) {
        assert!((is.rps / was.rps - 1.0).abs() < 0.1, "{was:?} {is:?}");
    }
    assert!(
        (is.demand_rps / was.demand_rps - 1.0).abs() < 0.9,
        "{} {}",
        was.demand_rps,
        is.demand_rps
    );
    let median = |plan: &foreshadow_control::ServicePlan| plan.forecast[2].median_rps;
    assert!((median(is) / median(was) - 1.0).abs() < 0.5, "{} {}", median(was), median(is));
}

#[test]
fn what_was_learned_under_other_horizons_keeps_all_but_the_forecast() {
    let (world, _) = first_day(6);
    let name = spec().name;
    let memory = || world.controller.memory(&name).expect("it is configured");
    let mut other = Controller::new(vec![ServiceSpec { horizon_ms: 60_000, ..spec() }]);
    assert_eq!(other.recall(memory(), 1_000), Ok(foreshadow_control::Recalled::WithoutForecast));
    let mut none = Controller::new(Vec::new());
    let refused = none.recall(memory(), 1_000).expect_err("no such service");
    assert!(refused.to_string().contains("there is no service shop"), "{refused}");
}
