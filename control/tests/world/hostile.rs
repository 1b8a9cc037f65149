//! Forecasts that lie: what they may cost is bounded.

use foreshadow_control::{
    AlertKind, DemandForecast, DemandHorizon, Mode, Observation, Plan, Role, ServiceName, Tier,
};

use proptest::prelude::*;

use crate::random::Random;
use crate::sim::{Nature, Outcome, World, spec};

/// How a forecaster may lie.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lie {
    /// The same value everywhere.
    Always(f64),
    /// The truth times this.
    Times(f64),
    /// The forecast of the first tick for ever.
    Stale,
    /// The lower quantile above the upper one.
    UpsideDown,
    /// No horizons at all.
    Silent,
    /// Another number each time, over many orders of magnitude.
    Noise(u64),
}

pub(crate) const LIES: [Lie; 12] = [
    Lie::Always(f64::NAN),
    Lie::Always(f64::INFINITY),
    Lie::Always(f64::NEG_INFINITY),
    Lie::Always(-1.0),
    Lie::Always(0.0),
    Lie::Always(1e308),
    Lie::Always(700.0),
    Lie::Times(5.0),
    Lie::Stale,
    Lie::UpsideDown,
    Lie::Silent,
    Lie::Noise(7),
];

pub(crate) fn liar(lie: Lie) -> impl FnMut(&ServiceName, DemandForecast) -> DemandForecast {
    let mut first: Option<DemandForecast> = None;
    let mut random = Random::seeded(if let Lie::Noise(seed) = lie { seed } else { 0 });
    move |_, mut forecast| {
        let mut each = |change: &mut dyn FnMut(&mut DemandHorizon)| {
            forecast.horizons.iter_mut().for_each(&mut *change);
        };
        match lie {
            Lie::Always(rps) => {
                each(&mut |h| (h.lower_rps, h.median_rps, h.upper_rps) = (rps, rps, rps));
            }
            Lie::Times(factor) => each(&mut |h| {
                h.lower_rps *= factor;
                h.median_rps *= factor;
                h.upper_rps *= factor;
            }),
            Lie::Stale => return first.get_or_insert(forecast).clone(),
            Lie::UpsideDown => each(&mut |h| std::mem::swap(&mut h.lower_rps, &mut h.upper_rps)),
            Lie::Silent => forecast.horizons.clear(),
            Lie::Noise(_) => each(&mut |h| {
                let rps = libm::pow(10.0, random.unit() * 620.0 - 310.0);
                (h.lower_rps, h.median_rps, h.upper_rps) = (rps, rps, rps);
            }),
        }
        forecast
    }
}

/// A minute of demand that rises beyond the primaries, falls, and rises again.
fn run_told(
    mode: Mode,
    seed: u64,
    mut tell: impl FnMut(&ServiceName, DemandForecast) -> DemandForecast,
) -> (World, Vec<Plan>) {
    let mut world = World::new(Nature { seed, ..Nature::default() }, spec());
    world.mode = mode;
    let full_rps = world.nature.primary_rps();
    let mut plans = Vec::new();
    for tick in 0..600 {
        let wave = libm::cos(f64::from(tick) / 300.0 * std::f64::consts::TAU);
        plans.push(world.step_told(full_rps * (0.7 - 0.4 * wave), &mut tell).1);
    }
    (world, plans)
}

fn run(mode: Mode, seed: u64, lie: Option<Lie>) -> (World, Vec<Plan>) {
    match lie {
        Some(lie) => run_told(mode, seed, liar(lie)),
        None => run_told(mode, seed, |_, forecast| forecast),
    }
}

/// The bound of invariant 4: requests failed or late under any forecast, at most those of observe
/// mode plus 1 % of all requests.
fn assert_within_bound(told: Outcome, observed: Outcome, lie: Lie) {
    let bound = observed.bad() + told.requests / 100;
    assert!(told.bad() <= bound, "{lie:?}: {told:?}, observe mode {observed:?}");
}

