//! Learned capacity against the truth, on load well below saturation, by what the server is like and
//! how long it was watched.

use foreshadow_control::{Objective, ResourceSample, ServiceSpec};

use crate::random::Random;
use crate::sim::{Nature, OBJECTIVE_MS, World, spec};

/// When it is asked what the capacity is.
const AT_S: [u64; 3] = [30, 120, 600];
/// Time from one low of the load to the next.
const PERIOD_S: f64 = 80.0;
/// Load at its low and at its high, as a share of what is served within the objective.
const LOAD: (f64, f64) = (0.3, 0.6);
const SEEDS: u64 = 2;
/// Where processor time is shown, no upper end is above this multiple of the truth, which the objective
/// puts at 0.6 to 1 of what all slots can do.
const UPPER_WITH_CPU: f64 = 2.5;
/// Errors relative to the truth: the median of four runs of a kind, and the largest.
const MOST_MEDIAN: f64 = 0.2;
const MOST_LARGEST: f64 = 0.25;
/// The same where processor time is shown: an estimate is given earlier then, which knows no more of how
/// the objective is met near saturation. With exponential times that is at 0.62 of what all slots do.
const MOST_MEDIAN_WITH_CPU: f64 = 0.25;
const MOST_LARGEST_WITH_CPU: f64 = 0.5;

/// A server: slots, mean service time and its coefficient of variation.
type Shape = (usize, f64, f64);

const NEAR_CONSTANT: [Shape; 2] = [(1, 10.0, 0.1), (8, 40.0, 0.1)];
const MODERATE: [Shape; 2] = [(16, 40.0, 0.5), (32, 60.0, 0.5)];
const EXPONENTIAL: [Shape; 2] = [(2, 20.0, 1.0), (8, 40.0, 1.0)];
const HEAVY_TAILED: [Shape; 2] = [(4, 20.0, 1.5), (8, 20.0, 1.5)];

/// What was learned of a server at one time, as parts of the truth.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at_s: u64,
    learned: f64,
    lower: f64,
    upper: f64,
}

impl Reading {
    fn covers(self) -> bool {
        self.lower <= 1.0 && 1.0 <= self.upper
    }
}

/// Share of requests later than the objective when they come at `utilisation` of what all slots can do:
/// first come, first served on the slot that is free first (Kiefer and Wolfowitz 1955).
fn late((slots, service_ms, cv): Shape, utilisation: f64) -> f64 {
    const REQUESTS: u32 = 40_000;
    let mut random = Random::seeded(7);
    let gap_ms = service_ms / slots as f64 / utilisation;
    let (mut now_ms, mut late, mut free_ms) = (0.0, 0_u32, vec![0.0_f64; slots]);
    for _ in 0..REQUESTS {
        now_ms += random.exponential(gap_ms);
        let first = free_ms.iter_mut().min_by(|a, b| a.total_cmp(b)).expect("there are slots");
        *first = first.max(now_ms) + random.lognormal(service_ms, cv);
        late += u32::from(*first - now_ms > OBJECTIVE_MS);
    }
    f64::from(late) / f64::from(REQUESTS)
}

/// Most requests per second of which 99 % are answered within the objective.
fn within_objective_rps(shape: Shape) -> f64 {
    let (mut good, mut bad) = (0.05, 0.99);
    for _ in 0..8 {
        let middle = f64::midpoint(good, bad);
        if late(shape, middle) <= 0.01 {
            good = middle;
        } else {
            bad = middle;
        }
    }
    good * shape.0 as f64 * 1_000.0 / shape.1
}

