//! `foreshadow explain`: what was decided and why, and whether a recording replays.

mod difference;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use foreshadow_control::{Entry, Law, ReplayReport, replay};
use serde::Serialize;
use serde_json::Value;

use difference::{Differences, Gap, Gaps};

use crate::cli::StateDir;
use crate::node::STATE_DB;
use crate::node::activations::{self, Activation, Outcome};
use crate::node::decisions::{self, Kind, Query};

/// A checkpoint of hundreds of services is shorter.
const LONGEST_LINE: u64 = 512 << 20;
/// The last time that has a date of four-digit year; a damaged record may hold a later one.
const YEAR_9999_MS: u64 = 253_402_300_800_000;

/// Arguments of `foreshadow explain`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    state: StateDir,
    /// Only decisions about this service.
    #[arg(long)]
    service: Option<String>,
    /// Only decisions of this kind.
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Only decisions this law took part in, such as commit, failover or rollback.
    #[arg(long, value_name = "LAW", value_parser = laws())]
    law: Option<Law>,
    /// How many of the newest decisions.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    last: u32,
    /// Print activations instead: shadows that were taken from the pool to serve, with the time of each step
    /// and what became of it.
    #[arg(long, conflicts_with_all = ["kind", "law"])]
    activations: bool,
    /// Print whole records as JSON lines: what was seen, forecast and decided.
    #[arg(long)]
    json: bool,
    /// Run a recording again and compare every plan with the recorded one.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["state_dir", "config", "service", "kind", "law", "activations"])]
    replay: Option<PathBuf>,
}

/// Explains, or replays.
///
/// # Errors
/// When the database or recording cannot be read.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.replay {
        Some(path) => replay_file(path, args.json),
        None if args.activations => tell_activations(args),
        None => explain(args),
    }
}

