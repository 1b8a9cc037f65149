//! The cost of finding the service and the backend for a request.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use foreshadow_control::InstanceId;
use foreshadow_proxy::{
    Answer, BackendSpec, Clock, HostMatch, ListenerName, ListenerRoutes, Outcome, PathMatch, Pick,
    Registry, RouteSpec, RouteTable, TableSpec, UpstreamPolicy, UpstreamSpec, WorkerId,
};
use rand::SeedableRng;
use rand::rngs::SmallRng;

fn table(registry: &Registry, backends: u16) -> RouteTable {
    let backend = |i: u16| BackendSpec {
        id: InstanceId(u64::from(i)),
        address: SocketAddr::from(([127, 0, 0, 1], 10_000 + i)),
        weight: 1 + u32::from(i % 7),
        capacity_rps: 0.0,
    };
    let route = |host, path: &str| RouteSpec {
        host,
        path: PathMatch::Prefix(path.into()),
        service: "web".into(),
    };
    let hosts = (0..100).map(|i| route(HostMatch::Exact(format!("shop{i}.example.com")), "/api"));
    let spec = TableSpec {
        listeners: vec![ListenerRoutes { listener: "main".into(), routes: hosts.collect() }],
        services: vec![UpstreamSpec {
            name: "web".into(),
            backends: (0..backends).map(backend).collect(),
            policy: Arc::new(UpstreamPolicy::default()),
        }],
    };
    RouteTable::build(&spec, registry).expect("the spec is consistent")
}

fn pick(c: &mut Criterion) {
    let worker = WorkerId(0);
    let listener = ListenerName::from("main");
    let answer = Outcome {
        answer: Answer::Status(200),
        latency: Duration::from_millis(3),
        bytes_in: 100,
        bytes_out: 100,
        retry: false,
    };
    let mut group = c.benchmark_group("pick");
    for backends in [2, 10, 1000] {
        let registry = Registry::new(1, Clock::start());
        let table = table(&registry, backends);
        for backend in table.services()[0].backends() {
            backend.begin(worker, 0).finish(&answer, 0);
        }
        table.refresh();
        let mut rng = SmallRng::seed_from_u64(1);
        group.bench_function(BenchmarkId::new("route", backends), |b| {
            b.iter(|| table.route(&listener, black_box("shop42.example.com"), black_box("/api/x")));
        });
        group.bench_function(BenchmarkId::new("route_and_pick", backends), |b| {
            b.iter(|| {
                let service = table
                    .route(&listener, black_box("shop42.example.com"), black_box("/api/x"))
                    .expect("the route exists");
                matches!(service.pick(worker, &mut rng, &[], 1), Pick::Backend(_))
            });
        });
        group.bench_function(BenchmarkId::new("route_pick_and_count", backends), |b| {
            b.iter(|| {
                let service = table
                    .route(&listener, black_box("shop42.example.com"), black_box("/api/x"))
                    .expect("the route exists");
                service.meters().arrived(worker);
                service.budget().deposit(1);
                if let Pick::Backend(backend) = service.pick(worker, &mut rng, &[], 1) {
                    backend.begin(worker, 1).finish(&answer, 1);
                }
            });
        });
        group.bench_function(BenchmarkId::new("drain", backends), |b| {
            b.iter(|| registry.drain(1));
        });
    }
    group.finish();
}

criterion_group!(benches, pick);
criterion_main!(benches);