/// Watches one instance under a slow wave of load; `cpu` says whether the processor time that its
/// requests take is shown.
fn readings(shape: Shape, seed: u64, cpu: bool, at_s: &[u64]) -> Vec<Reading> {
    let truth_rps = within_objective_rps(shape);
    let (slots, service_ms, cv) = shape;
    let nature = Nature { primaries: 1, slots, service_ms, cv, seed, ..Nature::default() };
    let objective =
        Objective { latency_ms: OBJECTIVE_MS, latency_quantile: 0.99, error_rate: 0.01 };
    let mut world = World::new(nature, ServiceSpec { pool: None, objective, ..spec() });
    let mut readings = vec![];
    for tick in 1..=at_s[at_s.len() - 1] * 10 {
        let phase = std::f64::consts::TAU * tick as f64 / 10.0 / PERIOD_S;
        let share = LOAD.0 + (LOAD.1 - LOAD.0) * (1.0 - libm::cos(phase)) / 2.0;
        let rps = share * truth_rps;
        // Every slot is a core that a request keeps busy.
        let used = cpu.then(|| ResourceSample {
            cpu_cores: Some(rps * service_ms / 1_000.0),
            cpu_limit_cores: Some(slots as f64),
            ..ResourceSample::default()
        });
        world.instances.values_mut().for_each(|instance| instance.resources = used);
        let (_, plan) = world.step(rps);
        let now_s = tick / 10;
        if tick.is_multiple_of(10) && at_s.contains(&now_s) {
            let told = &plan.services[0].capacity[0];
            let part = |rps: f64| rps / truth_rps;
            let upper = told.upper_rps.map_or(f64::INFINITY, part);
            let (learned, lower) = (part(told.rps), part(told.lower_rps));
            readings.push(Reading { at_s: now_s, learned, lower, upper });
        }
    }
    readings
}

/// Of all shapes at one time.
#[derive(Debug)]
struct Summary {
    at_s: u64,
    /// Absolute errors relative to the truth.
    median: f64,
    largest: f64,
    /// Share of intervals that cover.
    covered: f64,
    /// Largest upper end.
    upper: f64,
}

fn summaries(shapes: &[Shape], cpu: bool, at_s: &[u64]) -> Vec<Summary> {
    let runs = shapes.iter().flat_map(|shape| (1..=SEEDS).map(move |seed| (*shape, seed)));
    let all: Vec<Reading> =
        runs.flat_map(|(shape, seed)| readings(shape, seed, cpu, at_s)).collect();
    let of = |at_s: &u64| {
        let at: Vec<Reading> = all.iter().copied().filter(|r| r.at_s == *at_s).collect();
        let mut errors: Vec<f64> = at.iter().map(|r| (r.learned - 1.0).abs()).collect();
        errors.sort_by(f64::total_cmp);
        Summary {
            at_s: *at_s,
            median: errors[errors.len() / 2],
            largest: errors[errors.len() - 1],
            covered: at.iter().filter(|r| r.covers()).count() as f64 / at.len() as f64,
            upper: at.iter().map(|r| r.upper).fold(0.0, f64::max),
        }
    };
    at_s.iter().map(of).collect()
}

/// From a load at half of it, and without growing by being watched.
fn assert_learned(shapes: &[Shape]) {
    for told in summaries(shapes, false, &AT_S) {
        let close = told.median < MOST_MEDIAN && told.largest < MOST_LARGEST;
        assert!(close && told.covered == 1.0, "after {} s {told:?} of {shapes:?}", told.at_s);
    }
}

#[test]
fn capacity_is_learned_of_servers_that_always_take_the_same_time() {
    assert_learned(&NEAR_CONSTANT);
}

#[test]
fn capacity_is_learned_of_servers_with_many_slots() {
    assert_learned(&MODERATE);
}

#[test]
fn capacity_is_learned_of_servers_with_exponential_times() {
    assert_learned(&EXPONENTIAL);
}

#[test]
fn capacity_is_learned_of_servers_with_heavy_tailed_times() {
    assert_learned(&HEAVY_TAILED);
}

#[test]
fn processor_time_bounds_capacity_from_above() {
    for shapes in [NEAR_CONSTANT, MODERATE, EXPONENTIAL, HEAVY_TAILED] {
        for told in summaries(&shapes, true, &AT_S) {
            let close = told.median < MOST_MEDIAN_WITH_CPU && told.largest < MOST_LARGEST_WITH_CPU;
            assert!(close && told.covered == 1.0, "after {} s {told:?} of {shapes:?}", told.at_s);
            // Half a minute may be too short for any upper end to be given.
            let bounded = told.at_s < 60 || told.upper < UPPER_WITH_CPU;
            assert!(bounded, "after {} s {told:?} of {shapes:?}", told.at_s);
        }
    }
}
