//! Telling of a source that fails: once, then seldom, then that it is over.

use std::time::Duration;

use tokio::time::Instant;

/// A source that goes on failing is told this often.
const TELL_AGAIN: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub(super) struct Trouble {
    told: Option<Instant>,
    failures: u64,
}

impl Trouble {
    pub(super) fn tell(&mut self, source: &str, error: &anyhow::Error) {
        self.failures += 1;
        if self.told.is_none_or(|told| told.elapsed() >= TELL_AGAIN) {
            self.told = Some(Instant::now());
            tracing::warn!(source, failures = self.failures, "no metrics: {error:#}");
        }
    }

    pub(super) fn over(&mut self, source: &str) {
        if self.told.take().is_some() {
            tracing::info!(source, failures = self.failures, "metrics again");
        }
        self.failures = 0;
    }
}
