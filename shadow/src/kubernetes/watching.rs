//! Seeing what becomes of pods: by the API's watch, and by looking from time to time at what is there.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use foreshadow_control::InstanceId;
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{WatchEvent, WatchParams};
use tokio::sync::watch;
use tokio::time::Instant;

use super::body;
use super::cluster::{ASIDE, Cluster};
use super::seen::{self, Serving, View};
use super::told::Trouble;
use crate::error::Cause;

/// When it is looked again at what is there, after a first time at once: an order of an earlier run
/// may come to be there yet.
const LOOKS: [Duration; 3] =
    [Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(5)];
/// And then again and again, for a watch that hangs.
const LOOK: Duration = Duration::from_secs(30);
/// First and longest pause before the API server is asked again.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// After this the API server is to end a watch by itself, in seconds; it is asked for the next then.
const WATCH_S: u32 = 290;

/// The pods whose fate is followed.
#[derive(Default)]
pub(super) struct Watched {
    all: BTreeMap<InstanceId, One>,
    followed: bool,
}

struct One {
    view: watch::Sender<View>,
    serving: Serving,
    /// Absent before the API server has named it.
    uid: Option<String>,
}

impl Watched {
    pub(super) fn view(&self, id: InstanceId) -> Option<watch::Receiver<View>> {
        self.all.get(&id).map(|one| one.view.subscribe())
    }

    pub(super) fn forget(&mut self, id: InstanceId) {
        self.all.remove(&id);
    }

    fn insert(&mut self, id: InstanceId, serving: Serving, uid: Option<String>) {
        let view = watch::channel(View::default()).0;
        self.all.insert(id, One { view, serving, uid });
    }

    /// From now on only the pod of that name counts.
    pub(super) fn bind(&mut self, id: InstanceId, uid: &str) {
        if let Some(one) = self.all.get_mut(&id) {
            one.uid = Some(uid.to_owned());
            one.view.send_if_modified(|view| {
                let other = view.uid != uid;
                if other {
                    *view = View::default();
                }
                other
            });
        }
    }

    /// Takes what the API server shows of a pod.
    pub(super) fn hear(&mut self, pod: &Pod, deleted: bool) {
        let Some(one) = seen::instance(pod).and_then(|id| self.all.get(&id)) else { return };
        let mut seen = seen::view(pod, &one.serving);
        if one.uid.as_ref().is_some_and(|uid| *uid != seen.uid) {
            return;
        }
        if deleted {
            seen.ended.get_or_insert_with(|| "its pod was deleted".to_owned());
        }
        one.view.send_if_modified(|view| {
            // How it ended first is how it ended.
            if view.uid == seen.uid && view.ended.is_some() {
                seen.ended.clone_from(&view.ended);
            }
            let changed = *view != seen;
            *view = seen;
            changed
        });
    }

    fn running(&self) -> Vec<(InstanceId, String)> {
        let named = self.all.iter().filter(|(_, one)| one.view.borrow().ended.is_none());
        named.filter_map(|(id, one)| Some((*id, one.uid.clone()?))).collect()
    }

    /// Takes a list that was asked for when `before` were running.
    fn take(&mut self, before: &[(InstanceId, String)], list: &[Pod]) {
        list.iter().for_each(|pod| self.hear(pod, false));
        for (id, uid) in before {
            let is_it = |pod: &&Pod| pod.metadata.uid.as_ref() == Some(uid);
            if list.iter().any(|pod| is_it(&pod)) {
                continue;
            }
            if let Some(one) = self.all.get(id).filter(|one| one.uid.as_ref() == Some(uid)) {
                one.view.send_if_modified(|view| {
                    let first = view.ended.is_none();
                    view.ended.get_or_insert_with(|| "its pod was deleted".to_owned());
                    first
                });
            }
        }
    }
}

impl Cluster {
    /// Follows a pod from now on; `uid` is absent before it is made.
    pub(super) fn watch(self: &Arc<Self>, id: InstanceId, serving: Serving, uid: Option<String>) {
        self.watched().insert(id, serving, uid);
        self.follow();
    }

    /// Listens to the API server, once for all.
    pub(super) fn follow(self: &Arc<Self>) {
        if !std::mem::replace(&mut self.watched().followed, true) {
            tokio::spawn(follow(Arc::downgrade(self)));
        }
    }

