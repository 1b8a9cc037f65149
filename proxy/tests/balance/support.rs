//! Tables and outcomes in few words.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use foreshadow_control::InstanceId;
use foreshadow_proxy::{
    Answer, BackendSpec, Clock, HostMatch, ListenerRoutes, Outcome, PathMatch, Registry, RouteSpec,
    RouteTable, Service, TableSpec, UpstreamPolicy, UpstreamSpec, WorkerId,
};

pub(crate) const W0: WorkerId = WorkerId(0);

pub(crate) fn registry() -> Registry {
    Registry::new(2, Clock::start())
}

pub(crate) fn backend(id: u64, weight: u32) -> BackendSpec {
    let address = SocketAddr::from(([127, 0, 0, 1], 9000 + u16::try_from(id).unwrap()));
    BackendSpec { id: InstanceId(id), address, weight, capacity_rps: 0.0 }
}

/// Service `web` behind listener `main`, its backends numbered from 0.
pub(crate) fn spec(weights: &[u32], policy: &UpstreamPolicy) -> TableSpec {
    let backends = weights.iter().zip(0..).map(|(&weight, id)| backend(id, weight)).collect();
    spec_of(backends, policy)
}

pub(crate) fn spec_of(backends: Vec<BackendSpec>, policy: &UpstreamPolicy) -> TableSpec {
    let route = RouteSpec {
        host: HostMatch::Any,
        path: PathMatch::Prefix("/".into()),
        service: "web".into(),
    };
    TableSpec {
        listeners: vec![ListenerRoutes { listener: "main".into(), routes: vec![route] }],
        services: vec![UpstreamSpec {
            name: "web".into(),
            backends,
            policy: Arc::new(policy.clone()),
        }],
    }
}

pub(crate) fn service(
    registry: &Registry,
    weights: &[u32],
    policy: &UpstreamPolicy,
) -> Arc<Service> {
    let table = RouteTable::build(&spec(weights, policy), registry).unwrap();
    Arc::clone(&table.services()[0])
}

pub(crate) fn outcome(answer: Answer, latency_ms: f64) -> Outcome {
    Outcome {
        answer,
        latency: Duration::from_secs_f64(latency_ms / 1e3),
        bytes_in: 100,
        bytes_out: 10,
        retry: false,
    }
}
