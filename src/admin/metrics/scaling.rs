//! Primaries of services that are scaled: wanted, asked for, ready, and how asking goes.

use std::fmt;

use foreshadow_control::{ScalingPhase, ScalingView};
use foreshadow_shadow::ScaledService;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::out::{Count, counters, encode, family};
use crate::node::Shared;
use crate::node::view::View;

type Number = (&'static str, &'static str, fn(&ScalingView) -> Option<u32>);

pub(super) fn scaling(out: &mut DescriptorEncoder, shared: &Shared, view: &View) -> fmt::Result {
    let numbers: [Number; 5] = [
        ("primaries_needed", "Primaries that sustained demand needs.", |s| s.needed),
        ("primaries_wanted", "Primaries wanted by what scales them.", |s| s.wanted),
        ("primaries_asked", "Primaries asked for last and taken.", |s| s.asked),
        ("primaries_ready", "Primaries that are ready.", |s| Some(s.ready)),
        ("primaries_leaving", "Primaries that are about to end.", |s| Some(s.leaving)),
    ];
    let scaled = || {
        let services = view.plan.services.iter();
        services.filter_map(|plan| Some((plan.service.as_str(), plan.scaling.as_ref()?)))
    };
    for (name, help, value) in numbers {
        let mut metric = family(out, name, help, MetricType::Gauge)?;
        for (service, scaling) in scaled() {
            if let Some(value) = value(scaling) {
                let gauge = ConstGauge::new(i64::from(value));
                encode(&mut metric, &[("service", service)], &gauge)?;
            }
        }
    }
    let mut phase = family(out, "scaling_phase", "1 for how it stands.", MetricType::Gauge)?;
    for (service, scaling) in scaled() {
        for candidate in ScalingPhase::ALL {
            let labels = [("service", service), ("phase", candidate.as_str())];
            let value = i64::from(scaling.phase == candidate);
            encode(&mut phase, &labels, &ConstGauge::new(value))?;
        }
    }
    let counts: [Count<ScaledService>; 2] = [
        ("scaling_calls", "Calls to what scales primaries.", |s| s.calls.0),
        ("scaling_calls_failed", "Calls that failed.", |s| s.calls.1),
    ];
    let snapshot = shared.scaling.snapshot();
    let named: Vec<_> = snapshot.iter().map(|(name, scaled)| (name.as_str(), scaled)).collect();
    counters(out, &counts, "service", &named)
}
