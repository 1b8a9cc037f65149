//! A pick and the counting around it allocate nothing.

#![expect(unsafe_code, reason = "a counting global allocator can only be written with it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use foreshadow_control::InstanceId;
use foreshadow_proxy::{
    Answer, BackendSpec, Clock, HostMatch, ListenerName, ListenerRoutes, Outcome, PathMatch, Pick,
    Registry, RouteSpec, RouteTable, TableSpec, UpstreamPolicy, UpstreamSpec, WorkerId,
};
use rand::SeedableRng;
use rand::rngs::SmallRng;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is handed to the system's allocator unchanged; the counter is a `Cell` without
// a destructor, so touching it neither allocates nor fails.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are those `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are those `System` asks for.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn table(registry: &Registry) -> RouteTable {
    let route = |host, path: &str| RouteSpec {
        host,
        path: PathMatch::Prefix(path.into()),
        service: "web".into(),
    };
    let backends = (0u16..100)
        .map(|i| BackendSpec {
            id: InstanceId(u64::from(i)),
            address: SocketAddr::from(([127, 0, 0, 1], 9000 + i)),
            weight: u32::from(i),
            capacity_rps: 0.0,
        })
        .collect();
    let spec = TableSpec {
        listeners: vec![ListenerRoutes {
            listener: "main".into(),
            routes: vec![
                route(HostMatch::Exact("shop.example.com".into()), "/api"),
                route(HostMatch::Suffix("example.com".into()), "/"),
            ],
        }],
        services: vec![UpstreamSpec {
            name: "web".into(),
            backends,
            policy: Arc::new(UpstreamPolicy::default()),
        }],
    };
    RouteTable::build(&spec, registry).expect("the spec is consistent")
}

#[test]
fn routing_picking_and_counting_do_not_allocate() {
    let registry = Registry::new(1, Clock::start());
    let table = table(&registry);
    let listener = ListenerName::from("main");
    let mut rng = SmallRng::seed_from_u64(1);
    let worker = WorkerId(0);
    let good = Outcome {
        answer: Answer::Status(200),
        latency: Duration::from_millis(3),
        bytes_in: 1,
        bytes_out: 1,
        retry: false,
    };
    let mut request = |host: &str, path: &str, outcome: Outcome, now_ms: u64| {
        let service = table.route(&listener, host, path).unwrap();
        service.meters().arrived(worker);
        service.budget().deposit(now_ms);
        let tried = [InstanceId(7)];
        let Pick::Backend(backend) = service.pick(worker, &mut rng, &tried, now_ms) else {
            panic!("all are healthy");
        };
        backend.begin(worker, now_ms).finish(&outcome, now_ms);
    };
    // The first answer of a backend allocates its latency buckets, once.
    (0..20_000).for_each(|_| request("shop.example.com", "/api/x", good, 1));
    table.refresh();
    let bad = Outcome { answer: Answer::Reset, ..good };
    request("shop.example.com", "/api", bad, 2);

    let before = ALLOCATIONS.with(Cell::get);
    for now_ms in 2..2000 {
        request("SHOP.example.com", "/api/v1/things", good, now_ms);
        request("other.example.com", "/a/b/c", good, now_ms);
        // More than enough for ejections and fallback scans.
        request("other.example.com", "/", bad, now_ms);
    }
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0);

    drop(vec![1u8]);
    assert!(ALLOCATIONS.with(Cell::get) > before, "the counter counts");
}
