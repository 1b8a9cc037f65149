//! Scaling primaries by a service's own means: who is asked, how it goes, what is known by it.
//!
//! One task per service asks its [`Scaler`]: one call at a time, each within its time, with pauses
//! after failures. What waits is the newest wish only, and one that is withdrawn is not tried again.
//! What is about to be asked is written down before, so that a restart knows what may have been done.

mod book;
mod rows;
mod turnover;
mod worker;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use foreshadow_control::{InstanceId, ServiceName};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::book::Book;
use self::worker::Worker;
use crate::error::{ProviderError, ShadowError};
use crate::hash::fnv1a;
use crate::manager::Manager;
use crate::registry::Registry;

/// What can be told since the last time it was asked for, at most; the oldest gives way.
const MOST_EVENTS: usize = 256;

/// What scales the primaries of one service.
#[async_trait]
pub trait Scaler: Send + Sync + 'static {
    /// Its kind.
    fn name(&self) -> &'static str;

    /// What it leads to; another text means another set of primaries. May hold secrets.
    fn place(&self) -> String;

    /// What there is. Ends within its own time.
    ///
    /// # Errors
    /// When it cannot be asked, refuses, or answers what was not agreed.
    async fn look(&self) -> Result<Primaries, ProviderError>;

    /// Asks for so many primaries; asking twice for the same number is asking once. Returns what
    /// there is after that, which need not be as many yet. Ends within its own time.
    ///
    /// # Errors
    /// As for [`Scaler::look`].
    async fn scale(&self, primaries: u32) -> Result<Primaries, ProviderError>;

    /// Returns when something may have changed, where it can tell of that; else never.
    async fn changed(&self) {
        std::future::pending().await
    }
}

/// The primaries of a service as its scaler has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Primaries {
    /// How many are wanted there, whoever said so.
    pub wanted: u32,
    /// Where those are that can take requests.
    pub ready: Vec<SocketAddr>,
    /// Where those are that will end soon and must be given no more.
    pub leaving: Vec<SocketAddr>,
}

/// How the primaries of one service are scaled.
#[derive(Clone)]
pub struct ServiceScaling {
    /// The service.
    pub service: ServiceName,
    /// Whom to ask.
    pub scaler: Arc<dyn Scaler>,
    /// Time between two looks at what there is.
    pub poll: Duration,
    /// Primaries of the configuration: known without being listed.
    pub configured: Vec<SocketAddr>,
    /// Where no primary can be.
    pub barred: Barred,
}

/// Says of an address why no primary can be there; nothing where one can.
pub type Barred = Arc<dyn Fn(SocketAddr) -> Option<String> + Send + Sync>;

/// An order to a scaler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScaleWish {
    /// Primaries there should be.
    pub primaries: u32,
    /// How many there were before the first order, to go back to after a restart.
    pub original: u32,
}

/// A primary that a scaler has listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScaledPrimary {
    /// The same for the same address, always.
    pub id: InstanceId,
    /// Where it is.
    pub address: SocketAddr,
    /// Whether the configuration has it, too.
    pub configured: bool,
    /// Whether the newest answer lists it as ready.
    pub ready: bool,
    /// Whether it will end soon.
    pub leaving: bool,
    /// Whether the newest answer does not list it, which is not believed yet; `ready` still holds then.
    pub unlisted: bool,
    /// Time since it was first seen; absent where it was there before this process looked.
    pub joined_ms: Option<u64>,
}

/// How the scaling of one service stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScaledService {
    /// The kind of scaler.
    pub scaler: &'static str,
    /// The number wanted there by the newest good answer; none before the first.
    pub wanted: Option<u32>,
    /// The number asked for last and taken.
    pub asked: Option<u32>,
    /// The number before the first order.
    pub original: Option<u32>,
    /// The number that is being asked for, or will be again after a pause.
    pub asking: Option<u32>,
    /// Every primary that is known by it, ordered by id.
    pub primaries: Vec<ScaledPrimary>,
    /// Time since the newest good answer.
    pub answered_ms: Option<u64>,
    /// What was asked last and not done, what came back, and what happens next.
    pub trouble: Option<String>,
    /// Calls that failed since the newest good answer.
    pub failures: u32,
    /// Time until it is asked again after a failure.
    pub retry_in_ms: u64,
    /// Calls since the start, and how many of them failed.
    pub calls: (u64, u64),
}

