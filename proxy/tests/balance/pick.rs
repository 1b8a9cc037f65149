//! Who gets a request: invariants for every case, shares in a simulated hour of traffic.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use foreshadow_control::InstanceId;
use foreshadow_proxy::{
    Answer, BackendSpec, EjectionPolicy, InFlightGuard, NoBackend, Pick, RouteTable,
    UpstreamPolicy, WorkerId,
};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::support::{W0, backend, outcome, registry, service, spec_of};

/// Open-loop arrivals at `rps` for `seconds`, exponential service times with a mean per backend;
/// the share of the requests that each backend got.
fn simulate(weights: &[u32], mean_ms: &[f64], rps: f64, seconds: f64) -> Vec<f64> {
    let registry = registry();
    let policy = UpstreamPolicy::default();
    let backends = weights.iter().zip(0..).map(|(&weight, id)| backend(id, weight)).collect();
    let table = RouteTable::build(&spec_of(backends, &policy), &registry).unwrap();
    let service = &table.services()[0];
    let mut rng = StdRng::seed_from_u64(11);
    let mut exponential = |mean: f64| -mean * (1.0 - rng.random::<f64>()).ln();
    let mut pick_rng = StdRng::seed_from_u64(12);

    let mut ends: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let mut in_flight: BTreeMap<usize, (InFlightGuard, f64)> = BTreeMap::new();
    let mut got = vec![0u32; weights.len()];
    let (mut now_us, mut next_tick_us, mut requests) = (0.0, 0.0, 0usize);
    while now_us < seconds * 1e6 {
        now_us += exponential(1e6 / rps);
        while let Some(&Reverse((end_us, request))) = ends.peek() {
            if end_us as f64 > now_us {
                break;
            }
            ends.pop();
            let (guard, took_ms) = in_flight.remove(&request).unwrap();
            guard.finish(&outcome(Answer::Status(200), took_ms), end_us / 1000);
        }
        if now_us >= next_tick_us {
            table.refresh();
            next_tick_us += 1e5;
        }
        let now_ms = (now_us / 1e3) as u64;
        let Pick::Backend(backend) = service.pick(W0, &mut pick_rng, &[], now_ms) else {
            panic!("all backends are healthy");
        };
        let index = backend.id().0 as usize;
        got[index] += 1;
        let took_ms = exponential(mean_ms[index]);
        ends.push(Reverse(((now_us + took_ms * 1e3) as u64, requests)));
        in_flight.insert(requests, (backend.begin(W0, now_ms), took_ms));
        requests += 1;
    }
    got.into_iter().map(|n| f64::from(n) / requests as f64).collect()
}

#[test]
fn among_equally_fast_backends_shares_follow_weights() {
    let cases: [(&[u32], f64, f64); 6] = [
        (&[1, 1], 1000.0, 20.0),
        (&[1000, 2000, 3000, 4000], 1000.0, 20.0),
        (&[9000, 1000], 1000.0, 20.0),
        (&[9000, 1000], 50.0, 20.0),
        (&[9000, 900, 100], 5000.0, 10.0),
        (&[5, 5, 5, 5, 5, 5, 5, 5, 5, 55], 2000.0, 50.0),
    ];
    for (weights, rps, mean_ms) in cases {
        let shares = simulate(weights, &vec![mean_ms; weights.len()], rps, 60_000.0 / rps);
        let total: u32 = weights.iter().sum();
        for (share, &weight) in shares.iter().zip(weights) {
            let wanted = f64::from(weight) / f64::from(total);
            assert!((share - wanted).abs() < 0.03, "{weights:?} at {rps}/s: {shares:?}");
        }
    }
}

#[test]
fn a_slow_backend_gets_less_but_never_less_than_two_draws_leave_it() {
    let shares = simulate(&[1, 1], &[20.0, 100.0], 500.0, 120.0);
    assert!((0.24..0.35).contains(&shares[1]), "{shares:?}");
    let shares = simulate(&[1, 1, 1, 1], &[20.0, 20.0, 20.0, 100.0], 500.0, 120.0);
    assert!((0.06..0.13).contains(&shares[3]), "{shares:?}");
}

#[test]
fn a_backend_without_answers_gets_what_its_weight_draws() {
    let registry = registry();
    let service = service(&registry, &[3, 1], &UpstreamPolicy::default());
    for _ in 0..50 {
        service.backends()[0].begin(W0, 0).finish(&outcome(Answer::Status(200), 50.0), 10);
    }
    let mut rng = StdRng::seed_from_u64(3);
    let fresh = (0..10_000)
        .filter(|_| match service.pick(W0, &mut rng, &[], 20) {
            Pick::Backend(backend) => backend.id() == InstanceId(1),
            Pick::None(reason) => panic!("{reason}"),
        })
        .count();
    assert!((2300..2700).contains(&fresh), "{fresh}");
}

