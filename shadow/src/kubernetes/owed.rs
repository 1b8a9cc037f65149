//! What a pod is to be given on its way to serve. A cluster whose API does not answer cannot give it, and
//! that is when shadows are needed: who reaches the pod by its own address does not wait for it, and the
//! cluster is asked again and again meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foreshadow_control::InstanceId;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::Value;
use tokio::task::AbortHandle;

use super::body;
use super::cluster::Cluster;
use super::told::Trouble;

/// How long the way to serve waits for one answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// And how long for one when nobody waits any more: what hangs may answer the next time.
const LATER: Duration = Duration::from_secs(5);
/// First and longest pause before it is asked again.
const AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// What is given to a pod.
#[derive(Clone, Debug)]
pub(super) enum Gift {
    /// Whether Services of the cluster meet it.
    Gate(bool),
    /// The body that gives it another size.
    Size(Value),
}

/// What is still to be given, by instance and by whether it is the gate.
#[derive(Default)]
pub(super) struct Owed(Mutex<BTreeMap<(InstanceId, bool), AbortHandle>>);

impl Owed {
    fn all(&self) -> MutexGuard<'_, BTreeMap<(InstanceId, bool), AbortHandle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cancel(&self, id: InstanceId, is_gate: bool) {
        if let Some(task) = self.all().remove(&(id, is_gate)) {
            task.abort();
        }
    }

    /// Nothing is owed to an instance that is no more.
    pub(super) fn forget(&self, id: InstanceId) {
        self.cancel(id, true);
        self.cancel(id, false);
    }
}

impl Cluster {
    /// Gives a pod something once; what was still owed of the kind is of no interest any more.
    pub(super) async fn give(
        &self,
        id: InstanceId,
        pod: &str,
        gift: &Gift,
        patience: Duration,
    ) -> Result<(), Trouble> {
        self.owed.cancel(id, matches!(gift, Gift::Gate(_)));
        self.hand(pod, gift, patience).await
    }

    /// The same on the way to serve: where the API does not answer, it is given as soon as it does.
    /// Says whether it was given.
    pub(super) async fn give_soon(
        self: &Arc<Self>,
        id: InstanceId,
        pod: &str,
        gift: Gift,
        patience: Duration,
    ) -> Result<bool, Trouble> {
        match self.give(id, pod, &gift, patience.min(PATIENCE)).await {
            Ok(()) => Ok(true),
            Err(trouble) if trouble.is_outage() => {
                let error = trouble.told(self.asked(format_args!("give pod {pod} {gift}")));
                tracing::warn!(
                    instance = %id, %error,
                    "it is activated all the same, since it is reached by its own address; the \
                     cluster is asked until it answers"
                );
                self.owe(id, pod.to_owned(), gift, patience.min(LATER));
                Ok(false)
            }
            Err(trouble) => Err(trouble),
        }
    }

    fn owe(self: &Arc<Self>, id: InstanceId, pod: String, gift: Gift, patience: Duration) {
        let cluster = Arc::downgrade(self);
        let is_gate = matches!(gift, Gift::Gate(_));
        let task = tokio::spawn(async move {
            let (mut pause, mut refusals) = (AGAIN.0, 0_u32);
            loop {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(AGAIN.1);
                let Some(cluster) = cluster.upgrade() else { return };
                match cluster.hand(&pod, &gift, patience).await {
                    Ok(()) => {
                        tracing::info!(instance = %id, pod, %gift, "the cluster has given it now");
                        return;
                    }
                    Err(trouble) if trouble.is_absent() => return,
                    Err(trouble) if trouble.is_outage() => {}
                    Err(trouble) => {
                        refusals += 1;
                        if refusals.is_power_of_two() {
                            let what = format_args!("give pod {pod} {gift}").to_string();
                            let error = trouble.told(cluster.asked(what));
                            tracing::error!(instance = %id, %error, refusals, "it serves without");
                        }
                    }
                }
            }
        });
        self.owed.all().insert((id, is_gate), task.abort_handle());
    }

    async fn hand(&self, pod: &str, gift: &Gift, patience: Duration) -> Result<(), Trouble> {
        match gift {
            Gift::Gate(open) => {
                let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
                let patch = Patch::Strategic(body::gate(*open, &now));
                self.pods(patience, |pods| async move {
                    pods.patch_status(pod, &PatchParams::default(), &patch).await.map(drop)
                })
                .await
            }
            Gift::Size(size) => {
                let patch = Patch::Strategic(size);
                self.pods(patience, |pods| async move {
                    pods.patch_resize(pod, &PatchParams::default(), &patch).await.map(drop)
                })
                .await
            }
        }
    }
}

impl std::fmt::Display for Gift {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gate(true) => "an open gate",
            Self::Gate(false) => "a closed gate",
            Self::Size(_) => "its size",
        })
    }
}