/// Something that came of orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScaleEvent {
    /// An order was taken.
    Taken {
        /// The number wanted before.
        before: Option<u32>,
        /// The number asked for.
        asked: u32,
        /// The number wanted by the answer.
        wanted: u32,
    },
    /// An order, or the first look after a good one, failed; told once until one is good again.
    Failed {
        /// The number asked for; none for a look.
        asked: Option<u32>,
        /// What was asked, what came back, what happens next.
        error: String,
    },
    /// After failures it answers again.
    Recovered {
        /// How many calls failed.
        failures: u32,
    },
    /// A primary is there that was not.
    Joined(InstanceId, SocketAddr),
    /// A primary is gone.
    Left(InstanceId, SocketAddr),
    /// So many more joined and went than were told one by one, for at least a minute.
    Turnover {
        /// Those that joined.
        joined: u64,
        /// Those that are gone.
        left: u64,
    },
}

/// Scales primaries; a cheap handle.
#[derive(Clone)]
pub struct Scaling {
    shared: Arc<Shared>,
}

struct Shared {
    registry: Registry,
    /// Held for map operations only, never across an await and never by a request.
    services: Mutex<BTreeMap<ServiceName, Entry>>,
    events: Mutex<Vec<(ServiceName, ScaleEvent)>>,
}

struct Entry {
    place: String,
    wish: watch::Sender<Option<ScaleWish>>,
    book: Arc<Mutex<Book>>,
    task: JoinHandle<()>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Scaling {
    /// Starts to look after `services`, with what is known of them from before. Must be called on a
    /// Tokio runtime, which carries all its work.
    ///
    /// # Errors
    /// When the registry cannot be read.
    pub async fn start(
        manager: &Manager,
        services: Vec<ServiceScaling>,
    ) -> Result<Self, ShadowError> {
        let shared = Shared {
            registry: manager.registry(),
            services: Mutex::default(),
            events: Mutex::default(),
        };
        let scaling = Self { shared: Arc::new(shared) };
        scaling.reconfigure(services).await?;
        Ok(scaling)
    }

    /// Takes new settings. What is known of a service stays known as long as its scaler is the same.
    ///
    /// # Errors
    /// When the registry cannot be read or written; the services of before go on then.
    pub async fn reconfigure(&self, services: Vec<ServiceScaling>) -> Result<(), ShadowError> {
        rows::prepare(&self.shared.registry).await?;
        let mut entries = BTreeMap::new();
        for settings in services {
            let name = settings.service.clone();
            let scaler = format!("{} {}", settings.scaler.name(), settings.scaler.place());
            let place = fnv1a(scaler.into_bytes());
            let former = self
                .lock()
                .get(&name)
                .filter(|entry| entry.place == place)
                .map(|entry| (Arc::clone(&entry.book), entry.wish.borrow().clone()));
            let (book, wish) = match former {
                Some(former) => former,
                None => {
                    let row = rows::read(&self.shared.registry, &name, &place).await?;
                    let book = Book::of(row, &settings, &self.shared.registry).await?;
                    (Arc::new(Mutex::new(book)), None)
                }
            };
            lock(&book).configure(&settings);
            let (wish, wishes) = watch::channel(wish);
            let worker = Worker {
                shared: Arc::clone(&self.shared),
                place: place.clone(),
                book: Arc::clone(&book),
                wishes,
                settings,
            };
            entries.insert(name, (place, wish, book, worker));
        }
        let kept: Vec<ServiceName> = entries.keys().cloned().collect();
        rows::retain(&self.shared.registry, kept).await?;
        let mut services = self.lock();
        // Those of before end before the new ones begin: one call at a time.
        services.clear();
        for (name, (place, wish, book, worker)) in entries {
            let task = tokio::spawn(worker.run());
            services.insert(name, Entry { place, wish, book, task });
        }
        Ok(())
    }

    /// Sets the order that stands, or none. Returns at once; the newest counts.
    pub fn wish(&self, service: &ServiceName, wish: Option<ScaleWish>) {
        if let Some(entry) = self.lock().get(service) {
            entry.wish.send_if_modified(|standing| {
                let changed = *standing != wish;
                *standing = wish;
                changed
            });
        }
    }

    /// How every service stands.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<ServiceName, ScaledService> {
        let services = self.lock();
        services.iter().map(|(name, entry)| (name.clone(), lock(&entry.book).view())).collect()
    }

    /// What came of orders since the last call, oldest first; bounded.
    #[must_use]
    pub fn take_events(&self) -> Vec<(ServiceName, ScaleEvent)> {
        std::mem::take(&mut *self.shared.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks for nothing more.
    pub fn close(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServiceName, Entry>> {
        self.shared.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn tell(&self, service: &ServiceName, event: ScaleEvent) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() >= MOST_EVENTS {
            events.remove(0);
        }
        events.push((service.clone(), event));
    }
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}
