//! What is shown of a shadow that is being ended.

use foreshadow_control::Tier;
use tokio::time::Instant;

use super::runner::Runner;

impl Runner {
    /// Takes it out of what is shown: it is of no use any more.
    pub(super) fn hide(&self) {
        self.inner.update(self.id, |entry| {
            entry.hidden = true;
            entry.view.tier = Tier::Cold;
            entry.view.moving_to = Some(Tier::Cold);
            entry.view.outdated = false;
        });
    }

    /// Shows it again, as what it is: on its way out, and still there.
    pub(super) fn show_unended(&self) {
        self.inner.update(self.id, |entry| {
            if std::mem::take(&mut entry.hidden) {
                entry.since = Instant::now();
                // It was given up before: it is one of those that have a bound of their own.
                entry.lost = true;
            }
            entry.view.moving_to = Some(Tier::Cold);
        });
    }
}
