//! What clients see of a migration: a serving shadow moves from one place to another under load.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use serde_json::json;

use crate::front::PATIENCE;
use crate::node::{POOL, Seen, Stage, seen};

/// Time between two looks at the migration.
const LOOK: Duration = Duration::from_millis(20);

/// A migration, and what clients saw of it.
#[derive(Debug, Serialize)]
pub(crate) struct Migration {
    offered_rps: f64,
    /// How it ended, and why.
    state: String,
    text: String,
    /// How long each phase lasted, as it was seen.
    phases: Vec<Phase>,
    before: Seen,
    during: Seen,
    after: Seen,
    /// 99th percentile of each second, from the first of `before` on.
    p99_ms_by_second: Vec<f64>,
    /// Which of them is the one in which it was asked for.
    asked_in_second: u64,
    requests: u64,
    requests_failed: u64,
    goal: Goal,
}

#[derive(Debug, Serialize)]
struct Phase {
    phase: String,
    /// Steps of requests are told one by one.
    step: u64,
    ms: f64,
}

#[derive(Debug, Serialize)]
struct Goal {
    requests_failed: u64,
    met: bool,
}

/// Moves the one shadow that serves while requests come at 2,000 rps.
pub(crate) fn migration(
    program: &Path,
    docker: Option<&Path>,
    quick: bool,
) -> anyhow::Result<Migration> {
    let (window_s, verify_s) = if quick { (4, 1) } else { (8, 5) };
    let offered_rps = 2_000.0;
    let stage = Stage::with(program, docker, (offered_rps, "migration"), |provider| {
        // All of the line after `shadows:`, and the lines after that.
        format!(
            "{{ places: {{ a: {{ provider: {provider}, cost_per_hour: 0.1 }}, \
             b: {{ provider: {provider}, cost_per_hour: 0.2 }} }}, {POOL} }}\n    \
             migration: {{ steps: [10%, 50%, 100%], verify: {verify_s}s, drain: 5s }}"
        )
    })?;
    stage.activate()?;
    let serving = stage.settled(1, 2)?;
    let source = serving.iter().find(|shadow| shadow.serves()).context("one serves")?;
    let window = Duration::from_secs(window_s);
    // The first second is that of connections being made.
    let from_s = stage.load.elapsed().as_secs() + 1;
    std::thread::sleep(window + Duration::from_secs(1));
    let asked_s = stage.load.elapsed().as_secs();
    let ask = json!({ "instance": source.id, "to": "b" });
    let asked = stage.node.order("/api/v1/services/shop/migrations", &ask)?;
    let (state, text, phases) = followed(&stage, asked["id"].as_u64().context("a number")?)?;
    let ended_s = stage.load.elapsed().as_secs() + 1;
    std::thread::sleep(window + Duration::from_secs(1));
    stage.load.stop();
    while stage.load.totals().in_flight > 0 {
        std::thread::sleep(LOOK);
    }
    let totals = stage.load.totals();
    let all = stage.load.snapshot();
    let seconds = all.iter().filter(|second| u64::from(second.second) >= from_s);
    let requests_failed = totals.failed.total();
    Ok(Migration {
        offered_rps,
        goal: Goal { requests_failed: 0, met: requests_failed == 0 && state == "done" },
        state,
        text,
        phases,
        before: seen(&stage.load, from_s, asked_s),
        during: seen(&stage.load, asked_s, ended_s),
        after: seen(&stage.load, ended_s, ended_s + window_s),
        p99_ms_by_second: seconds.map(|second| second.latency.p99_ms).collect(),
        asked_in_second: asked_s - from_s,
        requests: totals.offered,
        requests_failed,
    })
}

/// Looks at it until it is over: how it ended, why, and how long each phase took.
fn followed(stage: &Stage, id: u64) -> anyhow::Result<(String, String, Vec<Phase>)> {
    let begun = Instant::now();
    let mut phases: Vec<(String, u64, Instant)> = Vec::new();
    loop {
        let told = stage.node.api(&format!("/api/v1/migrations/{id}"))?;
        let law = &told["law"];
        let phase = law["phase"].as_str().unwrap_or("asked").to_owned();
        let step = law["step"].as_u64().filter(|_| phase == "shifting").unwrap_or(0);
        if phases.last().is_none_or(|(last, of, _)| (last, *of) != (&phase, step)) {
            phases.push((phase, step, Instant::now()));
        }
        if told["ended_ms"].is_u64() {
            let text = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
            let times = phases.windows(2).map(|pair| Phase {
                phase: pair[0].0.clone(),
                step: pair[0].1,
                ms: (pair[1].2 - pair[0].2).as_secs_f64() * 1e3,
            });
            return Ok((text("state"), text("text"), times.collect()));
        }
        anyhow::ensure!(
            begun.elapsed() < 2 * PATIENCE,
            "not over within {:?}: {told}",
            2 * PATIENCE
        );
        std::thread::sleep(LOOK);
    }
}
