//! Starting a node, running it until a signal, and ending it without loss.

mod admin_socket;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, atomic::AtomicBool};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use arc_swap::{ArcSwap, ArcSwapOption};
use foreshadow_config::Config;
use foreshadow_mirror::Mirrorer;
use foreshadow_proxy::{DataPlane, Settings};
use foreshadow_shadow::{
    HostSettings, Manager, ManagerSettings, ProcessHost, ProcessProvider, Scaling, VmProvider,
};
use serde_json::json;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;

use super::activations::ActivationLog;
use super::alerting::{self, Alerting};
use super::announced::Announcing;
use super::audit::{Actor, Audit, Entry};
use super::clock::Clock;
use super::decisions::DecisionLog;
use super::file::{self, Fingerprint};
use super::history::History;
use super::hooks::{KernelProbe, MirrorHook};
use super::limits;
use super::long::LongForecasts;
use super::metrics::{self, Metrics};
use super::migrations::{self, DryRun, Migrations};
use super::operator::Request;
use super::private;
use super::readiness::ByHealthCheck;
use super::reload::{CALENDARS_EVERY, Causes, Reloader};
use super::reservations;
use super::scaling;
use super::signals::Ends;
use super::tick::{Inboxes, Loop};
use super::translate::{Wiring, listeners, mirror_policies, shadow_services};
use super::view::TickStats;
use super::{ReloadRequest, ReloadStatus, STATE_DB, Shared};
use admin_socket::{AdminServer, bind_admin, serve_admin};

/// Time that requests to the admin interface have to finish at the end.
const ADMIN_END: Duration = Duration::from_secs(1);
/// What shadows write, in the state directory.
const SHADOW_LOGS: &str = "logs";
/// Orders that may wait for the next tick.
const ORDERS: usize = 64;
/// Shadows of one service being started at once, a quarter of what all may: each start is a burst of
/// work on a machine that serves.
const CREATES: usize = 4;

/// A node that serves.
pub(crate) struct Node {
    shared: Arc<Shared>,
    looping: Option<JoinHandle<()>>,
    stop_loop: Sender<()>,
    admin: AdminServer,
    drain_timeout: Duration,
}

/// What is started before anything is wired to anything.
struct Parts {
    host: Arc<ProcessHost>,
    readiness: Arc<ByHealthCheck>,
    manager: Arc<Manager>,
    mirror: Arc<Mirrorer>,
    plane: Arc<DataPlane>,
    scaling: Scaling,
}

impl Parts {
    async fn start(config: &Config) -> anyhow::Result<Self> {
        let readiness = Arc::new(ByHealthCheck::new(config));
        let host = ProcessHost::new(&HostSettings::new(config.state_dir.clone()))?;
        let settings = ManagerSettings {
            state_dir: config.state_dir.clone(),
            services: shadow_services(config, &host),
            janitors: vec![
                Arc::new(ProcessProvider::janitor(Arc::clone(&host))),
                Arc::new(VmProvider::janitor(Arc::clone(&host))),
            ],
            concurrent_creates: CREATES,
        };
        let manager = Arc::new(Manager::start(settings, readiness.clone()).await?);
        let scaling = Scaling::start(&manager, scaling::services(config, &host)).await?;
        let runtime = tokio::runtime::Handle::current();
        let mirror = Arc::new(Mirrorer::spawn(mirror_policies(config), runtime));
        let shares = limits::share_out(config, None);
        let plane = Arc::new(DataPlane::start(Settings {
            workers: config.workers,
            upstream_keepalive: usize::try_from(shares.idle_upstream).unwrap_or(usize::MAX),
            observer: Some(Arc::new(MirrorHook(Arc::clone(&mirror)))),
            probe: Some(Arc::new(KernelProbe)),
        })?);
        plane.limit_connections(shares.connections);
        Ok(Self { host, readiness, manager, mirror, plane, scaling })
    }

