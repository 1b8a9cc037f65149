//! What becomes of outcomes: counts, health, and state that outlives tables.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use foreshadow_control::{Health, InstanceId, Meters};
use foreshadow_proxy::{
    Answer, Backend, Clock, EjectionPolicy, InstanceDrain, Outcome, Pick, Registry, RouteTable,
    ServiceDrain, UpstreamPolicy, WorkerId,
};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::support::{W0, backend, outcome, registry, service, spec, spec_of};

fn only(drained: &[ServiceDrain]) -> &InstanceDrain {
    let [service] = drained else { panic!("{drained:?}") };
    let [instance] = &service.instances[..] else { panic!("{service:?}") };
    instance
}

fn send(backend: &Arc<Backend>, answer: Answer, now_ms: u64) {
    backend.begin(W0, now_ms).finish(&outcome(answer, 1.0), now_ms);
}

#[test]
fn every_outcome_is_counted_as_what_it_is() {
    let registry = registry();
    let policy = UpstreamPolicy { objective_ms: 50.0, ..UpstreamPolicy::default() };
    let service = service(&registry, &[1], &policy);
    let backend = &service.backends()[0];
    for worker in [WorkerId(0), WorkerId(1)] {
        service.meters().arrived(worker);
        let answers = [
            (Answer::Status(200), 10.0),
            (Answer::Status(304), 60.0),
            (Answer::Status(404), 20.0),
            (Answer::Status(500), 100.0),
            (Answer::ConnectFailed, 1.0),
            (Answer::ConnectTimeout, 1000.0),
            (Answer::Reset, 5.0),
            (Answer::Malformed, 5.0),
            (Answer::Timeout, 5000.0),
        ];
        for (answer, latency_ms) in answers {
            let outcome = Outcome { retry: answer == Answer::Reset, ..outcome(answer, latency_ms) };
            backend.begin(worker, 0).finish(&outcome, 0);
        }
        drop(backend.begin(worker, 0));
        backend.kernel_sample(worker, 100 + 100 * worker.0 as u32, 2, 3);
    }
    service.meters().unserved(W0);
    let waiting = backend.begin(W0, 0);

    let drained = registry.drain(1);
    assert_eq!((drained[0].arrivals, drained[0].unserved), (2, 1));
    let got = only(&drained);
    let Meters { latency, .. } = got.meters;
    let expected = Meters {
        requests: 21,
        in_flight: 1,
        ok: 4,
        client_errors: 2,
        server_errors: 2,
        connect_errors: 4,
        read_errors: 4,
        timeouts: 2,
        retries: 2,
        bytes_in: 1800,
        bytes_out: 180,
        latency,
    };
    assert_eq!(got.meters, expected);
    assert_eq!(got.aborted, 2);
    assert_eq!((latency.count, latency.over_objective), (8, 4));
    assert!((latency.sum_ms - 380.0).abs() < 1e-6);
    assert!((latency.p50_ms - 20.0).abs() < 0.4 && (latency.p99_ms - 100.0).abs() < 2.0);
    assert_eq!(latency.max_ms, 100.0);
    let kernel = got.kernel.unwrap();
    assert_eq!((kernel.samples, kernel.retransmits, kernel.unacked_segments), (2, 4, 6));
    assert_eq!(kernel.srtt_us, 150.0);

    drop(waiting);
    let again = registry.drain(2);
    let idle = Meters::default();
    assert_eq!((only(&again).meters, only(&again).kernel), (idle, None));
    let totals = &registry.totals()[0];
    assert_eq!((totals.arrivals, totals.latency_us.len()), (2, 8));
    assert_eq!(totals.instances[0].meters.requests, 21);
    assert_eq!(totals.instances[0].latency_us.len(), 8);
}

#[test]
fn the_life_of_an_upgraded_connection_is_no_latency() {
    let registry = registry();
    let service = service(&registry, &[1], &UpstreamPolicy::default());
    let backend = &service.backends()[0];
    backend.begin(W0, 0).finish(&outcome(Answer::Status(101), 3_600_000.0), 0);
    assert_eq!(backend.latency_us(0), None);
    let meters = only(&registry.drain(1)).meters;
    assert_eq!((meters.ok, meters.latency.count), (1, 0));
    backend.begin(W0, 0).finish(&outcome(Answer::Status(200), 10.0), 1);
    assert_eq!(backend.latency_us(1), Some(10_000.0));
}

