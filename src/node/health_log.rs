//! Log lines for backends that go down and come back, which plans do not speak of.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use foreshadow_control::{Health, InstanceId, InstanceObservation, Observation, Role, Tier};

/// What the log last said of each instance that serves or should.
#[derive(Default)]
pub(super) struct HealthLog {
    said: BTreeMap<InstanceId, Health>,
}

impl HealthLog {
    /// Logs what has changed since the last call.
    pub(super) fn tell(
        &mut self,
        observation: &Observation,
        addresses: &BTreeMap<InstanceId, SocketAddr>,
    ) {
        let mut present = BTreeMap::new();
        for seen in &observation.services {
            for instance in seen.instances.iter().filter(|instance| counts(instance)) {
                let before = self.said.remove(&instance.instance);
                let address = addresses.get(&instance.instance).map(ToString::to_string);
                let address = address.unwrap_or_default();
                let service = seen.service.as_str();
                let id = instance.instance.0;
                match change(before.as_ref(), &instance.health) {
                    Some(Change::Bad(text)) => {
                        tracing::warn!(service, instance = id, address, "{text}");
                    }
                    Some(Change::Good) => {
                        tracing::info!(service, instance = id, address, "backend is up again");
                    }
                    None => {}
                }
                present.insert(instance.instance, instance.health.clone());
            }
        }
        self.said = present;
    }
}

/// Shadows that do not serve are told of by the Shadow Instance Manager.
fn counts(instance: &InstanceObservation) -> bool {
    instance.role == Role::Primary || instance.tier == Tier::Serving
}

#[derive(Debug, PartialEq)]
enum Change {
    Good,
    Bad(String),
}

/// What is worth a line; another reason for the same state is not.
fn change(before: Option<&Health>, now: &Health) -> Option<Change> {
    match (before, now) {
        (Some(Health::Down(_)), Health::Down(_)) | (Some(Health::Ejected), Health::Ejected) => None,
        (_, Health::Down(why)) => Some(Change::Bad(format!("backend is down: {why}"))),
        (_, Health::Ejected) => {
            Some(Change::Bad("backend answers badly and sits out for a while".to_owned()))
        }
        (Some(Health::Down(_) | Health::Ejected), Health::Up) => Some(Change::Good),
        (_, Health::Up | Health::Unknown) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_told() {
        let down = |why: &str| Health::Down(why.to_owned());
        let bad = |text: &str| Some(Change::Bad(text.to_owned()));
        for (before, now, expected) in [
            (None, Health::Unknown, None),
            (None, Health::Up, None),
            (Some(Health::Unknown), Health::Up, None),
            (Some(Health::Unknown), down("refused"), bad("backend is down: refused")),
            (Some(Health::Up), down("refused"), bad("backend is down: refused")),
            (Some(down("refused")), down("timed out"), None),
            (Some(down("refused")), Health::Up, Some(Change::Good)),
            (Some(Health::Ejected), Health::Up, Some(Change::Good)),
            (
                Some(Health::Up),
                Health::Ejected,
                bad("backend answers badly and sits out for a while"),
            ),
        ] {
            assert_eq!(change(before.as_ref(), &now), expected, "{before:?} -> {now:?}");
        }
    }
}
