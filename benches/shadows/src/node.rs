//! A real node over a provider: what a `kill -9` and an activation come to.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use foreshadow_testbed::backend::{self, BackendHandle};
use foreshadow_testbed::load::{self, LoadHandle, LoadSpec, Profile, Step};
use foreshadow_testbed::node::{Node, free_address};
use serde::Serialize;
use serde_json::{Value, json};

use crate::front::PATIENCE;
use crate::places::{IMAGE, NETWORK, backend as command};
use crate::processes;
use crate::times::{Times, milliseconds};

/// Time between two looks at the admin interface.
const LOOK: Duration = Duration::from_millis(3);
const SHADOWS: &str = "/api/v1/shadows?service=shop";
const ACTIVATE: &str = "/api/v1/services/shop/activate";

/// How many shadows stand ready.
pub(crate) const POOL: &str = "pool: { shadow: 1, warm: 1, max: 6 }";

/// A node with two primaries and a pool, under load.
pub(crate) struct Stage {
    // Dropped in this order: the load ends before the node, the node before the backends.
    pub(crate) load: LoadHandle,
    pub(crate) node: Node,
    _primaries: Vec<BackendHandle>,
    tag: String,
    _dir: tempfile::TempDir,
}

impl Stage {
    /// Starts all of it and waits until the pool is full; requests come at `rps` until it ends.
    fn set(program: &Path, docker: Option<&Path>, rps: f64, tag: &str) -> anyhow::Result<Self> {
        Self::with(program, docker, (rps, tag), |provider| {
            format!("{{ provider: {provider}, {POOL} }}")
        })
    }

    /// The same with what is said of shadows written by `shadows`, which gets a provider's text.
    pub(crate) fn with(
        program: &Path,
        docker: Option<&Path>,
        (rps, tag): (f64, &str),
        shadows: impl FnOnce(&str) -> String,
    ) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let tag = format!("bench-{}-{tag}", std::process::id());
        let primaries = (0..2)
            .map(|seed| {
                let service_time = Duration::from_millis(1);
                backend::spawn(backend::Args { seed, service_time, ..backend::Args::default() })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let addresses: Vec<String> =
            primaries.iter().map(|primary| format!("\"{}\"", primary.address())).collect();
        let proxy = free_address()?;
        let provider = provider_text(program, docker, &tag)?;
        let node = Node::start(program, dir.path(), |admin| {
            Ok(format!(
                "\
listeners:
  - address: {proxy}
    routes:
      - service: shop
services:
  shop:
    primaries: [{}]
    capacity: 4000rps
    objective: {{ latency_p99: 100ms }}
    health: {{ path: /healthz, interval: 500ms, timeout: 500ms }}
    mode: act
    warm_up: 1s
    forecast: {{ horizon: 10s, evaluation_window: 10m }}
    shadows: {}
admin: {{ address: \"{admin}\" }}
state_dir: {:?}
",
                addresses.join(", "),
                shadows(&provider),
                dir.path().join("state")
            ))
        })?;
        let hold = Step { from_rps: rps, to_rps: rps, duration_s: 3_600.0 };
        let spec = LoadSpec::new(format!("http://{proxy}/"), Profile::new(vec![hold])?);
        let load = load::start(spec)?;
        let stage = Self { load, node, _primaries: primaries, tag, _dir: dir };
        stage.settled(0, 2)?;
        Ok(stage)
    }

    pub(crate) fn shadows(&self) -> anyhow::Result<Vec<Shadow>> {
        let told = self.node.api(SHADOWS)?;
        let all = told["shadows"].as_array().with_context(|| format!("no shadows in {told}"))?;
        Ok(all.iter().map(Shadow::of).collect())
    }

    pub(crate) fn activate(&self) -> anyhow::Result<()> {
        self.node.order(ACTIVATE, &json!({ "count": 1 }))?;
        Ok(())
    }

    /// Waits until `serving` shadows serve, `ready` others stand, and nothing is under way.
    pub(crate) fn settled(&self, serving: usize, ready: usize) -> anyhow::Result<Vec<Shadow>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let all = self.shadows()?;
            let serve = all.iter().filter(|shadow| shadow.serves()).count();
            let rest = all.iter().filter(|shadow| !shadow.moving && !shadow.down).count();
            if serve == serving && rest == serving + ready && all.len() == rest {
                return Ok(all);
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "not {serving} serving and {ready} ready shadows after {PATIENCE:?}: {all:?}"
            );
            std::thread::sleep(LOOK);
        }
    }
}

/// A shadow as the admin interface tells of it.
#[derive(Debug)]
pub(crate) struct Shadow {
    pub(crate) id: String,
    tier: String,
    weight: f64,
    moving: bool,
    down: bool,
}

impl Shadow {
    fn of(told: &Value) -> Self {
        let text = |name: &str| match &told[name] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Self {
            // A number there, i12 everywhere else.
            id: format!("i{}", text("instance")),
            tier: text("tier"),
            weight: told["weight"].as_f64().unwrap_or(0.0),
            moving: !told["moving_to"].is_null(),
            down: told["health"].as_str().is_none_or(|health| health == "down"),
        }
    }

