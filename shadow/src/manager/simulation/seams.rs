//! What joins a manager to the world: a provider's transport, health checks, chance, the date and the
//! registry, all of them on the world's clock.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use foreshadow_control::ServiceName;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::weather::Trouble;
use super::world::{Point, World};
use crate::clerk::Clerk;
use crate::error::{Cause, ProviderError};
use crate::ground::Ground;
use crate::remote::{Operation, Request, Transport};
use crate::settings::Readiness;

/// Unix time at which every world begins.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// The world as the tasks of one life of a manager reach it.
pub(super) struct Link {
    world: Arc<Mutex<World>>,
    /// When this life began, by the runtime's clock and by the world's.
    began: (Instant, u64),
    /// The manager has been struck down.
    pub(super) struck: Notify,
}

impl Link {
    /// Must be made on the runtime of that life.
    pub(super) fn new(world: &Arc<Mutex<World>>) -> Arc<Self> {
        let now_ms = locked(world).now_ms;
        let (world, began) = (Arc::clone(world), (Instant::now(), now_ms));
        Arc::new(Self { world, began, struck: Notify::new() })
    }

    /// The world as it is now.
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        let since_ms = u64::try_from(self.began.0.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut world = locked(&self.world);
        world.advance(self.began.1 + since_ms);
        world
    }

    /// Where the manager may be struck down; never returns in one that was.
    async fn pass(&self, point: Point) {
        if self.world().strikes(point) {
            self.struck.notify_one();
            std::future::pending::<()>().await;
        }
    }

    /// What a manager stands on in this world.
    pub(super) fn ground(self: &Arc<Self>) -> Arc<Ground> {
        let (chance, date, registry) = (Arc::clone(self), Arc::clone(self), Arc::clone(self));
        Arc::new(Ground {
            chance: Box::new(move || chance.world().random.unit()),
            unix_ms: Box::new(move || EPOCH_MS + date.world().now_ms),
            registrar: Box::new(move |clerk| {
                drop(tokio::spawn(work_off(Arc::clone(&registry), clerk)));
                Ok(())
            }),
        })
    }
}

pub(super) fn locked(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The registry's work as a task, on the clock of the world.
async fn work_off(link: Arc<Link>, clerk: Clerk) {
    let Some((mut db, mut queue)) = clerk.open() else { return };
    db.pragma_update(None, "synchronous", "OFF").expect("it takes no effect from outside");
    let mut read_only = false;
    while let Some(job) = queue.recv().await {
        link.pass(Point::BeforeTheRegistry).await;
        let (slow, cannot, usual) = {
            let mut world = link.world();
            let usual = world.random.between(0, 3);
            (world.has(Trouble::RegistrySlow), world.has(Trouble::RegistryReadOnly), usual)
        };
        tokio::time::sleep(Duration::from_millis(if slow { 500 } else { usual })).await;
        if cannot != read_only {
            db.pragma_update(None, "query_only", cannot).expect("it may be set at any time");
            read_only = cannot;
        }
        job(&mut db);
        link.pass(Point::AfterTheRegistry).await;
    }
}

/// Reaches the provider of this world.
pub(super) struct Wire {
    pub(super) link: Arc<Link>,
    /// Changes with the settings of the service.
    pub(super) settings: String,
}

#[async_trait]
impl Transport for Wire {
    fn kind(&self) -> &'static str {
        "simulated"
    }
    fn place(&self) -> String {
        "the world".to_owned()
    }
    fn settings(&self) -> String {
        self.settings.clone()
    }
    fn can_wait(&self) -> bool {
        false
    }
    async fn settle(&self) -> Result<(), ProviderError> {
        Ok(())
    }

    async fn ask(
        &self,
        operation: Operation,
        request: &Request,
        patience: Duration,
    ) -> Result<serde_json::Value, ProviderError> {
        self.link.pass(Point::BeforeAsking).await;
        let ticket = self.link.world().order(operation, request);
        let name = request.instance.clone().unwrap_or_default();
        let refused = |cause, came_back| ProviderError::Refused {
            cause,
            asked: format!("the world to {} {name}", operation.word()),
            came_back,
        };
        let in_time = ticket.answer_in_ms.map(Duration::from_millis).filter(|ms| *ms <= patience);
        tokio::time::sleep(in_time.unwrap_or(patience)).await;
        let outcome = self.link.world().outcome(ticket.number);
        self.link.pass(Point::AfterTheAnswer).await;
        match outcome.filter(|_| in_time.is_some()) {
            Some(outcome) => outcome.map_err(|(cause, came_back)| refused(cause, came_back)),
            None => Err(refused(Cause::Late, "no answer in time".to_owned())),
        }
    }
}

/// Health checks of this world.
pub(super) struct Checks(pub(super) Arc<Link>);

#[async_trait]
impl Readiness for Checks {
    async fn ready(&self, _: &ServiceName, address: SocketAddr) -> Result<(), String> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.0.world().answers(address.port())
    }
}
