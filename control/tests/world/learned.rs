//! What is learned of capacity under ordinary load far below it, against the truth.

use crate::cold_start::of_kinds;
use crate::random::Random;
use crate::sim::{Nature, OBJECTIVE_MS, World, spec};
use foreshadow_control::{CapacityView, Mode, Observation, Plan, ServiceSpec};

const PERIOD_MS: f64 = 80_000.0;

fn learned(nature: Nature, full_rps: f64, load: (f64, f64), at_ms: &[u64]) -> Vec<CapacityView> {
    let spec = ServiceSpec { pool: None, ..spec() };
    let mut world = World::new(nature, spec);
    world.mode = Mode::Observe;
    let demand_rps = |ms: u64| {
        let phase = std::f64::consts::TAU * ms as f64 / PERIOD_MS;
        full_rps * (load.0 + (load.1 - load.0) * (1.0 - libm::cos(phase)) / 2.0)
    };
    let mut views = Vec::new();
    let look = |world: &mut World, _: &Observation, plan: &Plan| {
        if at_ms.contains(&world.at_ms) {
            views.push(plan.services[0].capacity[0]);
        }
    };
    world.run(at_ms.iter().copied().max().unwrap_or(0) + 100, demand_rps, look);
    views
}

/// Share of requests later than the objective at a utilisation, first come, first served.
fn late(nature: &Nature, utilisation: f64) -> f64 {
    let mut random = Random::seeded(99);
    let gap_ms = nature.service_ms / nature.slots as f64 / utilisation;
    let mut free = vec![0.0_f64; nature.slots];
    let (mut now, mut late, requests) = (0.0, 0, 20_000);
    for _ in 0..requests {
        now += random.exponential(gap_ms);
        let slot = free.iter_mut().min_by(|a, b| a.total_cmp(b)).expect("there are slots");
        *slot = slot.max(now) + random.lognormal(nature.service_ms, nature.cv);
        late += u32::from(*slot - now > OBJECTIVE_MS);
    }
    f64::from(late) / f64::from(requests)
}

/// Most requests per second of which 99 % come within the objective.
fn within_objective_rps(nature: &Nature) -> f64 {
    let (mut good, mut bad) = (0.0, 0.99);
    for _ in 0..8 {
        let middle = f64::midpoint(good, bad);
        if late(nature, middle) <= 0.01 { good = middle } else { bad = middle }
    }
    good * nature.primary_rps()
}

/// Slots, time of service and its variation.
const SERVERS: [(usize, f64, f64); 6] = [
    (1, 20.0, 0.5),
    (2, 5.0, 0.0),
    (2, 40.0, 0.5),
    (4, 20.0, 1.0),
    (8, 50.0, 0.0),
    (64, 50.0, 0.5),
];

#[test]
fn ordinary_load_far_below_saturation_shows_about_what_a_server_can_do() {
    // By time: the logarithms of the errors, and whether the interval covered.
    let mut readings = [const { Vec::new() }; 2];
    for nature in of_kinds(&SERVERS) {
        let nature = Nature { primaries: 1, ..nature };
        let truth_rps = within_objective_rps(&nature);
        for seed in 1..=2 {
            let nature = Nature { seed, ..nature.clone() };
            let views = learned(nature, truth_rps, (0.2, 0.6), &[30_000, 120_000]);
            for (readings, view) in readings.iter_mut().zip(views) {
                let covers = view.lower_rps <= truth_rps
                    && view.upper_rps.is_none_or(|upper_rps| truth_rps <= upper_rps);
                readings.push((libm::log(view.rps / truth_rps).abs(), covers));
            }
        }
    }
    for (at_s, mut readings) in [30, 120].into_iter().zip(readings) {
        readings.sort_by(|a, b| a.0.total_cmp(&b.0));
        let covered = readings.iter().filter(|(_, covers)| *covers).count();
        assert!(covered * 10 >= readings.len() * 8, "{at_s} s: {covered} of {readings:?}");
        let median = readings[readings.len() / 2].0;
        assert!(median < 0.25, "{at_s} s: {readings:?}");
        let worst = readings[readings.len() - 1].0;
        assert!(worst < std::f64::consts::LN_2, "{at_s} s: {readings:?}");
    }
}
