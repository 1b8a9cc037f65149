//! `cpu_utilization=0.7,named_metrics.queue=12`; older senders write a colon.

use super::Sink;

pub(super) fn read(report: &[u8], sink: &mut Sink<'_>) {
    let Ok(report) = std::str::from_utf8(report) else { return };
    for entry in report.split(',') {
        let Some((name, value)) = entry.split_once('=').or_else(|| entry.split_once(':')) else {
            continue;
        };
        let (Ok(value), name) = (value.trim().parse(), name.trim()) else { continue };
        let (map, name) = name.split_once('.').unwrap_or(("", name));
        sink.take(map, name, value);
    }
}
