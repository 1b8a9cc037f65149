//! Reading the configuration again: by SIGHUP, by a changed file, by request; all or nothing.

mod noted;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use anyhow::Context;
use foreshadow_config::{CalendarFile, Config};
use foreshadow_proxy::ListenerSpec;
use foreshadow_shadow::{Leaving, ProcessHost};
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Interval, MissedTickBehavior, interval_at};

use self::noted::{Files, differences};
use super::audit::Actor;
use super::file::{self, Aside, FileRead, Fingerprint};
use super::limits;
use super::readiness::ByHealthCheck;
use super::scaling;
use super::start::wire;
use super::tick::Configure;
use super::translate::{Wiring, listeners, mirror_policies, shadow_services};
use super::watch::Watching;
use super::{ReloadOutcome, ReloadRequest, Shared};

/// A file is read once it has been left alone this long: editors write in several steps.
const SETTLE: Duration = Duration::from_millis(150);
/// Time that a read of the file may take: one that takes longer hangs with its file system.
const READ_PATIENCE: Duration = Duration::from_secs(5);
/// How often a shadow that leaves is looked at; the data plane forgets what is unused every tick.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How often calendar files are looked at.
pub(super) const CALENDARS_EVERY: Duration = Duration::from_secs(60);

/// What a reload is done for.
pub(super) struct Causes {
    requests: mpsc::Receiver<ReloadRequest>,
    hangup: Signal,
    changes: mpsc::Receiver<()>,
    /// When to look at calendar files, unless nothing is watched.
    calendars: Option<Interval>,
    /// Who tells of changes, unless nothing is watched.
    watching: Option<Watching>,
    /// Kept so that `changes` never ends.
    _changed: mpsc::Sender<()>,
}

impl Causes {
    /// Everything about waiting for reloads of `reloader`'s file that can fail.
    pub(super) fn watch(
        reloader: &Reloader,
        requests: mpsc::Receiver<ReloadRequest>,
        hangup: Signal,
        watch: bool,
        calendars_every: Option<Duration>,
    ) -> anyhow::Result<Self> {
        let calendars = calendars_every.map(|every| {
            let mut calendars = interval_at(tokio::time::Instant::now() + every, every);
            calendars.set_missed_tick_behavior(MissedTickBehavior::Delay);
            calendars
        });
        let (changed, changes) = mpsc::channel(1);
        let watching = watch
            .then(|| Watching::start(&reloader.path, changed.clone(), READ_PATIENCE))
            .transpose()?;
        Ok(Self { requests, hangup, changes, calendars, watching, _changed: changed })
    }
}

/// Carries reloads out, one at a time.
pub(super) struct Reloader {
    shared: Arc<Shared>,
    path: PathBuf,
    wiring: Wiring,
    readiness: Arc<ByHealthCheck>,
    host: Arc<ProcessHost>,
    configures: SyncSender<Configure>,
    /// What was last found, so that a touched file is not loaded for nothing.
    seen: Fingerprint,
    /// That of the configuration in force.
    in_force: Fingerprint,
    /// The files that go with each of the two.
    files: Files,
    reading: Aside<FileRead>,
    looking: Aside<Vec<u64>>,
    /// What calendar files held when they were last read again.
    tried: Option<Vec<u64>>,
}

impl Reloader {
    pub(super) fn new(
        shared: Arc<Shared>,
        path: PathBuf,
        wiring: Wiring,
        readiness: Arc<ByHealthCheck>,
        host: Arc<ProcessHost>,
        configures: SyncSender<Configure>,
        seen: Fingerprint,
    ) -> Self {
        let reading = Aside::new(READ_PATIENCE);
        let looking = Aside::new(READ_PATIENCE);
        let tried = None;
        let in_force = file::included(&shared.config.load());
        let files = Files { seen: in_force.clone(), in_force };
        Self {
            shared,
            path,
            wiring,
            readiness,
            host,
            configures,
            seen,
            in_force: seen,
            files,
            reading,
            looking,
            tried,
        }
    }

    /// Reloads whenever there is cause, for as long as the node runs.
    pub(super) async fn run(mut self, mut causes: Causes) {
        let Causes { requests, hangup, changes, calendars, watching, .. } = &mut causes;
        loop {
            tokio::select! {
                _ = hangup.recv() => {
                    self.read_and_reload("SIGHUP", Actor::Signal).await;
                }
                Some(()) = changes.recv() => {
                    // Bounded: others may write beside the file without end.
                    let patience = Instant::now() + 4 * SETTLE;
                    while Instant::now() < patience
                        && tokio::time::timeout(SETTLE, changes.recv()).await.is_ok()
                    {}
                    // Before it is read: what changes where the links lead now is told then.
                    if let Some(watching) = watching {
                        watching.follow().await;
                    }
                    if let Some(read) = self.read(Some(self.seen)).await {
                        self.reload("changed file", Actor::File, read).await;
                    }
                }
                () = due(calendars) => self.look_at_calendars().await,
                request = requests.recv() => {
                    let Some(ReloadRequest { by, done }) = request else { return };
                    let outcome = self.read_and_reload("request", by).await;
                    // Whoever asked may have gone away; the reload stands all the same.
                    drop(done.send(outcome));
                }
            }
        }
    }

