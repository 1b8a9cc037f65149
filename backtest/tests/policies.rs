//! Policies in small worlds: what must hold of every outcome, and what the brain is there for.

use foreshadow_backtest::{
    Between, Missing, Outcome, Policy, Prices, Series, Setup, StartUp, Trace, run,
};
use proptest::prelude::*;

const DAY_MINUTES: u64 = 1_440;

fn setup(start_up_s: u64) -> Setup {
    Setup {
        capacity_rps: 100.0,
        primaries: 1,
        max_instances: 40,
        start_up: StartUp { create_ms: start_up_s * 1_000, wake_ms: 200, serve_ms: 150 },
        warm_up_ms: 0,
        wait_ms: 0,
        allowed_share: 0.01,
        carry: false,
        prices: Prices { full: 1.0, warm: 0.25, paused: 0.1 },
        false_window_ms: 600_000,
        seasons_ms: Vec::new(),
        learn_ms: 0,
        timeline_points: 50,
    }
}

/// One rate per minute, in ticks of ten seconds.
fn trace(rps: Vec<f64>, seed: Option<u64>) -> Trace {
    coarse_trace(rps, seed, 10_000)
}

fn coarse_trace(rps: Vec<f64>, seed: Option<u64>, tick_ms: u64) -> Trace {
    let rps = rps.into_iter().map(Some).collect();
    let series = Series { start_ms: 1_700_000_000_000, step_ms: 60_000, rps };
    Trace::new(&series, tick_ms, Between::Hold, seed).expect("a trace")
}

fn outcome(policy: &str, trace: &Trace, setup: &Setup) -> Outcome {
    run(&policy.parse().expect(policy), trace, setup, &mut |_| {})
}

#[test]
fn a_fixed_number_serves_what_it_can_and_costs_what_it_is() {
    let trace = trace([vec![150.0; 30], vec![250.0; 30]].concat(), None);
    let setup = setup(60);
    let two = outcome("static:2", &trace, &setup);
    assert_eq!((two.requests, two.violation_s), (150 * 1_800 + 250 * 1_800, 1_800.0));
    assert!((two.violated_requests - 50.0 * 1_800.0).abs() < 1.0, "{two:?}");
    assert!((two.instance_hours - 2.0).abs() < 1e-9 && (two.cost - 2.0).abs() < 1e-9);
    assert_eq!(outcome("static:peak", &trace, &setup).violation_s, 0.0);
    assert_eq!(outcome("static:peak", &trace, &setup).most_instances, 3);
}

#[test]
fn what_may_wait_is_not_late_and_what_is_carried_has_to_be_worked_off() {
    // Every other minute is 20 % above capacity; on average there is room.
    let minutes: Vec<f64> = (0..60).map(|n| if n % 2 == 0 { 120.0 } else { 60.0 }).collect();
    let trace = trace(minutes, None);
    let patient = Setup { wait_ms: 12_100, ..setup(60) };
    assert_eq!(outcome("static:1", &trace, &patient).violation_s, 0.0);
    let dropped = outcome("static:1", &trace, &setup(60));
    let carried = outcome("static:1", &trace, &Setup { carry: true, ..setup(60) });
    assert_eq!(dropped.violation_s, 1_800.0);
    assert!(carried.violation_s > 1.3 * dropped.violation_s, "{}", carried.violation_s);
}

#[test]
fn the_oracle_lets_wait_what_may_wait() {
    // Chance arrivals of 100 rps on average, 5 each: 21 carry them for ever, since peaks may wait.
    let trace = trace(vec![100.0; 480], Some(3));
    for start_up_s in [10, 60, 180] {
        let setup = Setup { capacity_rps: 5.0, wait_ms: 1_000, ..setup(start_up_s) };
        let oracle = outcome("oracle", &trace, &setup);
        let constant = outcome("static:21", &trace, &setup);
        assert_eq!((oracle.violation_s, constant.violation_s), (0.0, 0.0));
        assert!(oracle.instance_hours <= constant.instance_hours, "{}", oracle.instance_hours);
    }
}

