//! Metrics of instances: their names, and how often they are asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use foreshadow_control::{MAX_METRIC_NAME, MAX_METRICS, is_metric_name};

use super::range::{self, HOUR_MS, SECOND_MS};
use super::service::at_most;
use crate::raw::{Either, Map, RawMetrics, RawScrape, RawSeries, Selector, Time};
use crate::reader::{At, Field, Problem, Reader, quote};
use crate::{LoadReports, Metrics, Scrape, ScrapedSeries, units};

const HOUR: Duration = Duration::from_millis(HOUR_MS);

pub(super) fn metrics(raw: RawMetrics, r: &mut Reader<'_>) -> Metrics {
    let max_age = range::time(raw.max_age, SECOND_MS..=HOUR_MS, 30 * SECOND_MS, r);
    Metrics {
        max_age,
        load_reports: raw.load_reports.value().map_or(LoadReports::Take, |choice| choice.0),
        scrape: raw.scrape.value().map(|raw| scrape(raw, max_age, r)),
    }
}

fn scrape(raw: RawScrape, max_age: Duration, r: &mut Reader<'_>) -> Scrape {
    let interval = within_age(raw.interval, SECOND_MS / 2, 5 * SECOND_MS, max_age, r);
    let port = match raw.port {
        Field::Given(port) => Some(range::count(Field::Given(port), 1..=u16::MAX, 1, r)),
        Field::Absent | Field::Invalid => None,
    };
    Scrape {
        path: raw.path.value().map_or_else(|| "/metrics".to_owned(), |path| path.0),
        port,
        interval,
        timeout: match raw.timeout.given() {
            None => interval.min(Duration::from_secs(1)),
            Some(timeout) => at_most(timeout, interval, "the interval", r),
        },
        series: series(raw.series, r),
    }
}

fn series(
    field: Field<Map<Either<Selector, RawSeries>>>,
    r: &mut Reader<'_>,
) -> BTreeMap<String, ScrapedSeries> {
    let Some(At { value: written, place }) = field.given() else { return BTreeMap::new() };
    if written.0.is_empty() || written.0.len() > MAX_METRICS {
        let found = format!("{} series", written.0.len());
        r.report(&place, Problem::new(found, format!("1 to {MAX_METRICS}")));
    }
    let mut series = BTreeMap::new();
    for (name, source) in written.0 {
        check_name(&name, r);
        let scraped = match source.value() {
            Some(Either::Short(Selector(series))) => {
                ScrapedSeries { series, rate: false, scale: 1.0 }
            }
            Some(Either::Table(table)) => {
                let (rate, scale) = (table.rate.value().is_some_and(|rate| rate.0), table.scale);
                let Some(Selector(series)) = table.series.value() else { continue };
                ScrapedSeries { series, rate, scale: factor(scale, r) }
            }
            None => continue,
        };
        series.insert(name.value, scraped);
    }
    series
}

/// Whether a metric can have this name.
pub(super) fn check_name(name: &At<String>, r: &mut Reader<'_>) {
    if !is_metric_name(&name.value) {
        let expected = format!("1 to {MAX_METRIC_NAME} letters, digits, _, ., :, - or /");
        let problem = Problem::new(format!("the name {}", quote(&name.value)), expected);
        r.report(&name.place, problem);
    }
}

/// Time between two looks; what is looked at less often than `max_age` is not known in between.
pub(super) fn within_age(
    field: Field<Time>,
    least_ms: u64,
    usual_ms: u64,
    max_age: Duration,
    r: &mut Reader<'_>,
) -> Duration {
    match field {
        Field::Given(at) if at.value.0 > max_age && at.value.0 <= HOUR => {
            let [found, limit] = [at.value.0, max_age].map(units::duration::format);
            let problem = Problem::new(found, format!("at most metrics.max_age, {limit}"));
            r.report(
                &at.place,
                problem.help("raise metrics.max_age to twice the interval or more"),
            );
            max_age
        }
        Field::Absent => max_age.min(Duration::from_millis(usual_ms)),
        given => range::time(given, least_ms..=HOUR_MS, usual_ms, r),
    }
}

fn factor(field: Field<crate::raw::Factor>, r: &mut Reader<'_>) -> f64 {
    let Some(At { value, place }) = field.given() else { return 1.0 };
    if (1e-12..=1e12).contains(&value.0) {
        return value.0;
    }
    r.report(&place, Problem::new(value.0.to_string(), "a number from 1e-12 to 1e12"));
    1.0
}
