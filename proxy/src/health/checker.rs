//! Checks every backend at its own pace, as long as it exists.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use foreshadow_control::InstanceId;
use tokio::task::JoinHandle;

use super::verdict::CheckFailure;
use super::{CheckKind, HealthCheck, ProbeError, probe};
use crate::backend::{Backend, Clock};
use crate::shortage::Seldom;

/// How a backend without a configured check is looked at, but only while it refuses connections.
const RECOVERY: HealthCheck = HealthCheck {
    kind: CheckKind::Tcp,
    interval: Duration::from_secs(1),
    timeout: Duration::from_secs(1),
    rise: 2,
    fall: u32::MAX,
};

/// A backend and how to check it.
#[derive(Clone, Debug)]
pub struct CheckTarget {
    /// The backend; its results are stored in it.
    pub backend: Arc<Backend>,
    /// The check. Without one, a backend that refused a connection is tried once a second until it
    /// accepts again: the controller takes its weight away, so no request would find that out.
    pub check: Option<HealthCheck>,
}

/// Runs one task per target on the runtime it is used on; all end when it is dropped.
#[derive(Debug)]
pub struct Checker {
    clock: Clock,
    running: HashMap<InstanceId, Running>,
    shortages: Arc<Seldom>,
}

#[derive(Debug)]
struct Running {
    backend: Weak<Backend>,
    check: Option<HealthCheck>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Checker {
    /// A checker without targets.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, running: HashMap::new(), shortages: Arc::default() }
    }

    /// Makes `targets` the ones that are checked: new ones start at a random phase of their
    /// interval, those no longer listed end, unchanged ones go on undisturbed. Where a check was
    /// changed or removed, its old verdict is forgotten.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn reconcile(&mut self, targets: Vec<CheckTarget>) {
        let mut before = std::mem::take(&mut self.running);
        for CheckTarget { backend, check } in targets {
            let id = backend.id();
            let kept = before.remove(&id).filter(|old| {
                old.check == check && Weak::ptr_eq(&old.backend, &Arc::downgrade(&backend))
            });
            let running = kept.unwrap_or_else(|| {
                backend.forget_checks();
                start(&backend, check, self.clock, &self.shortages)
            });
            self.running.insert(id, running);
        }
        for gone in before.into_values() {
            if let Some(backend) = gone.backend.upgrade() {
                gone.task.abort();
                backend.forget_checks();
            }
        }
    }

    /// Number of backends being checked.
    #[must_use]
    pub fn len(&self) -> usize {
        self.running.len()
    }

    /// Whether no backend is checked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }
}

fn start(
    backend: &Arc<Backend>,
    check: Option<HealthCheck>,
    clock: Clock,
    shortages: &Arc<Seldom>,
) -> Running {
    let weak = Arc::downgrade(backend);
    let address = backend.address();
    let epoch = backend.check_epoch();
    let only_recovery = check.is_none();
    let how = check.clone().unwrap_or(RECOVERY);
    let task = tokio::spawn({
        let (weak, shortages) = (Weak::clone(&weak), Arc::clone(shortages));
        async move {
            tokio::time::sleep(how.interval.mul_f64(rand::random())).await;
            loop {
                // Held only between checks: a task must not keep a forgotten backend alive.
                let Some(wanted) = weak.upgrade().map(|b| !only_recovery || b.is_refused()) else {
                    return;
                };
                if wanted {
                    let result = probe(address, &how).await;
                    let Some(backend) = weak.upgrade() else { return };
                    match result {
                        // No verdict: the backend was not asked.
                        Err(error @ ProbeError::Shortage { .. }) => {
                            tell(&error, &shortages, clock.now_ms());
                        }
                        result if only_recovery => {
                            backend.tried_again(result.is_ok(), how.rise, clock.now_ms());
                        }
                        result => {
                            let result = result.map_err(|error| CheckFailure::from(&error));
                            backend.checked(epoch, result, &how, clock.now_ms());
                        }
                    }
                }
                tokio::time::sleep(jittered(how.interval, rand::random())).await;
            }
        }
    });
    Running { backend: weak, check, task }
}

fn tell(error: &ProbeError, shortages: &Seldom, now_ms: u64) {
    if let Some(checks) = shortages.due(now_ms) {
        tracing::warn!(%error, checks, "health checks could not be made; health stays as it was");
    }
}

/// The interval, shifted by up to a tenth either way; `random` is uniform in 0 to 1.
fn jittered(interval: Duration, random: f64) -> Duration {
    interval.mul_f64(0.9 + 0.2 * random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_shifted_by_a_tenth_at_most() {
        let second = Duration::from_secs(1);
        assert_eq!(jittered(second, 0.0), Duration::from_millis(900));
        assert_eq!(jittered(second, 0.5), second);
        assert_eq!(jittered(second, 1.0), Duration::from_millis(1100));
    }
}
