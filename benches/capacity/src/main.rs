//! Learned capacity against the truth: real backends of known capacity, a real node, ordinary load.
//!
//! Every backend gets an open-loop Poisson load that follows a slow wave well below saturation.
//! After 30 s, 2 min and 10 min the node is asked what it takes each one's capacity to be. Truth is
//! the highest Poisson rate at which 99 % of the answers come within the objective, by simulation of
//! the backend's queue (`truth`): once with the service times as configured, once with those that
//! the backend measured itself, which timers and a busy machine make a little longer. JSON on
//! standard output, a line per reading on standard error.

mod kinds;
mod node;
mod truth;

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use foreshadow_testbed::backend::{self, BackendHandle, Stats};
use foreshadow_testbed::load::{self, LoadHandle, LoadSpec};
use foreshadow_testbed::node::json as node_json;
use serde::Serialize;
use serde_json::json;

use kinds::{KINDS, Kind};
use node::{Node, Service};
use truth::Queue;

/// How far before a reading the backend's own measurement of its service times begins.
const MEASURED: Duration = Duration::from_secs(15);

/// Learned capacity against what backends are configured for, after 30 s, 2 min and 10 min.
#[derive(Debug, Parser)]
struct Args {
    /// The built command.
    #[arg(long, value_name = "FILE", default_value = "target/release/foreshadow")]
    foreshadow: PathBuf,
    /// Only 30 s and 2 min.
    #[arg(long)]
    quick: bool,
    /// Only backends with this in their name.
    #[arg(long, default_value = "")]
    only: String,
    /// Seed of arrivals and service times.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What was learned of one backend at one time, and what is so.
#[derive(Debug, Serialize)]
struct Reading {
    kind: &'static str,
    at_s: u64,
    learned_rps: f64,
    lower_rps: f64,
    /// Absent while nothing bounds it from above.
    upper_rps: Option<f64>,
    configured: Compared,
    effective: Compared,
    service_ms: f64,
    offered_share: f64,
}

/// A truth, and how far what was learned is from it.
#[derive(Debug, Serialize)]
struct Compared {
    saturation_rps: f64,
    within_objective_rps: f64,
    error_percent: f64,
    covered: bool,
}

impl Compared {
    fn new(queue: &Queue, learned_rps: f64, lower_rps: f64, upper_rps: Option<f64>) -> Self {
        let truth_rps = queue.within_objective_rps();
        Self {
            saturation_rps: queue.saturation_rps(),
            within_objective_rps: truth_rps,
            error_percent: 100.0 * (learned_rps / truth_rps - 1.0),
            covered: lower_rps <= truth_rps && upper_rps.is_none_or(|upper| truth_rps <= upper),
        }
    }
}

/// One backend under load.
struct Running {
    kind: Kind,
    within_rps: f64,
    backend: BackendHandle,
    load: Option<LoadHandle>,
    /// Requests served and slot time used, as of the begin of the measurement.
    before: Stats,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let at_s: &[u64] = if args.quick { &[30, 120] } else { &[30, 120, 600] };
    let kinds: Vec<Kind> =
        KINDS.into_iter().filter(|kind| kind.name.contains(&args.only)).collect();
    anyhow::ensure!(!kinds.is_empty(), "no backend has {:?} in its name", args.only);
    let mut backends = Vec::new();
    for kind in kinds {
        let within_rps = kind.queue.within_objective_rps();
        let backend = backend::spawn(backend::Args { seed: args.seed, ..kind.backend() })?;
        let before = stats(&backend)?;
        backends.push(Running { kind, within_rps, backend, load: None, before });
    }
    let services: Vec<Service> = backends
        .iter()
        .map(|running| Service {
            name: running.kind.name,
            backend: running.backend.address(),
            objective_ms: running.kind.queue.objective_ms,
        })
        .collect();
    let node = Node::start(&args.foreshadow, &services)?;
    let length = Duration::from_secs(at_s.iter().copied().max().unwrap_or(0) + 10);
    for (nth, running) in backends.iter_mut().enumerate() {
        let profile = running.kind.profile(running.within_rps, length)?;
        let seed = args.seed.wrapping_mul(1_000).wrapping_add(nth as u64);
        running.load =
            Some(load::start(LoadSpec { seed, ..LoadSpec::new(node.target(nth), profile) })?);
    }
    let started = Instant::now();
    let mut readings = Vec::new();
    for &at in at_s {
        let due = started + Duration::from_secs(at);
        sleep_until(due.checked_sub(MEASURED).unwrap_or(started));
        for running in &mut backends {
            running.before = stats(&running.backend)?;
        }
        sleep_until(due);
        for running in &backends {
            readings.push(read(&node, running, at)?);
        }
    }
    let ticks = node.api("/api/v1/status")?["tick"].clone();
    let failed: u64 = backends
        .iter()
        .filter_map(|running| running.load.as_ref())
        .map(|load| load.totals().failed.total())
        .sum();
    let result = json!({
        "bench": "capacity",
        "quick": args.quick,
        "seed": args.seed,
        "machine_load": std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim(),
        "ticks": ticks,
        "requests_failed": failed,
        "summary": summary(at_s, &readings),
        "readings": readings,
    });
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &result)?;
    writeln!(out)?;
    Ok(())
}

