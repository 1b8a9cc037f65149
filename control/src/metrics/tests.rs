use super::*;
use crate::{Mode, ResourceSample, Role, Tier};
use proptest::prelude::*;

fn instance(id: u64, reported: &[(&str, f64)]) -> InstanceObservation {
    InstanceObservation {
        reported: reported.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
        ..InstanceObservation::idle(InstanceId(id), Role::Primary, Tier::Serving)
    }
}

fn seen(tick: u64, instances: Vec<InstanceObservation>, signals: &[(&str, f64)]) -> Observation {
    Observation {
        tick,
        at_ms: tick * 100,
        interval_ms: 100,
        kill_switch: false,
        services: vec![ServiceObservation {
            instances,
            signals: signals.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
            ..ServiceObservation::quiet(ServiceName::from("shop"), Mode::Act)
        }],
    }
}

fn views(forecasts: &MetricForecasts) -> MetricViews {
    forecasts.views(&ServiceName::from("shop"))
}

fn view(forecasts: &MetricForecasts, metric: &str, instance: Option<u64>) -> MetricView {
    let all = views(forecasts).metrics;
    let id = instance.map(InstanceId);
    all.into_iter().find(|view| view.metric == metric && view.instance == id).unwrap()
}

#[test]
fn every_metric_is_forecast_per_instance_and_for_the_service() {
    let mut forecasts = MetricForecasts::default();
    for tick in 0..6_000 {
        // Fills up by a share in 100,000 in every tick, so by 0.012 in two minutes.
        let filling = 0.02 + 1e-5 * tick as f64;
        let one = instance(1, &[("fill", filling), ("queue_depth", 4.0), ("heap_bytes", 3e9)]);
        let two = instance(2, &[("fill", filling), ("queue_depth", 8.0), ("heap_bytes", 1e9)]);
        forecasts.observe(&seen(tick, vec![one, two], &[("backlog", 0.0)]));
    }
    let near = |a: f64, b: f64| (a - b).abs() <= 5e-3 * b;
    let fill = view(&forecasts, "fill", Some(2));
    assert!(near(fill.current.unwrap(), 0.08), "{fill:?}");
    let horizons: Vec<u64> = fill.ahead.iter().map(|ahead| ahead.horizon_ms).collect();
    assert_eq!(horizons, [30_000, 120_000, 600_000]);
    let ahead = fill.ahead[1];
    assert!((0.086..0.098).contains(&ahead.median), "{fill:?}");
    assert!(ahead.lower <= ahead.median && ahead.median <= ahead.upper, "{fill:?}");
    assert!(near(view(&forecasts, "queue_depth", None).current.unwrap(), 12.0), "sums up");
    assert!(near(view(&forecasts, "heap_bytes", None).current.unwrap(), 4e9), "sums up");
    let share = view(&forecasts, "fill", None);
    assert!(near(share.current.unwrap(), 0.08), "a share is a mean: {share:?}");
    let heap = view(&forecasts, "heap_bytes", Some(1));
    assert!((heap.ahead[0].median / 3e9 - 1.0).abs() < 0.01, "{heap:?}");
    let backlog = view(&forecasts, "backlog", None);
    assert_eq!(backlog.current, Some(0.0));
    assert!(backlog.ahead.iter().all(|ahead| ahead.upper < 1e-3), "{backlog:?}");
}

#[test]
fn what_is_told_of_the_service_outweighs_what_instances_say() {
    let mut forecasts = MetricForecasts::default();
    for tick in 0..30 {
        let one = instance(1, &[("queue_depth", 4.0)]);
        forecasts.observe(&seen(tick, vec![one], &[("queue_depth", 700.0)]));
    }
    assert_eq!(view(&forecasts, "queue_depth", None).current, Some(700.0));
    assert_eq!(view(&forecasts, "queue_depth", Some(1)).current, Some(4.0));
}

