//! Whether one more shadow may be made, and how that is refused.

use std::sync::Arc;
use std::time::Duration;

use foreshadow_control::{PlaceName, ServiceName};

use super::{Entry, State};
use crate::settings::ServiceShadows;

impl State {
    /// How shadows of a service are made in a place.
    pub(super) fn settings_of(
        &self,
        service: &ServiceName,
        place: &PlaceName,
    ) -> Result<Arc<ServiceShadows>, Refusal> {
        if let Some(settings) = self.services.get(&(service.clone(), place.clone())) {
            return Ok(Arc::clone(settings));
        }
        let is_known = self.services.keys().any(|(known, _)| known == service);
        let error = if is_known {
            format!("service {service} has no place {place} for shadows any more")
        } else {
            format!("service {service} has no provider of shadows")
        };
        Err(Refusal::now(error))
    }

    /// Whether one more shadow of a service could be made in one of its places.
    pub(super) fn has_room_for_another(&self, service: &ServiceName) -> bool {
        let mut places = self.services.iter().filter(|((known, _), _)| known == service);
        places.any(|((_, place), settings)| {
            self.has_room(service, settings.max).is_ok()
                && self.has_room_here(service, place, settings.max_here).is_ok()
        })
    }

    /// Refuses one more shadow in a place that has `max`. Those being ended there, or lost, are in the
    /// bound of the service.
    pub(super) fn has_room_here(
        &self,
        service: &ServiceName,
        place: &PlaceName,
        max: Option<u32>,
    ) -> Result<(), Refusal> {
        let here = |e: &&Entry| {
            e.view.service == *service && e.view.place == *place && !e.hidden && !e.lost
        };
        let exist = self.entries.values().filter(here).count();
        match max {
            Some(max) if exist >= max as usize => {
                Err(Refusal::now(format!("{exist} shadows exist in {place} and its max is {max}")))
            }
            _ => Ok(()),
        }
    }

    /// Refuses one more shadow of a service that has `max`.
    pub(super) fn has_room(&self, service: &ServiceName, max: u32) -> Result<(), Refusal> {
        /// Nobody who asks sees what is being ended, so nobody can tell when there is room again.
        const UNTIL_ENDED: Duration = Duration::from_secs(1);
        let all: Vec<_> = self.entries.values().filter(|e| e.view.service == *service).collect();
        let lost = all.iter().filter(|entry| entry.lost).count();
        let hidden = all.iter().filter(|entry| entry.hidden).count();
        let existing = all.len() - lost;
        if existing < max as usize {
            // What is lost takes no room, but may be running all the same: there is an end to it, too.
            if all.len() < max as usize * 2 {
                return Ok(());
            }
            return Err(Refusal::now(format!(
                "{lost} shadows that were lost cannot be confirmed to be gone, and the pool's max is {max}"
            )));
        }
        let mut error = format!("{existing} shadows exist and the pool's max is {max}");
        if existing - hidden >= max as usize {
            return Err(Refusal::now(error));
        }
        error += &format!("; {} of them are being ended", hidden);
        Err(Refusal { error, retry_in: UNTIL_ENDED })
    }
}

/// Why an action was not taken, and for how long the like will not be.
pub(super) struct Refusal {
    pub(super) error: String,
    pub(super) retry_in: Duration,
}

impl Refusal {
    pub(super) fn now(error: String) -> Self {
        Self { error, retry_in: Duration::ZERO }
    }
}
