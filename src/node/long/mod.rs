//! Forecasts of an hour, a day and a week, fitted to kept history on a thread of their own and
//! published whole: the loop and the admin interface only ever read them.

mod calendar;
mod categories;
mod curve;
mod fit;
mod heard;
mod network;
mod regressors;
mod score;
mod spans;
mod unforeseen;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use foreshadow_config::Config;
use foreshadow_control::{DemandHorizon, Foreseen, ServiceName, Sight, Told};

use super::Shared;
use super::decisions::Event;
use super::history::Resolution;
use fit::Fitter;

pub(crate) use curve::Curve;
pub(crate) use network::read as read_network;
pub(crate) use spans::Unseen;

/// How far a curve looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// An hour, minute by minute.
    Hour,
    /// A day, in quarters of an hour.
    Day,
    /// A week, hour by hour.
    Week,
}

impl Reach {
    /// From the shortest to the longest.
    pub(crate) const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Week];

    /// How it is written.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "1h",
            Self::Day => "1d",
            Self::Week => "1w",
        }
    }

    /// Its length.
    pub(crate) fn ms(self) -> u64 {
        match self {
            Self::Hour => Told::REACH_MS,
            Self::Day => 86_400_000,
            Self::Week => 7 * 86_400_000,
        }
    }

    /// What it is fitted to.
    pub(crate) fn resolution(self) -> Resolution {
        match self {
            Self::Hour => Resolution::Minute,
            Self::Day => Resolution::Quarter,
            Self::Week => Resolution::Hour,
        }
    }

    /// History that it is fitted to, at most: as much of it as is like the time to come.
    fn history_ms(self) -> u64 {
        match self {
            Self::Hour => Told::HISTORY_MS,
            Self::Day => 56 * 86_400_000,
            Self::Week => 366 * 86_400_000,
        }
    }

    /// Spans of history it cannot do without.
    pub(crate) fn least_spans(self) -> usize {
        match self {
            Self::Hour => Told::LEAST_STEPS,
            Self::Day => 16,
            Self::Week => 24,
        }
    }

    /// Time between two fits.
    fn every_ms(self) -> u64 {
        match self {
            Self::Hour => Told::EVERY_MS,
            Self::Day => 900_000,
            Self::Week => 3_600_000,
        }
    }
}

/// The curves of one service.
pub(crate) type Curves = BTreeMap<Reach, Arc<Curve>>;

/// Occurrences of calendars and rules by service, each by start.
pub(crate) type Calendar = BTreeMap<ServiceName, Vec<Event>>;

/// All curves in force.
#[derive(Default)]
pub(crate) struct LongForecasts {
    curves: ArcSwap<BTreeMap<ServiceName, Curves>>,
    /// Occurrences of calendars and rules that have not ended, for the next days.
    calendar: ArcSwap<Calendar>,
    /// Why curves could not be fitted when it was last tried.
    failures: ArcSwap<BTreeMap<(ServiceName, Reach), String>>,
    /// Services whose curves are to be fitted anew.
    renewed: Mutex<BTreeSet<ServiceName>>,
    /// Wakes the thread, and ends it when it is gone.
    wake: Mutex<Option<SyncSender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl LongForecasts {
    /// Starts fitting, where history is kept, and looking calendars up: nobody waits for either.
    /// Without them everything else goes on, so that a thread that cannot be had is only said.
    pub(crate) fn start(shared: &Arc<Shared>) {
        let (wake, woken) = sync_channel(1);
        let mut fitter = Fitter::default();
        let work = Arc::clone(shared);
        let thread = std::thread::Builder::new().name("forecast".to_owned()).spawn(move || {
            let mut rest = Duration::ZERO;
            while woken.recv_timeout(rest) != Err(RecvTimeoutError::Disconnected) {
                rest = fitter.step(&work);
            }
        });
        match thread {
            Ok(thread) => {
                *lock(&shared.long.wake) = Some(wake);
                *lock(&shared.long.thread) = Some(thread);
            }
            Err(error) => {
                tracing::error!(%error, "neither forecasts of hours nor calendars: no thread for them")
            }
        }
    }

    /// Has calendars and rules looked up at once, since the configuration is another.
    pub(crate) fn reconfigured(&self) {
        if let Some(wake) = &*lock(&self.wake) {
            // Full: it will look anyway. Gone: that was said, or it is being ended.
            wake.try_send(()).ok();
        }
    }

    /// Ends fitting.
    pub(crate) fn close(&self) {
        drop(lock(&self.wake).take());
        if lock(&self.thread).take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that fits forecasts had panicked; please report this");
        }
    }

