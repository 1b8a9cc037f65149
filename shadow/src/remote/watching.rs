//! Seeing instances end: by their process where it is on this machine, else by lists.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use foreshadow_control::InstanceId;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Core;
use super::contract::{Condition, List, Listed, shorten};
use crate::process::signals;
use crate::provider::{CpuShare, Handle};

/// How long a list may wait for news.
const WAIT_MS: u64 = 10_000;
/// Between two lists in any case.
const BREATH: Duration = Duration::from_millis(10);
/// Longest pause after lists that failed.
const LONGEST: Duration = Duration::from_secs(30);
/// A list may lag behind an instance just made; missing in this many in a row it is gone.
const MISSING: u32 = 2;

/// The instances whose end is waited for.
#[derive(Default)]
pub(super) struct Watched {
    all: BTreeMap<InstanceId, One>,
    polled: bool,
}

struct One {
    ended: watch::Sender<Option<String>>,
    share: CpuShare,
    missing: u32,
}

impl Watched {
    pub(super) fn ended(&self, id: InstanceId) -> Option<watch::Receiver<Option<String>>> {
        self.all.get(&id).map(|one| one.ended.subscribe())
    }

    pub(super) fn share(&self, id: InstanceId) -> CpuShare {
        self.all.get(&id).map_or(CpuShare::Unlimited, |one| one.share)
    }

    pub(super) fn set_share(&mut self, id: InstanceId, share: CpuShare) {
        if let Some(one) = self.all.get_mut(&id) {
            one.share = share;
        }
    }

    pub(super) fn forget(&mut self, id: InstanceId) {
        self.all.remove(&id);
    }

    fn end(&mut self, id: InstanceId, how: String) {
        if let Some(one) = self.all.get(&id) {
            one.ended.send_if_modified(|ended| {
                let first = ended.is_none();
                if first {
                    *ended = Some(how);
                }
                first
            });
        }
    }

    fn running(&self) -> Vec<InstanceId> {
        let running = self.all.iter().filter(|(_, one)| one.ended.borrow().is_none());
        running.map(|(id, _)| *id).collect()
    }

    /// Takes a list that was asked for when `watched` were running.
    fn take(&mut self, watched: &[InstanceId], list: &List) {
        for id in watched {
            let found = list.instances.iter().find(|listed| listed.id() == Some(*id));
            let Some(one) = self.all.get_mut(id) else { continue };
            match found {
                Some(found) => {
                    one.missing = 0;
                    if found.state == Condition::Ended {
                        self.end(*id, ending(found));
                    }
                }
                None => {
                    one.missing += 1;
                    if one.missing >= MISSING {
                        self.end(*id, "it is no longer listed by its provider".to_owned());
                    }
                }
            }
        }
    }
}

/// How a listed instance ended, in words.
pub(super) fn ending(listed: &Listed) -> String {
    match &listed.detail {
        Some(detail) => format!("ended: {}", shorten(detail, super::QUOTED)),
        None => "ended, as its provider says".to_owned(),
    }
}

impl Core {
    /// Waits for the end of an instance from now on.
    pub(super) fn watch(core: &Arc<Self>, handle: &Handle) {
        let one = One { ended: watch::channel(None).0, share: CpuShare::Unlimited, missing: 0 };
        let poll = {
            let mut watched = core.lock();
            watched.all.insert(handle.id, one);
            !std::mem::replace(&mut watched.polled, true)
        };
        if poll {
            tokio::spawn(poll_lists(Arc::downgrade(core)));
        }
        if let Some(pid) = handle.pid {
            // A process that cannot be watched, or is gone already, is left to the lists.
            let Ok(ready) = signals::open(pid).and_then(|fd| signals::watched(Arc::new(fd), pid))
            else {
                return;
            };
            let (core, id) = (Arc::downgrade(core), handle.id);
            tokio::spawn(async move {
                if ready.readable().await.is_ok()
                    && let Some(core) = core.upgrade()
                {
                    core.lock().end(id, format!("process {pid} ended"));
                }
            });
        }
    }
}

/// Lists again and again while anything is watched and the provider is there.
async fn poll_lists(core: Weak<Core>) {
    let (mut known, mut failures) = (None, 0_u32);
    loop {
        let begun = Instant::now();
        let pause = {
            let Some(core) = core.upgrade() else { return };
            let watched = {
                let mut all = core.lock();
                if all.all.is_empty() {
                    all.polled = false;
                    return;
                }
                all.running()
            };
            let wait_ms = (core.transport.can_wait() && known.is_some()).then_some(WAIT_MS);
            match core.list(known.clone(), wait_ms).await {
                Ok(list) => {
                    failures = 0;
                    core.lock().take(&watched, &list);
                    let news = list.version.is_some() && list.version != known;
                    let waited = wait_ms.is_some() && begun.elapsed() >= core.traits.poll;
                    known = list.version;
                    if news || waited { BREATH } else { core.traits.poll }
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    known = None;
                    if failures.is_power_of_two() {
                        tracing::warn!(
                            provider = core.transport.kind(), %error, failures,
                            "cannot see which instances run; those it has are taken to run"
                        );
                    }
                    let longest = LONGEST.max(core.traits.poll);
                    core.traits.poll.saturating_mul(1 << failures.min(10)).min(longest)
                }
            }
        };
        tokio::time::sleep(pause).await;
    }
}
