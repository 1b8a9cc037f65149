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
    /// This part of the creations fails when it should be done, 0 to 1, and asks for a back-off of 500 ms.
    pub(crate) flaky: f64,
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

    /// Whether a creation that would be done now fails; it leaves the shadow cold.
    pub(super) fn spoils(&mut self, id: InstanceId, from: Tier, to: Tier) -> bool {
        let place = self.instances.get(&id).map(|i| i.place.clone()).unwrap_or_default();
        let flaky = self.sites.get(&place).map_or(0.0, |site| site.flaky);
        // Draws nothing where creations never fail.
        let spoiled = from == Tier::Cold && flaky > 0.0 && self.random.unit() < flaky;
        if spoiled {
            self.refuse(Some(id), to, 500, &place);
        }
        spoiled
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
