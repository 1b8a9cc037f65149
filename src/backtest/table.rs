//! The report as tables on a terminal.

use std::fmt::Write as _;

use super::report::{Report, Row, WorldReport, duration_text, short};

/// The whole report.
pub(super) fn text(report: &Report) -> String {
    let mut text = String::new();
    for line in about(report) {
        text.push_str(&line);
        text.push('\n');
    }
    for world in &report.worlds {
        text.push('\n');
        for line in world_about(world) {
            text.push_str(&line);
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&laid_out(&outcomes(world)));
        if let Some(forecasts) = forecasts(world) {
            text.push('\n');
            text.push_str(&forecasts);
        }
    }
    text.push_str(LEGEND);
    text
}

const LEGEND: &str = "
* beaten on violations and instance-hours by none but the oracle. Violation: time in which more
requests than allowed were beyond what serving instances carry. False: activations that demand did
not ask for. Lead: from being ready to being needed, 10th, 50th and 90th percentile; late is
negative. hours/oracle: instance-hours, paused ones included, relative to knowing all demand.
";

/// How the history was read, in a few lines.
pub(super) fn about(report: &Report) -> Vec<String> {
    let told = &report.history;
    let mut lines = vec![format!("{}: {}", told.source, told.read.reading)];
    let demand = &report.demand;
    lines.push(format!(
        "{} in steps of {}, from {}; mean {} rps, highest {} rps",
        duration_text(demand.span_s),
        duration_text(told.repairs.step_ms as f64 / 1e3),
        crate::explain::utc(demand.start_ms),
        short(demand.mean_rps),
        short(demand.peak_rps)
    ));
    let repairs = &told.repairs;
    let mended: Vec<String> = [
        (told.read.skipped, "unreadable lines left out"),
        (repairs.unusable, "values that are no rates left out"),
        (repairs.out_of_order, "out of order, sorted"),
        (repairs.duplicates, "repeated, the last taken"),
        (repairs.missing_steps, "steps missing"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{count} {what}"))
    .collect();
    if !mended.is_empty() {
        let first = told.read.first_skipped.as_ref();
        let first = first.map_or_else(String::new, |first| format!(" (first: {first})"));
        lines.push(format!("mended: {}{first}", mended.join(", ")));
    }
    if let Some(first_ms) = repairs.first_unusable_ms {
        lines.push(format!(
            "the first value that is no rate is that of {}",
            crate::explain::utc(first_ms)
        ));
    }
    if repairs.missing_steps > 0 {
        lines.push(format!(
            "gaps: {}, the longest {} steps; bridged by straight lines, longer than 2 steps not counted",
            repairs.gaps, repairs.longest_gap_steps
        ));
    }
    lines
}

/// The world, in a few lines.
pub(super) fn world_about(world: &WorldReport) -> Vec<String> {
    let setup = &world.setup;
    let s = |ms: u64| duration_text(ms as f64 / 1e3);
    vec![
        format!(
            "Start-up {}: + {} to wake + {} to serve, warm-up {}; an instance carries {} rps, a request \
             may wait {}, {}% may be late; {} to {} instances",
            s(setup.start_up.create_ms),
            s(setup.start_up.wake_ms),
            s(setup.start_up.serve_ms),
            s(setup.warm_up_ms),
            short(setup.capacity_rps),
            s(setup.wait_ms),
            short(setup.allowed_share * 100.0),
            setup.primaries,
            setup.max_instances
        ),
        format!(
            "{} ticks of {}; the first {} are for learning and do not count",
            world.ticks,
            s(world.tick_ms),
            s(setup.learn_ms)
        ),
    ]
}

/// Headings and rows of the table of policies.
pub(super) fn outcomes(world: &WorldReport) -> Vec<Vec<String>> {
    let headings = [
        "",
        "policy",
        "violation",
        "requests late",
        "instance-hours",
        "hours/oracle",
        "cost",
        "most",
        "activations",
        "false",
        "late",
        "lead s",
    ];
    let mut rows: Vec<&Row> = world.rows.iter().collect();
    rows.sort_by(|a, b| a.outcome.instance_hours.total_cmp(&b.outcome.instance_hours));
    let line = |row: &&Row| {
        let o = &row.outcome;
        let lead = o.activations.lead_s.map_or_else(String::new, |lead| {
            format!("{} / {} / {}", short(lead.p10), short(lead.p50), short(lead.p90))
        });
        vec![
            if row.on_frontier { "*".to_owned() } else { String::new() },
            o.policy.clone(),
            format!("{} s", short(o.violation_s)),
            format!("{:.4}%", o.violated_share * 100.0),
            short(o.instance_hours),
            world.to_oracle(row).map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            short(o.cost),
            o.most_instances.to_string(),
            o.activations.total.to_string(),
            o.activations.false_ones.to_string(),
            o.activations.late.to_string(),
            lead,
        ]
    };
    let headings = headings.iter().map(ToString::to_string).collect();
    std::iter::once(headings).chain(rows.iter().map(line)).collect()
}

/// How good the forecasts of the first policy with any were.
fn forecasts(world: &WorldReport) -> Option<String> {
    let row = world.rows.iter().find(|row| !row.outcome.forecast.is_empty())?;
    let mut text = format!("Forecasts of {}:\n\n", row.outcome.policy);
    text.push_str(&laid_out(&scores(row)));
    Some(text)
}

/// Headings and rows of the table of forecasts.
pub(super) fn scores(row: &Row) -> Vec<Vec<String>> {
    let headings = [
        "horizon",
        "forecasts",
        "error",
        "/ same as now",
        "in interval",
        "below lower",
        "below upper",
        "width",
    ];
    let percent = |share: f64| format!("{:.1}%", share * 100.0);
    let line = |h: &foreshadow_backtest::HorizonOutcome| {
        vec![
            duration_text(h.horizon_ms as f64 / 1e3),
            h.scored.to_string(),
            format!("{} rps", short(h.mae_rps)),
            format!("{:.2}", h.mae_rps / h.naive_mae_rps.max(1e-12)),
            percent(h.covered),
            percent(h.below_lower),
            percent(h.below_upper),
            format!("{} rps", short(h.width_rps)),
        ]
    };
    let headings = headings.iter().map(ToString::to_string).collect();
    std::iter::once(headings).chain(row.outcome.forecast.iter().map(line)).collect()
}

/// Columns side by side; all but names to the right.
fn laid_out(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            let width = widths[at];
            let left = at == 0 || (at == 1 && columns > 8);
            // Writing to a string cannot fail.
            if left { write!(line, "{cell:width$}  ") } else { write!(line, "{cell:>width$}  ") }
                .ok();
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
