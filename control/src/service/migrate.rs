//! What a migration would do, without doing it.

use super::Service;
use crate::{MigrationChoice, Observation, ServiceObservation};

impl Service {
    /// Who could move where, best first: a tick of a copy is asked, so that the answer is what the law
    /// itself would choose from.
    pub(crate) fn migration_choices(
        &self,
        observation: &Observation,
        seen: &ServiceObservation,
    ) -> Vec<MigrationChoice> {
        let mut copy = self.clone();
        copy.migration.asked = Some(Vec::new());
        let act = seen.mode == crate::Mode::Act && !observation.kill_switch;
        let mut outlook = copy.demand.outlook(&copy.demand.forecast(&copy.spec.quantiles));
        let (now_ms, window_ms) = (copy.clock.now_ms(), copy.spec.evaluation_window_ms);
        outlook.events = copy.announcements.observe(&seen.announced, &outlook, now_ms, window_ms);
        let in_force = copy.feedback.in_force(&copy.spec);
        copy.decide(seen, &outlook, in_force, observation, act);
        copy.migration.asked.unwrap_or_default()
    }
}
