//! What a controller has learned of one service, taken out to be kept and put back after a restart.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::service::Service;
use crate::{Controller, ServiceName};

/// All that is known of one service: forecasters, capacities, lead times, warm-up, what is under
/// way, and the spec it was learned under.
///
/// Opaque, and as private as the layout of the release that wrote it: whoever keeps it must see
/// that what is put back was written by the same layout and is whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Memory(Service);

/// How much of a memory was of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recalled {
    /// All of it.
    Whole,
    /// The spec asks for other horizons, quantiles or seasons, so the forecaster begins anew.
    WithoutForecast,
}

/// Why a memory was not taken up.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RecallError {
    /// No service of that name is configured.
    #[error("there is no service {0} any more; what was learned of it is left out")]
    Unconfigured(ServiceName),
}

impl Memory {
    /// The service it is of.
    #[must_use]
    pub fn service(&self) -> &ServiceName {
        &self.0.spec().name
    }
}

impl Controller {
    /// What is known of a service now; nothing where it is not configured.
    #[must_use]
    pub fn memory(&self, service: &ServiceName) -> Option<Memory> {
        self.services.get(service).cloned().map(Memory)
    }

    /// Puts a memory in place of what is known of its service, `gap_ms` after it was taken. The
    /// spec in force stays in force; what was learned is as uncertain as the gap has made it.
    ///
    /// # Errors
    /// When the service is not configured.
    pub fn recall(&mut self, memory: Memory, gap_ms: u64) -> Result<Recalled, RecallError> {
        let Memory(mut former) = memory;
        let name = &former.spec().name;
        let turn = self.services.keys().take_while(|other| *other < name).count() as u64;
        let Some(service) = self.services.get_mut(name) else {
            return Err(RecallError::Unconfigured(name.clone()));
        };
        let spec = service.spec().clone();
        let forecasts = !former.must_restart_for(&spec);
        former.configure(spec, turn);
        former.resume(gap_ms);
        *service = former;
        Ok(if forecasts { Recalled::Whole } else { Recalled::WithoutForecast })
    }
}
