//! The load generator as a command.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::arrivals::Spread;
use super::profile::Profile;
use super::report::{Latency, LoadReport, SecondStats};
use super::spec::LoadSpec;
use crate::units;

/// Command line of the load generator.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Where to send the requests.
    #[arg(long, default_value = "http://127.0.0.1:8080/", value_name = "URL")]
    pub target: String,
    /// Load over time, such as hold:300rps:10s,ramp:300rps..1200rps:20s,spike:1500rps:2s,pause:1s.
    #[arg(long, value_name = "STEPS", required_unless_present = "trace", conflicts_with = "trace")]
    pub profile: Option<Profile>,
    /// File with one rate in requests per second per line, instead of --profile.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Time that each line of the trace lasts.
    #[arg(long, default_value = "1s", value_parser = units::duration, value_name = "TIME")]
    pub step: Duration,
    /// Factor on every rate of the trace.
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    pub scale: f64,
    /// Arrival process within the rate.
    #[arg(long, value_enum, default_value_t = Spread::Poisson)]
    pub spread: Spread,
    /// Request method.
    #[arg(long, default_value = "GET")]
    pub method: Method,
    /// Request header; may be given more than once.
    #[arg(long, value_name = "NAME: VALUE", value_parser = parse_header)]
    pub header: Vec<(HeaderName, HeaderValue)>,
    /// Request body.
    #[arg(long, default_value = "")]
    pub data: String,
    /// Longest time from the scheduled time to the end of the answer.
    #[arg(long, default_value = "5s", value_parser = units::duration, value_name = "TIME")]
    pub timeout: Duration,
    /// Connections at most; when all are busy, requests wait, and that waiting counts.
    #[arg(long, default_value_t = 512)]
    pub connections: usize,
    /// Latency objective; slower requests are counted.
    #[arg(long, default_value = "50ms", value_parser = units::duration, value_name = "TIME")]
    pub objective: Duration,
    /// Seed of the arrival times.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write the report as JSON to a file, or to standard output with `-`.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Do not print a line per second to standard error.
    #[arg(long)]
    pub quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  load --target http://127.0.0.1:8080/ --profile hold:300rps:10s
  load --profile hold:300rps:10s,ramp:300rps..1200rps:20s,spike:1500rps:2s --json run.json
  load --trace rps.txt --step 1s --scale 0.1 --json -";

impl Args {
    /// The run that the command line asks for; reads the trace file if there is one.
    ///
    /// # Errors
    /// When the trace cannot be read or is wrong.
    pub fn spec(&self) -> anyhow::Result<LoadSpec> {
        let profile = match (&self.profile, &self.trace) {
            (Some(profile), _) => profile.clone(),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read the trace {}", path.display()))?;
                Profile::from_trace(&text, self.step, self.scale)
                    .with_context(|| format!("cannot use {}", path.display()))?
            }
            (None, None) => anyhow::bail!("no load is asked for: give --profile or --trace"),
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &self.header {
            headers.append(name, value.clone());
        }
        Ok(LoadSpec {
            spread: self.spread,
            method: self.method.clone(),
            headers,
            body: self.data.clone().into(),
            timeout: self.timeout,
            connections: self.connections,
            objective: self.objective,
            seed: self.seed,
            ..LoadSpec::new(&self.target, profile)
        })
    }
}

/// Runs the load to its end or until Ctrl-C and prints the result. Must not be called from within
/// an asynchronous runtime.
///
/// # Errors
/// When the load cannot be started or its report cannot be written. Failed requests are a result,
/// not an error.
pub fn run(args: Args) -> anyhow::Result<()> {
    let spec = args.spec()?;
    let stdout = args.json.as_deref() == Some(Path::new("-"));
    // Opened before the load: a path that cannot be written must not cost a whole run.
    let file = match &args.json {
        Some(path) if !stdout => Some(
            std::fs::File::create(path)
                .with_context(|| format!("cannot write {}", path.display()))?,
        ),
        _ => None,
    };
    let handle = super::start(spec)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(watch(&handle, args.quiet))?;
    let report = handle.join()?;
    if let Some(file) = file {
        write_json(io::BufWriter::new(file), &report)?;
    }
    if stdout {
        write_json(io::stdout().lock(), &report)?;
        write_table(io::stderr().lock(), &report)?;
    } else {
        write_table(io::stdout().lock(), &report)?;
    }
    Ok(())
}

