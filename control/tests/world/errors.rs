//! Instances that fail a part of their requests.

use foreshadow_control::{Controller, InstanceId, Meters, Plan, Role};

use crate::random::Random;
use crate::sharing::{instance, observation, pinned, shares};

/// A run of three primaries at 150 rps, each failing a part of its requests by chance. Requests
/// follow the weights; `failing` says the parts at each tick. Returns the plans.
fn run(seed: u64, ticks: u64, failing: impl Fn(u64) -> [f64; 3]) -> Vec<Plan> {
    let mut controller = Controller::new(vec![pinned()]);
    let mut random = Random::seeded(seed);
    let mut plans: Vec<Plan> = Vec::new();
    for tick in 0..ticks {
        let parts = plans.last().map_or_else(|| vec![1.0 / 3.0; 3], shares);
        let mut instances: Vec<_> =
            (1..=3).map(|id| instance(id, Role::Primary, "", 1_000_000)).collect();
        for _ in 0..15 {
            let drawn = random.unit();
            let at = usize::from(drawn > parts[0]) + usize::from(drawn > parts[0] + parts[1]);
            let meters: &mut Meters = &mut instances[at].meters;
            meters.requests += 1;
            if random.unit() < failing(tick)[at] {
                meters.server_errors += 1;
            } else {
                meters.ok += 1;
            }
        }
        plans.push(controller.tick(&observation(tick, 15, instances)));
    }
    plans
}

fn weight_changes(plans: &[Plan]) -> usize {
    let weights = |plan: &Plan| plan.services[0].weights.clone();
    plans.windows(2).filter(|pair| weights(&pair[0]) != weights(&pair[1])).count()
}

#[test]
fn one_that_fails_loses_most_of_its_weight_and_gets_it_back() {
    for seed in 0..10 {
        let failing =
            |tick: u64| if (100..500).contains(&tick) { [0.3, 0.0, 0.0] } else { [0.0; 3] };
        let plans = run(seed, 1_000, failing);
        assert!((shares(&plans[99])[0] - 1.0 / 3.0).abs() < 0.02, "seed {seed}");
        let low = shares(&plans[499])[0];
        assert!(low > 0.03 && low < 0.16, "seed {seed}: {low}");
        let reasons = plans[100..200].iter().flat_map(|p| &p.services[0].reasons);
        let told = reasons.filter(|r| r.text.contains("i1 fails ")).count();
        assert!(told > 0, "seed {seed}: the reason says so");
        let after = shares(&plans[999])[0];
        assert!((after - 1.0 / 3.0).abs() < 0.03, "seed {seed}: {after}");
        assert!(weight_changes(&plans) < 60, "seed {seed}: {}", weight_changes(&plans));
    }
}

#[test]
fn when_all_fail_alike_nothing_moves() {
    for seed in 0..10 {
        let plans = run(seed, 600, |_| [0.3; 3]);
        assert_eq!(weight_changes(&plans[1..]), 0, "seed {seed}");
    }
}

#[test]
fn failures_within_the_objective_move_nothing() {
    for seed in 0..10 {
        let plans = run(seed, 600, |_| [0.001; 3]);
        assert_eq!(weight_changes(&plans[1..]), 0, "seed {seed}");
        let ids: Vec<InstanceId> =
            plans[599].services[0].weights.iter().map(|w| w.instance).collect();
        assert_eq!(ids.len(), 3);
    }
}
