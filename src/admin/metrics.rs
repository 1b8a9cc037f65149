//! `/metrics`: the last view in the OpenMetrics text form that Prometheus reads.

use std::fmt;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use foreshadow_control::{
    Health, Meters, Mode, RiskAssessment, Role, RuleState, ServiceObservation, ServicePlan, Tier,
};
use foreshadow_proxy::ServiceTotals;
use hdrhistogram::Histogram;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::error::ApiError;
use crate::node::Shared;
use crate::node::history::Status;
use crate::node::view::{ShadowCounts, View};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Upper bounds of latency buckets: from a fast cache to a slow report.
const BUCKETS_S: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

pub(super) async fn render(State(shared): State<Arc<Shared>>) -> Response {
    let mut registry = Registry::with_prefix("foreshadow");
    registry.register_collector(Box::new(Scrape(shared)));
    let mut body = String::with_capacity(16 * 1024);
    match text::encode(&mut body, &registry) {
        Ok(()) => ([(CONTENT_TYPE, OPENMETRICS)], body).into_response(),
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
        self.node(&mut out)?;
        let Some(view) = self.0.view() else { return Ok(()) };
        let totals = self.0.totals();
        requests(&mut out, &totals)?;
        services(&mut out, &view)?;
        instances(&mut out, &totals)?;
        instance_gauges(&mut out, &view)
    }
}

impl Scrape {
    fn node(&self, out: &mut DescriptorEncoder) -> fmt::Result {
        let ticks = self.0.ticks.read();
        let reload = self.0.reload.load();
        counter(out, "ticks", "Ticks of the control loop.", ticks.ticks)?;
        counter(out, "ticks_skipped", "Ticks left out because one ran late.", ticks.skipped)?;
        gauge(out, "tick_last_seconds", "Time the last tick took.", seconds(ticks.last_us))?;
        gauge(out, "tick_max_seconds", "Time the longest tick took.", seconds(ticks.max_us))?;
        gauge(out, "uptime_seconds", "Time since start.", self.0.clock.uptime().as_secs_f64())?;
        let kill = f64::from(u8::from(self.0.orders.load().kill_switch));
        gauge(out, "kill_switch", "1 while all automation is stopped.", kill)?;
        let dropped = self.0.decisions.dropped();
        counter(out, "decisions_dropped", "Decision records lost to a slow disk.", dropped)?;
        history(out, &self.0.history.status())?;
        let recording = f64::from(u8::from(self.0.recording.status().good()));
        gauge(out, "recording", "1 while ticks are recorded and written.", recording)?;
        let mut reloads = family(out, "reloads", "Configuration reloads.", MetricType::Counter)?;
        for (result, count) in [("applied", reload.applied), ("refused", reload.refused)] {
            encode(&mut reloads, &[("result", result)], &ConstCounter::new(count))?;
        }
        let good = f64::from(u8::from(!reload.last_refused()));
        gauge(out, "config_good", "0 while the file on disk is not the one in force.", good)?;
        let listeners = self.0.listeners();
        let mut active =
            family(out, "listener_connections", "Open client connections.", MetricType::Gauge)?;
        for listener in &listeners {
            let labels = [("listener", listener.listener.as_str())];
            encode(&mut active, &labels, &ConstGauge::new(signed(listener.active)))?;
        }
        let mut accepted =
            family(out, "listener_accepted", "Client connections accepted.", MetricType::Counter)?;
        for listener in &listeners {
            let labels = [("listener", listener.listener.as_str())];
            encode(&mut accepted, &labels, &ConstCounter::new(listener.accepted))?;
        }
        Ok(())
    }
}

fn history(out: &mut DescriptorEncoder, history: &Status) -> fmt::Result {
    let counts: [Count<Status>; 4] = [
        ("history_rows", "Rows of history written.", |h| h.rows_written),
        ("history_rows_lost", "Rows of history given up, the disk took none.", |h| h.rows_lost),
        ("history_ticks_dropped", "Ticks that history was too busy for.", |h| h.ticks_dropped),
        ("history_failures", "Failures to write history.", |h| h.failures),
    ];
    for (name, help, value) in counts {
        counter(out, name, help, value(history))?;
    }
    let good = f64::from(u8::from(history.enabled && history.trouble.is_none()));
    gauge(out, "history_good", "1 while history is kept and written.", good)
}

/// Name, help and value of a counter.
type Count<T> = (&'static str, &'static str, fn(&T) -> u64);

type ServiceValue = (&'static str, &'static str, fn(&ServicePlan) -> f64);