#[test]
fn reactive_scaling_is_late_by_its_start_up_and_waits_before_it_scales_down() {
    let trace = trace([vec![60.0; 30], vec![360.0; 30], vec![60.0; 30]].concat(), None);
    let reactive = outcome("reactive:0.9", &trace, &setup(300));
    // 15 s until the next look, in ticks of 10 s, and the start-up of 300.35 s.
    assert!((310.0..=330.0).contains(&reactive.violation_s), "{}", reactive.violation_s);
    let Missing { waking_s, starting_s, unordered_s } = reactive.violation_by;
    assert!(starting_s >= 300.0 && unordered_s <= 30.0 && waking_s == 0.0, "{starting_s} s");
    assert_eq!((reactive.activations.total, reactive.activations.late), (3, 3));
    let lead_s = reactive.activations.lead_s.expect("leads");
    assert!((-330.0..=-310.0).contains(&lead_s.p50), "{lead_s:?}");
    // One instance all the time; three from the order to five minutes after the fall.
    let expected_h = 1.5 + 3.0 * (30.0 + 5.0) / 60.0;
    assert!((reactive.instance_hours - expected_h).abs() < 0.05, "{}", reactive.instance_hours);
}

#[test]
fn an_activation_that_nothing_asked_for_is_false() {
    // A single minute calls; by the time the instance serves it is over.
    let mut minutes = vec![60.0; 60];
    minutes[20] = 160.0;
    let outcome = outcome("reactive:0.9", &trace(minutes, None), &setup(300));
    assert_eq!((outcome.activations.total, outcome.activations.false_ones), (1, 1));
}

#[test]
fn gaps_and_learning_do_not_count() {
    let mut rps = vec![Some(50.0); 90];
    rps[40..50].fill(None);
    let series = Series { start_ms: 0, step_ms: 60_000, rps };
    let trace = Trace::new(&series, 10_000, Between::Hold, None).expect("a trace");
    let setup = Setup { learn_ms: 30 * 60_000, ..setup(60) };
    let outcome = outcome("static:1", &trace, &setup);
    assert_eq!((outcome.scored_s, outcome.requests), (3_000.0, 150_000));
    assert!((outcome.instance_hours - 3_000.0 / 3_600.0).abs() < 1e-9);
}

/// A quiet night, a steep morning at eight, and a jump at every full hour of the day.
fn working_days(days: u64) -> Vec<f64> {
    let minute = |n: u64| {
        let of_day = n % DAY_MINUTES;
        let busy = (480..1_200).contains(&of_day);
        let fresh = busy && of_day % 60 < 10;
        if fresh {
            900.0
        } else if busy {
            500.0
        } else {
            80.0
        }
    };
    (0..days * DAY_MINUTES).map(minute).collect()
}

#[test]
fn the_brain_is_ready_for_what_repeats_where_reactive_scaling_is_late() {
    let trace = coarse_trace(working_days(3), Some(1), 20_000);
    let setup = Setup {
        learn_ms: 2 * DAY_MINUTES * 60_000,
        seasons_ms: vec![DAY_MINUTES * 60_000],
        wait_ms: 1_000,
        ..setup(600)
    };
    let eager = "brain:target=0.85,prepare=0.947,warm=0.923,commit=0.5,refit=3000";
    let brain = outcome(eager, &trace, &setup);
    let reactive = outcome("reactive:0.6", &trace, &setup);
    assert!(reactive.violation_s > 500.0, "{}", reactive.violation_s);
    assert!(brain.violation_s * 3.0 < reactive.violation_s, "{} s", brain.violation_s);
    assert!(brain.instance_hours < 1.1 * reactive.instance_hours, "{} h", brain.instance_hours);
    let hour = brain.forecast.iter().find(|h| h.horizon_ms == 1_800_000).expect("half an hour");
    assert!(hour.mae_rps < 0.7 * hour.naive_mae_rps, "{hour:?}");
}

#[test]
fn the_brain_leaves_steady_demand_alone() {
    let trace = trace(vec![210.0; 600], Some(3));
    let setup = Setup { learn_ms: 3_600_000, wait_ms: 1_000, ..setup(60) };
    let brain = outcome("brain", &trace, &setup);
    assert_eq!(brain.violation_s, 0.0);
    assert!(brain.activations.total <= 2, "{:?}", brain.activations);
    assert!(brain.most_instances <= 4, "{}", brain.most_instances);
}

