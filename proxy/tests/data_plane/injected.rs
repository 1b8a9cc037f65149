//! Faults made of a backend on purpose: real to clients and checks, and over at their time.

use std::time::{Duration, Instant};

use foreshadow_control::{Health, InstanceId};
use foreshadow_proxy::{HealthCheck, InjectError, InjectedFault, UpstreamPolicy};

use crate::support::{Backend, Rig, table, until};

const LONG: Duration = Duration::from_secs(60);

fn id(backend: &Backend) -> InstanceId {
    InstanceId(u64::from(backend.address.port()))
}

#[tokio::test]
async fn a_backend_that_seems_to_refuse_gets_nothing_and_clients_see_nothing() {
    let (good, bad) = (Backend::http("good").await, Backend::http("bad").await);
    let rig = Rig::start(&[good.address, bad.address]).await;
    rig.plane.inject(id(&bad), InjectedFault::Refuse, LONG).unwrap();
    for _ in 0..20 {
        assert_eq!(rig.get("/").await.text(), "good");
    }
    assert_eq!((bad.requests(), bad.connections()), (0, 0));
    rig.plane.drain_meters();
    let totals = rig.plane.totals();
    let refused: u64 = totals[0].instances.iter().map(|i| i.meters.connect_errors).sum();
    assert!(refused > 0, "requests did meet it: {totals:?}");
    let seen = rig.plane.injected();
    assert_eq!((seen.len(), seen[0].instance, seen[0].fault), (1, id(&bad), InjectedFault::Refuse));
    // A new table does not end it, and its end is no table of the controller's.
    rig.plane.publish(&table(UpstreamPolicy::default(), &[good.address, bad.address])).unwrap();
    assert_eq!(rig.plane.injected().len(), 1);
    rig.plane.lift(id(&bad)).unwrap();
    assert!(rig.plane.injected().is_empty());
    until("requests to reach it again", || {
        rig.plane.registry().get(id(&bad)).is_some_and(|b| b.is_usable(u64::MAX))
    })
    .await;
}

#[tokio::test]
async fn one_that_seems_to_hang_answers_again_when_the_time_is_over_though_nobody_lifts_it() {
    let backend = Backend::http("only").await;
    let first_byte = Duration::from_millis(100);
    let policy = UpstreamPolicy { first_byte_timeout: first_byte, ..UpstreamPolicy::default() };
    let rig = Rig::with(policy, &[backend.address]).await;
    let (begun, lasts) = (Instant::now(), Duration::from_millis(700));
    rig.plane.inject(id(&backend), InjectedFault::Hang, lasts).unwrap();
    assert_eq!(rig.get("/").await.status, 504);
    assert_eq!(backend.requests(), 0);
    loop {
        let (answer, now) = (rig.get("/").await, begun.elapsed());
        if answer.status == 200 {
            assert!(now >= lasts - Duration::from_millis(1), "answered after {now:?}");
            break;
        }
        assert!(now < LONG, "{answer:?}");
    }
    assert!(rig.plane.injected().is_empty());
}

#[tokio::test]
async fn requests_to_one_that_seems_slow_wait_and_are_counted_as_slow() {
    let backend = Backend::http("slow").await;
    let rig = Rig::start(&[backend.address]).await;
    let wait = Duration::from_millis(60);
    rig.plane.inject(id(&backend), InjectedFault::Delay(wait), LONG).unwrap();
    let begun = Instant::now();
    assert_eq!(rig.get("/").await.text(), "slow");
    assert!(begun.elapsed() >= wait);
    until("the answer counted", || {
        rig.plane.drain_meters();
        rig.plane.totals()[0].instances[0].meters.ok == 1
    })
    .await;
    let latency = rig.plane.totals()[0].instances[0].meters.latency;
    assert!(latency.max_ms >= 59.0, "{latency:?}");
}

#[tokio::test]
async fn checks_meet_the_fault_too_and_say_that_it_is_one() {
    let backend = Backend::http("checked").await;
    let every = Duration::from_millis(10);
    let health = HealthCheck { interval: every, fall: 1, rise: 1, ..HealthCheck::default() };
    let policy = UpstreamPolicy { health: Some(health), ..UpstreamPolicy::default() };
    let rig = Rig::with(policy, &[backend.address]).await;
    let health = || rig.plane.registry().get(id(&backend)).unwrap().health();
    until("it to be up", || health() == Health::Up).await;
    rig.plane.inject(id(&backend), InjectedFault::Refuse, LONG).unwrap();
    until("it to be down", || matches!(health(), Health::Down(_))).await;
    let Health::Down(why) = health() else { panic!("it came back by itself") };
    assert!(why.ends_with("(injected at the proxy)"), "{why}");
    rig.plane.lift(id(&backend)).unwrap();
    until("it to be up again", || health() == Health::Up).await;
}

#[tokio::test]
async fn what_is_not_there_cannot_be_hurt() {
    let backend = Backend::http("only").await;
    let rig = Rig::start(&[backend.address]).await;
    let unknown = rig.plane.inject(InstanceId(1), InjectedFault::Refuse, LONG).unwrap_err();
    assert!(matches!(unknown, InjectError::Unknown { .. }), "{unknown}");
    rig.plane.lift(InstanceId(1)).unwrap();
    assert_eq!(rig.get("/").await.text(), "only");
}