    /// What the file says now; nothing where it is what was `known`.
    async fn read(&mut self, known: Option<Fingerprint>) -> Option<anyhow::Result<Config>> {
        let path = self.path.clone();
        match self.reading.run(move || file::read(&path, known)).await {
            Ok(FileRead { fingerprint, config, files }) => {
                self.seen = fingerprint;
                self.files.seen = files;
                // The API shows it, and the database keeps it.
                Some(config?.map_err(|errors| anyhow::anyhow!("{}", errors.masked())))
            }
            Err(error) => {
                let error = error.context(self.path.display().to_string());
                self.seen = Fingerprint::of(&format!("{error:#}"));
                (known != Some(self.seen)).then_some(Err(error))
            }
        }
    }

    /// Reads everything again where a calendar file is another than the one in force, unless that
    /// was tried already.
    async fn look_at_calendars(&mut self) {
        let config = self.shared.config.load_full();
        let known: Vec<u64> = config.calendar_files().map(CalendarFile::fingerprint).collect();
        if known.is_empty() {
            return;
        }
        let look = move || config.calendar_files().map(CalendarFile::fingerprint_now).collect();
        match self.looking.run(look).await {
            Ok(found) if found != known && self.tried.as_ref() != Some(&found) => {
                self.tried = Some(found);
                self.read_and_reload("changed calendar", Actor::File).await;
            }
            Ok(_) => {}
            Err(error) => tracing::warn!("calendar files cannot be looked at: {error:#}"),
        }
    }

    async fn read_and_reload(&mut self, why: &str, by: Actor) -> ReloadOutcome {
        let nothing = || Err(anyhow::anyhow!("the file was not read; please report this"));
        let read = self.read(None).await.unwrap_or_else(nothing);
        self.reload(why, by, read).await
    }

    async fn reload(
        &mut self,
        why: &str,
        by: Actor,
        read: anyhow::Result<Config>,
    ) -> ReloadOutcome {
        if let Ok(config) = &read {
            crate::secrets::learn(config);
        }
        let (before, found) = (self.in_force, self.seen);
        let outcome = match self.try_reload(read).await {
            Ok(changes) => {
                tracing::info!(why, changes = changes.join("; "), "configuration reloaded");
                self.in_force = found;
                ReloadOutcome::Applied { changes }
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(why, "reload refused, the configuration before stays: {error}");
                ReloadOutcome::Refused { error }
            }
        };
        self.note((why, by), (before, found), &outcome);
        if matches!(outcome, ReloadOutcome::Applied { .. }) {
            self.files.in_force.clone_from(&self.files.seen);
        }
        outcome
    }

    /// Everything that can be refused is tried before anything is changed; a listener that
    /// cannot be bound after all takes the rest back.
    ///
    /// The manager learns what is new before the loop can order it, and forgets what is gone only
    /// once the loop has taken its weight away.
    async fn try_reload(&mut self, read: anyhow::Result<Config>) -> anyhow::Result<Vec<String>> {
        if let Some(trouble) = self.shared.loop_trouble() {
            anyhow::bail!(trouble);
        }
        let config = read?;
        let before = self.shared.config.load_full();
        let generation = self.wiring.generation + 1;
        let wiring = wire(&config, generation, &self.shared.manager).await?;
        self.open(listeners(&config), listeners(&before)).await?;
        let shadowed = shadow_services(&config, &self.host);
        let mut until_taken = shadowed.clone();
        until_taken.extend(
            shadow_services(&before, &self.host)
                .into_iter()
                .filter(|old| shadowed.iter().all(|new| new.service != old.service)),
        );
        self.readiness.replace(&config);
        // What this one drains was drained by a reload before, which sees to its end.
        self.shared.manager.reconfigure(until_taken);
        // Even a configuration that fails from here has used its number up: a later one of the
        // same number would not be published.
        self.wiring.generation = generation;
        if let Err(error) = self.configure(wiring.clone()).await {
            self.take_back(&before).await;
            return Err(error);
        }
        self.wiring = wiring;
        // All that is wanted is open already: this only closes what is not. Should one be lost
        // all the same, the configuration is in force by now, and saying so is all there is to do.
        let lost = match self.listen(listeners(&config)).await {
            Ok(lost) => lost,
            Err(error) => vec![format!("{error:#}")],
        };
        self.shared.mirror.set_policies(mirror_policies(&config));
        let scaled = scaling::services(&config, &self.host);
        let not_scaled = self.shared.scaling.reconfigure(scaled).await.err();
        self.end_drained(self.shared.manager.reconfigure(shadowed));
        let mut changes = differences(&before, &config);
        if let Some(error) = not_scaled {
            tracing::error!(%error, "primaries are scaled as before the reload");
            changes.push(format!("NOT SCALED ANEW: {error}"));
        }
        let known = before.warnings();
        for warning in config.warnings().into_iter().filter(|warning| !known.contains(warning)) {
            tracing::warn!("{warning}");
            changes.push(warning);
        }
        for error in lost {
            tracing::error!("a listener of the new configuration is not open: {error}");
            changes.push(format!("NOT OPEN: {error}"));
        }
        self.shared.plane.limit_connections(limits::share_out(&config, Some(&before)).connections);
        self.shared.config.store(Arc::new(config));
        self.shared.long.reconfigured();
        Ok(changes)
    }

