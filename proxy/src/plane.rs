//! The data plane as a whole: workers, listeners and the table they serve by.

mod faults;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use self::faults::Made;
use crate::errors::ProxyError;
use crate::hooks::{RequestObserver, SocketProbe};
use crate::listener::{self, ConnectionCounts, ListenerSpec, ListenerState, Phase};
use crate::places::Places;
use crate::recall::Falls;
use crate::shortage::Seldom;
use crate::worker::{Listen, Worker};
use crate::{
    CheckTarget, Checker, Clock, Registry, RouteTable, ServiceDrain, ServiceTotals, TableError,
    TableSpec, WorkerId, engine,
};

/// Most workers; far beyond the cores of any machine this runs on.
const MAX_WORKERS: usize = 1024;
/// How long the sockets of removed listeners may take to close before their addresses are asked
/// for again.
const RELEASE: Duration = Duration::from_secs(1);
/// How long connections may take to end once they are told to.
const CUT: Duration = Duration::from_secs(1);

/// How the data plane is set up; fixed while it runs.
#[derive(Clone)]
pub struct Settings {
    /// Worker threads; one per core is right.
    pub workers: usize,
    /// Idle upstream connections kept per worker.
    pub upstream_keepalive: usize,
    /// Hears of answered requests.
    pub observer: Option<Arc<dyn RequestObserver>>,
    /// Looks at upstream sockets.
    pub probe: Option<Arc<dyn SocketProbe>>,
}

impl Default for Settings {
    /// A worker per core, 256 idle upstream connections each, no hooks.
    fn default() -> Self {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        Self { workers, upstream_keepalive: 256, observer: None, probe: None }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("workers", &self.workers)
            .field("upstream_keepalive", &self.upstream_keepalive)
            .field("observer", &self.observer.is_some())
            .field("probe", &self.probe.is_some())
            .finish()
    }
}

/// What every worker's engine reads.
pub(crate) struct Shared {
    pub(crate) table: ArcSwap<RouteTable>,
    pub(crate) clock: Clock,
    pub(crate) falls: Falls,
    pub(crate) observer: Option<Arc<dyn RequestObserver>>,
    pub(crate) probe: Option<Arc<dyn SocketProbe>>,
    /// Requests for which no connection could be made for want of something of ours.
    pub(crate) shortages: Seldom,
    /// Requests that had been here before.
    pub(crate) loops: Seldom,
}

/// A running data plane.
///
/// All methods take `&self` and may be called from any thread. Those that change listeners bind
/// sockets and may wait for up to a second for an address to be released.
pub struct DataPlane {
    shared: Arc<Shared>,
    registry: Registry,
    /// Locked by changes and scrapes only; requests reach their listener by its connections.
    listeners: Mutex<Listeners>,
    /// What the table in force is made of; locked by changes only.
    made: Mutex<Made>,
    places: Arc<Places>,
    workers: Vec<Worker>,
    checks: watch::Sender<Vec<CheckTarget>>,
    checker: JoinHandle<()>,
}

#[derive(Default)]
struct Listeners {
    open: Vec<(SocketAddr, Arc<ListenerState>)>,
    /// Removed, but with connections left.
    leaving: Vec<Arc<ListenerState>>,
}

