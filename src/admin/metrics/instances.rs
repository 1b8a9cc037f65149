//! Instances: what they were sent, what they answered, and how they stand.

use std::fmt;

use foreshadow_control::{Health, Meters, RiskAssessment};
use foreshadow_proxy::ServiceTotals;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::out::{Count, each_total, encode, family, histogram, labels, latencies, signed};
use crate::node::view::View;

pub(super) fn instances(out: &mut DescriptorEncoder, totals: &[ServiceTotals]) -> fmt::Result {
    let counts: [Count<Meters>; 7] = [
        ("instance_requests", "Requests sent to an instance, retries included.", |t| t.requests),
        ("instance_connect_errors", "Connections that could not be made.", |t| t.connect_errors),
        ("instance_read_errors", "Requests that failed after connecting.", |t| t.read_errors),
        ("instance_timeouts", "Requests that ran into a timeout.", |t| t.timeouts),
        ("instance_retries", "Requests that were a retry.", |t| t.retries),
        ("instance_bytes_out", "Bytes of requests sent.", |t| t.bytes_out),
        ("instance_bytes_in", "Bytes of answers received.", |t| t.bytes_in),
    ];
    for (name, help, value) in counts {
        let mut metric = family(out, name, help, MetricType::Counter)?;
        each_total(totals, |labels, total| {
            encode(&mut metric, labels, &ConstCounter::new(value(&total.meters)))
        })?;
    }
    let mut responses =
        family(out, "instance_responses", "Answers by status class.", MetricType::Counter)?;
    each_total(totals, |labels, total| {
        let meters = &total.meters;
        let classes =
            [("ok", meters.ok), ("4xx", meters.client_errors), ("5xx", meters.server_errors)];
        classes.into_iter().try_for_each(|(class, count)| {
            let mut labels = labels.clone();
            labels.push(("class", class.to_owned()));
            encode(&mut responses, &labels, &ConstCounter::new(count))
        })
    })?;
    let help = "Time from sending a request to an instance to the last byte of its answer.";
    let mut latency = latencies(out, "instance_latency", help)?;
    each_total(totals, |labels, total| histogram(latency.encode_family(labels)?, &total.latency_us))
}

pub(super) fn gauges(out: &mut DescriptorEncoder, view: &View) -> fmt::Result {
    let both = || view.observation.services.iter().zip(&view.plan.services);
    let mut weight = family(out, "instance_weight", "Weight in force.", MetricType::Gauge)?;
    for (_, plan) in both() {
        for w in &plan.weights {
            let labels = labels(plan.service.as_str(), &w.instance);
            encode(&mut weight, &labels, &ConstGauge::new(i64::from(w.weight)))?;
        }
    }
    let mut capacity = family(
        out,
        "instance_capacity_rps",
        "Requests per second within the objective, as decisions use it.",
        MetricType::Gauge,
    )?;
    for (_, plan) in both() {
        for c in &plan.capacity {
            let labels = labels(plan.service.as_str(), &c.instance);
            encode(&mut capacity, &labels, &ConstGauge::new(c.rps))?;
        }
    }
    let mut up = family(out, "instance_up", "1 while it may take requests.", MetricType::Gauge)?;
    for (seen, _) in both() {
        for i in &seen.instances {
            let labels = labels(seen.service.as_str(), &i.instance);
            encode(&mut up, &labels, &ConstGauge::new(i64::from(i.health == Health::Up)))?;
        }
    }
    risk(out, view)?;
    let mut in_flight =
        family(out, "instance_in_flight", "Requests being answered.", MetricType::Gauge)?;
    for (seen, _) in both() {
        for i in &seen.instances {
            let labels = labels(seen.service.as_str(), &i.instance);
            encode(&mut in_flight, &labels, &ConstGauge::new(signed(i.meters.in_flight)))?;
        }
    }
    Ok(())
}

fn risk(out: &mut DescriptorEncoder, view: &View) -> fmt::Result {
    let mut score = family(
        out,
        "instance_risk",
        "Probability that an instance fails within the horizon.",
        MetricType::Gauge,
    )?;
    for plan in &view.plan.services {
        for r in &plan.risk {
            for (horizon_ms, value) in
                [(RiskAssessment::SOON_MS, r.soon_score), (r.horizon_ms, r.score)]
            {
                let mut labels = labels(plan.service.as_str(), &r.instance);
                labels.push(("horizon_ms", horizon_ms.to_string()));
                encode(&mut score, &labels, &ConstGauge::new(value))?;
            }
        }
    }
    Ok(())
}