#[test]
fn a_backend_that_hangs_loses_requests_before_any_of_them_ends() {
    let registry = registry();
    let policy = UpstreamPolicy { hot_quantile: 0.5, ..UpstreamPolicy::default() };
    let table = RouteTable::build(
        &spec_of(vec![backend(0, 1), backend(1, 1), backend(2, 1)], &policy),
        &registry,
    )
    .unwrap();
    let service = &table.services()[0];
    let stuck: Vec<_> = (0..50).map(|_| service.backends()[0].begin(W0, 0)).collect();
    table.refresh();
    let mut rng = StdRng::seed_from_u64(3);
    let to_stuck = (0..9000)
        .filter(|_| {
            matches!(
                service.pick(W0, &mut rng, &[], 0),
                Pick::Backend(backend) if backend.id() == InstanceId(0)
            )
        })
        .count();
    assert_eq!(to_stuck, 0, "both draws falling on it are no reason to send it more");
    drop(stuck);
}

#[test]
fn of_two_backends_one_that_stops_answering_gets_a_trial_request_and_no_more() {
    let registry = registry();
    let service = service(&registry, &[1, 1], &UpstreamPolicy::default());
    for backend in service.backends() {
        (0..50).for_each(|_| backend.begin(W0, 0).finish(&outcome(Answer::Status(200), 5.0), 5));
    }
    // Of two the busier one sets the threshold of being hot, so that in flight shows nothing.
    let mut rng = StdRng::seed_from_u64(3);
    let (mut waiting, mut sent) = (Vec::new(), [0; 2]);
    for now_ms in 10..2010 {
        let Pick::Backend(backend) = service.pick(W0, &mut rng, &[], now_ms) else {
            panic!("nothing is down yet")
        };
        let mut guard = backend.begin(W0, now_ms);
        guard.sent(now_ms);
        if backend.id() == InstanceId(0) {
            waiting.push(guard);
            sent[usize::from(now_ms >= 110)] += 1;
        } else {
            guard.finish(&outcome(Answer::Status(200), 5.0), now_ms);
        }
    }
    assert!((1..30).contains(&sent[0]), "{sent:?}");
    assert!((1..=4).contains(&sent[1]), "one in half a second: {sent:?}");
}

#[test]
fn clients_that_are_slow_to_send_are_no_silence_of_the_backend() {
    let registry = registry();
    let service = service(&registry, &[1, 1], &UpstreamPolicy::default());
    let backend = &service.backends()[0];
    backend.begin(W0, 0).finish(&outcome(Answer::Status(200), 5.0), 5);
    let mut uploads: Vec<_> = (0..20).map(|_| backend.begin(W0, 5)).collect();
    let mut rng = StdRng::seed_from_u64(3);
    let mut picked = |now_ms| {
        (0..1000).any(|_| match service.pick(W0, &mut rng, &[], now_ms) {
            Pick::Backend(backend) => backend.id() == InstanceId(0),
            Pick::None(reason) => panic!("{reason}"),
        })
    };
    assert!(picked(100));
    uploads.iter_mut().for_each(|guard| guard.sent(100));
    assert!(!picked(200));
    uploads[0].answering(200);
    assert!(picked(210));
    drop(uploads);
}

#[test]
fn a_backend_that_is_stuck_leaves_the_others_what_their_weights_say() {
    let registry = registry();
    let weights = [9000, 1, 700, 300];
    let service = service(&registry, &weights, &UpstreamPolicy::default());
    let backend = &service.backends()[0];
    backend.begin(W0, 0).finish(&outcome(Answer::Status(200), 5.0), 5);
    let mut waiting: Vec<_> = (0..20).map(|_| backend.begin(W0, 5)).collect();
    waiting.iter_mut().for_each(|guard| guard.sent(5));
    let mut rng = StdRng::seed_from_u64(3);
    let mut got = [0; 4];
    for _ in 0..10_000 {
        let Pick::Backend(backend) = service.pick(W0, &mut rng, &[], 100) else { panic!() };
        got[backend.id().0 as usize] += 1;
    }
    assert_eq!(got[0], 0);
    assert!(got[1] < 40, "a thousandth: {got:?}");
    assert!((6700..7300).contains(&got[2]), "{got:?}");
    drop(waiting);
}

#[test]
fn of_two_hot_backends_the_one_with_more_room_is_better() {
    let registry = registry();
    let sized = |id, capacity_rps| BackendSpec { capacity_rps, ..backend(id, 1) };
    let spec = spec_of(vec![sized(0, 100.0), sized(1, 1000.0)], &UpstreamPolicy::default());
    let table = RouteTable::build(&spec, &registry).unwrap();
    table.refresh();
    let service = &table.services()[0];
    let busy: Vec<_> =
        service.backends().iter().flat_map(|b| (0..50).map(|_| b.begin(W0, 0))).collect();
    let mut rng = StdRng::seed_from_u64(4);
    let to_small = (0..10_000)
        .filter(|_| {
            matches!(
                service.pick(W0, &mut rng, &[], 0),
                Pick::Backend(backend) if backend.id() == InstanceId(0)
            )
        })
        .count();
    assert!((2300..2700).contains(&to_small), "{to_small}");
    drop(busy);
}

