//! The controller beside reactive scaling and an oracle, on public traces and four start-up times.
//!
//! Prints a table on standard error, with what is missed, and everything as JSON on standard
//! output. Traces lie in the folder that `FORESHADOW_TRACES` names; those that are not there are
//! left out, with a message; curves with few requests are made here. `QUICK=1` takes a quarter of the ticks. A first argument keeps the traces
//! whose names it is part of, a second judges another setting, such as `brain:commit=0.5`.

mod bench;
mod judge;
mod traces;

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;

/// Names the folder of the traces; they are no part of the repository.
const TRACES_VARIABLE: &str = "FORESHADOW_TRACES";

fn main() -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let folder = std::env::var_os(TRACES_VARIABLE).map(PathBuf::from);
    let place = folder.as_ref().map_or_else(|| "no folder".to_owned(), |f| f.display().to_string());
    let quick = std::env::var("QUICK").is_ok_and(|value| value != "0");
    let only = std::env::args().nth(1);
    let judged = std::env::args().nth(2).unwrap_or_else(|| bench::JUDGED.to_owned());
    let mut err = std::io::stderr();
    let mut cells = Vec::new();
    for source in &traces::SOURCES {
        if only.as_ref().is_some_and(|only| !source.name.contains(only.as_str())) {
            continue;
        }
        let Some(series) = source.read(folder.as_deref())? else {
            writeln!(
                err,
                "{} is not in {place}, which {TRACES_VARIABLE} names, and is left out",
                source.name
            )?;
            continue;
        };
        for start_up_s in bench::START_UPS_S {
            let cell = bench::run(source, &series, start_up_s, &judged, quick)
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
    serde_json::to_writer_pretty(&mut out, &result)?;
    writeln!(out)?;
    Ok(())
}