#[test]
fn equal_runs_have_equal_outcomes() {
    let trace = trace(working_days(1), Some(5));
    for policy in ["brain", "reactive:0.7", "oracle"] {
        assert_eq!(outcome(policy, &trace, &setup(180)), outcome(policy, &trace, &setup(180)));
    }
}

fn demand() -> impl Strategy<Value = Vec<f64>> {
    let level = prop_oneof![4 => 0.0..600.0, 1 => Just(0.0), 1 => 600.0..3_000.0];
    proptest::collection::vec((level, 1_usize..12), 4..20).prop_map(|runs| {
        runs.into_iter().flat_map(|(rps, minutes)| std::iter::repeat_n(rps, minutes)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn nobody_serves_all_with_less_than_the_oracle(
        minutes in demand(),
        start_up_s in 0_u64..900,
        target in 0.3_f64..1.0,
    ) {
        let trace = trace(minutes, Some(7));
        let setup = setup(start_up_s);
        let oracle = outcome("oracle", &trace, &setup);
        prop_assert_eq!(oracle.violation_s, 0.0);
        prop_assert!(oracle.violated_requests <= 0.01 * oracle.requests as f64);
        for policy in [format!("reactive:{target:.2}"), "static:peak".into(), "brain".into()] {
            let other = outcome(&policy, &trace, &setup);
            let allowed = other.violated_requests > 0.0;
            prop_assert!(
                allowed || other.instance_hours >= oracle.instance_hours - 1e-9,
                "{}: {} h, oracle {} h", policy, other.instance_hours, oracle.instance_hours
            );
            prop_assert!(other.most_instances <= setup.max_instances);
            prop_assert!(other.cost <= other.instance_hours + 1e-9);
        }
    }

    #[test]
    fn no_constant_number_without_violations_costs_less_than_the_oracle(
        minutes in demand(),
        (start_up_s, warm_up_ms, wait_ms) in (0_u64..900, 0_u64..60_000, 0_u64..30_000),
        allowed_share in prop_oneof![Just(0.0), 0.0_f64..0.1],
        (capacity_rps, primaries) in (5.0_f64..200.0, 0_u32..4),
        (carry, seed) in (any::<bool>(), proptest::option::of(0_u64..9)),
    ) {
        let trace = trace(minutes, seed);
        let setup = Setup {
            capacity_rps,
            primaries,
            warm_up_ms,
            wait_ms,
            allowed_share,
            carry,
            ..setup(start_up_s)
        };
        let oracle = outcome("oracle", &trace, &setup);
        for instances in 0..=setup.max_instances {
            let constant = outcome(&format!("static:{instances}"), &trace, &setup);
            prop_assert!(
                constant.violation_s > 0.0
                    || oracle.violation_s == 0.0
                        && oracle.instance_hours <= constant.instance_hours + 1e-9,
                "{instances}: {} h, oracle {} h", constant.instance_hours, oracle.instance_hours
            );
        }
    }

    #[test]
    fn any_setting_of_any_policy_runs(
        minutes in demand(),
        capacity in 0.5_f64..5_000.0,
        (start_up_s, warm_up_ms, wait_ms) in (0_u64..2_000, 0_u64..100_000, 0_u64..100_000),
        (target, commit) in (0.05_f64..1.0, 0.01_f64..0.5),
        carry: bool,
    ) {
        let trace = trace(minutes, None);
        let setup = Setup {
            capacity_rps: capacity,
            max_instances: 30,
            warm_up_ms,
            wait_ms,
            carry,
            ..setup(start_up_s)
        };
        let policy: Policy =
            format!("brain:target={target:.3},commit={commit:.3},shadow=1,ready=1").parse().expect("a policy");
        let outcome = run(&policy, &trace, &setup, &mut |_| {});
        prop_assert!(outcome.most_instances <= 30);
        prop_assert!(outcome.violated_requests <= outcome.requests as f64 + 1e-6);
        let Missing { waking_s, starting_s, unordered_s } = outcome.violation_by;
        let parts = waking_s + starting_s + unordered_s;
        prop_assert!((parts - outcome.violation_s).abs() < 1e-6, "{:?}", outcome.violation_by);
        let figures =
            [outcome.violation_s, outcome.violated_share, outcome.instance_hours, outcome.cost];
        prop_assert!(figures.iter().all(|x| x.is_finite() && *x >= 0.0), "{:?}", figures);
    }
}