    fn share(
        &self,
        config: &Config,
        (metrics, alerting): (Metrics, Alerting),
        (requests, dry_runs): (SyncSender<Request>, SyncSender<DryRun>),
        reloads: mpsc::Sender<ReloadRequest>,
    ) -> anyhow::Result<Shared> {
        let decisions = DecisionLog::open(&config.state_dir.join(STATE_DB))?;
        let ended = decisions.migrations()?;
        let orders = migrations::without_ended(decisions.orders()?, &ended);
        let kernel = foreshadow_ebpf::probe();
        tracing::info!("kernel signals: {kernel}");
        let clock = Clock::start();
        let history = History::start(&config.state_dir, &config.history, clock.now_ms())?;
        let audit = Audit::start(&config.state_dir, &config.audit)?;
        let drills = super::drill::Drills::start(&config.state_dir, &audit, clock.now_ms());
        Ok(Shared {
            clock,
            ticks: TickStats::default(),
            decisions,
            activations: ActivationLog::open(&config.state_dir.join(STATE_DB))?,
            audit,
            drills,
            migrations: Migrations::new(ended),
            dry_runs,
            history,
            long: LongForecasts::default(),
            reservations: reservations::Reservations::default(),
            metrics,
            requests,
            orders: ArcSwap::from_pointee(orders),
            config: ArcSwap::from_pointee(config.clone()),
            reload: ArcSwap::from_pointee(ReloadStatus::default()),
            kernel,
            recording: Arc::default(),
            view: ArcSwapOption::empty(),
            plane: Arc::clone(&self.plane),
            manager: Arc::clone(&self.manager),
            mirror: Arc::clone(&self.mirror),
            scaling: self.scaling.clone(),
            reloads,
            draining: AtomicBool::new(false),
            alerting,
            announcing: Announcing::default(),
        })
    }
}

impl Node {
    /// Starts everything; on an error nothing is left running. `config` is what the file at `path`
    /// of that fingerprint says; `hangup` has it read again.
    ///
    /// # Errors
    /// When the state directory, an address or a thread cannot be had.
    pub(crate) async fn start(
        config: Config,
        (path, seen): (PathBuf, Fingerprint),
        hangup: Signal,
    ) -> anyhow::Result<Self> {
        make_state_dir(&config.state_dir)?;
        let path_name = path.display().to_string();
        let admin_socket = bind_admin(&config.admin.address).await?;
        let parts = Parts::start(&config).await?;
        let wiring = wire(&config, 0, &parts.manager).await?;
        parts.plane.publish(&wiring.table(&wiring.first_members()))?;
        let (requests, request_inbox) = sync_channel(ORDERS);
        let (dry_runs, dry_run_inbox) = sync_channel(migrations::DRY_RUNS);
        let (metrics, reports) = Metrics::new();
        let (alerting, alerts) = Alerting::new();
        let (reloads, reload_inbox) = mpsc::channel(ORDERS);
        let (configures, configure_inbox) = sync_channel(1);
        let (stop_loop, stop) = channel();
        let shared =
            Arc::new(parts.share(&config, (metrics, alerting), (requests, dry_runs), reloads)?);
        let inboxes = Inboxes {
            requests: request_inbox,
            configures: configure_inbox,
            reports,
            dry_runs: dry_run_inbox,
            stop,
        };
        let looping = Loop::new(&shared, wiring.clone(), inboxes)?;
        let reloader = Reloader::new(
            Arc::clone(&shared),
            path,
            wiring,
            parts.readiness,
            parts.host,
            configures,
            seen,
        );
        let watch = config.reload.watch;
        let calendars_every = watch.then_some(CALENDARS_EVERY);
        let causes = Causes::watch(&reloader, reload_inbox, hangup, watch, calendars_every)?;
        let (go, gone_ahead) = channel();
        let ending = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("tick".to_owned())
            .spawn(move || super::guard::guarded(&ending, || looping.run(&gone_ahead)))
            .context("cannot start the loop")?;
        // Opened last: nothing after it can fail, so no connection is taken and then dropped by a
        // start that fails. What arrives before the loop runs would be counted as if in its first
        // tick, and a loop that ran before could act for a node that does not start.
        let bound = shared.plane.set_listeners(listeners(&config));
        if let Some(error) = bound.into_iter().find_map(Result::err) {
            drop(go);
            thread.join().ok();
            return Err(error.into());
        }
        shared.audit.record(started(&shared, &config, seen, &path_name));
        go.send(()).ok();
        LongForecasts::start(&shared);
        metrics::start(&shared);
        reservations::start(&shared);
        alerting::start(&shared, alerts);
        migrations::start(&shared);
        let admin = serve_admin(&shared, admin_socket, &config);
        tokio::spawn(reloader.run(causes));
        announce(&config);
        let drain_timeout = config.drain_timeout;
        Ok(Self { shared, looping: Some(thread), stop_loop, admin, drain_timeout })
    }

    /// Serves until told to end, then drains: no new connections, requests in flight finish,
    /// shadows end or stay as configured. Told a second time, it waits for none of them.
    ///
    /// # Errors
    /// When something of it has ended badly.
    pub(crate) async fn serve(mut self, mut ends: Ends) -> anyhow::Result<()> {
        ends.told(1).await;
        self.shared.draining.store(true, Ordering::Release);
        tracing::info!(timeout = ?self.drain_timeout, "draining; a second signal ends at once");
        let (hurry, mut hurried) = tokio::sync::watch::channel(false);
        tokio::spawn(heed_more(Arc::clone(&self.shared), ends, hurry));
        self.shared.drills.end().await;
        let drained = self.shared.plane.drain(self.drain_timeout);
        tokio::select! {
            cut = drained => match cut {
                0 => tracing::info!("every request in flight was finished"),
                cut => tracing::warn!(cut, "connections were cut off at the drain timeout"),
            },
            Ok(_) = hurried.wait_for(|hurry| *hurry) => {
                let cut = self.shared.plane.drain(Duration::ZERO).await;
                tracing::warn!(cut, "connections were cut off");
            }
        }
        self.end().await
    }