impl DataPlane {
    /// Starts the workers, with an empty table and no listeners.
    ///
    /// # Errors
    ///
    /// [`ProxyError::Setting`] for no or too many workers, [`ProxyError::Worker`] when a thread
    /// cannot be started.
    pub fn start(settings: Settings) -> Result<Self, ProxyError> {
        if settings.workers == 0 || settings.workers > MAX_WORKERS {
            return Err(ProxyError::Setting {
                setting: "workers",
                value: settings.workers as u64,
                expected: "1 to 1024",
            });
        }
        let clock = Clock::start();
        let registry = Registry::new(settings.workers, clock);
        let empty = RouteTable::build(&TableSpec::default(), &registry)
            .expect("a table without routes and services contradicts nothing");
        let shared = Arc::new(Shared {
            table: ArcSwap::from_pointee(empty),
            clock,
            falls: registry.falls().clone(),
            observer: settings.observer,
            probe: settings.probe,
            shortages: Seldom::default(),
            loops: Seldom::default(),
        });
        let keepalive = settings.upstream_keepalive;
        let workers = (0..settings.workers)
            .map(|index| {
                let shared = Arc::clone(&shared);
                Worker::start(index, move || engine::app(WorkerId(index), shared, keepalive))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let (checks, targets) = watch::channel(Vec::new());
        let checker = start_checker(clock, targets, settings.workers)?;
        let (listeners, made, places) = (Mutex::default(), Mutex::default(), Arc::default());
        Ok(Self { shared, registry, listeners, made, places, workers, checks, checker })
    }

    /// Bounds the connections of all listeners together, whatever their own bounds; further ones
    /// get a 503 and are closed. Without a call there is no such bound.
    pub fn limit_connections(&self, limit: u64) {
        self.places.limit(limit);
    }

    /// Makes `specs` the addresses that are listened on.
    ///
    /// Listeners are told apart by address: one whose address stays keeps its sockets and
    /// connections, whatever else changes. New ones are bound, those no longer listed stop
    /// accepting and let their connections finish. One result per spec, in order: where it
    /// listens, or why it does not; a failure leaves the others in place.
    pub fn set_listeners(&self, specs: Vec<ListenerSpec>) -> Vec<Result<SocketAddr, ProxyError>> {
        let mut listeners = self.lock();
        listeners.remove_unlisted(&specs);
        let mut kept: Vec<(SocketAddr, String)> = Vec::with_capacity(specs.len());
        specs
            .into_iter()
            .map(|spec| {
                let (address, name) = (spec.address, spec.name.to_string());
                // Port 0 asks for any free port, so several may.
                let taken = kept.iter().find(|(other, _)| *other == address && other.port() != 0);
                if let Some((_, first)) = taken {
                    let first = first.clone();
                    return Err(ProxyError::DuplicateAddress { address, first, second: name });
                }
                kept.push((address, name));
                self.keep_or_add(&mut listeners, spec)
            })
            .collect()
    }

    fn keep_or_add(
        &self,
        listeners: &mut Listeners,
        spec: ListenerSpec,
    ) -> Result<SocketAddr, ProxyError> {
        let existing = listeners.open.iter().find(|(address, state)| {
            *address == spec.address && (address.port() != 0 || state.spec().name == spec.name)
        });
        if let Some((_, state)) = existing {
            state.update(spec);
            return Ok(state.local());
        }
        let address = spec.address;
        let (state, sockets) = listener::bind(&spec, self.workers.len(), &self.places)?;
        for (worker, socket) in self.workers.iter().zip(sockets) {
            worker.listen(Listen { listener: Arc::clone(&state), socket }).inspect_err(|_| {
                state.advance(Phase::Closed);
            })?;
        }
        let local = state.local();
        listeners.open.push((address, state));
        Ok(local)
    }

    /// Builds a table and makes every later request use it; those under way keep theirs.
    ///
    /// # Errors
    ///
    /// [`TableError`]; the table in force stays.
    pub fn publish(&self, spec: &TableSpec) -> Result<(), TableError> {
        let mut made = self.made();
        self.make(spec, &made.injected)?;
        made.spec.clone_from(spec);
        Ok(())
    }

    /// The table in force.
    #[must_use]
    pub fn table(&self) -> Arc<RouteTable> {
        self.shared.table.load_full()
    }

    /// What outlives tables: backends, budgets and meters.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Takes out everything counted since the last drain and refreshes what picks compare with.
    /// Call it once per tick.
    pub fn drain_meters(&self) -> Vec<ServiceDrain> {
        self.shared.table.load().refresh();
        self.registry.drain(self.shared.clock.now_ms())
    }

    /// Everything counted so far, for a scrape.
    #[must_use]
    pub fn totals(&self) -> Vec<ServiceTotals> {
        self.registry.totals()
    }

    /// Connection counts of every listener, those still draining included.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionCounts> {
        let mut listeners = self.lock();
        listeners.forget_drained();
        let open = listeners.open.iter().map(|(_, state)| state);
        open.chain(&listeners.leaving).map(|state| state.counts()).collect()
    }

    /// Stops accepting and lets requests finish for at most `grace`. Answers given meanwhile close
    /// their connection; idle connections are closed at once. There is no way back: listeners that
    /// are added later are closed by the next drain only.
    ///
    /// Returns how many connections had to be cut off in the middle of a request.
    pub async fn drain(&self, grace: Duration) -> usize {
        let states = self.lock().all();
        for state in &states {
            state.advance(Phase::Draining);
        }
        let drained = async {
            for state in &states {
                state.drained().await;
            }
        };
        let in_time = tokio::time::timeout(grace, drained).await.is_ok();
        for state in &states {
            state.advance(Phase::Closed);
        }
        if !in_time {
            let cut = async {
                for state in &states {
                    state.drained().await;
                }
            };
            if tokio::time::timeout(CUT, cut).await.is_err() {
                tracing::warn!("connections did not end when told to; their threads are ended");
            }
        }
        states.iter().map(|state| state.cut_off()).sum()
    }

    /// [`DataPlane::drain`], then ends every thread.
    ///
    /// Returns how many connections had to be cut off.
    pub async fn shutdown(self, grace: Duration) -> usize {
        let cut_off = self.drain(grace).await;
        let Self { workers, checks, checker, .. } = self;
        drop(checks);
        let threads: Vec<_> = workers.into_iter().map(Worker::stop).chain([checker]).collect();
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().map(JoinHandle::join).filter(Result::is_err).count()
        });
        match joined.await {
            Ok(0) => {}
            Ok(panicked) => tracing::error!(panicked, "threads of the data plane had panicked"),
            Err(error) => tracing::error!(%error, "waiting for the data plane's threads"),
        }
        cut_off
    }

    /// A panic while the lock was held leaves nothing half done that matters: listeners are added
    /// and removed whole.
    fn lock(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listeners {
    /// Starts the end of listeners that are not in `specs` and waits until their sockets are
    /// closed, so that an overlapping address, such as `0.0.0.0:80` for `127.0.0.1:80`, is free.
    fn remove_unlisted(&mut self, specs: &[ListenerSpec]) {
        self.forget_drained();
        let listed = |address: &SocketAddr, state: &ListenerState| {
            specs.iter().any(|spec| {
                spec.address == *address && (address.port() != 0 || spec.name == state.spec().name)
            })
        };
        let (open, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(|(address, state)| listed(address, state));
        self.open = open;
        for (_, state) in &gone {
            state.advance(Phase::Draining);
        }
        let deadline = Instant::now() + RELEASE;
        while gone.iter().any(|(_, state)| state.accepting() > 0) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.leaving.extend(gone.into_iter().map(|(_, state)| state));
    }

    fn forget_drained(&mut self) {
        self.leaving.retain(|state| state.active() > 0 || state.accepting() > 0);
    }

    fn all(&self) -> Vec<Arc<ListenerState>> {
        self.open.iter().map(|(_, state)| state).chain(&self.leaving).cloned().collect()
    }
}

impl fmt::Debug for DataPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataPlane").field("workers", &self.workers.len()).finish_non_exhaustive()
    }
}

/// Active health checks on a thread of their own, so that a busy worker never delays one.
fn start_checker(
    clock: Clock,
    mut targets: watch::Receiver<Vec<CheckTarget>>,
    workers: usize,
) -> Result<JoinHandle<()>, ProxyError> {
    let failed = |source| ProxyError::Worker { worker: workers, source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(failed)?;
    let run = async move {
        let mut checker = Checker::new(clock);
        while targets.changed().await.is_ok() {
            let current = targets.borrow_and_update().clone();
            checker.reconcile(current);
        }
    };
    std::thread::Builder::new()
        .name("proxy-health".to_owned())
        .spawn(move || runtime.block_on(run))
        .map_err(failed)
}
