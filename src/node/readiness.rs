//! Readiness of new instances by the service's own health check.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use foreshadow_config::Config;
use foreshadow_control::ServiceName;
use foreshadow_proxy::HealthCheck;
use foreshadow_shadow::Readiness;

use super::translate::health_check;

/// The checks of all services, replaced whole on reload.
#[derive(Debug)]
pub(super) struct ByHealthCheck(ArcSwap<BTreeMap<ServiceName, HealthCheck>>);

impl ByHealthCheck {
    pub(super) fn new(config: &Config) -> Self {
        Self(ArcSwap::from_pointee(checks(config)))
    }

    pub(super) fn replace(&self, config: &Config) {
        self.0.store(std::sync::Arc::new(checks(config)));
    }
}

fn checks(config: &Config) -> BTreeMap<ServiceName, HealthCheck> {
    let all = config.services.iter();
    all.map(|(name, service)| (name.clone(), health_check(&service.health))).collect()
}

#[async_trait]
impl Readiness for ByHealthCheck {
    async fn ready(&self, service: &ServiceName, address: SocketAddr) -> Result<(), String> {
        let check = self.0.load().get(service).cloned();
        let check = check.ok_or_else(|| format!("service {service} is no longer configured"))?;
        foreshadow_proxy::probe(address, &check).await.map_err(|error| error.to_string())
    }
}