    /// Undoes what was done towards a configuration that the loop did not take.
    async fn take_back(&self, before: &Config) {
        self.readiness.replace(before);
        self.shared.manager.reconfigure(shadow_services(before, &self.host));
        match self.listen(listeners(before)).await {
            Ok(lost) if lost.is_empty() => {}
            Ok(lost) => tracing::error!("listeners were lost: {}", lost.join("; ")),
            Err(error) => tracing::error!("listeners may be lost: {error:#}"),
        }
    }

    /// Ends shadows that are out of the table once no request refers to them, or their time is up.
    fn end_drained(&self, leaving: Vec<Leaving>) {
        for shadow in leaving {
            let shared = Arc::clone(&self.shared);
            tokio::spawn(async move {
                let finished = async {
                    while shared.plane.registry().get(shadow.id).is_some() {
                        tokio::time::sleep(LOOK_AGAIN).await;
                    }
                };
                if tokio::time::timeout(shadow.stop_timeout, finished).await.is_err() {
                    tracing::warn!(
                        instance = %shadow.id, waited = ?shadow.stop_timeout,
                        "still has requests of a service that is gone; ended at its stop_timeout"
                    );
                }
                shared.manager.end_leaving(&shadow);
            });
        }
    }

    async fn configure(&self, wiring: Wiring) -> anyhow::Result<()> {
        let (done, outcome) = oneshot::channel();
        let configure = Configure { wiring: Box::new(wiring), done };
        self.configures.try_send(configure).context("the loop does not take configurations")?;
        outcome.await.context("the loop has ended")
    }

    /// Opens what is new beside what is there, so that a failure leaves nothing to undo. Where a
    /// new address overlaps one that goes, such as `0.0.0.0:80` for `127.0.0.1:80`, the two cannot
    /// be open together: then the old ones are closed first, and opened again on failure.
    async fn open(&self, wanted: Vec<ListenerSpec>, old: Vec<ListenerSpec>) -> anyhow::Result<()> {
        let mut both = wanted.clone();
        both.extend(old.iter().filter(|o| wanted.iter().all(|w| w.address != o.address)).cloned());
        let first = self.listen(both).await?;
        if first.is_empty() {
            return Ok(());
        }
        let overlaps = wanted.iter().any(|w| old.iter().any(|o| overlap(w.address, o.address)));
        if overlaps && self.listen(wanted).await?.is_empty() {
            return Ok(());
        }
        let mut errors = first;
        let back = self.listen(old).await?;
        errors.extend(back.into_iter().map(|e| format!("and what was there before is lost: {e}")));
        anyhow::bail!(errors.join("\n"))
    }

    /// Listens on exactly these; what could not be had comes back.
    async fn listen(&self, specs: Vec<ListenerSpec>) -> anyhow::Result<Vec<String>> {
        let plane = Arc::clone(&self.shared.plane);
        let bound = tokio::task::spawn_blocking(move || plane.set_listeners(specs)).await?;
        Ok(bound.into_iter().filter_map(Result::err).map(|error| error.to_string()).collect())
    }
}

/// Waits until calendar files are due to be looked at: for ever where they never are.
async fn due(calendars: &mut Option<Interval>) {
    match calendars {
        Some(calendars) => {
            calendars.tick().await;
        }
        None => std::future::pending().await,
    }
}

/// Whether two different addresses cannot be listened on at once.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    a != b && a.port() == b.port() && (a.ip().is_unspecified() || b.ip().is_unspecified())
}