fn explain(args: &Args) -> anyhow::Result<ExitCode> {
    let query = Query {
        service: args.service.clone(),
        kind: args.kind,
        law: args.law,
        limit: Some(args.last),
        ..Query::default()
    };
    let db = state_dir(&args.state)?.join(STATE_DB);
    let mut page = decisions::read_file(&db, &query)?;
    page.reverse();
    let mut out = crate::out::stdout();
    if page.is_empty() {
        writeln!(out, "no decisions match in {}", db.display())?;
    }
    for decision in &page {
        if args.json {
            writeln!(out, "{}", serde_json::to_string(decision)?)?;
        } else {
            write_decision(&mut out, &decision.record)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn tell_activations(args: &Args) -> anyhow::Result<ExitCode> {
    let db = state_dir(&args.state)?.join(STATE_DB);
    let mut page = activations::read_file(&db, args.service.as_deref(), args.last)?;
    page.reverse();
    let mut out = crate::out::stdout();
    if page.is_empty() {
        writeln!(out, "no activations match in {}", db.display())?;
    }
    for one in &page {
        if args.json {
            writeln!(out, "{}", serde_json::to_string(one)?)?;
        } else {
            write!(out, "{}", told(one))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// An activation as a few lines.
fn told(one: &Activation) -> String {
    let Activation { service, instance, place, from, steps, demand, .. } = one;
    let step = |name: &str, ms: Option<u64>| match ms {
        Some(ms) => format!("{name} {ms} ms"),
        None => format!("{name} -"),
    };
    let steps = [
        step("configured", steps.configured_ms),
        step("verified", steps.verified_ms),
        step("redirected", steps.redirected_ms),
        step("pool refilled", steps.refilled_ms),
    ];
    let outcome = match &one.outcome {
        Outcome::UnderWay => "under way".to_owned(),
        Outcome::Serves => "serves".to_owned(),
        Outcome::RolledBack { after_s, needed } => {
            let needed = match needed {
                Some(true) => "it had been needed",
                Some(false) => "it had not been needed",
                None => "whether it had been needed is not known",
            };
            format!("rolled back after {after_s} s: {needed}")
        }
        Outcome::Failed { step, error } => format!("failed, not {step}: {error}"),
        Outcome::NotSeen => "the node ended, or the service went, before it did".to_owned(),
    };
    let after = demand.after_rps.map_or_else(String::new, |rps| format!(", {rps:.0} after"));
    format!(
        "{} {service} {instance} from {from} in {place}\n    {}\n    {}\n    demand {:.0} rps before, \
         {:.0} at most{after}\n    {outcome}\n",
        utc(one.at_ms),
        one.why,
        steps.join(", "),
        demand.before_rps,
        demand.highest_rps,
    )
}

fn state_dir(state: &StateDir) -> anyhow::Result<PathBuf> {
    match (&state.state_dir, &state.config) {
        (Some(dir), _) => Ok(dir.clone()),
        (None, Some(file)) => {
            let config = foreshadow_config::load(file)
                .map_err(|errors| anyhow::anyhow!("{} is not good:\n{errors}", file.display()))?;
            Ok(config.state_dir)
        }
        (None, None) => Ok(PathBuf::from(foreshadow_config::DEFAULT_STATE_DIR)),
    }
}

/// Reads a law by the name it has in the records; names one like it when there is none.
fn laws() -> impl clap::builder::TypedValueParser<Value = Law> {
    PossibleValuesParser::new(Law::ALL.map(Law::as_str)).try_map(|name| {
        let named = Law::ALL.into_iter().find(|law| law.as_str() == name);
        named.with_context(|| format!("there is no law {name:?}"))
    })
}

/// A decision as a few lines: when, which service, and one sentence for each thing that changed.
fn write_decision(out: &mut impl Write, record: &Value) -> anyhow::Result<()> {
    let at_ms = record["at_ms"].as_u64().unwrap_or(0);
    let service = record["service"].as_str().filter(|s| !s.is_empty()).unwrap_or("(node)");
    let tick = &record["tick"];
    writeln!(out, "{} {service} (tick {tick})", utc(at_ms))?;
    for line in record["summary"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        writeln!(out, "    {line}")?;
    }
    Ok(())
}

pub(crate) fn utc(unix_ms: u64) -> String {
    let time = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_millis(unix_ms));
    time.filter(|_| unix_ms < YEAR_9999_MS).map_or_else(
        || format!("{unix_ms} ms"),
        |t| humantime::format_rfc3339_millis(t).to_string(),
    )
}

/// What a replay found, and where to look for the cause.
#[derive(Serialize)]
struct Found<'a> {
    #[serde(flatten)]
    report: &'a ReplayReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    gap: Option<Gap>,
    #[serde(skip_serializing_if = "Option::is_none")]
    differences: Option<Differences>,
}

fn replay_file(path: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut failure = None;
    let mut text = String::new();
    let mut gaps = Gaps::default();
    let entries = entries(BufReader::new(file), &mut failure);
    let report = replay(entries.inspect(|entry| gaps.see(entry)));
    if let Some(error) = failure {
        return Err(error).with_context(|| format!("{} cannot be replayed", path.display()));
    }
    let differences = report.divergence.as_deref().map(Differences::of).transpose()?;
    let found = Found { report: &report, gap: gaps.first, differences };
    if json {
        text = serde_json::to_string_pretty(&found)?;
    } else {
        found.describe(&mut text)?;
    }
    writeln!(crate::out::stdout(), "{text}")?;
    let same = report.divergence.is_none() && report.ticks > 0;
    Ok(if same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The entries of a recording; stops at the first bad line and leaves the error in `failure`.
///
/// A last line without its line end was being written when the node ended, and is left out.
pub(crate) fn entries<'a>(
    mut lines: impl BufRead + 'a,
    failure: &'a mut Option<anyhow::Error>,
) -> impl Iterator<Item = Entry> + 'a {
    let mut number = 0_u64;
    let mut line = Vec::new();
    std::iter::from_fn(move || {
        line.clear();
        number += 1;
        match lines.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(read) if read as u64 == LONGEST_LINE => {
                *failure = Some(anyhow::anyhow!(
                    "line {number} is longer than {LONGEST_LINE} bytes: this is no recording"
                ));
                None
            }
            Ok(_) if line.last() != Some(&b'\n') => None,
            Ok(_) => serde_json::from_slice(&line)
                .map_err(|error| *failure = Some(anyhow::anyhow!("line {number}: {error}")))
                .ok(),
            Err(error) => {
                *failure = Some(anyhow::Error::new(error).context(format!("line {number}")));
                None
            }
        }
    })
}

impl Found<'_> {
    fn describe(&self, text: &mut String) -> std::fmt::Result {
        use std::fmt::Write as _;
        let ticks = self.report.ticks;
        match (&self.report.divergence, &self.differences) {
            (Some(divergence), Some(differences)) => {
                let (tick, entry) = (divergence.replayed.tick, divergence.entry);
                write!(
                    text,
                    "{ticks} ticks replayed; tick {tick} differs (entry {entry}, from 0)"
                )?;
                if let Some(gap) = self.gap {
                    write!(
                        text,
                        "\n  the recording has a gap: {gap}, so what follows it was decided"
                    )?;
                    write!(
                        text,
                        "\n  on more than there is to replay; the difference says no more"
                    )?;
                }
                differences.describe(text)?;
            }
            _ if ticks == 0 => {
                write!(text, "no tick could be replayed: the file holds no checkpoint before one")?;
            }
            _ => {
                write!(text, "{ticks} ticks replayed; every plan is the recorded one")?;
                if let Some(gap) = self.gap {
                    write!(text, "\nall the same the recording has a gap: {gap}")?;
                }
            }
        }
        match self.report.unreplayable {
            0 => Ok(()),
            left => write!(text, "\n{left} ticks before the first checkpoint were left out"),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn times_are_written_as_utc() {
        assert_eq!(utc(1_795_303_805_042), "2026-11-21T23:30:05.042Z");
        assert_eq!(utc(u64::MAX), "18446744073709551615 ms");
    }

    #[test]
    fn a_law_is_named_as_in_the_records_and_a_slip_is_told() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        let parse = |law| Line::try_parse_from(["explain", "--law", law]).map(|line| line.args.law);
        assert_eq!(parse("reactive_floor").unwrap(), Some(Law::ReactiveFloor));
        let error = parse("failovr").unwrap_err().to_string();
        assert!(error.contains("similar") && error.contains("failover"), "{error}");
        assert!(parse("gravity").unwrap_err().to_string().contains("reactive_floor"));
    }

    #[test]
    fn a_cut_last_line_is_left_out_and_a_bad_one_is_named() {
        let mut failure = None;
        assert_eq!(entries(&b"{\"entry\":"[..], &mut failure).count(), 0);
        assert!(failure.is_none());
        assert_eq!(
            entries(&b"{\"entry\":\"configure\",\"specs\":[]}\nnonsense\n"[..], &mut failure)
                .count(),
            1
        );
        assert!(failure.unwrap().to_string().starts_with("line 2:"));
    }
}
