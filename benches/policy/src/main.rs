//! The controller beside reactive scaling and an oracle, on public traces and four start-up times.
//!
//! Prints a table on standard error, with what is missed, and everything as JSON on standard
//! output. Traces lie in `FORESHADOW_TRACES`, or `../shared/traces`; those that are not there are
//! left out, with a message. `QUICK=1` takes a quarter of the ticks.

mod bench;
mod judge;
mod traces;

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;

fn main() -> anyhow::Result<()> {
    let folder = std::env::var_os("FORESHADOW_TRACES")
        .map_or_else(|| PathBuf::from("../shared/traces"), PathBuf::from);
    let quick = std::env::var("QUICK").is_ok_and(|value| value != "0");
    let only = std::env::args().nth(1);
    let mut err = std::io::stderr();
    let mut cells = Vec::new();
    for source in &traces::SOURCES {
        if only.as_ref().is_some_and(|only| !source.name.contains(only.as_str())) {
            continue;
        }
        let Some(series) = source.read(&folder)? else {
            let folder = folder.display();
            writeln!(
                err,
                "{} is not in {folder} and is left out; FORESHADOW_TRACES names another folder",
                source.name
            )?;
            continue;
        };
        for start_up_s in bench::START_UPS_S {
            let cell = bench::run(source, &series, start_up_s, quick)
                .with_context(|| format!("{} with {start_up_s} s", source.name))?;
            writeln!(err, "{}", judge::line(&cell))?;
            cells.push(cell);
        }
    }
    let summary = judge::summary(&cells);
    writeln!(err, "\n{}", judge::text(&summary))?;
    let result = serde_json::json!({
        "bench": "policy",
        "how": bench::HOW,
        "summary": summary,
        "cells": cells,
    });
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &result)?;
    writeln!(out)?;
    Ok(())
}
