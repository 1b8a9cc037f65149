//! The streaming forecaster on every trace and horizon, as JSON on standard output.
//!
//! Arguments: parts of trace names to keep; none keeps all. `--table` prints a table instead.
#![expect(clippy::print_stdout, reason = "the figures are the purpose of this program")]

use foreshadow_bench_forecast::{Cell, Summary, TraceError, evaluate, load_or_make};
use serde_json::json;

fn main() -> Result<(), TraceError> {
    let (traces, which) = load_or_make()?;
    let (options, names): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let wanted = |name: &str| names.is_empty() || names.iter().any(|part| name.contains(part));
    let traces: Vec<_> = traces.into_iter().filter(|trace| wanted(&trace.name)).collect();
    let mut cells: Vec<Cell> = traces.iter().flat_map(evaluate).collect();
    cells.retain(|cell| cell.points > 0);
    let summary = Summary::new(&cells);
    if options.iter().any(|option| option == "--table") {
        print_table(&cells, &summary);
    } else {
        let figures =
            json!({ "bench": "short", "traces": which, "summary": summary, "cells": cells });
        println!("{figures:#}");
    }
    Ok(())
}

fn print_table(cells: &[Cell], summary: &Summary) {
    println!(
        "{:<42} {:>9} {:>6} {:>6} {:>6} {:>6} {:>6} best",
        "trace", "ahead", "/last", "/level", "/best", "cover", "width"
    );
    for cell in cells {
        let steps = cell.horizon_ms / cell.step_ms;
        println!(
            "{:<42} {:>9} {:>6.3} {:>6.3} {:>6.3} {:>6.3} {:>6.3} {}",
            cell.trace,
            steps,
            cell.relative_to_last,
            cell.relative_to_level,
            cell.over_best,
            cell.coverage,
            cell.relative_width,
            cell.best_expert,
        );
    }
    for target in &summary.targets {
        let met = if target.met { "met" } else { "MISSED" };
        println!(
            "{:<45} {:>6.3} {:>14} {met}, {:.0} % of cells",
            target.what,
            target.is,
            target.wanted,
            100.0 * target.share_of_cells
        );
    }
    let hours = summary.coverage_by_hour.iter().flatten().map(|hour| format!("{hour:.3}"));
    println!("by hour: {}", hours.collect::<Vec<_>>().join(" "));
    println!("over best {:.3}, {:.3} at most", summary.over_best.0, summary.over_best.1);
}
