//! Seeing instances end: by their process where it is on this machine, else by lists.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use foreshadow_control::InstanceId;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Core;
use super::contract::{Condition, List, Listed, shorten};
use crate::end::End;
use crate::process::procfs::Identity;
use crate::process::signals;
use crate::provider::{CpuShare, Handle};

/// How long a list may wait for news.
const WAIT_MS: u64 = 10_000;
/// Between two lists where the last one waited, or news came at once for the first few times.
const BREATH: Duration = Duration::from_millis(10);
/// How many lists in a row may come at once: several ends at a time are several pieces of news. A
/// version that changes each time is none.
const AT_ONCE: u32 = 4;
/// Longest pause after lists that failed.
const LONGEST: Duration = Duration::from_secs(30);
/// A list may lag behind an instance just made: missing in this many in a row, over at least two
/// looks and this long, it is gone.
pub(super) const MISSING: u32 = 2;
const MISSING_FOR: Duration = Duration::from_secs(5);

/// The instances whose end is waited for.
#[derive(Default)]
pub(super) struct Watched {
    all: BTreeMap<InstanceId, One>,
    polled: bool,
}

struct One {
    end: End,
    share: CpuShare,
    /// In how many lists in a row it was missing, and since when.
    missing: Option<(u32, Instant)>,
}

impl Watched {
    pub(super) fn ended(&self, id: InstanceId) -> Option<watch::Receiver<Option<String>>> {
        self.all.get(&id).map(|one| one.end.wait())
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
            one.end.tell(how);
        }
    }

    fn running(&self) -> Vec<InstanceId> {
        let running = self.all.iter().filter(|(_, one)| !one.end.is_told());
        running.map(|(id, _)| *id).collect()
    }

    /// Takes a list that was asked for when `watched` were running; what is missing for `patience`
    /// has ended.
    fn take(&mut self, watched: &[InstanceId], list: &List, now: Instant, patience: Duration) {
        for id in watched {
            let found = list.instances.iter().find(|listed| listed.id() == Some(*id));
            let Some(one) = self.all.get_mut(id) else { continue };
            match found {
                Some(found) => {
                    one.missing = None;
                    if found.state == Condition::Ended {
                        self.end(*id, ending(found));
                    }
                }
                None => {
                    let (times, since) = one.missing.get_or_insert((0, now));
                    *times = times.saturating_add(1);
                    if *times >= MISSING && now.saturating_duration_since(*since) >= patience {
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
    /// Waits for the end of an instance from now on; `process` is what it was when it was made, since
    /// a number alone may be another's after a restart.
    pub(super) fn watch(core: &Arc<Self>, handle: &Handle, process: Option<&Identity>) {
        let share = CpuShare::Unlimited;
        let one = One { end: End::default(), share, missing: None };
        let poll = {
            let mut watched = core.lock();
            watched.all.insert(handle.id, one);
            !std::mem::replace(&mut watched.polled, true)
        };
        if poll {
            tokio::spawn(poll_lists(Arc::downgrade(core)));
        }
        let Some(process) = process else { return };
        let pid = process.pid;
        // A process that cannot be watched, or is gone already, is left to the lists. Opened before
        // the check: what is checked is then what the descriptor names.
        let opened = signals::open(pid).ok().filter(|_| process.is_alive());
        let ready = opened.and_then(|fd| signals::watched(Arc::new(fd), pid).ok());
        let Some(ready) = ready else { return };
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

/// When to list again after a list that worked.
#[derive(Default)]
struct Rhythm {
    /// Lists in a row that came with news at once.
    at_once: u32,
}

impl Rhythm {
    /// `waited` is how long the list took, where it was asked to wait for news and could.
    fn pause(&mut self, waited: Option<Duration>, news: bool, poll: Duration) -> Duration {
        let long = waited.is_some_and(|waited| waited >= poll);
        self.at_once = if long { 0 } else { self.at_once.saturating_add(1) };
        let at_once = waited.is_some() && news && self.at_once <= AT_ONCE;
        if long || at_once { BREATH } else { poll }
    }
}

/// Lists again and again while anything is watched and the provider is there.
async fn poll_lists(core: Weak<Core>) {
    let (mut known, mut failures) = (None, 0_u32);
    let mut rhythm = Rhythm::default();
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
                    let poll = core.traits.poll;
                    core.lock().take(&watched, &list, Instant::now(), (poll * 2).max(MISSING_FOR));
                    let news = list.version.is_some() && list.version != known;
                    // The first one could not wait, as it knew nothing; the next one does.
                    let could = core.transport.can_wait() && list.version.is_some();
                    known = list.version;
                    rhythm.pause(could.then(|| begun.elapsed()), news, poll)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_changes_each_time_is_asked_for_at_the_pace_of_looks() {
        let poll = Duration::from_secs(1);
        let mut rhythm = Rhythm::default();
        let quick = Some(Duration::from_millis(2));
        let pauses: Vec<Duration> = (0..10).map(|_| rhythm.pause(quick, true, poll)).collect();
        assert_eq!(pauses.iter().filter(|pause| **pause == BREATH).count(), AT_ONCE as usize);
        assert_eq!(pauses[4..], [poll; 6]);
        assert_eq!(rhythm.pause(Some(Duration::from_secs(9)), false, poll), BREATH, "it waited");
        assert_eq!(rhythm.pause(quick, true, poll), BREATH, "news after that is at once again");
        // A command cannot wait, whatever version it tells.
        assert_eq!(rhythm.pause(None, true, poll), poll);
        assert_eq!(rhythm.pause(quick, false, poll), poll);
    }

    #[test]
    fn what_is_missing_for_a_moment_has_not_ended() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let id = InstanceId(7);
        let one = One { end: End::default(), share: CpuShare::Unlimited, missing: None };
        let mut watched = Watched::default();
        watched.all.insert(id, one);
        let none = List::default();
        let there: List = serde_json::from_str(r#"{"instances": [{"instance": "i7"}]}"#).unwrap();
        let mut take = |list: &List, ms| {
            watched.take(&[id], list, at(ms), MISSING_FOR);
            watched.running().is_empty()
        };
        assert!(!take(&none, 0) && !take(&none, 20) && !take(&none, 4_999));
        assert!(!take(&there, 5_000));
        assert!(!take(&none, 6_000), "counted anew");
        assert!(!take(&none, 10_999) && take(&none, 11_000));
        let mut late = Watched::default();
        let one = One { end: End::default(), share: CpuShare::Unlimited, missing: None };
        late.all.insert(id, one);
        late.take(&[id], &none, at(0), MISSING_FOR);
        assert!(!late.running().is_empty(), "one list is not enough, whenever it comes");
    }
}
