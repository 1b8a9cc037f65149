//! Seeing what becomes of pods: by the API's watch, and by looking from time to time at what is there.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use foreshadow_control::InstanceId;
use futures_util::future::{BoxFuture, Fuse, FusedFuture as _};
use futures_util::{FutureExt as _, StreamExt as _, TryFutureExt as _};
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
    /// The version of what was heard last; 0 where it is no number.
    version: u64,
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
        self.all.insert(id, One { view, serving, uid, version: 0 });
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

    /// Takes what the API server shows of a pod. A list that took its time shows it as it was: what
    /// was heard meanwhile is newer.
    pub(super) fn hear(&mut self, pod: &Pod, deleted: bool) {
        let Some(one) = seen::instance(pod).and_then(|id| self.all.get_mut(&id)) else { return };
        let mut seen = seen::view(pod, &one.serving);
        if one.uid.as_ref().is_some_and(|uid| *uid != seen.uid) {
            return;
        }
        let version = pod.metadata.resource_version.as_ref();
        let version = version.and_then(|version| version.parse().ok()).unwrap_or(0);
        if version < one.version && one.view.borrow().uid == seen.uid {
            return;
        }
        one.version = version;
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
        self.line.refresh();
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

/// What it takes to hear without a gap.
struct Ear {
    /// Up to where everything was heard; absent before a first list, and after a failure.
    version: Option<String>,
    /// A list that is under way: what becomes of pods is heard meanwhile, however long it takes.
    looking: Fuse<BoxFuture<'static, Result<String, Trouble>>>,
    looks: std::array::IntoIter<Duration, 3>,
    /// When it is looked next, once no list is under way.
    due: Instant,
    failures: u32,
    pause: Duration,
}

impl Ear {
    fn new() -> Self {
        Self {
            version: None,
            looking: Fuse::terminated(),
            looks: LOOKS.into_iter(),
            due: Instant::now(),
            failures: 0,
            pause: AGAIN.0,
        }
    }

    fn looked(&mut self) {
        self.due = Instant::now() + self.looks.next().unwrap_or(LOOK);
    }

    /// Counts a failure and says it, seldom when it stays.
    fn failed(&mut self, cluster: &Cluster, trouble: Trouble) {
        self.failures = self.failures.saturating_add(1);
        self.pause = (self.pause * 2).min(AGAIN.1);
        if self.failures.is_power_of_two() {
            let error = trouble.told(cluster.asked("watch our pods"));
            let failures = self.failures;
            tracing::warn!(%error, failures, "pods are taken to run until that works again");
        }
    }
}

/// Looks and listens again and again for as long as the cluster is of use to anybody.
async fn follow(cluster: Weak<Cluster>) {
    let mut ear = Ear::new();
    loop {
        let begun = Instant::now();
        match turn(&cluster, &mut ear).await {
            Ok(heard) => {
                if heard == Heard::Nudge {
                    ear.looks = LOOKS.into_iter();
                }
                (ear.failures, ear.pause) = (0, AGAIN.0);
            }
            Err(trouble) => {
                let Some(here) = cluster.upgrade() else { return };
                // Whatever was missed meanwhile, the next list has it.
                ear.version = None;
                if trouble.is_expired() {
                    ear.pause = AGAIN.0;
                } else {
                    // One that was heard for a while is asked again at once.
                    if begun.elapsed() > ear.pause {
                        ear.pause = AGAIN.0;
                    }
                    ear.failed(&here, trouble);
                }
                drop(here);
                tokio::time::sleep(ear.pause).await;
            }
        }
        if cluster.strong_count() == 0 {
            return;
        }
    }
}

/// Why listening came to an end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// It is time to look again.
    Due,
    /// Somebody wants it to be looked at.
    Nudge,
    /// Nobody needs it any more.
    Nobody,
}

/// Looks at what is there, and takes what happens until it is time to look again.
async fn turn(cluster: &Weak<Cluster>, ear: &mut Ear) -> Result<Heard, Trouble> {
    let Some(here) = cluster.upgrade() else { return Ok(Heard::Nobody) };
    if ear.looking.is_terminated() {
        ear.looking = async move { here.look().await }.boxed().fuse();
    } else {
        drop(here);
    }
    let version = match ear.version.clone() {
        Some(version) => version,
        None => {
            let version = (&mut ear.looking).await?;
            ear.looked();
            ear.version.insert(version).clone()
        }
    };
    listen(cluster, &version, ear).await
}

/// Takes what happens after `version` until it is time to look again.
async fn listen(cluster: &Weak<Cluster>, version: &str, ear: &mut Ear) -> Result<Heard, Trouble> {
    let Some(here) = cluster.upgrade() else { return Ok(Heard::Nobody) };
    let nudge = Arc::clone(&here.nudge);
    let selector = body::selector(&here.owner);
    let client = tokio::time::timeout(ASIDE, here.client()).await;
    let pods: Api<Pod> =
        Api::namespaced(client.unwrap_or(Err(Trouble::Late(ASIDE)))?, &here.namespace);
    drop(here);
    let params = WatchParams::default().labels(&selector).timeout(WATCH_S);
    // One that does not even begin must not keep from looking.
    let mut stream = std::pin::pin!(pods.watch(&params, version).try_flatten_stream());
    loop {
        let due = ear.due;
        tokio::select! {
            biased;
            event = stream.next() => {
                let Some(here) = cluster.upgrade() else { return Ok(Heard::Nobody) };
                if let Some(version) = heard(&here, event)? {
                    ear.version = Some(version);
                }
            }
            looked = &mut ear.looking, if !ear.looking.is_terminated() => {
                let Some(here) = cluster.upgrade() else { return Ok(Heard::Nobody) };
                match looked {
                    Ok(_) => ear.looked(),
                    Err(trouble) => {
                        ear.failed(&here, trouble);
                        ear.due = Instant::now() + ear.pause;
                    }
                }
            }
            () = nudge.notified(), if ear.looking.is_terminated() => return Ok(Heard::Nudge),
            () = tokio::time::sleep_until(due), if ear.looking.is_terminated() => {
                return Ok(Heard::Due);
            }
        }
    }
}

/// Takes one event of a watch; returns up to where all is heard with it.
fn heard(
    cluster: &Cluster,
    event: Option<kube::Result<WatchEvent<Pod>>>,
) -> Result<Option<String>, Trouble> {
    let (pod, deleted) = match event {
        Some(Ok(WatchEvent::Added(pod) | WatchEvent::Modified(pod))) => (pod, false),
        Some(Ok(WatchEvent::Deleted(pod))) => (pod, true),
        Some(Ok(WatchEvent::Bookmark(mark))) => return Ok(Some(mark.metadata.resource_version)),
        Some(Ok(WatchEvent::Error(status))) => return Err(Trouble::Api(status)),
        Some(Err(error)) => return Err(error.into()),
        None => {
            let text = "its watch ended".to_owned();
            return Err(Trouble::Told(Cause::Unreachable, text));
        }
    };
    cluster.watched().hear(&pod, deleted);
    Ok(pod.metadata.resource_version)
}
