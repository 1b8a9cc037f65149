//! The routing table: one immutable value that says where every request may go.

pub(crate) mod policy;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use foreshadow_control::{InstanceId, ServiceName};

use crate::backend::Backend;
use crate::backend::registry::Registry;
use crate::health::CheckTarget;
use crate::injected::Injection;
use crate::pick::Service;
use crate::route::{ListenerName, ListenerRoutes, Router};
use policy::UpstreamPolicy;

/// Everything a table is built from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableSpec {
    /// Routes by listener.
    pub listeners: Vec<ListenerRoutes>,
    /// Every service a route names, and any others.
    pub services: Vec<UpstreamSpec>,
}

/// A service and its backends.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamSpec {
    /// The service.
    pub name: ServiceName,
    /// Its backends; those with weight 0 take no requests but are known, checked and drained.
    pub backends: Vec<BackendSpec>,
    /// How requests are balanced among them.
    pub policy: Arc<UpstreamPolicy>,
}

/// A backend of a service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BackendSpec {
    /// The instance.
    pub id: InstanceId,
    /// Where it listens; an instance never changes its address.
    pub address: SocketAddr,
    /// Its share of the requests is this over the sum; 0 takes none.
    pub weight: u32,
    /// Requests per second it can serve, to compare hot backends by; 0 when not known.
    pub capacity_rps: f64,
}

/// Why a table could not be built; the previous one stays in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Two listeners have one name.
    #[error("listener {listener} is given twice; give each listener a name of its own")]
    DuplicateListener {
        /// The name.
        listener: ListenerName,
    },
    /// Two services have one name.
    #[error("service {service} is given twice; merge the two")]
    DuplicateService {
        /// The name.
        service: ServiceName,
    },
    /// A route leads nowhere.
    #[error("a route of listener {listener} names service {service}, which is not given; add it")]
    UnknownService {
        /// The listener.
        listener: ListenerName,
        /// The missing service.
        service: ServiceName,
    },
    /// Two routes match the same.
    #[error("listener {listener} has two routes for {route}; remove one")]
    DuplicateRoute {
        /// The listener.
        listener: ListenerName,
        /// The match.
        route: String,
    },
    /// A path that no request can have.
    #[error("a route of listener {listener} has path {path:?}; start it with a slash")]
    BadPath {
        /// The listener.
        listener: ListenerName,
        /// The path.
        path: String,
    },
    /// A host that no request can have.
    #[error("a route of listener {listener} has host {host:?}; give a name of at most 253 bytes")]
    BadHost {
        /// The listener.
        listener: ListenerName,
        /// The host.
        host: String,
    },
    /// An instance is given twice.
    #[error("instance {instance} is given twice; an instance belongs to one service once")]
    DuplicateInstance {
        /// The instance.
        instance: InstanceId,
    },
    /// An instance is known with another address or service.
    #[error("instance {instance} is {known} and cannot become {wanted}; give the new one a new id")]
    InstanceChanged {
        /// The instance.
        instance: InstanceId,
        /// Service and address it has.
        known: String,
        /// Service and address it was given.
        wanted: String,
    },
}

/// Where every request may go. Readers share it without a lock; a change is a new table.
#[derive(Debug)]
pub struct RouteTable {
    listeners: HashMap<ListenerName, Router>,
    services: Vec<Arc<Service>>,
    by_name: HashMap<ServiceName, usize>,
    /// Where each backend is: which service, and which of its backends.
    places: HashMap<InstanceId, (usize, usize)>,
    /// Those that were in an earlier table and may still have requests; none is kept alive.
    former: HashMap<InstanceId, Weak<Backend>>,
}

impl RouteTable {
    /// Builds a table over the backends of `registry`, which gains those that are new. The policy
    /// of each service is in force for requests in flight at once.
    ///
    /// # Errors
    /// [`TableError`] when the spec contradicts itself or the registry; nothing is changed then.
    pub fn build(spec: &TableSpec, registry: &Registry) -> Result<Self, TableError> {
        Self::with_faults(spec, registry, &[])
    }

