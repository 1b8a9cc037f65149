//! Time of one `Controller::tick` at 100 services and 1,000 instances, as JSON.
//!
//! Run with `cargo bench --bench tick`. Demand follows a different wave per service, so that
//! weights, tiers and reasons really change; the first minute is not counted.

use std::io::Write;
use std::time::{Duration, Instant};

use foreshadow_control::{
    Capacity, Controller, Health, InstanceId, InstanceObservation, LatencySummary, Meters, Mode,
    Objective, Observation, PoolSpec, QuantileSpec, Role, ServiceName, ServiceObservation,
    ServiceSpec, Tier, WeightSpec,
};

const SERVICES: u64 = 100;
const INSTANCES: u64 = 10;
const WARM_UP_TICKS: u64 = 600;
const TICKS: u64 = 3000;
const BUDGET_MS: f64 = 10.0;

fn main() {
    let mut controller = Controller::new((0..SERVICES).map(spec).collect());
    let mut times = Vec::with_capacity(usize::try_from(TICKS).expect("fits"));
    let mut horizons = 0;
    for tick in 0..WARM_UP_TICKS + TICKS {
        let observation = observation(tick);
        let start = Instant::now();
        let plan = controller.tick(&observation);
        let took = start.elapsed();
        assert_eq!(plan.services.len() as u64, SERVICES);
        horizons = plan.services[0].forecast.len();
        if tick >= WARM_UP_TICKS {
            times.push(took);
        }
    }
    times.sort_unstable();
    let at = |share: f64| ms(times[((times.len() - 1) as f64 * share) as usize]);
    let result = serde_json::json!({
        "bench": "tick",
        "services": SERVICES,
        "instances": SERVICES * INSTANCES,
        "horizons": horizons,
        "ticks": TICKS,
        "p50_ms": at(0.5),
        "p90_ms": at(0.9),
        "p99_ms": at(0.99),
        "max_ms": at(1.0),
        "budget_p99_ms": BUDGET_MS,
        "within_budget": at(0.99) <= BUDGET_MS,
    });
    writeln!(std::io::stdout(), "{result:#}").expect("standard output can be written");
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn name(service: u64) -> ServiceName {
    ServiceName::from(format!("service-{service:03}").as_str())
}

fn spec(service: u64) -> ServiceSpec {
    ServiceSpec {
        name: name(service),
        tick_ms: foreshadow_control::DEFAULT_TICK_MS,
        objective: Objective { latency_ms: 100.0, latency_quantile: 0.99, error_rate: 0.001 },
        capacity: Capacity::Learned,
        target_utilisation: 0.75,
        pool: Some(PoolSpec { shadow: 1, warm: 1, full: 0, max: 4 }),
        places: Vec::new(),
        sizing: foreshadow_control::SizingSpec::default(),
        quantiles: QuantileSpec { prepare: 0.95, warm: 0.5, commit: 0.1 },
        weights: WeightSpec { slew_per_s: 0.5, hysteresis: 0.02 },
        horizon_ms: 30_000,
        seasons_ms: vec![60_000],
        evaluation_window_ms: 10_000,
        warm_up_ms: 5_000,
        feedback: true,
        rules: Vec::new(),
        signals: Vec::new(),
        scaling: None,
        migration: foreshadow_control::MigrationSpec::default(),
        learning: foreshadow_control::LearningSpec::default(),
    }
}

/// Eight primaries and two shadows a service; a wave of 20 to 100 seconds with noise.
fn observation(tick: u64) -> Observation {
    let services = (0..SERVICES).map(|service| {
        let period = 200.0 + 8.0 * service as f64;
        let wave = 1.0 + 0.6 * (tick as f64 * std::f64::consts::TAU / period).sin();
        let noise = (tick * 2_654_435_761 + service * 40_503) % 17;
        let each = (30.0 * wave) as u64 + noise % 5;
        ServiceObservation {
            arrivals: each * INSTANCES,
            instances: (0..INSTANCES).map(|n| instance(service, n, each, wave)).collect(),
            ..ServiceObservation::quiet(name(service), Mode::Act)
        }
    });
    Observation {
        tick,
        at_ms: 1_000_000 + tick * 100,
        interval_ms: 100,
        kill_switch: false,
        services: services.collect(),
    }
}

fn instance(service: u64, n: u64, requests: u64, wave: f64) -> InstanceObservation {
    let shadow = n >= 8;
    let latency_ms = 20.0 / (1.6 - 0.8 * wave).max(0.2);
    InstanceObservation {
        instance: InstanceId(service * INSTANCES + n + 1),
        role: if shadow { Role::Shadow } else { Role::Primary },
        tier: if n == 8 {
            Tier::Warm
        } else if shadow {
            Tier::Shadow
        } else {
            Tier::Serving
        },
        moving_to: None,
        tier_age_ms: 60_000,
        zone: String::new(),
        place: foreshadow_control::PlaceName::default(),
        capacity_rps: None,
        health: Health::Up,
        drained: false,
        outdated: false,
        leaving: false,
        joined_ms: None,
        meters: Meters {
            requests,
            in_flight: requests / 4,
            ok: requests,
            bytes_in: requests * 500,
            bytes_out: requests * 200,
            latency: LatencySummary {
                count: requests,
                sum_ms: requests as f64 * latency_ms,
                over_objective: 0,
                p50_ms: latency_ms,
                p90_ms: latency_ms * 1.5,
                p99_ms: latency_ms * 2.0,
                max_ms: latency_ms * 2.5,
            },
            ..Meters::default()
        },
        kernel: None,
        mirror: None,
        reported: std::collections::BTreeMap::new(),
        resources: None,
    }
}