#[test]
fn no_count_is_lost_while_workers_count_and_the_tick_drains() {
    const EACH: u64 = 20_000;
    let registry = Registry::new(2, Clock::start());
    let service = service(&registry, &[1], &UpstreamPolicy::default());
    let backend = &service.backends()[0];
    let done = AtomicBool::new(false);
    let (mut requests, mut ok, mut latencies, mut arrivals, mut bytes) = (0, 0, 0, 0, 0);
    thread::scope(|scope| {
        // Four workers on two cells: sharing one costs speed, not counts.
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let service = &service;
                scope.spawn(move || {
                    for i in 0..EACH {
                        service.meters().arrived(WorkerId(worker));
                        let guard = backend.begin(WorkerId(worker), i);
                        guard.finish(&outcome(Answer::Status(200), (i % 100) as f64), i);
                    }
                })
            })
            .collect();
        let drain = scope.spawn(|| {
            loop {
                let last = done.load(Ordering::Acquire);
                let drained = registry.drain(0);
                arrivals += drained[0].arrivals;
                let meters = only(&drained).meters;
                requests += meters.requests;
                ok += meters.ok;
                bytes += meters.bytes_in;
                latencies += meters.latency.count;
                if last {
                    assert_eq!(meters.in_flight, 0);
                    return;
                }
            }
        });
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        done.store(true, Ordering::Release);
        drain.join().unwrap();
    });
    assert_eq!([requests, ok, latencies, arrivals], [4 * EACH; 4]);
    assert_eq!(bytes, 400 * EACH);
    assert_eq!(registry.totals()[0].latency_us.len(), 4 * EACH);
}

#[test]
fn a_table_swap_keeps_what_is_known_and_forgets_who_is_gone() {
    let registry = registry();
    let policy = UpstreamPolicy::default();
    let old = RouteTable::build(&spec(&[1, 1], &policy), &registry).unwrap();
    let leaving = Arc::clone(&old.services()[0].backends()[1]);
    let guard = leaving.begin(W0, 0);
    drop(leaving);
    send(&old.services()[0].backends()[0], Answer::Status(200), 0);

    let new = RouteTable::build(&spec(&[1], &policy), &registry).unwrap();
    assert!(Arc::ptr_eq(&old.services()[0].backends()[0], &new.services()[0].backends()[0]));
    assert!(Arc::ptr_eq(old.services()[0].budget(), new.services()[0].budget()));
    drop(old);
    let drained = registry.drain(1);
    let in_flight: Vec<_> = drained[0].instances.iter().map(|i| i.meters.in_flight).collect();
    assert_eq!(in_flight, [0, 1], "a request in flight keeps its backend");

    guard.finish(&outcome(Answer::Status(200), 1.0), 2);
    let drained = registry.drain(3);
    assert_eq!(drained[0].instances[1].meters.ok, 1, "its last count is taken");
    assert_eq!(registry.drain(4)[0].instances.len(), 1, "then it is forgotten");
    assert!(registry.get(InstanceId(1)).is_none());
    drop(new);
    registry.drain(5);
    assert!(registry.drain(6).is_empty(), "and so is a service without a table");
}

#[test]
fn a_new_policy_holds_for_requests_in_flight() {
    let registry = registry();
    let strict = UpstreamPolicy { objective_ms: 1.0, ..UpstreamPolicy::default() };
    let table = RouteTable::build(&spec(&[1], &UpstreamPolicy::default()), &registry).unwrap();
    let guard = table.services()[0].backends()[0].begin(W0, 0);
    let _new = RouteTable::build(&spec(&[1], &strict), &registry).unwrap();
    guard.finish(&outcome(Answer::Status(200), 2.0), 2);
    assert_eq!(only(&registry.drain(3)).meters.latency.over_objective, 1);
}

fn sensitive() -> UpstreamPolicy {
    UpstreamPolicy {
        ejection: EjectionPolicy {
            consecutive_errors: 2,
            base: Duration::from_millis(1000),
            max_ejected_share: 0.5,
            probation_requests: 1,
            all_server_errors: false,
            ..EjectionPolicy::default()
        },
        ..UpstreamPolicy::default()
    }
}

