//! What the services of a schedule are like, and how that is told to manager and controller.

use std::sync::Arc;
use std::time::Duration;

use foreshadow_control::{
    Capacity, Objective, PoolSpec, QuantileSpec, ServiceName, ServiceSpec, SizingSpec, WeightSpec,
};

use super::random::Random;
use super::seams::{Link, Wire};
use crate::backoff::BackoffPolicy;
use crate::provider::{Capabilities, Provider};
use crate::remote::{Places, Remote, Traits};
use crate::settings::{OnExit, ServiceShadows};

pub(super) const TICK_MS: u64 = 500;
/// What one instance carries.
pub(super) const CAPACITY_RPS: f64 = 100.0;

/// One service, as configured at the moment.
#[derive(Clone, Debug)]
pub(super) struct Nature {
    pub(super) name: &'static str,
    /// Whether it is in the configuration.
    pub(super) present: bool,
    /// Of its provider's settings.
    pub(super) version: u32,
    pub(super) pool: PoolSpec,
    pub(super) can: Capabilities,
    pub(super) start_timeout: Duration,
    pub(super) stop_timeout: Duration,
    pub(super) parked_check: Option<Duration>,
    on_exit: OnExit,
    pub(super) backoff: BackoffPolicy,
    /// Longest time for an answer.
    pub(super) timeout: Duration,
}

impl Nature {
    pub(super) fn drawn(name: &'static str, random: &mut Random) -> Self {
        let few = |random: &mut Random, most| u32::try_from(random.between(0, most)).unwrap_or(0);
        let seconds = |random: &mut Random, low: u64, high: u64| {
            Duration::from_millis(random.between(low * 1_000, high * 1_000))
        };
        let (shadow, warm, full) = (few(random, 2), few(random, 2), few(random, 1));
        let max = (shadow + warm + full).max(1) + few(random, 3);
        let backoff = BackoffPolicy {
            base: Duration::from_millis(200),
            max: seconds(random, 1, 10),
            stable_after: seconds(random, 2, 10),
        };
        let can = Capabilities {
            freeze: random.chance(0.8),
            resize: random.chance(0.8),
            snapshot: false,
        };
        Self {
            name,
            present: true,
            version: 1,
            pool: PoolSpec { shadow, warm, full, max },
            can,
            start_timeout: seconds(random, 2, 6),
            stop_timeout: seconds(random, 1, 4),
            parked_check: random.chance(0.5).then(|| seconds(random, 5, 20)),
            on_exit: if random.chance(0.5) { OnExit::Keep } else { OnExit::Destroy },
            backoff,
            timeout: seconds(random, 2, 8),
        }
    }

    /// With the usual times, and a pool of one parked and one warm.
    pub(super) fn usual(name: &'static str) -> Self {
        Self {
            name,
            present: true,
            version: 1,
            pool: PoolSpec { shadow: 1, warm: 1, full: 0, max: 4 },
            can: Capabilities { freeze: true, resize: true, snapshot: false },
            start_timeout: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(10),
            parked_check: Some(Duration::from_secs(60)),
            on_exit: OnExit::Destroy,
            backoff: BackoffPolicy::default(),
            timeout: Traits::default().timeout,
        }
    }

    pub(super) fn service(&self) -> ServiceName {
        ServiceName::from(self.name)
    }

    /// Shadows that the pool keeps where nothing else is asked for.
    pub(super) fn kept(&self) -> u32 {
        (self.pool.shadow + self.pool.warm + self.pool.full).min(self.pool.max)
    }

    /// As the manager is told of it.
    pub(super) fn shadows(&self, link: &Arc<Link>, places: &Places) -> ServiceShadows {
        let settings = format!("{} {} {:?}", self.name, self.version, self.can);
        let wire = Wire { link: Arc::clone(link), settings };
        let traits = Traits { can: self.can, timeout: self.timeout, ..Traits::default() };
        let provider: Arc<dyn Provider> = Arc::new(Remote::new(wire, traits, "owner", places));
        ServiceShadows {
            max: self.pool.max,
            start_timeout: self.start_timeout,
            stop_timeout: self.stop_timeout,
            parked_check: self.parked_check,
            on_exit: self.on_exit,
            backoff: self.backoff,
            ..ServiceShadows::new(self.service(), provider)
        }
    }

    /// As the controller is told of it.
    pub(super) fn spec(&self) -> ServiceSpec {
        ServiceSpec {
            name: self.service(),
            tick_ms: TICK_MS,
            objective: Objective { latency_ms: 200.0, latency_quantile: 0.99, error_rate: 0.001 },
            capacity: Capacity::Pinned(CAPACITY_RPS),
            target_utilisation: 0.7,
            pool: Some(self.pool),
            quantiles: QuantileSpec { prepare: 0.9, warm: 0.5, commit: 0.25 },
            weights: WeightSpec { slew_per_s: 0.5, hysteresis: 0.02 },
            horizon_ms: 10_000,
            seasons_ms: Vec::new(),
            evaluation_window_ms: 5_000,
            warm_up_ms: 1_000,
            feedback: true,
            rules: Vec::new(),
            signals: Vec::new(),
            places: Vec::new(),
            sizing: SizingSpec::default(),
            scaling: None,
            migration: foreshadow_control::MigrationSpec::default(),
            learning: foreshadow_control::LearningSpec::default(),
        }
    }
}
