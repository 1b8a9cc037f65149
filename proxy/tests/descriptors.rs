//! A process that has run out of descriptors: a test of its own, since the limit is the process's.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test that uses them")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use foreshadow_control::{Health, InstanceId};
use foreshadow_proxy::{
    BackendSpec, CheckKind, Checker, HealthCheck, ProbeError, Registry, RouteTable, TableSpec,
    UpstreamPolicy, UpstreamSpec, probe,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;

const INTERVAL: Duration = Duration::from_millis(5);

fn open_files(limit: Rlimit) {
    setrlimit(Resource::Nofile, limit).unwrap();
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(INTERVAL).await;
    }
}

#[tokio::test]
async fn checks_that_could_not_be_made_are_no_verdict() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        loop {
            // Fails while there are no descriptors.
            drop(listener.accept().await);
            tokio::task::yield_now().await;
        }
    });
    let (timeout, kind) = (Duration::from_secs(5), CheckKind::Tcp);
    let check = HealthCheck { kind, interval: INTERVAL, timeout, rise: 1, fall: 2 };
    let policy =
        Arc::new(UpstreamPolicy { health: Some(check.clone()), ..UpstreamPolicy::default() });
    let backends = vec![BackendSpec { id: InstanceId(1), address, weight: 1, capacity_rps: 0.0 }];
    let services = vec![UpstreamSpec { name: "shop".into(), backends, policy }];
    let registry = Registry::new(1, foreshadow_proxy::Clock::start());
    let spec = TableSpec { listeners: Vec::new(), services };
    let table = RouteTable::build(&spec, &registry).unwrap();
    let backend = Arc::clone(&table.services()[0].backends()[0]);
    let mut checker = Checker::new(registry.clock());
    checker.reconcile(table.check_targets());
    until("the backend up", || backend.health() == Health::Up).await;

    let before = getrlimit(Resource::Nofile);
    open_files(Rlimit { current: Some(0), ..before });
    // Three times as long as checks that failed would take to bring it down.
    for _ in 0..6 {
        let error = probe(address, &check).await.unwrap_err();
        assert!(matches!(error, ProbeError::Shortage { .. }), "{error}");
        assert!(error.to_string().contains("limit on open files"), "{error}");
        tokio::time::sleep(2 * INTERVAL).await;
    }
    let without_descriptors = backend.health();
    open_files(before);
    assert_eq!(without_descriptors, Health::Up);

    server.abort();
    until("the backend down, once it can be checked again", || {
        matches!(backend.health(), Health::Down(_))
    })
    .await;
}
