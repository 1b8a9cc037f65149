//! The data plane: listeners, HTTP engine, balancing, upstreams, health.

mod alias;
mod backend;
mod budget;
mod ejection;
mod health;
mod histogram;
mod meters;
mod pick;
mod route;
mod table;

pub use alias::AliasTable;
pub use backend::registry::Registry;
pub use backend::{Answer, Backend, Clock, InFlightGuard, Outcome};
pub use budget::RetryBudget;
pub use ejection::EjectionPolicy;
pub use health::{CheckKind, CheckTarget, Checker, HealthCheck, ProbeError, probe};
pub use meters::WorkerId;
pub use meters::drain::{InstanceDrain, InstanceTotals, ServiceDrain, ServiceTotals};
pub use pick::{NoBackend, Pick, Service};
pub use route::{HostMatch, ListenerName, ListenerRoutes, PathMatch, RouteSpec};
pub use table::policy::{RetryOn, RetryPolicy, UpstreamPolicy};
pub use table::{BackendSpec, RouteTable, TableError, TableSpec, UpstreamSpec};
