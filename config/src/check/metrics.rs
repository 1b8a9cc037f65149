//! Metrics of instances: their names, and how often they are asked for.

use std::collections::BTreeMap;

use foreshadow_control::{MAX_METRIC_NAME, MAX_METRICS, is_metric_name};

use super::range::{self, HOUR_MS, SECOND_MS};
use super::service::at_most;
use crate::raw::{Either, Map, RawMetrics, RawScrape, RawSeries, Selector};
use crate::reader::{At, Field, Problem, Reader, quote};
use crate::{LoadReports, Metrics, Scrape, ScrapedSeries};

pub(super) fn metrics(raw: RawMetrics, r: &mut Reader<'_>) -> Metrics {
    Metrics {
        max_age: range::time(raw.max_age, SECOND_MS..=HOUR_MS, 30 * SECOND_MS, r),
        load_reports: raw.load_reports.value().map_or(LoadReports::Take, |choice| choice.0),
        scrape: raw.scrape.value().map(|raw| scrape(raw, r)),
    }
}

fn scrape(raw: RawScrape, r: &mut Reader<'_>) -> Scrape {
    let interval = range::time(raw.interval, SECOND_MS / 2..=HOUR_MS, 5 * SECOND_MS, r);
    let port = match raw.port {
        Field::Given(port) => Some(range::count(Field::Given(port), 1..=u16::MAX, 1, r)),
        Field::Absent | Field::Invalid => None,
    };
    Scrape {
        path: raw.path.value().map_or_else(|| "/metrics".to_owned(), |path| path.0),
        port,
        interval,
        timeout: match raw.timeout.given() {
            None => interval.min(std::time::Duration::from_secs(1)),
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
        if !is_metric_name(&name.value) {
            let expected = format!("1 to {MAX_METRIC_NAME} letters, digits, _, ., :, - or /");
            let problem = Problem::new(format!("the name {}", quote(&name.value)), expected);
            r.report(&name.place, problem);
        }
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

fn factor(field: Field<crate::raw::Factor>, r: &mut Reader<'_>) -> f64 {
    let Some(At { value, place }) = field.given() else { return 1.0 };
    if (1e-12..=1e12).contains(&value.0) {
        return value.0;
    }
    r.report(&place, Problem::new(value.0.to_string(), "a number from 1e-12 to 1e12"));
    1.0
}
