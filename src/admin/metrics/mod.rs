//! `/metrics`: the last view in the OpenMetrics text form, or in the older one of Prometheus.

mod instances;
mod migrations;
mod node;
mod out;
mod reported;
mod scaling;
mod services;
mod text_form;

use std::fmt;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;

use super::error::ApiError;
use super::{feedback, fitness, learning, reservations};
use crate::node::Shared;
pub(super) use out::{encode, family};
use text_form::Form;

pub(super) async fn render(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let form = Form::wanted(accepted);
    let mut registry = Registry::with_prefix("foreshadow");
    registry.register_collector(Box::new(Scrape(shared)));
    let mut body = String::with_capacity(16 * 1024);
    match text::encode(&mut body, &registry) {
        Ok(()) => {
            let headers = [(CONTENT_TYPE, form.content_type()), (VARY, "accept")];
            (headers, form.write(body)).into_response()
        }
        Err(error) => ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("metrics cannot be written: {error}"),
        )
        .into_response(),
    }
}

struct Scrape(Arc<Shared>);

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, mut out: DescriptorEncoder) -> fmt::Result {
        node::node(&self.0, &mut out)?;
        let Some(view) = self.0.view() else { return Ok(()) };
        let totals = self.0.totals();
        services::requests(&mut out, &totals)?;
        services::services(&mut out, &view)?;
        scaling::scaling(&mut out, &self.0, &view)?;
        migrations::migrations(&mut out, &self.0, &view)?;
        fitness::encode_all(&mut out, &self.0, &view)?;
        feedback::metrics(&mut out, &view)?;
        reservations::encode_all(&mut out, &self.0)?;
        learning::metrics(&mut out, &view)?;
        instances::instances(&mut out, &totals)?;
        instances::gauges(&mut out, &view)?;
        reported::not_believed(&mut out, self.0.metrics.not_believed())?;
        reported::reported(&mut out, &view)
    }
}
