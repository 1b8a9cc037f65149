//! What was learned from outcomes, as metrics.

use std::fmt;

use foreshadow_control::PlaceView;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::metrics::{encode, family};
use crate::node::view::View;

type Figure = (&'static str, &'static str, fn(&PlaceView) -> Option<f64>);

/// Outcomes by place, and the plans that migrations there may shift by.
pub(super) fn metrics(out: &mut DescriptorEncoder, view: &View) -> fmt::Result {
    let figures: [Figure; 3] = [
        (
            "creation_failure_probability",
            "Probability that the next creation in a place fails, by what became of earlier ones.",
            |place| Some(place.created.fails),
        ),
        ("creation_expected_tries", "Creations that are reckoned with until one works.", |place| {
            Some(place.expected_tries)
        }),
        (
            "serving_losses_per_hour",
            "Shadows lost while they serve, per hour of serving.",
            |place| place.lost_per_hour,
        ),
    ];
    for (name, help, figure) in figures {
        let mut gauge = family(out, name, help, MetricType::Gauge)?;
        for (service, feedback) in view.feedback.iter() {
            for place in &feedback.learning.places {
                let Some(value) = figure(place) else { continue };
                let labels = [("service", service.as_str()), ("place", place.place.as_str())];
                encode(&mut gauge, &labels, &ConstGauge::new(value))?;
            }
        }
    }
    shifts(out, view)
}

fn shifts(out: &mut DescriptorEncoder, view: &View) -> fmt::Result {
    let help = "Migrations by the plan that they shifted by, and whether they went well.";
    let mut shifted = family(out, "migrations_shifted", help, MetricType::Counter)?;
    for (service, feedback) in view.feedback.iter() {
        for shifts in &feedback.learning.shifts {
            for arm in &shifts.rung.arms {
                let well = arm.migrations.saturating_sub(arm.failed);
                for (outcome, count) in [("well", well), ("failed", arm.failed)] {
                    let labels = [
                        ("service", service.as_str()),
                        ("place", shifts.place.as_str()),
                        ("plan", arm.pace.as_str()),
                        ("outcome", outcome),
                    ];
                    encode(&mut shifted, &labels, &ConstCounter::new(count))?;
                }
            }
        }
    }
    Ok(())
}
