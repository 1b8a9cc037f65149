//! The controller: all services, one observation in, one plan out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::demand::DemandForecast;
use crate::service::Service;
use crate::{
    FeedbackView, MigrationChoice, Observation, Plan, ReservationBasis, ServiceName,
    ServiceObservation, ServiceSpec,
};

/// Decides, tick by tick, what should happen to every service.
///
/// It is a value: clone it, serialise it, compare what two copies say. Equal controllers given
/// equal observations return equal plans; nothing in it depends on a clock, an address or the
/// order of a hash map.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Controller {
    pub(crate) services: BTreeMap<ServiceName, Service>,
}

impl Controller {
    /// A controller that has learned nothing yet. Of two specs with one name the later counts.
    #[must_use]
    pub fn new(specs: Vec<ServiceSpec>) -> Self {
        let mut controller = Self::default();
        controller.configure(specs);
        controller
    }

    /// Takes new specs; what was learned of services and instances that remain is kept.
    pub fn configure(&mut self, specs: Vec<ServiceSpec>) {
        let mut former = std::mem::take(&mut self.services);
        for (turn, spec) in (0..).zip(specs) {
            let name = spec.name.clone();
            let service = match former.remove(&name) {
                Some(mut service) => {
                    service.configure(spec, turn);
                    service
                }
                None => Service::new(spec, turn),
            };
            self.services.insert(name, service);
        }
    }

    /// The specs in force, ordered by name.
    #[must_use]
    pub fn specs(&self) -> Vec<ServiceSpec> {
        self.services.values().map(|service| service.spec().clone()).collect()
    }

    /// How decisions about a service turned out; nothing where it is not configured.
    #[must_use]
    pub fn feedback(&self, service: &ServiceName) -> Option<FeedbackView> {
        self.services.get(service).map(Service::feedback)
    }

    /// What reservations of a service are reckoned with, by its last tick, of which `seen` is what was seen;
    /// nothing before the first, and where it is not configured or has no provider of shadows.
    #[must_use]
    pub fn reservation_basis(&self, seen: &ServiceObservation) -> Option<ReservationBasis> {
        self.services.get(&seen.service)?.reservation_basis(seen)
    }

    /// Every instance of a service that could move and every place it could move to, best first, as the
    /// newest observation shows them: what a migration would do, without doing it. Empty where the
    /// service is not configured, is not in the observation, or has no pool.
    #[must_use]
    pub fn migration_choices(
        &self,
        observation: &Observation,
        service: &ServiceName,
    ) -> Vec<MigrationChoice> {
        let seen = observation.services.iter().find(|seen| seen.service == *service);
        let service = self.services.get(service);
        service.zip(seen).map_or_else(Vec::new, |(s, seen)| s.migration_choices(observation, seen))
    }

    /// Decides on one observation; forecasts come from each service's own forecaster.
    pub fn tick(&mut self, observation: &Observation) -> Plan {
        self.tick_with(observation, |_, forecast| forecast)
    }

    /// Like [`Controller::tick`], with `tell` between the forecaster and the laws.
    ///
    /// `tell` gets what the forecaster said and returns what the laws are told instead: the seam
    /// for another forecaster, and for tests that lie. Whatever it returns is taken as hostile.
    pub fn tick_with<F>(&mut self, observation: &Observation, mut tell: F) -> Plan
    where
        F: FnMut(&ServiceName, DemandForecast) -> DemandForecast,
    {
        let services = observation
            .services
            .iter()
            .map(|seen| match self.services.get_mut(&seen.service) {
                Some(service) => service.tick(observation, seen, &mut |f| tell(&seen.service, f)),
                None => Service::unconfigured(seen),
            })
            .collect();
        self.pass_on();
        Plan { tick: observation.tick, at_ms: observation.at_ms, services }
    }

    /// Passes what rules of one service ask of another on to that one's next tick. Of a service that
    /// is not there nothing can be asked.
    fn pass_on(&mut self) {
        let asks: Vec<_> =
            self.services.values_mut().flat_map(|service| service.rules.take_outgoing()).collect();
        for (name, service) in &mut self.services {
            service.rules.hear(name, &asks);
        }
    }
}