/// Prints a line per second until the load ends; Ctrl-C stops it.
async fn watch(handle: &super::LoadHandle, quiet: bool) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let mut printed = 0;
    while !handle.is_finished() {
        tokio::select! {
            _now = tick.tick() => {}
            pressed = tokio::signal::ctrl_c() => {
                pressed.context("cannot listen for Ctrl-C")?;
                handle.stop();
            }
        }
        if quiet {
            continue;
        }
        let seconds = handle.snapshot_from(printed);
        let newest = seconds.last().map_or(0, |second| second.second);
        // A second may stay open for as long as the timeout; its line cannot wait for that.
        for second in seconds.iter().take_while(|it| it.settled || newest - it.second > 2) {
            write_line(io::stderr().lock(), second)?;
            printed = second.second + 1;
        }
    }
    Ok(())
}

fn write_line(mut out: impl Write, second: &SecondStats) -> io::Result<()> {
    let SecondStats { second, offered, completed, failed, latency, .. } = second;
    let failed = failed.total();
    writeln!(
        out,
        "{second:>5} s {offered:>7} rps {completed:>7} ok {failed:>6} failed {:>6} open  \
         p50 {:>8.1}  p99 {:>8.1}  max {:>8.1} ms",
        offered - completed - failed,
        latency.p50_ms,
        latency.p99_ms,
        latency.max_ms,
    )
}

fn write_json(mut out: impl Write, report: &LoadReport) -> anyhow::Result<()> {
    serde_json::to_writer_pretty(&mut out, report).context("cannot write the report")?;
    writeln!(out)?;
    out.flush()?;
    Ok(())
}

fn write_table(mut out: impl Write, report: &LoadReport) -> io::Result<()> {
    let LoadReport { totals, latency, generator_lag, .. } = report;
    let seconds = (report.ended_unix_ms - report.started_unix_ms) as f64 / 1e3;
    let failed = totals.failed;
    writeln!(out, "target        {} {}", report.method, report.target)?;
    writeln!(
        out,
        "offered       {} in {seconds:.1} s, {:.1} rps asked",
        totals.offered, report.asked_rps
    )?;
    writeln!(out, "completed     {}", totals.completed)?;
    writeln!(
        out,
        "failed        {} (status {}, connect {}, reset {}, protocol {}, timeout {}, backlog {})",
        failed.total(),
        failed.status,
        failed.connect,
        failed.reset,
        failed.protocol,
        failed.timeout,
        failed.backlog
    )?;
    writeln!(out, "latency       {}", in_words(latency))?;
    writeln!(
        out,
        "beyond {} ms  {} requests, {} of {} seconds by their p99",
        report.objective_ms,
        totals.over_objective,
        report.seconds_beyond_objective(),
        report.seconds.len()
    )?;
    writeln!(out, "generator lag {}", in_words(generator_lag))?;
    writeln!(
        out,
        "connections   {} opened, {} requests moved off a closed one",
        totals.connections_opened, totals.reconnects
    )?;
    for (name, seen) in &totals.instances {
        writeln!(out, "answered by   {name}: {}", seen.answered)?;
    }
    Ok(())
}

fn in_words(latency: &Latency) -> String {
    format!(
        "p50 {:.2}  p90 {:.2}  p99 {:.2}  p99.9 {:.2}  max {:.2} ms",
        latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.p999_ms, latency.max_ms
    )
}

fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) =
        text.split_once(':').ok_or_else(|| format!("{text:?} has no colon: write NAME: VALUE"))?;
    let name = name.trim().parse().map_err(|error| format!("header name {name:?}: {error}"))?;
    let value = value.trim().parse().map_err(|error| format!("header value {value:?}: {error}"))?;
    Ok((name, value))
}
