//! What every provider must do, whatever it makes instances of: steps one by one, adoption, and
//! crashes in the middle of each.
//!
//! A provider under test is a [`Subject`]; [`opened`] knows them by name, so that a process that
//! crashes on purpose uses the same one as the test that started it.

pub(crate) mod crash;
pub(crate) mod fragile;
pub(crate) mod machines;
pub(crate) mod play;
pub(crate) mod pods;
pub(crate) mod points;
pub(crate) mod steps;
pub(crate) mod subjects;

use std::sync::Arc;

use foreshadow_control::InstanceId;
use foreshadow_shadow::Provider;

/// A provider under test, and a view of what it made that does not pass through it.
pub(crate) trait Subject: Send + Sync {
    /// A provider as a start of Foreshadow makes it, which knows nothing of earlier ones.
    fn provider(&self) -> Arc<dyn Provider>;
    /// The instances that really run, ordered; one that runs twice is there twice.
    fn running(&self) -> Vec<InstanceId>;
    /// Ends an instance as an accident would.
    fn kill(&self, id: InstanceId);
    /// Whether a frozen one still answers: functions are scaled, not stopped.
    fn freezes_by_size(&self) -> bool {
        false
    }
    /// Whether instances are kept apart until they are activated.
    fn isolates(&self) -> bool {
        false
    }
    /// Whether a share can be set; some providers know that only when they have asked.
    fn resizes(&self) -> bool {
        self.provider().capabilities().resize
    }
}
