//! How requests are shared out, seen from hand-made observations with pinned capacity.

use foreshadow_control::{
    Capacity, Controller, InstanceId, InstanceObservation, LatencySummary, Meters, Mode,
    Observation, Plan, Role, ServiceName, ServiceObservation, ServiceSpec, Tier,
};

use crate::sim::spec;

pub(crate) fn pinned() -> ServiceSpec {
    ServiceSpec { capacity: Capacity::Pinned(100.0), ..spec() }
}

pub(crate) fn instance(id: u64, role: Role, zone: &str, tier_age_ms: u64) -> InstanceObservation {
    InstanceObservation {
        tier_age_ms,
        zone: zone.to_owned(),
        ..InstanceObservation::idle(InstanceId(id), role, Tier::Serving)
    }
}

pub(crate) fn observation(
    tick: u64,
    arrivals: u64,
    instances: Vec<InstanceObservation>,
) -> Observation {
    let service = ServiceObservation {
        arrivals,
        instances,
        ..ServiceObservation::quiet(ServiceName::from("shop"), Mode::Act)
    };
    Observation {
        tick,
        at_ms: tick * 100,
        interval_ms: 100,
        kill_switch: false,
        services: vec![service],
    }
}

pub(crate) fn shares(plan: &Plan) -> Vec<f64> {
    let weights = &plan.services[0].weights;
    let total: u32 = weights.iter().map(|w| w.weight).sum();
    weights.iter().map(|w| f64::from(w.weight) / f64::from(total)).collect()
}

fn settle(spec: ServiceSpec, arrivals: u64, instances: &[InstanceObservation]) -> Plan {
    let mut controller = Controller::new(vec![spec]);
    let ticks = 0..80;
    let plans = ticks.map(|tick| controller.tick(&observation(tick, arrivals, instances.to_vec())));
    plans.last().expect("there were ticks")
}

#[test]
fn overflow_goes_to_the_near_shadow_before_the_older_far_one() {
    let instances = [
        instance(1, Role::Primary, "a", 1_000_000),
        instance(2, Role::Primary, "a", 1_000_000),
        instance(3, Role::Shadow, "b", 90_000),
        instance(4, Role::Shadow, "a", 60_000),
    ];
    // 200 rps; two primaries carry 140 at the target, so 60 overflow and the near one carries 70.
    let shares = shares(&settle(pinned(), 20, &instances));
    assert!((shares[3] - 0.3).abs() < 0.04, "{shares:?}");
    assert!(shares[2] > 0.0 && shares[2] < 0.05, "{shares:?}");
    assert!((shares[0] - shares[1]).abs() < 0.03, "{shares:?}");
}

#[test]
fn primaries_are_filled_in_proportion_to_their_capacity() {
    let mut instances =
        [instance(1, Role::Primary, "", 1_000_000), instance(2, Role::Primary, "", 1_000_000)];
    instances[1].capacity_rps = Some(300.0);
    let shares = shares(&settle(pinned(), 10, &instances));
    assert!((shares[1] - 0.75).abs() < 0.03, "{shares:?}");
}

#[test]
fn when_all_together_are_short_all_are_filled_alike() {
    let instances = [
        instance(1, Role::Primary, "", 1_000_000),
        instance(2, Role::Shadow, "", 60_000),
        instance(3, Role::Shadow, "", 60_000),
    ];
    let shares = shares(&settle(pinned(), 60, &instances));
    assert!(shares.iter().all(|share| (share - 1.0 / 3.0).abs() < 0.03), "{shares:?}");
}

#[test]
fn a_fresh_shadow_is_given_little_at_first() {
    let mut controller = Controller::new(vec![pinned()]);
    let at = |tick: u64| {
        let age_ms = tick.saturating_sub(50) * 100;
        let mut shadow = instance(2, Role::Shadow, "", age_ms);
        if tick < 50 {
            (shadow.tier, shadow.moving_to) = (Tier::Warm, Some(Tier::Serving));
        }
        observation(tick, 30, vec![instance(1, Role::Primary, "", 1_000_000), shadow])
    };
    let mut plans: Vec<Plan> = (0..90).map(|tick| controller.tick(&at(tick))).collect();
    assert_eq!(shares(&plans[49])[1], 0.0, "not there yet");
    let first = shares(&plans[50])[1];
    assert!(first > 0.0 && first < 0.12, "{first}");
    let last = shares(&plans.pop().expect("there were ticks"))[1];
    assert!((last - 0.5).abs() < 0.03, "{last}");
}

#[test]
fn an_idle_instance_teaches_nothing() {
    let mut controller = Controller::new(vec![spec()]);
    let busy = |tick: u64, count: u64| {
        let latency = LatencySummary {
            count,
            sum_ms: 20.0 * count as f64,
            p50_ms: 18.0,
            p90_ms: 30.0,
            p99_ms: 40.0,
            max_ms: 40.0,
            over_objective: 0,
        };
        let mut one = instance(1, Role::Primary, "", 1_000_000);
        one.meters = Meters { requests: count, ok: count, latency, ..Meters::default() };
        observation(tick, count, vec![one])
    };
    let learned = (0..200).map(|tick| controller.tick(&busy(tick, 10))).last();
    let before = learned.expect("there were ticks").services[0].capacity[0].rps;
    assert!(before > 100.0, "{before}");
    let last = (200..1_400).map(|tick| controller.tick(&busy(tick, 0))).last();
    let after = last.expect("there were ticks").services[0].capacity[0].rps;
    assert!((after - before).abs() < 1e-6 * before, "{before} to {after}");
}