fn sleep_until(due: Instant) {
    std::thread::sleep(due.saturating_duration_since(Instant::now()));
}

fn stats(backend: &BackendHandle) -> anyhow::Result<Stats> {
    Ok(serde_json::from_value(node_json(backend.address(), "/_testbed/stats")?)?)
}

/// Asks the node what it has learned of one backend, and compares.
fn read(node: &Node, running: &Running, at_s: u64) -> anyhow::Result<Reading> {
    let kind = running.kind;
    let told = node.api(&format!("/api/v1/instances?service={}", kind.name))?;
    let capacity = &told["instances"][0]["capacity"];
    let figure = |name: &str| {
        capacity[name].as_f64().with_context(|| format!("{}: no {name} in {told}", kind.name))
    };
    let (learned_rps, lower_rps) = (figure("rps")?, figure("lower_rps")?);
    let upper_rps = capacity["upper_rps"].as_f64();
    let now = stats(&running.backend)?;
    let served = (now.served - running.before.served) as f64;
    let service_ms = 1e3 * (now.busy_s - running.before.busy_s) / served.max(1.0);
    let configured = kind.queue_at(Duration::from_secs(at_s));
    let compared = |queue: &Queue| Compared::new(queue, learned_rps, lower_rps, upper_rps);
    let offered_rps = served / MEASURED.as_secs_f64();
    let reading = Reading {
        kind: kind.name,
        at_s,
        learned_rps,
        lower_rps,
        upper_rps,
        configured: compared(&configured),
        effective: compared(&Queue { mean_ms: service_ms, ..configured }),
        service_ms,
        offered_share: offered_rps / running.within_rps,
    };
    writeln!(
        std::io::stderr(),
        "{:<14} {at_s:>4} s: learned {learned_rps:>6.1} rps ({lower_rps:.1} to {}), configured \
         {:.1} ({:+.0} %), as measured {:.1} ({:+.0} %)",
        kind.name,
        upper_rps.map_or_else(|| "?".to_owned(), |upper| format!("{upper:.1}")),
        reading.configured.within_objective_rps,
        reading.configured.error_percent,
        reading.effective.within_objective_rps,
        reading.effective.error_percent,
    )?;
    Ok(reading)
}

/// By time: the median and the largest error, and the share of intervals that cover.
fn summary(at_s: &[u64], readings: &[Reading]) -> Vec<serde_json::Value> {
    let of = |at: u64, truth: fn(&Reading) -> &Compared| {
        let at = || readings.iter().filter(move |reading| reading.at_s == at).map(truth);
        let mut errors: Vec<f64> = at().map(|truth| truth.error_percent.abs()).collect();
        errors.sort_by(f64::total_cmp);
        let covered = at().filter(|truth| truth.covered).count();
        json!({
            "median_error_percent": errors.get(errors.len() / 2),
            "largest_error_percent": errors.last(),
            "covered_share": covered as f64 / errors.len().max(1) as f64,
        })
    };
    let both = |at: u64| {
        json!({
            "at_s": at,
            "configured": of(at, |reading| &reading.configured),
            "effective": of(at, |reading| &reading.effective),
        })
    };
    at_s.iter().map(|at| both(*at)).collect()
}
