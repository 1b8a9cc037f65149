//! Whether one more shadow may be made, and how that is refused.

use std::time::Duration;

use foreshadow_control::ServiceName;

use super::State;

impl State {
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