    /// The curve of a service, where one was fitted.
    pub(crate) fn curve(&self, service: &ServiceName, reach: Reach) -> Option<Arc<Curve>> {
        self.curves.load().get(service)?.get(&reach).cloned()
    }

    /// Why the curve of a service could not be fitted when it was last tried, if so.
    pub(crate) fn failure(&self, service: &ServiceName, reach: Reach) -> Option<String> {
        self.failures.load().get(&(service.clone(), reach)).cloned()
    }

    /// What the controller is told of a service's demand from `at_ms` on; nothing where there is no
    /// curve, or none that is fresh.
    pub(crate) fn points(&self, service: &ServiceName, at_ms: u64) -> Vec<DemandHorizon> {
        let curves = self.curves.load();
        let hour = curves.get(service).and_then(|curves| curves.get(&Reach::Hour));
        hour.map_or_else(Vec::new, |curve| curve.told.points(at_ms))
    }

    /// What rules are told of a service's demand, of each of `sights` by the shortest curve that reaches
    /// so far and is of use.
    pub(crate) fn foreseen(
        &self,
        service: &ServiceName,
        sights: &[Sight],
        at_ms: u64,
    ) -> Vec<Foreseen> {
        if sights.is_empty() {
            return Vec::new();
        }
        let curves = self.curves.load();
        let Some(curves) = curves.get(service) else { return Vec::new() };
        let by_curve = |sight: &Sight| {
            let reaching = curves.iter().filter(|(reach, _)| reach.ms() >= sight.ahead_ms);
            reaching.map(|(_, curve)| curve).find_map(|curve| curve.foreseen(*sight, at_ms))
        };
        sights.iter().filter_map(by_curve).collect()
    }

    /// The lift of an announced event: as announced, and the more as its repeats have shown the more
    /// there were of them; at `at_ms`, since it may depend on the time of day.
    pub(crate) fn lift(&self, service: &ServiceName, event: &Event, at_ms: u64) -> f64 {
        let (name, announced) = (&event.name, event.lift);
        let at_ms = at_ms.max(event.start_ms);
        let curves = self.curves.load();
        let known = curves.get(service).into_iter().flat_map(BTreeMap::values);
        let lifts = known.flat_map(|curve| &curve.lifts).filter(|lift| lift.name == *name);
        lifts
            .max_by_key(|lift| lift.repeats)
            .map_or(announced, |lift| lift.blended(announced, at_ms))
    }

    /// Occurrences of calendars and rules that have not ended.
    pub(crate) fn calendar(&self) -> Arc<Calendar> {
        self.calendar.load_full()
    }

    /// Announced events and those of calendars of a service that have not ended, by start. Blocks on the disk.
    ///
    /// # Errors
    /// When the state database cannot be read.
    pub(crate) fn events(
        shared: &Shared,
        service: &ServiceName,
        now_ms: u64,
    ) -> anyhow::Result<Vec<foreshadow_predictor::long::Event>> {
        calendar::coming_of(shared, service, now_ms)
    }

    fn publish(&self, service: &ServiceName, reach: Reach, curve: Curve, config: &Config) {
        let mut all = BTreeMap::clone(&self.curves.load());
        all.retain(|name, _| config.services.contains_key(name));
        all.entry(service.clone()).or_default().insert(reach, Arc::new(curve));
        self.curves.store(Arc::new(all));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