    /// The same, with faults of some backends.
    pub(crate) fn with_faults(
        spec: &TableSpec,
        registry: &Registry,
        faults: &[Injection],
    ) -> Result<Self, TableError> {
        let mut by_name = HashMap::new();
        for (index, service) in spec.services.iter().enumerate() {
            if by_name.insert(service.name.clone(), index).is_some() {
                return Err(TableError::DuplicateService { service: service.name.clone() });
            }
        }
        let listeners = routers(spec, &by_name)?;
        let places = check_instances(spec, registry)?;
        let service = |spec| Arc::new(Service::build(spec, registry, faults));
        let services = spec.services.iter().map(service).collect();
        let former = registry.others(|id| places.contains_key(&id));
        Ok(Self { listeners, services, by_name, places, former })
    }

    /// The service for a request: `host` without port, `path` without query. No allocation, no
    /// lock; hosts are compared whatever their case.
    ///
    /// The exact host goes before the longest wildcard before any host; within a host the exact
    /// path before the longest prefix.
    #[must_use]
    pub fn route(&self, listener: &ListenerName, host: &str, path: &str) -> Option<&Arc<Service>> {
        self.listeners.get(listener)?.find(host, path).map(|index| &self.services[index])
    }

    /// A service by name.
    #[must_use]
    pub fn service(&self, name: &ServiceName) -> Option<&Arc<Service>> {
        self.by_name.get(name).map(|&index| &self.services[index])
    }

    /// A backend that is in the table, or was in an earlier one.
    pub(crate) fn find(&self, instance: InstanceId) -> Option<Found<'_>> {
        if let Some(&(service, at)) = self.places.get(&instance) {
            let service = &self.services[service];
            let backend = Arc::clone(&service.backends()[at]);
            return Some(Found { service: Some(service), backend, listed: true });
        }
        let backend = self.former.get(&instance)?.upgrade()?;
        Some(Found { service: self.service(backend.service()), backend, listed: false })
    }

    /// All services, in the order they were given.
    #[must_use]
    pub fn services(&self) -> &[Arc<Service>] {
        &self.services
    }

    /// Recomputes what picks compare with but need not know to the millisecond. Call it once per
    /// tick.
    pub fn refresh(&self) {
        for service in &self.services {
            service.refresh();
        }
    }

    /// All backends, each with the check of its service.
    #[must_use]
    pub fn check_targets(&self) -> Vec<CheckTarget> {
        let targets = |service: &Arc<Service>| {
            let check = service.policy().health.clone();
            let target = move |backend: &Arc<Backend>| CheckTarget {
                backend: Arc::clone(backend),
                check: check.clone(),
                injected: service.injected(backend.id()).cloned(),
            };
            service.backends().iter().map(target).collect::<Vec<_>>()
        };
        self.services.iter().flat_map(targets).collect()
    }
}

/// A backend by its id.
pub(crate) struct Found<'a> {
    /// Its service, if there still is one of that name.
    pub(crate) service: Option<&'a Arc<Service>>,
    pub(crate) backend: Arc<Backend>,
    /// Whether it is in the table.
    pub(crate) listed: bool,
}

fn routers(
    spec: &TableSpec,
    by_name: &HashMap<ServiceName, usize>,
) -> Result<HashMap<ListenerName, Router>, TableError> {
    let mut listeners = HashMap::new();
    for ListenerRoutes { listener, routes } in &spec.listeners {
        let mut router = Router::default();
        for route in routes {
            let service =
                *by_name.get(&route.service).ok_or_else(|| TableError::UnknownService {
                    listener: listener.clone(),
                    service: route.service.clone(),
                })?;
            router.add(listener, route, service)?;
        }
        if listeners.insert(listener.clone(), router).is_some() {
            return Err(TableError::DuplicateListener { listener: listener.clone() });
        }
    }
    Ok(listeners)
}

fn check_instances(
    spec: &TableSpec,
    registry: &Registry,
) -> Result<HashMap<InstanceId, (usize, usize)>, TableError> {
    let mut places = HashMap::new();
    for (index, service) in spec.services.iter().enumerate() {
        for (at, backend) in service.backends.iter().enumerate() {
            if places.insert(backend.id, (index, at)).is_some() {
                return Err(TableError::DuplicateInstance { instance: backend.id });
            }
            if let Some(known) = registry.get(backend.id)
                && (known.address() != backend.address || known.service() != &service.name)
            {
                return Err(TableError::InstanceChanged {
                    instance: backend.id,
                    known: format!("{} at {}", known.service(), known.address()),
                    wanted: format!("{} at {}", service.name, backend.address),
                });
            }
        }
    }
    Ok(places)
}
