//! The end of an instance, which is told once to all who wait for it.

use tokio::sync::watch;

/// How an instance ended, as soon as that is known.
pub(crate) struct End(watch::Sender<Option<String>>);

impl Default for End {
    fn default() -> Self {
        Self(watch::channel(None).0)
    }
}

impl End {
    /// It has ended so. What was said first stands.
    pub(crate) fn tell(&self, how: String) {
        self.0.send_if_modified(|ended| {
            let first = ended.is_none();
            if first {
                *ended = Some(how);
            }
            first
        });
    }

    pub(crate) fn is_told(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Whoever waits on it learns it, even after it is told.
    pub(crate) fn wait(&self) -> watch::Receiver<Option<String>> {
        self.0.subscribe()
    }
}
