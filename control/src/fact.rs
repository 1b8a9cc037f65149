//! What happened between two ticks.

use serde::{Deserialize, Serialize};

use crate::{InstanceId, PlaceName, Tier};

/// Something that happened between two ticks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "fact")]
pub enum Fact {
    /// A provider step finished.
    TierReached {
        /// The instance.
        instance: InstanceId,
        /// Where it came from; [`Tier::Cold`] when it was created.
        from: Tier,
        /// Where it is now.
        tier: Tier,
        /// How long the step took: one sample of the lead time.
        took_ms: u64,
    },
    /// A provider step failed; the provider tries again by itself only if it says when.
    StepFailed {
        /// The instance, where one exists.
        instance: Option<InstanceId>,
        /// The tier that was not reached.
        to: Tier,
        /// What went wrong.
        error: String,
        /// Steps of this kind are refused for this long: the back-off.
        retry_in_ms: u64,
        /// Where.
        #[serde(default, skip_serializing_if = "PlaceName::is_default")]
        place: PlaceName,
    },
    /// The process or container of a shadow ended by itself.
    Exited {
        /// The instance; it is no longer among the instances.
        instance: InstanceId,
        /// The tier it had.
        tier: Tier,
        /// Exit code or signal, as text.
        detail: String,
    },
    /// A shadow that was running before a restart of Foreshadow was taken over.
    Adopted {
        /// The instance.
        instance: InstanceId,
        /// The tier it was found in.
        tier: Tier,
    },
}