fn requests(out: &mut DescriptorEncoder, totals: &[ServiceTotals]) -> fmt::Result {
    let counts: [Count<ServiceTotals>; 3] = [
        ("requests", "Requests that arrived for a service.", |t| t.arrivals),
        ("unserved", "Requests no instance could take.", |t| t.unserved),
        ("panicked", "Requests sent to an unhealthy instance as a last resort.", |t| t.panicked),
    ];
    for (name, help, value) in counts {
        let mut metric = family(out, name, help, MetricType::Counter)?;
        for total in totals {
            let labels = [("service", total.service.as_str())];
            encode(&mut metric, &labels, &ConstCounter::new(value(total)))?;
        }
    }
    let mut latency = out.encode_descriptor(
        "latency",
        "Time from sending a request to the last byte of its answer.",
        Some(&Unit::Seconds),
        MetricType::Histogram,
    )?;
    for total in totals {
        let labels = [("service", total.service.as_str())];
        histogram(latency.encode_family(&labels)?, &total.latency_us)?;
    }
    Ok(())
}

fn services(out: &mut DescriptorEncoder, view: &View) -> fmt::Result {
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
    for (name, help, value) in counts {
        let mut metric = family(out, name, help, MetricType::Counter)?;
        for (service, total) in &view.shadow_counts {
            let labels = [("service", service.as_str())];
            encode(&mut metric, &labels, &ConstCounter::new(value(total)))?;
        }
    }
    Ok(())
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

fn instances(out: &mut DescriptorEncoder, totals: &[ServiceTotals]) -> fmt::Result {
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
            encode(&mut metric, labels, &ConstCounter::new(value(total)))
        })?;
    }
    let mut responses =
        family(out, "instance_responses", "Answers by status class.", MetricType::Counter)?;
    each_total(totals, |labels, total| {
        let classes =
            [("ok", total.ok), ("4xx", total.client_errors), ("5xx", total.server_errors)];
        classes.into_iter().try_for_each(|(class, count)| {
            let mut labels = labels.clone();
            labels.push(("class", class.to_owned()));
            encode(&mut responses, &labels, &ConstCounter::new(count))
        })
    })
}

fn instance_gauges(out: &mut DescriptorEncoder, view: &View) -> fmt::Result {
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

type Labels = Vec<(&'static str, String)>;

fn labels(service: &str, instance: &impl ToString) -> Labels {
    vec![("service", service.to_owned()), ("instance", instance.to_string())]
}

fn each_total(
    totals: &[ServiceTotals],
    mut each: impl FnMut(&Labels, &Meters) -> fmt::Result,
) -> fmt::Result {
    for total in totals {
        for instance in &total.instances {
            each(&labels(total.service.as_str(), &instance.instance), &instance.meters)?;
        }
    }
    Ok(())
}

fn shadows_at(seen: &ServiceObservation, tier: Tier) -> u64 {
    let shadows = seen.instances.iter().filter(|i| i.role == Role::Shadow);
    shadows.filter(|i| i.tier == tier).count() as u64
}

fn family<'s>(
    out: &'s mut DescriptorEncoder<'_>,
    name: &'s str,
    help: &str,
    kind: MetricType,
) -> Result<MetricEncoder<'s>, fmt::Error> {
    out.encode_descriptor(name, help, None, kind)
}

fn encode<L: prometheus_client::encoding::EncodeLabelSet>(
    family: &mut MetricEncoder<'_>,
    labels: &L,
    value: &impl EncodeMetric,
) -> fmt::Result {
    value.encode(family.encode_family(labels)?)
}

fn counter(out: &mut DescriptorEncoder, name: &str, help: &str, value: u64) -> fmt::Result {
    ConstCounter::new(value).encode(family(out, name, help, MetricType::Counter)?)
}

fn gauge(out: &mut DescriptorEncoder, name: &str, help: &str, value: f64) -> fmt::Result {
    ConstGauge::new(value).encode(family(out, name, help, MetricType::Gauge)?)
}

#[expect(clippy::cast_precision_loss, reason = "latency sums stay far below 2^53 us")]
fn histogram(mut out: MetricEncoder<'_>, latency_us: &Histogram<u64>) -> fmt::Result {
    let mut counts = [0_u64; BUCKETS_S.len() + 1];
    let mut sum_us = 0.0;
    for step in latency_us.iter_recorded() {
        let value_us = step.value_iterated_to() as f64;
        let bucket = BUCKETS_S.partition_point(|bound_s| bound_s * 1e6 < value_us);
        counts[bucket] += step.count_since_last_iteration();
        sum_us += value_us * step.count_at_value() as f64;
    }
    let bounds = BUCKETS_S.into_iter().chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
    out.encode_histogram::<NoLabelSet>(sum_us / 1e6, latency_us.len(), &buckets, None)
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn small(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn seconds(us: u64) -> f64 {
    std::time::Duration::from_micros(us).as_secs_f64()
}
