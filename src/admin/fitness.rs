//! How safely services can be mirrored: by request, and as a metric.

use std::fmt;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use foreshadow_control::{Fitness, Mirroring, ServiceName};
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use serde_json::{Value, json};

use super::error::ApiError;
use super::extract::Path;
use super::metrics::{encode, family};
use super::read::{OnlyQuery, known_service, pairs, view};
use crate::node::Shared;
use crate::node::view::View;

/// One service, with what speaks against mirroring it.
pub(super) async fn of_service(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let name = known_service(&shared, &name)?;
    let view = view(&shared)?;
    let mut answer = shown(&shared, &view, &name).ok_or_else(ApiError::starting)?;
    answer["at_ms"] = json!(view.now_ms);
    Ok(Json(answer))
}

/// Every service, or the one asked for.
pub(super) async fn of_all(
    State(shared): State<Arc<Shared>>,
    only: OnlyQuery,
) -> Result<Json<Value>, ApiError> {
    let view = view(&shared)?;
    let services: Vec<Value> = pairs(&shared, &view, only)?
        .into_iter()
        .filter_map(|(seen, _)| shown(&shared, &view, &seen.service))
        .collect();
    Ok(Json(json!({ "at_ms": view.now_ms, "services": services })))
}

fn shown(shared: &Shared, view: &View, name: &ServiceName) -> Option<Value> {
    let mut answer = json!(assessed(shared, view, name)?);
    answer["service"] = json!(name);
    Some(answer)
}

fn assessed(shared: &Shared, view: &View, name: &ServiceName) -> Option<Fitness> {
    let config = shared.config.load();
    let shadows = config.services.get(name).and_then(|service| service.shadows.as_ref());
    let mirroring =
        shadows.map_or(Mirroring::NoShadows, |shadows| Mirroring::Share(shadows.mirror.share));
    view.workloads.get(name).map(|workload| workload.assess(mirroring))
}

/// The scores as a metric.
///
/// # Errors
/// Those of the encoder.
pub(super) fn encode_all(out: &mut DescriptorEncoder, shared: &Shared, view: &View) -> fmt::Result {
    let mut metric = family(
        out,
        "service_fitness",
        "How safely a service is shown to be mirrored, 0 to 1; 0 while nothing shows it.",
        MetricType::Gauge,
    )?;
    for name in view.workloads.keys() {
        let Some(fitness) = assessed(shared, view, name) else { continue };
        encode(&mut metric, &[("service", name.as_str())], &ConstGauge::new(fitness.score))?;
    }
    Ok(())
}