fn failing_policy(panic: bool) -> UpstreamPolicy {
    let ejection = EjectionPolicy {
        consecutive_errors: 1,
        max_ejected_share: 1.0,
        ..EjectionPolicy::default()
    };
    UpstreamPolicy { panic, ejection, ..UpstreamPolicy::default() }
}

proptest! {
    /// Invariant 1 of the design: weight 0 takes no request, whatever else is true.
    #[test]
    fn weight_zero_tried_and_unhealthy_are_never_picked(
        backends in prop::collection::vec((prop_oneof![Just(0u32), 1u32..10_000], any::<bool>(), any::<bool>()), 1..12),
        panic in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let registry = registry();
        let weights: Vec<u32> = backends.iter().map(|b| b.0).collect();
        let service = service(&registry, &weights, &failing_policy(panic));
        for (backend, &(_, refuses, _)) in service.backends().iter().zip(&backends) {
            if refuses {
                backend.begin(W0, 1).finish(&outcome(Answer::ConnectRefused, 0.1), 1);
            }
        }
        let tried: Vec<InstanceId> =
            (0..).zip(&backends).filter(|(_, b)| b.2).map(|(id, _)| InstanceId(id)).collect();
        let good = backends.iter().any(|&(weight, refuses, tried)| weight > 0 && !refuses && !tried);
        let any = backends.iter().any(|&(weight, _, tried)| weight > 0 && !tried);
        let mut rng = StdRng::seed_from_u64(seed);
        for _ in 0..50 {
            match service.pick(W0, &mut rng, &tried, 2) {
                Pick::Backend(picked) => {
                    let (weight, refuses, tried) = backends[picked.id().0 as usize];
                    prop_assert!(weight > 0);
                    prop_assert!(!tried);
                    prop_assert!(!refuses || (panic && !good));
                }
                Pick::None(_) => prop_assert!(!(good || panic && any)),
            }
        }
    }
}

#[test]
fn no_backend_comes_with_its_reason() {
    let mut rng = StdRng::seed_from_u64(1);
    let mut reason = |weights: &[u32], refuse: &[usize], tried: &[u64], panic| {
        let registry = registry();
        let service = service(&registry, weights, &failing_policy(panic));
        for &index in refuse {
            let guard = service.backends()[index].begin(W0, 1);
            guard.finish(&outcome(Answer::ConnectRefused, 0.1), 1);
        }
        let tried: Vec<InstanceId> = tried.iter().map(|&id| InstanceId(id)).collect();
        match service.pick(W0, &mut rng, &tried, 2) {
            Pick::Backend(_) => None,
            Pick::None(reason) => Some(reason),
        }
    };
    assert_eq!(reason(&[], &[], &[], false), Some(NoBackend::NoWeight));
    assert_eq!(reason(&[0, 0], &[], &[], true), Some(NoBackend::NoWeight));
    assert_eq!(reason(&[1, 1], &[0, 1], &[], false), Some(NoBackend::Unusable));
    assert_eq!(reason(&[1, 1], &[0], &[1], false), Some(NoBackend::Tried));
    assert_eq!(reason(&[1, 1], &[0, 1], &[], true), None);
    assert_eq!(reason(&[1, 1], &[0, 1], &[0, 1], true), Some(NoBackend::Tried));
}

#[test]
fn a_pick_in_panic_is_counted() {
    let registry = registry();
    let service = service(&registry, &[1], &failing_policy(true));
    service.backends()[0].begin(W0, 1).finish(&outcome(Answer::ConnectRefused, 0.1), 1);
    let mut rng = StdRng::seed_from_u64(1);
    assert!(matches!(service.pick(W0, &mut rng, &[], 2), Pick::Backend(_)));
    assert_eq!(registry.drain(2)[0].panicked, 1);
}

#[test]
fn the_load_of_a_failed_backend_is_spread_over_all_others() {
    let registry = registry();
    let service = service(&registry, &[10_000, 1, 1, 1], &failing_policy(false));
    let guard = service.backends()[0].begin(W0, 1);
    guard.finish(&outcome(Answer::ConnectRefused, 0.1), 1);
    let mut rng = StdRng::seed_from_u64(5);
    let mut got = [0; 4];
    for _ in 0..3000 {
        let Pick::Backend(backend) = service.pick(WorkerId(1), &mut rng, &[], 2) else { panic!() };
        got[backend.id().0 as usize] += 1;
    }
    assert_eq!(got[0], 0);
    assert!(got[1..].iter().all(|n| (900..1100).contains(n)), "{got:?}");
}
