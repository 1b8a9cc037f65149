//! What the backend says of itself: in answers, and to whom asks for metrics.

use http::HeaderValue;

use super::app::Stats;

/// How a load report (ORCA, `endpoint-load-metrics`) is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LoadReport {
    /// `TEXT cpu_utilization=0.5,...`
    Text,
    /// `JSON {"cpu_utilization":0.5,...}`
    Json,
}

impl LoadReport {
    /// The report of this moment: the share of slots in use as CPU, and the queue.
    pub(super) fn of(self, stats: &Stats) -> Option<HeaderValue> {
        let (used, waiting) = (stats.utilization, stats.queue_depth);
        let text = match self {
            Self::Text => {
                format!("TEXT cpu_utilization={used},named_metrics.queue_depth={waiting}")
            }
            Self::Json => format!(
                r#"JSON {{"cpu_utilization":{used},"named_metrics":{{"queue_depth":{waiting}}}}}"#
            ),
        };
        HeaderValue::from_str(&text).ok()
    }
}

/// The numbers of this moment in the text format of Prometheus.
pub(super) fn exposition(stats: &Stats) -> String {
    let answers = [("ok", stats.served), ("error", stats.errors), ("rejected", stats.rejected)];
    let answers =
        answers.map(|(result, n)| format!("testbed_answers_total{{result=\"{result}\"}} {n}\n"));
    let gauges = [
        ("queue_length", f64::from(stats.queue_depth)),
        ("in_service", f64::from(stats.in_service)),
        ("utilization_ratio", stats.utilization),
        ("connections", f64::from(stats.connections)),
    ];
    let gauges =
        gauges.map(|(name, n)| format!("# TYPE testbed_{name} gauge\ntestbed_{name} {n}\n"));
    format!(
        "# TYPE testbed_answers_total counter\n{}{}# TYPE testbed_busy_seconds_total counter\n\
         testbed_busy_seconds_total {}\n",
        answers.concat(),
        gauges.concat(),
        stats.busy_s
    )
}