    pub(crate) fn serves(&self) -> bool {
        self.tier == "serving" && self.weight > 0.0 && !self.moving
    }
}

fn provider_text(program: &Path, docker: Option<&Path>, tag: &str) -> anyhow::Result<String> {
    let source = program.canonicalize()?.display().to_string();
    let name = format!("{tag}-{{id}}");
    let provider = match docker {
        None => json!({ "process": { "command": command(&source, "{address}", &name) } }),
        Some(socket) => json!({ "docker": {
            "endpoint": format!("unix://{}", socket.display()),
            "image": IMAGE,
            "networks": [NETWORK],
            "port": 8080,
            "init": true,
            "mounts": [{ "source": source, "target": "/foreshadow" }],
            "command": command("/foreshadow", "0.0.0.0:{port}", &name),
        } }),
    };
    // YAML takes JSON as it is.
    Ok(provider.to_string())
}

/// What became of shadows that served and were killed.
#[derive(Debug, Serialize)]
pub(crate) struct Kills {
    /// Requests per second meanwhile.
    offered_rps: f64,
    /// From `kill -9` until the admin interface says that its weight is zero.
    to_weight_zero: Option<Times>,
    /// Until another serves in its place.
    to_replaced: Option<Times>,
    /// Until the pool is as it was: as many at each tier, none of them the old one.
    to_recreated: Option<Times>,
    requests: u64,
    requests_failed: u64,
}

/// Kills the serving shadow `rounds` times under load.
pub(crate) fn kills(program: &Path, docker: Option<&Path>, rounds: u32) -> anyhow::Result<Kills> {
    let offered_rps = 200.0;
    let stage = Stage::set(program, docker, offered_rps, "kills")?;
    stage.activate()?;
    let (mut zero, mut replaced, mut recreated) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let before = stage.settled(1, 2)?;
        let victim = before.iter().find(|shadow| shadow.serves()).context("one serves")?;
        let begun = Instant::now();
        processes::kill(&format!("{}-{}", stage.tag, victim.id))?;
        zero.push(until(&stage, begun, |now| {
            now.iter().all(|shadow| shadow.id != victim.id || shadow.weight == 0.0)
        })?);
        replaced.push(until(&stage, begun, |now| {
            now.iter().any(|shadow| shadow.id != victim.id && shadow.weight > 0.0)
        })?);
        recreated.push(until(&stage, begun, |now| {
            let standing = |tiers: &[Shadow]| {
                let mut tiers: Vec<String> = tiers
                    .iter()
                    .filter(|shadow| !shadow.moving && !shadow.down)
                    .map(|shadow| shadow.tier.clone())
                    .collect();
                tiers.sort();
                tiers
            };
            now.iter().all(|shadow| shadow.id != victim.id) && standing(now) == standing(&before)
        })?);
    }
    stage.load.stop();
    let totals = stage.load.totals();
    Ok(Kills {
        offered_rps,
        to_weight_zero: Times::of(zero),
        to_replaced: Times::of(replaced),
        to_recreated: Times::of(recreated),
        requests: totals.offered,
        requests_failed: totals.failed.total(),
    })
}

/// Milliseconds from `begun` until what the node says is as wanted.
fn until(stage: &Stage, begun: Instant, wanted: impl Fn(&[Shadow]) -> bool) -> anyhow::Result<f64> {
    while !wanted(&stage.shadows()?) {
        anyhow::ensure!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}");
        std::thread::sleep(LOOK);
    }
    Ok(milliseconds(begun))
}

/// What clients saw of an activation.
#[derive(Debug, Serialize)]
pub(crate) struct Activation {
    offered_rps: f64,
    /// From the order until the shadow had weight.
    to_weight_ms: f64,
    before: Seen,
    during: Seen,
    after: Seen,
    requests: u64,
    requests_failed: u64,
}

/// What clients saw in some seconds.
#[derive(Debug, Serialize)]
pub(crate) struct Seen {
    seconds: usize,
    requests: u64,
    failed: u64,
    /// Of the 99th percentiles of the seconds.
    p99_ms_median: f64,
    p99_ms_worst: f64,
}

/// Activates a shadow by order while requests come at 2,000 rps.
pub(crate) fn activation(program: &Path, docker: Option<&Path>) -> anyhow::Result<Activation> {
    const WINDOW_S: u64 = 8;
    let offered_rps = 2_000.0;
    let stage = Stage::set(program, docker, offered_rps, "activation")?;
    let window = Duration::from_secs(WINDOW_S);
    // The first second is that of connections being made.
    let from_s = stage.load.elapsed().as_secs() + 1;
    std::thread::sleep(window + Duration::from_secs(1));
    let ordered = Instant::now();
    let ordered_s = stage.load.elapsed().as_secs();
    stage.activate()?;
    let to_weight_ms = until(&stage, ordered, |now| now.iter().any(|shadow| shadow.weight > 0.0))?;
    stage.settled(1, 2)?;
    std::thread::sleep(window);
    let settled_s = stage.load.elapsed().as_secs();
    std::thread::sleep(window);
    stage.load.stop();
    while stage.load.totals().in_flight > 0 {
        std::thread::sleep(LOOK);
    }
    let totals = stage.load.totals();
    Ok(Activation {
        offered_rps,
        to_weight_ms,
        before: seen(&stage.load, from_s, ordered_s),
        during: seen(&stage.load, ordered_s, settled_s),
        after: seen(&stage.load, settled_s, settled_s + WINDOW_S - 1),
        requests: totals.offered,
        requests_failed: totals.failed.total(),
    })
}

pub(crate) fn seen(load: &LoadHandle, from_s: u64, to_s: u64) -> Seen {
    let all = load.snapshot();
    let within = || all.iter().filter(|second| (from_s..to_s).contains(&u64::from(second.second)));
    let mut p99_ms: Vec<f64> = within().map(|second| second.latency.p99_ms).collect();
    p99_ms.sort_by(f64::total_cmp);
    Seen {
        seconds: p99_ms.len(),
        requests: within().map(|second| second.offered).sum(),
        failed: within().map(|second| second.failed.total()).sum(),
        p99_ms_median: p99_ms.get(p99_ms.len() / 2).copied().unwrap_or(0.0),
        p99_ms_worst: p99_ms.last().copied().unwrap_or(0.0),
    }
}
