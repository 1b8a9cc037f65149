//! `foreshadow backtest`: what the controller and its rivals would have made of recorded demand.

mod args;
mod charts;
mod html;
mod input;
mod progress;
pub(crate) mod prometheus;
mod report;
mod runs;
mod sensible;
mod state_db;
mod table;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;

pub(crate) use args::Args;

/// Reads the history, runs every policy on it, and reports.
///
/// # Errors
/// When the history cannot be read, an argument does not fit it, or a report cannot be written.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    sensible::options(args)?;
    let history = input::read(args)?;
    sensible::history(args, &history)?;
    let plan = args.plan(&history)?;
    let report = runs::run(args, history, plan)?;
    if let Some(path) = &args.html {
        std::fs::write(path, html::page(&report))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut out = crate::out::stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        write!(out, "{}", crate::out::printable(&table::text(&report)))?;
        if let Some(path) = &args.html {
            writeln!(out, "\nThe same with charts: {}", path.display())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
