//! Services: what is asked of them, what they were answered, and what is expected.

use std::fmt;

use foreshadow_control::{AlertKind, Mode, Role, RuleState, ServiceObservation, ServicePlan, Tier};
use foreshadow_proxy::{CLASSES, ServiceTotals};
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::out::{Count, counters, encode, family, histogram, latencies, signed, small};
use crate::node::view::{ShadowCounts, View};

type ServiceValue = (&'static str, &'static str, fn(&ServicePlan) -> f64);

pub(super) fn requests(out: &mut DescriptorEncoder, totals: &[ServiceTotals]) -> fmt::Result {
    let counts: [Count<ServiceTotals>; 3] = [
        ("requests", "Requests that arrived for a service.", |t| t.arrivals),
        ("unserved", "Requests no instance could take.", |t| t.unserved),
        ("panicked", "Requests sent to an unhealthy instance as a last resort.", |t| t.panicked),
    ];
    let named: Vec<_> = totals.iter().map(|t| (t.service.as_str(), t)).collect();
    counters(out, &counts, "service", &named)?;
    responses(out, totals)?;
    let help = "Time from sending a request to the last byte of its answer.";
    let mut latency = latencies(out, "latency", help)?;
    for total in totals {
        let labels = [("service", total.service.as_str())];
        histogram(latency.encode_family(&labels)?, &total.latency_us)?;
    }
    Ok(())
}

/// Status classes, as labels.
const CLASS: [&str; CLASSES] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

fn responses(out: &mut DescriptorEncoder, totals: &[ServiceTotals]) -> fmt::Result {
    let mut metric = family(
        out,
        "responses",
        "Answers sent to clients, by status class and by who gave them.",
        MetricType::Counter,
    )?;
    for total in totals {
        let origins = [("backend", total.responses.backend), ("proxy", total.responses.proxy)];
        for (origin, counts) in origins {
            for (class, count) in CLASS.into_iter().zip(counts) {
                let labels =
                    [("service", total.service.as_str()), ("class", class), ("origin", origin)];
                encode(&mut metric, &labels, &ConstCounter::new(count))?;
            }
        }
    }
    Ok(())
}

pub(super) fn services(out: &mut DescriptorEncoder, view: &View) -> fmt::Result {
    shadow_steps(out, view)?;
    let plain: [ServiceValue; 2] = [
        ("demand_rps", "Smoothed demand, requests per second.", |plan| plan.demand_rps),
        ("alerts", "Alerts that hold.", |plan| small(plan.alerts.len())),
    ];
    for (name, help, value) in plain {
        let mut metric = family(out, name, help, MetricType::Gauge)?;
        for plan in &view.plan.services {
            let labels = [("service", plan.service.as_str())];
            encode(&mut metric, &labels, &ConstGauge::new(value(plan)))?;
        }
    }
    alerts_by_kind(out, view)?;
    forecasts(out, view)?;
    rules(out, view)?;
    let mut mode = family(out, "mode", "1 for the mode in force.", MetricType::Gauge)?;
    for seen in &view.observation.services {
        for candidate in [Mode::Observe, Mode::Advise, Mode::Act] {
            let labels =
                [("service", seen.service.as_str().to_owned()), ("mode", candidate.to_string())];
            encode(&mut mode, &labels, &ConstGauge::new(i64::from(seen.mode == candidate)))?;
        }
    }
    Ok(())
}

fn alerts_by_kind(out: &mut DescriptorEncoder, view: &View) -> fmt::Result {
    let mut metric = family(out, "alert", "Alerts that hold, by kind.", MetricType::Gauge)?;
    for plan in &view.plan.services {
        for kind in AlertKind::ALL {
            let count = plan.alerts.iter().filter(|alert| alert.kind == kind).count();
            let labels = [("service", plan.service.as_str()), ("kind", kind.as_str())];
            encode(&mut metric, &labels, &ConstGauge::new(signed(count as u64)))?;
        }
    }
    Ok(())
}

fn shadow_steps(out: &mut DescriptorEncoder, view: &View) -> fmt::Result {
    let mut shadows = family(out, "shadows", "Shadows by tier.", MetricType::Gauge)?;
    for seen in &view.observation.services {
        for tier in Tier::ALL {
            let labels = [("service", seen.service.as_str()), ("tier", tier.as_str())];
            encode(&mut shadows, &labels, &ConstGauge::new(signed(shadows_at(seen, tier))))?;
        }
    }
    let mut reached =
        family(out, "shadow_steps", "Provider steps finished, by tier.", MetricType::Counter)?;
    for (service, total) in &view.shadow_counts {
        for (tier, count) in &total.steps {
            let labels = [("service", service.as_str()), ("tier", tier.as_str())];
            encode(&mut reached, &labels, &ConstCounter::new(*count))?;
        }
    }
    let counts: [Count<ShadowCounts>; 3] = [
        ("shadow_steps_failed", "Provider steps that failed.", |t| t.steps_failed),
        ("shadow_exits", "Shadows that ended by themselves.", |t| t.exits),
        ("shadow_adoptions", "Shadows taken over from the run before.", |t| t.adopted),
    ];
    let named: Vec<_> = view.shadow_counts.iter().map(|(s, total)| (s.as_str(), total)).collect();
    counters(out, &counts, "service", &named)
}

fn rules(out: &mut DescriptorEncoder, view: &View) -> fmt::Result {
    let mut state = family(out, "rule_state", "1 for how a rule stands.", MetricType::Gauge)?;
    for plan in &view.plan.services {
        for rule in &plan.rules {
            for candidate in RuleState::ALL {
                let labels = [
                    ("service", plan.service.as_str()),
                    ("rule", rule.name.as_str()),
                    ("state", candidate.as_str()),
                ];
                let value = i64::from(rule.state == candidate);
                encode(&mut state, &labels, &ConstGauge::new(value))?;
            }
        }
    }
    Ok(())
}

fn forecasts(out: &mut DescriptorEncoder, view: &View) -> fmt::Result {
    let mut metric = family(
        out,
        "forecast_rps",
        "Forecast demand, requests per second, by horizon and bound.",
        MetricType::Gauge,
    )?;
    for plan in &view.plan.services {
        for h in &plan.forecast {
            let bounds = [("lower", h.lower_rps), ("median", h.median_rps), ("upper", h.upper_rps)];
            for (bound, value) in bounds {
                let labels = [
                    ("service", plan.service.as_str().to_owned()),
                    ("horizon_ms", h.horizon_ms.to_string()),
                    ("bound", bound.to_owned()),
                ];
                encode(&mut metric, &labels, &ConstGauge::new(value))?;
            }
        }
    }
    Ok(())
}

fn shadows_at(seen: &ServiceObservation, tier: Tier) -> u64 {
    let shadows = seen.instances.iter().filter(|i| i.role == Role::Shadow);
    shadows.filter(|i| i.tier == tier).count() as u64
}
