//! A new service whose kind is known: ready before its first morning.

use foreshadow_control::{PoolSpec, QuantileSpec, ServiceSpec, Told};
use foreshadow_predictor::long::{Category, Guests, History, LongSpec, Model, Shape};

use crate::random::Random;
use crate::sim::{Nature, Outcome, World, spec};

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;
/// A Monday's midnight, four weeks before that of the week in which the service is added.
const MONDAY_MS: u64 = 20_661 * DAY_MS;
const TUESDAY_MS: u64 = MONDAY_MS + 29 * DAY_MS;
const ADDED_MS: u64 = TUESDAY_MS + 14 * HOUR_MS;
const DAWN_MS: u64 = TUESDAY_MS + DAY_MS + 7 * HOUR_MS + 15 * MINUTE_MS;
/// When demand begins to rise, and when it passes what the primaries are to carry.
const RISE_MS: u64 = TUESDAY_MS + DAY_MS + 8 * HOUR_MS;
const FULL_MS: u64 = RISE_MS + 3 * MINUTE_MS;

/// Share of the usual day: a night, a rise at eight within ten minutes, a long evening.
fn share(at_ms: u64) -> f64 {
    let hour = (at_ms % DAY_MS) as f64 / HOUR_MS as f64;
    let busy = ((hour - 8.0) * 6.0).clamp(0.0, 1.0) - ((hour - 17.0) / 4.0).clamp(0.0, 1.0);
    let weekend = (at_ms - MONDAY_MS) / DAY_MS % 7 >= 5;
    0.25 + 0.75 * busy * if weekend { 0.2 } else { 1.0 }
}

/// What was recorded of a service whose day reaches `full_rps`.
fn recorded(step_ms: u64, (from_ms, until_ms): (u64, u64), full_rps: f64, seed: u64) -> History {
    let mut random = Random::seeded(seed);
    let at = (from_ms..until_ms).step_by(step_ms as usize);
    let minutes = step_ms / MINUTE_MS;
    let mean = |at_ms: u64| {
        (0..minutes).map(|nth| share(at_ms + nth * MINUTE_MS)).sum::<f64>() / minutes as f64
    };
    let rps = |at_ms| full_rps * mean(at_ms) * (0.9 + 0.2 * random.unit());
    History { start_ms: from_ms, step_ms, values: at.map(rps).map(Some).collect() }
}

/// Three other services of the group, of very different sizes.
fn group() -> Category {
    let sizes = [(1, 3.0), (2, 40.0), (3, 900.0)];
    let shapes = sizes.map(|(seed, full_rps)| {
        let history = recorded(15 * MINUTE_MS, (MONDAY_MS, ADDED_MS), full_rps, seed);
        Shape::of(&history).expect("four weeks")
    });
    Category::of("group checkout", &shapes.each_ref()).expect("there are members")
}

/// What a curve that is fitted now tells the controller, as a node fits it.
fn told(history: &History, quantiles: &QuantileSpec, categories: &[Category]) -> Told {
    let spec = LongSpec {
        levels: vec![0.05, 0.25, 0.5, 0.9, 0.95],
        horizon_ms: Told::REACH_MS,
        ..LongSpec::default()
    };
    let guests = Guests { categories, ..Guests::default() };
    let model = Model::fit_among(history, &spec, &[], &[], guests).expect("there are values");
    Told::of(&model.forecast(history.end_ms(), 80), quantiles, history.end_ms())
}

/// A first morning: shadows that serve by the time demand has passed what the primaries carry, and what
/// became of the requests.
fn first_morning(categories: &[Category]) -> (usize, Outcome) {
    // A provider that needs four minutes, and no pool that would have anything.
    let nature = Nature { create_ms: 240_000, warm_ms: 4_000, serve_ms: 500, ..Nature::default() };
    let pool = Some(PoolSpec { shadow: 0, warm: 0, full: 0, max: 4 });
    let spec = ServiceSpec { pool, ..spec() };
    let full_rps = 1.5 * nature.primary_rps();
    let mut world = World::new(nature, spec.clone());
    // It was added on Tuesday afternoon, on an afternoon that the primaries carry with help.
    let before_ms = world.at_ms;
    world.run(60_000, |_| 0.6 * full_rps, |_, _, _| {});
    world.at_ms = before_ms + DAWN_MS - ADDED_MS;
    let mut history = recorded(MINUTE_MS, (ADDED_MS, DAWN_MS), full_rps, 9);
    let mut told = told(&history, &spec.quantiles, categories);
    let (mut when_full, mut minute) = (0, 0.0);
    world.outcome = Outcome::default();
    let ticks = (RISE_MS + 15 * MINUTE_MS - DAWN_MS) / 100;
    for tick in 0..ticks {
        let now_ms = DAWN_MS + tick * 100;
        if now_ms == FULL_MS {
            when_full = world.serving_shadows();
        }
        world.long_range = told.points(now_ms);
        let (seen, _) = world.step(full_rps * share(now_ms));
        minute += seen.services[0].arrivals as f64 / 60.0;
        if (tick + 1) % 600 == 0 {
            history.values.push(Some(std::mem::take(&mut minute)));
            if (tick + 1) % (Told::EVERY_MS / 100) == 0 {
                told = self::told(&history, &spec.quantiles, categories);
            }
        }
    }
    (when_full, world.outcome)
}

#[test]
fn a_service_whose_group_rises_each_morning_is_ready_before_its_first() {
    let (alone, without) = first_morning(&[]);
    let (together, with) = first_morning(&[group()]);
    assert_eq!(alone, 0, "what never was cannot be foreseen");
    assert!(together >= 1, "{together} shadows serve when the primaries are full");
    assert!(without.bad() > 5_000, "{without:?}");
    assert!(with.bad() * 100 < without.bad(), "{with:?}, without {without:?}");
}