    async fn end(&mut self) -> anyhow::Result<()> {
        self.stop_loop.send(()).ok();
        let mut panicked = false;
        if let Some(looping) = self.looping.take() {
            panicked = tokio::task::spawn_blocking(move || looping.join()).await?.is_err();
        }
        self.shared.scaling.close();
        self.shared.manager.shutdown().await;
        if let Some(stop) = self.admin.stop.take() {
            stop.send(()).ok();
        }
        // A request that was begun and never finished must not keep the process from ending.
        match tokio::time::timeout(ADMIN_END, &mut self.admin.task).await {
            Ok(ended) => ended?,
            Err(_) => self.admin.task.abort(),
        }
        if let Some(path) = &self.admin.unix_path
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::debug!(%error, path = %path.display(), "removing the admin socket");
        }
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || {
            shared.long.close();
            shared.history.close();
            if let Err(error) = shared.keep_migrations() {
                tracing::error!("what became of migrations is not kept: {error:#}");
            }
            shared.activations.close();
            shared.decisions.close();
            shared.close_audit();
        })
        .await?;
        // Said last: what the loop left behind is ended like everything else.
        anyhow::ensure!(!panicked, "the loop had panicked; please report this");
        tracing::info!("ended");
        Ok(())
    }
}

/// That the node has started, with what, and what it found.
fn started(shared: &Shared, config: &Config, seen: Fingerprint, path: &str) -> Entry {
    let tokens = config.admin.every_token().map(|(name, role, _)| json!([name, role]));
    let swept = shared.manager.swept().into_iter().map(|(kind, ended)| json!([kind, ended]));
    let after = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "config": path,
        "sha256": seen.to_string(),
        "files": file::included(config),
        "admin": config.admin.address.to_string(),
        "tokens": tokens.collect::<Vec<_>>(),
        "kill_switch": shared.orders.load().kill_switch,
        "ended_orphans": swept.collect::<Vec<_>>(),
    });
    Entry::new(shared.clock.now_ms(), Actor::Node, "node.start")
        .changed(shared.audit.before_start(), after)
}

/// Makes what is kept there before others make it: what they make is open to everybody.
fn make_state_dir(dir: &Path) -> anyhow::Result<()> {
    private::make_dir(dir)
        .and_then(|()| private::make_dir(&dir.join(SHADOW_LOGS)))
        .and_then(|()| private::make_file(&dir.join(STATE_DB)))
        .with_context(|| format!("cannot make the state directory {}", dir.display()))
}

/// While the node ends: told a second time, it ends all waiting.
async fn heed_more(shared: Arc<Shared>, mut ends: Ends, hurry: tokio::sync::watch::Sender<bool>) {
    ends.told(2).await;
    tracing::warn!("told again to end: open requests are cut off, shadows are killed");
    shared.manager.hurry();
    hurry.send_replace(true);
}

/// The wiring of `config`, with the ids of its primaries from the registry.
pub(super) async fn wire(
    config: &Config,
    generation: u64,
    manager: &Manager,
) -> anyhow::Result<Wiring> {
    let mut ids = std::collections::BTreeMap::new();
    for (name, service) in &config.services {
        for primary in &service.primaries {
            let id = manager.primary_id(name, primary.address).await?;
            ids.insert((name.clone(), primary.address), id);
        }
    }
    Wiring::new(config, generation, |name, address: SocketAddr| {
        let id = ids.get(&(name.clone(), address)).copied();
        id.with_context(|| format!("primary {address} of {name} has no id"))
    })
}

fn announce(config: &Config) {
    for listener in &config.listeners {
        tracing::info!(address = %listener.address, routes = listener.routes.len(), "listening");
    }
    for (name, service) in &config.services {
        tracing::info!(
            service = name.as_str(),
            mode = %service.mode,
            primaries = service.primaries.len(),
            shadows = service.shadows.as_ref().map_or(0, |s| s.pool.max),
            "serving"
        );
    }
    tracing::info!(address = %config.admin.address, "admin interface");
    for warning in config.warnings().into_iter().chain(config.exposed()) {
        tracing::warn!("{warning}");
    }
}

#[cfg(test)]
mod tests;
