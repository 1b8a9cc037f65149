//! A manager of providers that are no more than a test's own words, on a paused clock.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use foreshadow_control::ServiceName;
use foreshadow_shadow::{Manager, ManagerSettings, Provider, Readiness, ServiceShadows};
use tokio::time::Instant;

/// Everything is ready at once.
pub(crate) struct Ready;

#[async_trait]
impl Readiness for Ready {
    async fn ready(&self, _: &ServiceName, _: SocketAddr) -> Result<(), String> {
        Ok(())
    }
}

pub(crate) fn shop() -> ServiceName {
    ServiceName::from("shop")
}

/// A service with at most `max` shadows, whose parked ones are not checked.
pub(crate) fn pool(service: ServiceName, provider: Arc<dyn Provider>, max: u32) -> ServiceShadows {
    ServiceShadows { max, parked_check: None, ..ServiceShadows::new(service, provider) }
}

pub(crate) async fn manager(dir: &Path, services: Vec<ServiceShadows>, at_once: usize) -> Manager {
    let settings = ManagerSettings {
        state_dir: dir.to_owned(),
        services,
        janitors: Vec::new(),
        concurrent_creates: at_once,
    };
    Manager::start(settings, Arc::new(Ready)).await.unwrap()
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(600);
    while !so() {
        assert!(Instant::now() < end, "never came about: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