    /// Looks at what is there; returns the version of it.
    async fn look(self: &Arc<Self>) -> Result<String, Trouble> {
        let before = self.watched().running();
        let (pods, list, version) = self.list().await?;
        self.watched().take(&before, &pods);
        // With nobody left to know what is ours, nothing is known to be nobody's; and without the
        // lease, which the next order to make something asks for, this would be no pass.
        if Arc::strong_count(self) > 1 && self.claim.is_held() {
            let cluster = Arc::clone(self);
            // A task of its own: what becomes of pods is heard meanwhile.
            tokio::spawn(async move { cluster.remains.look(cluster.reap(&list)).await });
        }
        Ok(version)
    }
}

/// Looks and listens again and again for as long as the cluster is of use to anybody.
async fn follow(cluster: Weak<Cluster>) {
    let (mut pause, mut failures) = (AGAIN.0, 0_u32);
    let mut looks = LOOKS.into_iter();
    loop {
        let begun = Instant::now();
        let looked = {
            let Some(cluster) = cluster.upgrade() else { return };
            cluster.look().await
        };
        let until = Instant::now() + looks.next().unwrap_or(LOOK);
        let told = match looked {
            Ok(version) => listen(&cluster, &version, until).await,
            Err(trouble) => Err(trouble),
        };
        match told {
            Ok(Heard::Nudge) => {
                looks = LOOKS.into_iter();
                failures = 0;
            }
            Ok(Heard::Due) => failures = 0,
            Ok(Heard::Nobody) => return,
            Err(trouble) if trouble.is_expired() => {}
            Err(trouble) => {
                let Some(cluster) = cluster.upgrade() else { return };
                failures = failures.saturating_add(1);
                if failures.is_power_of_two() {
                    let error = trouble.told(cluster.asked("watch our pods"));
                    tracing::warn!(%error, failures, "pods are taken to run until that works again");
                }
                drop(cluster);
                // One that was heard for a while is asked again at once.
                pause = if begun.elapsed() > AGAIN.1 { AGAIN.0 } else { (pause * 2).min(AGAIN.1) };
                tokio::time::sleep(pause).await;
                continue;
            }
        }
        pause = AGAIN.0;
    }
}

/// Why listening came to an end.
enum Heard {
    /// It is time to look again.
    Due,
    /// Somebody wants it to be looked at.
    Nudge,
    /// Nobody needs it any more.
    Nobody,
}

/// Takes what happens after `version` until it is time to look again.
async fn listen(cluster: &Weak<Cluster>, version: &str, until: Instant) -> Result<Heard, Trouble> {
    let Some(here) = cluster.upgrade() else { return Ok(Heard::Nobody) };
    let nudge = Arc::clone(&here.nudge);
    let selector = body::selector(&here.owner);
    let client = tokio::time::timeout(ASIDE, here.client()).await;
    let pods: Api<Pod> =
        Api::namespaced(client.unwrap_or(Err(Trouble::Late(ASIDE)))?, &here.namespace);
    drop(here);
    let params = WatchParams::default().labels(&selector).timeout(WATCH_S);
    // One that does not even begin must not keep from looking.
    let Ok(stream) = tokio::time::timeout_at(until, pods.watch(&params, version)).await else {
        return Ok(Heard::Due);
    };
    let stream = stream?;
    let mut stream = std::pin::pin!(stream);
    loop {
        tokio::select! {
            biased;
            event = stream.next() => {
                let Some(here) = cluster.upgrade() else { return Ok(Heard::Nobody) };
                match event {
                    Some(Ok(WatchEvent::Added(pod) | WatchEvent::Modified(pod))) => {
                        here.watched().hear(&pod, false);
                    }
                    Some(Ok(WatchEvent::Deleted(pod))) => here.watched().hear(&pod, true),
                    Some(Ok(WatchEvent::Bookmark(_))) => {}
                    Some(Ok(WatchEvent::Error(status))) => return Err(Trouble::Api(status)),
                    Some(Err(error)) => return Err(error.into()),
                    None => {
                        let text = "its watch ended".to_owned();
                        return Err(Trouble::Told(Cause::Unreachable, text));
                    }
                }
            }
            () = nudge.notified() => return Ok(Heard::Nudge),
            () = tokio::time::sleep_until(until) => return Ok(Heard::Due),
        }
    }
}
