//! How long every step of a shadow takes, by provider, and what clients see.
//!
//! Steps are orders to the provider itself, with the proxy in front of the one instance; what
//! concerns the loop (a kill, an activation) is measured on a real node. JSON on standard output.

mod front;
mod migration;
mod node;
mod places;
mod processes;
mod steps;
mod times;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Parser;
use serde_json::{Map, Value, json};

use front::Front;
use places::Here;
use steps::Steps;

/// Most that thawing may take, to the first answer through the proxy (p99).
const GOALS_MS: [(&str, f64); 2] = [("process", 1.0), ("docker", 20.0)];
const PROVIDERS: [&str; 4] = ["process", "docker", "exec", "webhook"];

/// How long every step of a shadow takes, by provider, and what clients see of an activation.
#[derive(Debug, Parser)]
struct Args {
    /// The built command.
    #[arg(long, value_name = "FILE", default_value = "target/release/foreshadow")]
    foreshadow: PathBuf,
    /// A Docker Engine, as unix:///PATH; scripts/with-docker.sh starts one.
    #[arg(long, value_name = "ENDPOINT")]
    docker: Option<String>,
    /// Where the sample providers are.
    #[arg(long, value_name = "DIR", default_value = "config/examples/providers")]
    samples: PathBuf,
    /// A fifth of the rounds.
    #[arg(long)]
    quick: bool,
    /// Only this provider.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let program = args
        .foreshadow
        .canonicalize()
        .with_context(|| format!("there is no {}; build it first", args.foreshadow.display()))?;
    let docker = match &args.docker {
        Some(endpoint) => {
            let path = endpoint.strip_prefix("unix://").context("--docker: use unix:///PATH")?;
            Some(PathBuf::from(path))
        }
        None => None,
    };
    let only = args.only.as_deref();
    if let Some(name) = only {
        anyhow::ensure!(PROVIDERS.contains(&name), "--only: use one of {}", PROVIDERS.join(", "));
    }
    let dir = tempfile::tempdir()?;
    let samples = args.samples.canonicalize().with_context(|| {
        format!("there is no {}; give the folder by --samples", args.samples.display())
    })?;
    let here = Here { program: &program, dir: dir.path(), docker, samples, quick: args.quick };
    let mut steps = Map::new();
    let mut loops = Map::new();
    for name in PROVIDERS.into_iter().filter(|name| only.is_none_or(|only| only == *name)) {
        if name == "docker" && here.docker.is_none() {
            let why = "not measured: no engine was given (--docker)";
            steps.insert(name.to_owned(), json!(why));
            continue;
        }
        say(&format!("{name}: steps"));
        steps.insert(name.to_owned(), judged(name, &of_steps(&here, name)?)?);
        if matches!(name, "process" | "docker") {
            loops.insert(name.to_owned(), of_node(&here, &program, name)?);
        }
    }
    for (name, why) in [
        ("kubernetes", "not measured: there is no kubelet here, so nothing would be made"),
        ("vm", "not measured here: docs/providers.md has what its tests print"),
    ] {
        steps.insert(name.to_owned(), json!(why));
    }
    let result = json!({
        "bench": "shadows",
        "quick": args.quick,
        "machine_load": std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim(),
        "steps": steps,
        "node": loops,
    });
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &result)?;
    writeln!(out)?;
    Ok(())
}

fn of_steps(here: &Here<'_>, name: &str) -> anyhow::Result<Steps> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let place = here.place(name)?;
        let front = Front::start()?;
        let steps = steps::timed(&place, &front).await;
        front.shutdown().await;
        steps
    })
}

fn of_node(here: &Here<'_>, program: &Path, name: &str) -> anyhow::Result<Value> {
    let docker = (name == "docker").then_some(here.docker.as_deref()).flatten();
    let rounds = match (name, here.quick) {
        (_, true) => 3,
        ("docker", false) => 10,
        _ => 30,
    };
    say(&format!("{name}: {rounds} kills under load"));
    let kills = node::kills(program, docker, rounds)?;
    say(&format!("{name}: an activation at 2,000 rps"));
    let activation = node::activation(program, docker)?;
    say(&format!("{name}: a migration at 2,000 rps"));
    let migration = migration::migration(program, docker, here.quick)?;
    Ok(json!({ "kill_9": kills, "activation": activation, "migration": migration }))
}

/// The figures with the goal, where there is one.
fn judged(name: &str, steps: &Steps) -> anyhow::Result<Value> {
    let mut told = serde_json::to_value(steps)?;
    let goal = GOALS_MS.iter().find(|(provider, _)| *provider == name);
    if let (Some((_, most_ms)), Some(thaw)) = (goal, steps.thaw_to_first_answer) {
        told["goal"] = json!({
            "thaw_to_first_answer_p99_ms": most_ms,
            "met": thaw.p99_ms <= *most_ms,
        });
    }
    Ok(told)
}

/// Progress, where nobody takes it for the result.
fn say(text: &str) {
    // Nobody may be listening.
    writeln!(std::io::stderr(), "bench-shadows: {text}").ok();
}
