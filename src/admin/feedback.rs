//! How decisions turned out, and the thresholds that move with it: as JSON and as metrics.

use std::fmt;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use foreshadow_control::{FeedbackView, StepScore};
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use serde_json::{Value, json};

use super::error::ApiError;
use super::extract::Path;
use super::metrics::{encode, family};
use super::read::{known_service, view};
use crate::node::Shared;
use crate::node::view::View;

/// The feedback of one service, at most a second old.
pub(super) async fn of_service(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let name = known_service(&shared, &name)?;
    let view = view(&shared)?;
    let feedback = view.feedback.get(&name).ok_or_else(ApiError::starting)?;
    Ok(Json(json!({ "at_ms": view.now_ms, "service": name, "feedback": feedback })))
}

type Verdict = (&'static str, fn(&StepScore) -> u64);

/// Thresholds in force, what became of steps and alarms, and how forecasts did.
pub(super) fn metrics(out: &mut DescriptorEncoder, view: &View) -> fmt::Result {
    thresholds(out, view)?;
    let verdicts: [Verdict; 4] = [
        ("right", |score| score.right),
        ("early", |score| score.early),
        ("late", |score| score.late),
        ("false", |score| score.false_ones),
    ];
    let help = "Steps towards serving, by what became of them.";
    let mut judged = family(out, "steps_judged", help, MetricType::Counter)?;
    for (service, feedback) in view.feedback.iter() {
        for score in &feedback.steps {
            for (verdict, count) in verdicts {
                let labels = [
                    ("service", service.as_str()),
                    ("step", score.step.as_str()),
                    ("verdict", verdict),
                ];
                encode(&mut judged, &labels, &ConstCounter::new(count(score)))?;
            }
        }
    }
    forecasts(out, view)?;
    alarms(out, view)
}

fn thresholds(out: &mut DescriptorEncoder, view: &View) -> fmt::Result {
    let help = "Quantile of demand that starts a step now.";
    let mut level = family(out, "threshold", help, MetricType::Gauge)?;
    for (service, feedback) in view.feedback.iter() {
        for threshold in &feedback.thresholds {
            let labels = [("service", service.as_str()), ("step", threshold.step.as_str())];
            encode(&mut level, &labels, &ConstGauge::new(threshold.in_force))?;
        }
    }
    Ok(())
}

fn forecasts(out: &mut DescriptorEncoder, view: &View) -> fmt::Result {
    let help = "Share of demand at or below a forecast quantile; ideally its level.";
    let mut coverage = family(out, "forecast_coverage", help, MetricType::Gauge)?;
    for (service, feedback) in view.feedback.iter() {
        for score in feedback.forecasts.iter().filter(|score| score.scored > 0) {
            for (level, covered) in score.levels.iter().zip(&score.coverage) {
                let labels = [
                    ("service", service.as_str().to_owned()),
                    ("horizon_ms", score.horizon_ms.to_string()),
                    ("level", level.to_string()),
                ];
                encode(&mut coverage, &labels, &ConstGauge::new(*covered))?;
            }
        }
    }
    Ok(())
}

fn alarms(out: &mut DescriptorEncoder, view: &View) -> fmt::Result {
    let help = "Alarms of risk and firings of rules that look ahead, by what became of them.";
    let mut judged = family(out, "alarms_judged", help, MetricType::Counter)?;
    for (service, feedback) in view.feedback.iter() {
        let FeedbackView { risk, rules, .. } = feedback;
        for (kind, score) in [("risk", risk)].into_iter().chain(rules.iter().map(|r| ("rule", r))) {
            let counts = [
                ("right", score.right),
                ("false", score.false_ones),
                ("averted", score.averted),
                ("missed", score.missed),
            ];
            for (verdict, count) in counts {
                let labels = [
                    ("service", service.as_str()),
                    ("kind", kind),
                    ("rule", score.name.as_deref().unwrap_or("")),
                    ("verdict", verdict),
                ];
                encode(&mut judged, &labels, &ConstCounter::new(count))?;
            }
        }
    }
    Ok(())
}
