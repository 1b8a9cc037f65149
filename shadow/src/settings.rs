//! What the manager is told: services, their provider, limits and times.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use foreshadow_control::{InstanceId, PlaceName, ResourceSample, ServiceName, Tier};

use crate::backoff::BackoffPolicy;
use crate::provider::Provider;

/// Everything the manager needs to start.
pub struct ManagerSettings {
    /// Directory of the state database (`foreshadow.db`), the lock and the instances' output.
    pub state_dir: PathBuf,
    /// The services that have shadows, once for each of their places.
    pub services: Vec<ServiceShadows>,
    /// One provider of each kind that may have made instances in earlier runs; it ends those
    /// whose service is no longer configured and sweeps what a crash left behind.
    pub janitors: Vec<Arc<dyn Provider>>,
    /// Instances of one service being made at the same time; further ones wait their turn, so that a
    /// provider that is slow for one holds no other up. At one place (an engine, an endpoint, a
    /// command) four times as many are made, whatever their services, and where that is work of this
    /// machine no more than this in all. Becoming ready does not count, so that an instance that hangs
    /// holds nobody up.
    pub concurrent_creates: usize,
}

/// Whether shadows outlive a graceful stop of Foreshadow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnExit {
    /// End them.
    #[default]
    Destroy,
    /// Leave them running; the next start adopts them.
    Keep,
}

/// How the shadows of one service are made and kept in one place.
#[derive(Clone)]
pub struct ServiceShadows {
    /// The service.
    pub service: ServiceName,
    /// The place, distinct among those of the service.
    pub place: PlaceName,
    /// What makes its instances.
    pub provider: Arc<dyn Provider>,
    /// Bound on all shadows of the service that exist at once, those being made or ended included. Of those
    /// that ended by themselves and cannot be confirmed to be gone there may be as many again.
    pub max: u32,
    /// Bound on those of the place, likewise; `None` where only that of the service counts.
    pub max_here: Option<u32>,
    /// Processor share at the warm tier, percent of one core.
    pub warm_cpu_percent: u32,
    /// An instance must answer its readiness check within this time of being made or woken.
    pub start_timeout: Duration,
    /// Time an instance has to end by itself before it is killed.
    pub stop_timeout: Duration,
    /// How often a parked shadow is woken, probed and put back; `None` never does.
    pub parked_check: Option<Duration>,
    /// Zone reported for its instances; empty for none.
    pub zone: String,
    /// What becomes of its instances when Foreshadow stops.
    pub on_exit: OnExit,
    /// Pauses after failures to make an instance.
    pub backoff: BackoffPolicy,
}

impl ServiceShadows {
    /// A service with the defaults, in the place without a name: at most 4 shadows, 10 % of a core when warm, 30 s to start,
    /// 10 s to stop, a parked check every 60 s, destroyed on exit.
    #[must_use]
    pub fn new(service: ServiceName, provider: Arc<dyn Provider>) -> Self {
        Self {
            service,
            place: PlaceName::default(),
            provider,
            max: 4,
            max_here: None,
            warm_cpu_percent: 10,
            start_timeout: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(10),
            parked_check: Some(Duration::from_secs(60)),
            zone: String::new(),
            on_exit: OnExit::Destroy,
            backoff: BackoffPolicy::default(),
        }
    }
}

/// Says whether an instance can take requests, by the service's own health check.
#[async_trait]
pub trait Readiness: Send + Sync + 'static {
    /// One check. Must end by itself within a time of its own; the manager repeats it.
    ///
    /// # Errors
    /// Why the instance is not ready, as text.
    async fn ready(&self, service: &ServiceName, address: SocketAddr) -> Result<(), String>;
}

/// One shadow as it stands now.
#[derive(Clone, Debug, PartialEq)]
pub struct ShadowInstance {
    /// The instance.
    pub id: InstanceId,
    /// The service it belongs to.
    pub service: ServiceName,
    /// Where it answers; absent until the provider has made it.
    pub address: Option<SocketAddr>,
    /// The tier it has reached; [`Tier::Cold`] while it is being made.
    pub tier: Tier,
    /// The tier it is being moved to; [`Tier::Cold`] while it is being ended.
    pub moving_to: Option<Tier>,
    /// Time since it reached its tier, in milliseconds.
    pub tier_age_ms: u64,
    /// Where it runs; empty when the configuration names no zone.
    pub zone: String,
    /// In which of its service's places it was made.
    pub place: PlaceName,
    /// The kind of provider that made it.
    pub provider: &'static str,
    /// Its process, where the provider has one on this machine.
    pub pid: Option<u32>,
    /// How many instances of the service failed or ended by themselves before this one was made,
    /// since Foreshadow started.
    pub restarts: u64,
    /// Whether it was made under settings that have changed since; it will be replaced once it
    /// does not serve.
    pub outdated: bool,
    /// What it uses of its machine, as last read; absent where its provider cannot tell.
    pub resources: Option<ResourceSample>,
}