#[test]
fn no_lie_makes_it_worse_than_observing_by_more_than_the_bound() {
    for (seed, lie) in (0..).zip(LIES) {
        let (observed, _) = run(Mode::Observe, seed, None);
        let (told, plans) = run(Mode::Act, seed, Some(lie));
        assert_within_bound(told.outcome, observed.outcome, lie);
        for plan in &plans {
            let finite = |h: &foreshadow_control::HorizonView| {
                h.lower_rps.is_finite() && h.median_rps.is_finite() && h.upper_rps.is_finite()
            };
            assert!(plan.services[0].forecast.iter().all(finite), "{lie:?}");
        }
        let shadows = told.instances.values().filter(|i| i.role == Role::Shadow).count();
        assert!(shadows <= 4, "{lie:?}: {shadows}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// Invariant 4 for forecasts nobody thought of: any numbers, repeated in any rhythm.
    #[test]
    fn no_numbers_make_it_worse_by_more_than_the_bound(
        seed in any::<u64>(),
        numbers in prop::collection::vec(prop_oneof![any::<f64>(), 0.0..3_000.0], 1..12),
        rhythm in 1usize..50,
    ) {
        let (observed, _) = run(Mode::Observe, seed, None);
        let mut told = 0usize;
        let (world, _) = run_told(Mode::Act, seed, |_, mut forecast: DemandForecast| {
            told += 1;
            for (at, h) in forecast.horizons.iter_mut().enumerate() {
                let number = |nth: usize| numbers[(told / rhythm + at + nth) % numbers.len()];
                (h.lower_rps, h.median_rps, h.upper_rps) = (number(0), number(1), number(2));
            }
            forecast
        });
        let bound = observed.outcome.bad() + world.outcome.requests / 100;
        prop_assert!(world.outcome.bad() <= bound, "{:?}", world.outcome);
    }
}

#[test]
fn without_a_forecast_the_floor_still_acts() {
    for lie in [Lie::Always(f64::NAN), Lie::Always(0.0), Lie::Silent, Lie::Always(1e308)] {
        let (observed, _) = run(Mode::Observe, 3, None);
        let (told, _) = run(Mode::Act, 3, Some(lie));
        assert!(observed.outcome.bad() > 500, "{:?}", observed.outcome);
        assert!(told.outcome.bad() * 5 < observed.outcome.bad(), "{lie:?}: {:?}", told.outcome);
    }
}

#[test]
fn nonsense_is_reported_while_it_lasts() {
    for (lie, nonsense) in [
        (Lie::Always(f64::NAN), true),
        (Lie::Always(-1.0), true),
        (Lie::Always(1e308), true),
        (Lie::Silent, true),
        (Lie::Always(0.0), false),
    ] {
        let (_, plans) = run(Mode::Act, 1, Some(lie));
        let alerted = plans
            .iter()
            .flat_map(|p| &p.services[0].alerts)
            .filter(|a| a.kind == AlertKind::ForecastUnusable)
            .count();
        assert_eq!(alerted > 590, nonsense, "{lie:?}: {alerted}");
    }
}

#[test]
fn zero_never_takes_serving_capacity_away() {
    let mut world = World::new(Nature::default(), spec());
    let full_rps = world.nature.primary_rps();
    world.run(30_000, |_| full_rps, |_, _, _| {});
    let serving = world.serving_shadows();
    assert!(serving >= 1);
    let mut tell = liar(Lie::Always(0.0));
    for _ in 0..300 {
        world.step_told(full_rps, &mut tell);
        assert!(world.serving_shadows() >= 1, "at {} ms", world.at_ms);
    }
}

#[test]
fn time_that_runs_wild_is_harmless() {
    let mut world = World::new(Nature::default(), spec());
    let rps = 0.5 * world.nature.primary_rps();
    let mut random = Random::seeded(5);
    world.run(20_000, |_| rps, |_, _, _| {});
    for _ in 0..300 {
        let mut observation: Observation = world.observe(rps);
        observation.at_ms = match random.below(4) {
            0 => 0,
            1 => u64::MAX,
            _ => random.next(),
        };
        observation.interval_ms = [0, 100, 250, u64::MAX][random.below(4) as usize];
        observation.services[0].activate = [0, 1, u32::MAX][random.below(3) as usize];
        let plan = world.controller.tick(&observation);
        world.carry_out(&plan);
        let total: u64 = plan.services[0].weights.iter().map(|w| u64::from(w.weight)).sum();
        assert!(total > 0);
    }
    let shadows = world.instances.values().filter(|i| i.role == Role::Shadow);
    assert!(shadows.filter(|i| i.tier != Tier::Cold).count() <= 4);
}
