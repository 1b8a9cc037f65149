//! Checks every backend at its own pace, as long as it exists.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use foreshadow_control::InstanceId;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::verdict::CheckFailure;
use super::{CheckKind, HealthCheck, ProbeError, probe};
use crate::backend::{Backend, Clock};
use crate::injected::{Detour, Injection};
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
    /// A fault made of it on purpose, which checks meet as well.
    pub(crate) injected: Option<Injection>,
}

impl CheckTarget {
    /// A backend that is as it seems.
    #[must_use]
    pub fn new(backend: Arc<Backend>, check: Option<HealthCheck>) -> Self {
        Self { backend, check, injected: None }
    }
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
    injected: watch::Sender<Option<Injection>>,
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
        for CheckTarget { backend, check, injected } in targets {
            let id = backend.id();
            let kept = before.remove(&id).filter(|old| {
                old.check == check && Weak::ptr_eq(&old.backend, &Arc::downgrade(&backend))
            });
            let running = kept.unwrap_or_else(|| {
                backend.forget_checks();
                start(&backend, check, self.clock, &self.shortages)
            });
            running.injected.send_replace(injected);
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
    let (injecting, injected) = watch::channel(None::<Injection>);
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
                    let now_ms = clock.now_ms();
                    let detour = injected.borrow().as_ref().map(|fault| fault.detour(now_ms));
                    let result = look(address, &how, detour.unwrap_or_default()).await;
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
                            let result = result.map_err(|error| failure(&error, detour));
                            backend.checked(epoch, result, &how, clock.now_ms());
                        }
                    }
                }
                tokio::time::sleep(jittered(how.interval, rand::random())).await;
            }
        }
    });
    Running { backend: weak, check, injected: injecting, task }
}

/// One check, which meets what was injected as requests do.
async fn look(address: SocketAddr, how: &HealthCheck, detour: Detour) -> Result<(), ProbeError> {
    if detour.wait >= how.timeout {
        tokio::time::sleep(how.timeout).await;
        return Err(ProbeError::Timeout { address, timeout: how.timeout });
    }
    tokio::time::sleep(detour.wait).await;
    let left = HealthCheck { timeout: how.timeout - detour.wait, ..how.clone() };
    probe(detour.instead.unwrap_or(address), &left).await
}

fn failure(error: &ProbeError, detour: Option<Detour>) -> CheckFailure {
    let mut failure = CheckFailure::from(error);
    if detour.is_some_and(|detour| detour != Detour::default()) {
        failure.reason.push_str(" (injected at the proxy)");
    }
    failure
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
