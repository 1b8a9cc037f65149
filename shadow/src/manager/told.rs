//! What a provider tells of a shadow from time to time, read beside all else.

use std::sync::Arc;
use std::time::Duration;

use foreshadow_control::ResourceSample;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::runner::Runner;
use super::{Inner, replace};
use crate::provider::{Provider, Usage};

/// How often it is read what an instance uses.
pub(super) const USAGE_EVERY: Duration = Duration::from_secs(1);
/// How often it is asked whether what an instance was made after has changed since.
const ROLLOUT_EVERY: Duration = Duration::from_secs(30);
/// Longest time to read it; it is not known then.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a provider told.
pub(super) struct Told {
    usage: Usage,
    /// What it was made after has changed since.
    outdated: bool,
}

impl Runner {
    /// Begins to read what it uses, unless that is under way.
    pub(super) fn read_usage(&mut self) {
        let now = Instant::now();
        self.usage_at = now + USAGE_EVERY;
        let (Some(handle), true) = (self.handle.clone(), self.usage.is_empty()) else { return };
        let provider = Arc::clone(&self.settings.provider);
        let asks = now >= self.rollout_at;
        if asks {
            self.rollout_at = now + ROLLOUT_EVERY;
        }
        self.usage.spawn(async move {
            let usage = tokio::time::timeout(PATIENCE, provider.usage(&handle)).await;
            let usage = usage.unwrap_or_default();
            let asked = tokio::time::timeout(PATIENCE, provider.is_outdated(&handle));
            let outdated = asks && asked.await.unwrap_or(false);
            Told { usage, outdated }
        });
    }

    /// Shows what was told, for the next tick to see.
    pub(super) fn show(&mut self, Told { usage, outdated }: Told) {
        let mut sample = usage.sample;
        let now = Instant::now();
        let cpu_read = usage.cpu_us.map(|us| (us, now));
        if let (Some((us, _)), Some((before_us, before))) = (cpu_read, self.cpu_read) {
            let elapsed_us = now.saturating_duration_since(before).as_secs_f64() * 1e6;
            let used_us = us.saturating_sub(before_us) as f64;
            sample.cpu_cores = (elapsed_us > 0.0).then_some(used_us / elapsed_us);
        }
        self.cpu_read = cpu_read;
        let since_start = self.inner.now();
        let mut state = self.inner.lock();
        if let Some(entry) = state.entries.get_mut(&self.id) {
            entry.view.resources = (sample != ResourceSample::default()).then_some(sample);
            if entry.view.outdated {
                replace::carry_on(&mut state, &self.settings.service, since_start);
            }
        }
        if outdated {
            replace::found(&mut state, self.id, &self.settings.service);
        }
    }
}

/// Lets every provider give back what it holds only while Foreshadow runs.
pub(super) async fn leave(inner: &Inner) {
    let all: Vec<Arc<dyn Provider>> =
        inner.lock().services.values().map(|service| Arc::clone(&service.provider)).collect();
    let mut leaving = JoinSet::new();
    for provider in all {
        leaving.spawn(async move { provider.leave().await });
    }
    leaving.join_all().await;
}