#[test]
fn what_a_provider_sees_counts_where_the_instance_says_nothing() {
    let mut forecasts = MetricForecasts::default();
    let mut one = instance(1, &[("cpu", 0.9)]);
    one.resources = Some(ResourceSample {
        cpu_cores: Some(0.1),
        cpu_limit_cores: Some(1.0),
        memory_bytes: Some(5_000_000),
        ..ResourceSample::default()
    });
    for tick in 0..30 {
        forecasts.observe(&seen(tick, vec![one.clone()], &[]));
    }
    assert_eq!(view(&forecasts, "cpu", Some(1)).current, Some(0.9));
    assert_eq!(view(&forecasts, "memory_bytes", Some(1)).current, Some(5e6));
}

#[test]
fn a_metric_that_stops_is_absent_and_later_forgotten() {
    let mut forecasts = MetricForecasts::default();
    let mut tick = 0;
    let mut run = |forecasts: &mut MetricForecasts, ticks: u64, reported: &[(&str, f64)]| {
        for _ in 0..ticks {
            forecasts.observe(&seen(tick, vec![instance(1, reported)], &[]));
            tick += 1;
        }
    };
    run(&mut forecasts, 200, &[("cpu", 0.5)]);
    assert!(view(&forecasts, "cpu", None).current.is_some());
    run(&mut forecasts, 30, &[]);
    assert_eq!(view(&forecasts, "cpu", None).current, None);
    run(&mut forecasts, 6_000, &[]);
    assert_eq!(views(&forecasts), MetricViews::default());
    assert!(forecasts.services.is_empty(), "nothing is kept of it");
}

#[test]
fn a_metric_whose_magnitude_changes_is_followed() {
    let mut forecasts = MetricForecasts::default();
    for tick in 0..400 {
        let value = if tick < 200 { 1e-9 } else { 1e14 };
        forecasts.observe(&seen(tick, vec![instance(1, &[("odd", value)])], &[]));
    }
    let odd = view(&forecasts, "odd", Some(1));
    assert_eq!(odd.current, Some(1e14));
    assert!((odd.ahead[0].median / 1e14 - 1.0).abs() < 0.01, "{odd:?}");
}

#[test]
fn series_are_bounded_in_number_and_size() {
    let mut forecasts = MetricForecasts::default();
    let names: Vec<String> = (0..MAX_METRICS).map(|n| format!("name{n:02}")).collect();
    let reported: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), 1.0)).collect();
    let instances: Vec<_> = (0..20).map(|id| instance(id, &reported)).collect();
    forecasts.observe(&seen(0, instances, &[]));
    let all = views(&forecasts);
    assert_eq!(all.metrics.len(), MAX_METRIC_SERIES);
    assert_eq!(all.left_out, 21 * MAX_METRICS - MAX_METRIC_SERIES);
    assert_eq!(all.metrics.iter().filter(|v| v.instance.is_none()).count(), SERVICE_SERIES);
    let known = forecasts.services.values().flat_map(|known| known.series.values());
    let together: usize = known.flat_map(|all| all.values()).map(Series::memory_bytes).sum();
    assert!(together <= 1_550 << 10, "{together}");
}

proptest! {
    #[test]
    fn hostile_values_come_to_nothing(
        values in proptest::collection::vec((".{0,70}", prop_oneof![
            any::<f64>(), Just(f64::NAN), Just(f64::INFINITY), Just(1e308), 0.0..1e16,
        ]), 0..40),
        intervals in proptest::collection::vec(prop_oneof![0..1_000_u64, Just(u64::MAX)], 1..40),
    ) {
        let mut forecasts = MetricForecasts::default();
        let reported: Vec<(&str, f64)> = values.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        for (tick, interval_ms) in (0..).zip(intervals) {
            let one = instance(1, &reported);
            let observation =
                Observation { interval_ms, ..seen(tick, vec![one], &reported) };
            forecasts.observe(&observation);
            for view in views(&forecasts).metrics {
                prop_assert!(is_metric_name(&view.metric));
                prop_assert!(view.current.is_none_or(is_metric_value), "{:?}", view);
                for ahead in view.ahead {
                    let all = [ahead.lower, ahead.median, ahead.upper];
                    prop_assert!(all.iter().all(|v| v.is_finite() && *v >= 0.0), "{all:?}");
                }
            }
        }
    }
}
