//! The admin interface: JSON under `/api/v1`, Prometheus metrics, health and readiness.

mod activations;
mod audit;
mod auth;
mod drills;
mod error;
mod events;
mod extract;
mod feedback;
mod fitness;
mod guard;
mod history;
mod learning;
mod metrics;
mod migrations;
mod operate;
mod places;
mod read;
mod reported;
mod reservations;
mod rules;
mod scaling;
mod seats;
mod serve;

use std::sync::Arc;

use axum::Router;
use axum::routing::{delete, get, post, put};

use crate::node::Shared;

pub(crate) use auth::Tokens;
pub(crate) use guard::Hosts;
pub(crate) use rules::try_on;
pub(crate) use serve::{CONNECTIONS, serve};

/// All routes; those under `/api` and `/metrics` ask for one of `tokens` where some are set, and are
/// kept from pages of other sites.
pub(crate) fn router(shared: Arc<Shared>, tokens: Tokens, hosts: Hosts) -> Router {
    let gate = auth::Gate { shared: Arc::clone(&shared), tokens, told: Arc::default() };
    let asked = Router::new()
        .route("/api/v1/services", get(read::services))
        .route("/api/v1/services/{service}/forecast", get(history::forecast))
        .route("/api/v1/services/{service}/history", get(history::of_service))
        .route("/api/v1/services/{service}/metrics/history", get(history::of_metric))
        .route("/api/v1/instances", get(read::instances))
        .route("/api/v1/shadows", get(read::shadows))
        .route("/api/v1/fitness", get(fitness::of_all))
        .route("/api/v1/forecast", get(read::forecast))
        .route("/api/v1/weights", get(read::weights))
        .route("/api/v1/plan", get(read::plan))
        .route("/api/v1/decisions", get(read::decisions))
        .route("/api/v1/activations", get(activations::list))
        .route("/api/v1/reservations", get(reservations::list))
        .route("/api/v1/rules", get(rules::list))
        .route("/api/v1/audit", get(audit::page))
        .route("/metrics", get(metrics::render));
    let plain = Router::new()
        .route("/api/v1/status", get(read::status))
        .route("/api/v1/services/{service}", get(read::service))
        .route("/api/v1/services/{service}/feedback", get(feedback::of_service))
        .route("/api/v1/services/{service}/fitness", get(fitness::of_service))
        .route("/api/v1/services/{service}/mode", post(operate::mode))
        .route("/api/v1/services/{service}/risk", get(read::risk))
        .route("/api/v1/services/{service}/metrics", get(reported::list))
        .route("/api/v1/services/{service}/instances/{instance}/metrics", post(reported::push))
        .route("/api/v1/services/{service}/signals", post(reported::signal))
        .route("/api/v1/services/{service}/activate", post(operate::activate))
        .route("/api/v1/services/{service}/drill", post(drills::begin))
        .route("/api/v1/drills", get(drills::list))
        .route("/api/v1/drills/{drill}", get(drills::one).delete(drills::call_off))
        .route("/api/v1/services/{service}/migrations", post(migrations::ask))
        .route("/api/v1/migrations", get(migrations::list))
        .route("/api/v1/migrations/{migration}", get(migrations::one).delete(migrations::call_off))
        .route("/api/v1/instances/{instance}/drain", post(operate::drain))
        .route("/api/v1/kernel", get(read::kernel))
        .route("/api/v1/config", get(read::config))
        .route("/api/v1/audit/head", get(audit::head))
        .route("/api/v1/events", get(events::events).post(events::announce))
        .route("/api/v1/events/{event}", delete(events::withdraw))
        .route("/api/v1/rules/check", post(rules::check))
        .route("/api/v1/services/{service}/rules/{rule}", put(rules::set).delete(rules::take_back))
        .route("/api/v1/kill-switch", post(operate::kill_switch))
        .route("/api/v1/reload", post(operate::reload))
        .route_layer(axum::middleware::from_fn(extract::no_parameters));
    let api = asked
        .merge(plain)
        .layer(axum::middleware::from_fn_with_state(gate, auth::require))
        .layer(axum::middleware::from_fn_with_state(hosts, guard::require));
    Router::new()
        .route("/healthz", get(read::healthz))
        .route("/readyz", get(read::readyz))
        .merge(api)
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::method_not_allowed)
        .with_state(shared)
}
