//! Places in which shadows are made, and what happens to a creation there.

use foreshadow_control::{Fact, InstanceId, PlaceName, Role, Tier};

use super::{Provider, World};

/// What a place is like, where it is not as the world.
#[derive(Clone, Debug, Default)]
pub(crate) struct Site {
    pub(crate) zone: String,
    pub(crate) create_ms: Option<u64>,
    /// Every creation fails and asks for this back-off.
    pub(crate) fails: Option<u64>,
}

impl World {
    pub(super) fn make(&mut self, tier: Tier, place: &PlaceName) {
        let site = self.sites.get(place).cloned().unwrap_or_default();
        if let Some(retry_in_ms) = site.fails {
            return self.refuse(None, tier, retry_in_ms, place);
        }
        match self.provider {
            Provider::Works => {
                let id = self.add(Role::Shadow, Tier::Cold);
                let instance = self.instances.get_mut(&id).expect("it was added");
                (instance.zone, instance.place) = (site.zone, place.clone());
                self.begin(id, tier);
            }
            Provider::Fails(retry_in_ms) => self.refuse(None, tier, retry_in_ms, place),
            Provider::FailsUnseen(retry_in_ms) => {
                let id = InstanceId(self.next_id);
                self.next_id += 1;
                self.refuse(Some(id), tier, retry_in_ms, place);
            }
        }
    }

    fn refuse(
        &mut self,
        instance: Option<InstanceId>,
        to: Tier,
        retry_in_ms: u64,
        place: &PlaceName,
    ) {
        let (error, place) = ("out of memory".to_owned(), place.clone());
        self.facts.push(Fact::StepFailed { instance, to, error, retry_in_ms, place });
    }
}
