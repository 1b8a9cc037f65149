//! Where metrics of instances come from, as written.

use super::leaf::leaf;
use super::read::table;
use super::{Choice, Count, Either, Factor, FilePath, Map, OneOf, Switch, Text, Time, UrlTarget};
use crate::{LoadReports, SeriesSelector};

table! {
    /// What instances say of themselves: for rules, forecasts and risk.
    RawMetrics {
        /// What was not renewed for this long is known no more, 1s to 1h. Default: 30s.
        max_age: Time,
        /// What becomes of load reports (ORCA, the header endpoint-load-metrics) in answers: take reads
        /// and removes them, forward reads and passes them on, ignore passes them on unread.
        /// Default: take.
        load_reports: OneOf<LoadReports>,
        /// Asks instances for their metrics. Default: nobody is asked.
        scrape: RawScrape,
    }
}

table! {
    /// Instances are asked for metrics in the text format of Prometheus.
    RawScrape {
        /// Path and query to ask for. Default: /metrics.
        path: UrlTarget,
        /// Port that metrics are served on. Default: the instance's own.
        port: Count,
        /// From one time to the next, 500ms to 1h and at most max_age. Default: 5s, or that.
        interval: Time,
        /// Longest wait for the whole answer, at most the interval. Default: 1s, or the interval.
        timeout: Time,
        /// Which series of the instance is which metric, by the name that rules know it by; at most 32.
        series: Map<Either<Selector, RawSeries>> = required,
    }
}

table! {
    /// A series of an instance, and what is made of it.
    RawSeries {
        /// Its name, perhaps with labels that it must have, such as queue_length{queue="mail"}. Where
        /// several series fit, they are summed.
        series: Selector = required,
        /// For counters: how much more it is per second. Default: off.
        rate: Switch,
        /// What values are multiplied by, so that shares are fractions, times milliseconds and sizes
        /// bytes. Default: 1.
        scale: Factor,
    }
}

leaf! {
    /// Which series of a Prometheus endpoint are meant.
    Selector(SeriesSelector), "the name of a series, such as queue_length or queue_length{queue=\"mail\"}",
    { "type": "string", "pattern": "^[a-zA-Z_:]|\\$\\{" },
    |scalar| scalar.text().and_then(|text| text.parse().ok()),
    |wrong| wrong
        .text()
        .is_some_and(|text| text.contains(['~', '!', '(']))
        .then_some("labels are compared by = only")
}

impl Choice for LoadReports {
    const NAME: &'static str = "LoadReports";
    const NAMES: &'static [(&'static str, Self)] =
        &[("take", Self::Take), ("forward", Self::Forward), ("ignore", Self::Ignore)];
}

table! {
    /// A figure of the service as a whole that somebody else has: a file, or a Prometheus server.
    RawSignal {
        /// A table with a time (Unix time, or such as 2026-11-23T09:00:00Z) and a value in each line,
        /// separated by a comma; a value counts until that of the next line. Read again when it changes.
        file: FilePath,
        /// A Prometheus server, such as http://127.0.0.1:9090; https is not spoken.
        prometheus: Text,
        /// What it is asked, in PromQL. Where that gives several series, they are summed.
        query: Text,
        /// How often it is looked at, 1s to 1h and at most metrics.max_age. Default: 15s, or that.
        interval: Time,
        /// Longest wait for the server, at most the interval. Default: 5s, or the interval.
        timeout: Time,
    }
}
