//! One run of the script against one scene.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use foreshadow_control::{InstanceId, Mode};
use foreshadow_testbed::load::{self, LoadHandle, LoadReport, LoadSpec};
use rustix::process::{Signal, kill_process};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::api::Decision;
use super::scene::{Orphans, SERVICE, Scene, Stage};
use super::script::{OBJECTIVE_MS, Script};
use super::view::{Display, Live};
use super::watch::{Answers, Sample, Watcher, name_of, now_ms};
use crate::client::Client;

const LOOK_EVERY: Duration = Duration::from_millis(100);
const READY_PATIENCE: Duration = Duration::from_secs(20);
/// Looks in a row that may fail: the node may be busy, not gone.
const LOOKS_LOST: u32 = 20;
const KILLED: usize = 0;
const SEED: u64 = 7;

/// Everything that one run left behind.
#[derive(Debug, Serialize)]
pub(super) struct Take {
    pub(super) mode: Mode,
    /// Start of the load in Unix milliseconds.
    pub(super) started_ms: u64,
    /// Just before the signal was sent, in Unix milliseconds.
    pub(super) kill_ms: u64,
    /// The primary that was killed.
    pub(super) killed: InstanceId,
    pub(super) primaries: Vec<(String, SocketAddr)>,
    pub(super) config: String,
    pub(super) decisions: Vec<Decision>,
    pub(super) samples: Vec<Sample>,
    pub(super) answers: Answers,
    pub(super) load: LoadReport,
    /// Processes the node left behind when it was told to end.
    pub(super) orphans: Orphans,
}

/// Runs the script in `mode`. With `keep` the scene is handed back still running.
///
/// # Errors
/// When something cannot be started, the node ends, or the user interrupts.
pub(super) async fn play(
    mode: Mode,
    script: &Script,
    stage: &Stage<'_>,
    display: &mut Display,
    mut stop: watch::Receiver<bool>,
    keep: bool,
) -> anyhow::Result<(Take, Option<Scene>)> {
    let mut scene = Scene::start(mode, stage, keep).await?;
    let mut watcher = Watcher::new(Client::new(scene.admin));
    ready(&mut scene, &mut watcher, &mut stop).await?;
    let primaries: Vec<_> = scene.primaries.iter().map(|p| (p.name.clone(), p.address)).collect();
    let killed = killed_id(&watcher, &primaries)?;
    let handle = load::start(LoadSpec {
        objective: Duration::from_millis(OBJECTIVE_MS),
        seed: SEED,
        ..LoadSpec::new(format!("http://{}/", scene.proxy), script.profile.clone())
    })?;
    let started_ms = handle.started_unix_ms();
    let victim = scene.primary_pid(KILLED)?;
    let kill_at = Instant::now() + script.kill_at.saturating_sub(handle.elapsed());
    let kill = tokio::spawn(async move {
        tokio::time::sleep_until(kill_at).await;
        let at_ms = now_ms();
        kill_process(victim, Signal::KILL).map(|()| at_ms)
    });
    let watched = follow(
        &mut Follow { mode, script, scene: &mut scene, handle: &handle },
        &mut watcher,
        display,
        &mut stop,
    )
    .await;
    if let Err(error) = watched {
        kill.abort();
        handle.stop();
        return Err(error);
    }
    let kill_ms = kill.await?.context("kill -9 of a primary failed")?;
    let load = handle.join()?;
    let config = scene.config.clone();
    let orphans = if keep { Orphans::new() } else { scene.stop() };
    let Watcher { decisions, samples, answers, .. } = watcher;
    let take = Take {
        mode,
        started_ms,
        kill_ms,
        killed,
        primaries,
        config,
        decisions,
        samples,
        answers,
        load,
        orphans,
    };
    Ok((take, keep.then_some(scene)))
}

/// Waits until the node serves, the primaries are up and the pool is at its targets.
async fn ready(
    scene: &mut Scene,
    watcher: &mut Watcher,
    stop: &mut watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_PATIENCE;
    loop {
        scene.check_node()?;
        interrupted(stop)?;
        let looked = watcher.look().await;
        let settled =
            watcher.samples.last().is_some_and(|s| s.is_settled() && pool_is_full(s, scene));
        if looked.is_ok() && settled {
            return Ok(());
        }
        let log = scene.log_path();
        if Instant::now() >= deadline {
            looked.with_context(|| format!("the node is not ready, see {}", log.display()))?;
            anyhow::bail!("primaries and pool are not ready after {READY_PATIENCE:?}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// In mode `observe` the node makes no shadows.
fn pool_is_full(sample: &Sample, scene: &Scene) -> bool {
    let acts = scene.config.contains("mode: act");
    !acts || sample.alive().count() >= scene.primaries.len() + 2
}

fn killed_id(watcher: &Watcher, primaries: &[(String, SocketAddr)]) -> anyhow::Result<InstanceId> {
    let sample = watcher.samples.last().context("nothing was seen of the node")?;
    let named = sample.instances.iter().find(|i| name_of(i, primaries) == primaries[KILLED].0);
    named.map(|i| i.instance).with_context(|| format!("{SERVICE} lists no primary-1"))
}

fn interrupted(stop: &mut watch::Receiver<bool>) -> anyhow::Result<()> {
    anyhow::ensure!(!*stop.borrow_and_update(), "interrupted; everything it started was ended");
    Ok(())
}

/// What is followed.
struct Follow<'a> {
    mode: Mode,
    script: &'a Script,
    scene: &'a mut Scene,
    handle: &'a LoadHandle,
}

/// Looks and shows until the load has ended.
async fn follow(
    run: &mut Follow<'_>,
    watcher: &mut Watcher,
    display: &mut Display,
    stop: &mut watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut lost = 0;
    while !run.handle.is_finished() && run.handle.elapsed() < run.script.profile.duration() {
        tokio::select! {
            _now = every.tick() => {}
            _changed = stop.changed() => {}
        }
        interrupted(stop)?;
        run.scene.check_node()?;
        match watcher.look().await {
            Ok(()) => lost = 0,
            Err(error) if lost >= LOOKS_LOST => return Err(error),
            Err(_) => lost += 1,
        }
        let totals = run.handle.totals();
        watcher.note(&totals);
        let primaries: Vec<_> =
            run.scene.primaries.iter().map(|p| (p.name.clone(), p.address)).collect();
        display.show(&Live {
            mode: run.mode,
            script: run.script,
            elapsed: run.handle.elapsed(),
            samples: &watcher.samples,
            decisions: &watcher.decisions,
            seconds: &run.handle.snapshot(),
            totals: &totals,
            primaries: &primaries,
        })?;
        anyhow::ensure!(!display.wants_to_quit()?, "ended by the user; everything was ended");
    }
    Ok(())
}
