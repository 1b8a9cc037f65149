//! What a backtest came to, as one value: printed as JSON, tables or a page.

use foreshadow_backtest::{Between, Outcome, Series, Setup};
use serde::Serialize;

use super::input::Told;

/// Everything a reader may want.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) history: Told,
    pub(super) demand: Demand,
    pub(super) between: Between,
    /// Of chance arrivals; none when they come evenly.
    pub(super) seed: Option<u64>,
    pub(super) worlds: Vec<WorldReport>,
}

/// Recorded demand in a few figures.
#[derive(Debug, Serialize)]
pub(super) struct Demand {
    pub(super) start_ms: u64,
    pub(super) span_s: f64,
    pub(super) mean_rps: f64,
    pub(super) peak_rps: f64,
}

/// All policies with one start-up time.
#[derive(Debug, Serialize)]
pub(super) struct WorldReport {
    pub(super) start_up_s: f64,
    pub(super) tick_ms: u64,
    pub(super) ticks: u64,
    pub(super) setup: Setup,
    pub(super) rows: Vec<Row>,
}

/// One policy.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// No other but the oracle has fewer violations for no more instance-hours, or the reverse.
    pub(super) on_frontier: bool,
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

pub(super) fn demand_of(series: &Series) -> Demand {
    let (count, sum, peak_rps) = series
        .rps
        .iter()
        .flatten()
        .fold((0_u64, 0.0, 0.0), |(n, sum, peak): (u64, f64, f64), rps| {
            (n + 1, sum + rps, peak.max(*rps))
        });
    Demand {
        start_ms: series.start_ms,
        span_s: series.span_ms() as f64 / 1_000.0,
        mean_rps: sum / count.max(1) as f64,
        peak_rps,
    }
}

impl WorldReport {
    /// The oracle's row, if it ran.
    pub(super) fn oracle(&self) -> Option<&Row> {
        self.rows.iter().find(|row| row.outcome.policy == "oracle")
    }

    /// Instance-hours in units of the oracle's.
    pub(super) fn to_oracle(&self, row: &Row) -> Option<f64> {
        let oracle = self.oracle()?.outcome.instance_hours;
        (oracle > 0.0).then(|| row.outcome.instance_hours / oracle)
    }
}

/// "90 s", "10 min", "1.5 h", "14 d".
pub(super) fn duration_text(s: f64) -> String {
    match s {
        0.0 => "0 s".to_owned(),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 120.0 => format!("{} s", plain(s)),
        s if s < 7_200.0 => format!("{} min", plain(s / 60.0)),
        s if s < 172_800.0 => format!("{} h", plain(s / 3_600.0)),
        s => format!("{} d", plain(s / 86_400.0)),
    }
}

/// A number with one decimal, if it has one.
pub(super) fn plain(x: f64) -> String {
    let text = format!("{x:.1}");
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

/// A number as short as it can be read: 12,345, 123, 12.3, 0.12.
pub(super) fn short(x: f64) -> String {
    match x.abs() {
        a if a >= 1_000.0 => grouped(x.round()),
        a if a >= 100.0 || a == 0.0 => format!("{x:.0}"),
        a if a >= 10.0 => format!("{x:.1}"),
        _ => format!("{x:.2}"),
    }
}

fn grouped(x: f64) -> String {
    let digits = format!("{:.0}", x.abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if x < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_short_as_they_can_be_read() {
        let texts = [1_234_567.8, -1_000.0, 123.4, 12.34, 0.123, 0.0].map(short);
        assert_eq!(texts, ["1,234,568", "-1,000", "123", "12.3", "0.12", "0"]);
        let texts = [0.25, 90.0, 600.0, 5_400.0, 1_209_600.0].map(duration_text);
        assert_eq!(texts, ["250 ms", "90 s", "10 min", "90 min", "14 d"]);
    }
}
