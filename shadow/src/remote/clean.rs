//! Ending what earlier runs and failed creations left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foreshadow_control::InstanceId;
use tokio::time::{Instant, timeout};

use super::contract::{Condition, List};
use super::{BearerToken, Core};
use crate::error::ProviderError;
use crate::provider::Sweep;

/// First and longest pause between two tries to end what may have been left behind.
const AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// How long a start waits for a place: a balancer that serves is worth more than one that waits for
/// its provider.
const AT_START: Duration = Duration::from_secs(3);

/// The places that providers of this process lead to.
#[derive(Default)]
pub(crate) struct Places {
    known: Mutex<BTreeMap<(&'static str, String), Arc<Place>>>,
}

/// One place, however many providers lead there.
#[derive(Default)]
pub(crate) struct Place {
    /// What a start left to be cleaned up there. Held over the work, so that nothing is made
    /// meanwhile: what is listed then is of earlier runs.
    swept: tokio::sync::Mutex<Option<Sweep>>,
    /// What failed creations may have made, and nobody else knows of before the next start. While
    /// there is any, nothing is made there, so it stays as small as what is made at once.
    failed: Mutex<BTreeSet<InstanceId>>,
    /// Whether a task cleans up; one is enough.
    tended: AtomicBool,
    /// When what runs there was last seen, and what was seen or why it was not.
    seen: tokio::sync::Mutex<Option<(Instant, Seen)>>,
    /// Of the newest settings that lead there: shadows made under older ones need it too.
    token: Mutex<Option<BearerToken>>,
}

/// What runs at a place, or why that cannot be seen.
pub(super) type Seen = Result<Arc<List>, String>;

impl Places {
    pub(super) fn at(&self, kind: &'static str, name: &str) -> Arc<Place> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry((kind, name.to_owned())).or_default())
    }
}

impl Place {
    /// One provider without a token takes that of the others there from none of them.
    pub(super) fn set_token(&self, token: Option<BearerToken>) {
        if token.is_some() {
            *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
        }
    }

    pub(super) fn token(&self) -> Option<BearerToken> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether what a start left there has been cleaned up.
    pub(super) fn is_swept(&self) -> bool {
        self.swept.try_lock().is_ok_and(|swept| swept.is_none())
    }

    fn failed(&self) -> MutexGuard<'_, BTreeSet<InstanceId>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    /// What runs there, asked once for all who want to know at the same time, and not for long.
    pub(super) async fn seen(&self) -> Seen {
        let asked = Instant::now();
        let mut seen = self.place.seen.lock().await;
        if let Some((_, list)) = seen.as_ref().filter(|(at, _)| *at >= asked) {
            return list.clone();
        }
        let limit = self.traits.timeout.min(AT_START);
        let list = match timeout(limit, self.list(None, None)).await {
            Ok(Ok(list)) => Ok(Arc::new(list)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("its instances were not listed within {} ms", limit.as_millis())),
        };
        *seen = Some((Instant::now(), list.clone()));
        list
    }

    /// Takes an order to clean up. What does not come about soon is done later, before anything new
    /// is made there. Returns how many instances were ended.
    pub(super) async fn sweep(core: &Arc<Self>, what: Sweep) -> usize {
        *core.place.swept.lock().await = Some(what);
        let silent = matches!(&*core.place.seen.lock().await, Some((_, Err(_))));
        let patience = if silent { Duration::ZERO } else { AT_START };
        let cleaning = Arc::clone(core);
        // A task of its own, since what is under way is not to be broken off.
        let work = tokio::spawn(async move { cleaning.clean().await });
        let why = match timeout(patience, work).await {
            Ok(Ok(Ok(ended))) => return ended,
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it takes too long to be waited for".to_owned(),
        };
        tracing::error!(
            provider = core.transport.kind(),
            error = why,
            "what earlier runs left behind cannot be seen or ended yet; nothing new is made there before"
        );
        Self::tend(core);
        0
    }

    /// Carries out what is still to be cleaned up; returns how many instances were ended.
    pub(super) async fn clean(&self) -> Result<usize, ProviderError> {
        self.transport.settle().await?;
        let wait = self.traits.timeout;
        let Ok(mut swept) = timeout(wait, self.place.swept.lock()).await else {
            return Err(ProviderError::Timeout {
                operation: "clean up",
                subject: format!("what was left behind at its {} provider", self.transport.kind()),
                waited_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            });
        };
        let mut ended = 0;
        if let Some(what) = swept.as_ref() {
            ended = self.end_others(what).await?;
            *swept = None;
        }
        let failed: Vec<InstanceId> = self.place.failed().iter().copied().collect();
        for id in failed {
            self.end(id, Duration::ZERO).await?;
            self.place.failed().remove(&id);
        }
        Ok(ended)
    }

    async fn end_others(&self, what: &Sweep) -> Result<usize, ProviderError> {
        let list = self.list(None, None).await?;
        let mut ended = 0;
        let mut doomed: Vec<InstanceId> = what.lost.clone();
        for listed in &list.instances {
            let Some(id) = listed.id().filter(|id| !what.keep.contains(id)) else { continue };
            ended += usize::from(listed.state != Condition::Ended);
            doomed.push(id);
        }
        doomed.sort_unstable();
        doomed.dedup();
        for id in doomed {
            self.end(id, Duration::ZERO).await?;
        }
        Ok(ended)
    }

    /// Ends what a failed creation may have made, now or later: nobody else knows of it before the
    /// next start.
    pub(super) async fn undo(core: &Arc<Self>, id: InstanceId) {
        let Err(error) = core.end(id, Duration::ZERO).await else { return };
        tracing::error!(
            instance = %id, %error,
            "what a failed creation may have left behind cannot be ended; trying again, and nothing \
             new is made there before"
        );
        core.place.failed().insert(id);
        Self::tend(core);
    }

    /// Cleans up again and again until that is done, by one task for all that is to be done there.
    fn tend(core: &Arc<Self>) {
        if core.place.tended.swap(true, Ordering::AcqRel) {
            return;
        }
        let core = Arc::clone(core);
        tokio::spawn(async move {
            let (mut pause, mut failures) = (AGAIN.0, 0_u32);
            loop {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(AGAIN.1);
                match core.clean().await {
                    Ok(ended) => {
                        tracing::info!(ended, "what was left behind has been cleaned up");
                        core.place.tended.store(false, Ordering::Release);
                        // What came between finds no task, or this one goes on for it.
                        let clean = core.place.failed().is_empty();
                        if clean || core.place.tended.swap(true, Ordering::AcqRel) {
                            return;
                        }
                    }
                    Err(error) => {
                        failures = failures.saturating_add(1);
                        if failures.is_power_of_two() {
                            tracing::warn!(%error, failures, "still cannot be cleaned up");
                        }
                    }
                }
            }
        });
    }
}