#[test]
fn failures_in_a_row_eject_and_a_trial_brings_back() {
    let registry = registry();
    let service = service(&registry, &[1, 1], &sensitive());
    let bad = &service.backends()[0];
    let mut rng = StdRng::seed_from_u64(9);
    let mut picks_bad = |now_ms| {
        (0..100)
            .filter(|_| match service.pick(W0, &mut rng, &[], now_ms) {
                Pick::Backend(backend) => backend.id() == bad.id(),
                Pick::None(reason) => panic!("{reason}"),
            })
            .count()
    };
    assert_eq!(bad.health(), Health::Unknown);
    send(bad, Answer::Status(200), 1);
    assert_eq!(bad.health(), Health::Up);
    send(bad, Answer::Timeout, 2);
    send(bad, Answer::Status(500), 2);
    send(bad, Answer::Status(503), 2);
    assert_eq!(bad.health(), Health::Up, "an application's own 500 can be taken for proof of life");
    send(bad, Answer::Reset, 3);
    assert_eq!(bad.health(), Health::Ejected);
    assert_eq!(picks_bad(500), 0);

    assert_eq!(picks_bad(1200), 1, "one trial request, no more");
    assert_eq!(bad.health(), Health::Up);
    send(bad, Answer::Status(200), 1200);
    assert!(picks_bad(1201) > 20);
}

#[test]
fn a_backend_that_fails_everything_at_once_attracts_nothing_and_is_ejected() {
    let registry = registry();
    let service = service(&registry, &[1, 1], &UpstreamPolicy::default());
    let [broken, sound] = service.backends() else { panic!("two backends") };
    for now_ms in 0..4 {
        broken.begin(W0, now_ms).finish(&outcome(Answer::Status(500), 0.1), now_ms);
        sound.begin(W0, now_ms).finish(&outcome(Answer::Status(200), 20.0), now_ms);
    }
    assert_eq!(broken.latency_us(4), None, "quick failures tell no latency");
    assert!(broken.is_usable(4), "four failures in a row may be the requests' fault");
    broken.begin(W0, 4).finish(&outcome(Answer::Status(500), 0.1), 4);
    assert_eq!(broken.health(), Health::Ejected);
    assert!(!broken.is_usable(4));
}

#[test]
fn the_share_that_may_be_ejected_counts_those_who_lost_their_weight_to_it() {
    let registry = registry();
    let policy = sensitive();
    let table = RouteTable::build(&spec(&[1, 1], &policy), &registry).unwrap();
    let fail = |backend: &Arc<Backend>, at| (0..2).for_each(|_| send(backend, Answer::Reset, at));
    fail(&table.services()[0].backends()[0], 1);
    // Two more stand in for it: of four that take part, two may be ejected.
    let table = RouteTable::build(&spec(&[0, 1, 1, 1], &policy), &registry).unwrap();
    let backends = table.services()[0].backends();
    fail(&backends[1], 2);
    fail(&backends[2], 2);
    let health: Vec<_> = backends.iter().map(|b| b.health() == Health::Ejected).collect();
    assert_eq!(health, [true, true, false, false]);
}

#[test]
fn a_refused_connection_is_believed_at_once() {
    let registry = registry();
    let service = service(&registry, &[1], &sensitive());
    let bad = &service.backends()[0];
    send(bad, Answer::ConnectRefused, 1);
    let Health::Down(reason) = bad.health() else { panic!("{:?}", bad.health()) };
    assert_eq!(reason, "connection refused by 127.0.0.1:9000");
    assert!(!bad.is_usable(2));

    // The time is over without any request: the drain lets it go on probation, still down.
    registry.drain(1200);
    assert!(bad.is_usable(1200));
    assert!(matches!(bad.health(), Health::Down(_)));
    send(bad, Answer::Status(200), 1200);
    assert_eq!(bad.health(), Health::Up);
}

#[test]
fn a_forgotten_backend_gives_its_ejection_back() {
    let registry = registry();
    let policy = sensitive();
    let table = RouteTable::build(&spec(&[1, 1], &policy), &registry).unwrap();
    (0..2).for_each(|_| send(&table.services()[0].backends()[0], Answer::Reset, 1));
    assert_eq!(table.services()[0].backends()[0].health(), Health::Ejected);
    drop(table);

    let next = vec![backend(1, 1), backend(2, 1)];
    let table = RouteTable::build(&spec_of(next, &policy), &registry).unwrap();
    registry.drain(2);
    (0..2).for_each(|_| send(&table.services()[0].backends()[1], Answer::Reset, 3));
    assert_eq!(table.services()[0].backends()[1].health(), Health::Ejected);
    (0..2).for_each(|_| send(&table.services()[0].backends()[0], Answer::Reset, 3));
    assert_ne!(table.services()[0].backends()[0].health(), Health::Ejected, "one of two at most");
}
