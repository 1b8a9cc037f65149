//! Ending what earlier runs and failed creations left behind.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foreshadow_control::{InstanceId, ServiceName};
use tokio::time::{Instant, timeout};

use super::contract::{Condition, List};
use super::watching::MISSING;
use super::{BearerToken, Core};
use crate::error::ProviderError;
use crate::provider::Sweep;
use crate::remains::{self, AT_START, Remains};

/// First and longest pause between two tries to end what may have been left behind.
const AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// Least time for all ends of one pass together.
const ASIDE: Duration = Duration::from_secs(30);

/// The places that providers of this process lead to.
#[derive(Default)]
pub(crate) struct Places {
    known: Mutex<BTreeMap<(&'static str, String), Arc<Place>>>,
}

/// One place, however many providers lead there.
#[derive(Default)]
pub(crate) struct Place {
    /// What a start left to be cleaned up there, until it was seen what there is.
    swept: Mutex<Option<Sweep>>,
    remains: Remains<InstanceId>,
    /// Whether a task cleans up; one is enough.
    tended: AtomicBool,
    /// What is said to have ended and was not seen to be gone yet.
    doubts: Mutex<BTreeMap<InstanceId, Doubt>>,
    /// When what runs there was last seen, and what was seen or why it was not.
    seen: tokio::sync::Mutex<Option<(Instant, Seen)>>,
    /// Of the newest settings that lead there: shadows made under older ones need it too.
    token: Mutex<Option<BearerToken>>,
}

/// Something that is said to have ended.
struct Doubt {
    service: ServiceName,
    /// In how many lists in a row it was there all the same, and in how many it was not.
    seen: u32,
    missed: u32,
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
        self.remains.is_clear()
    }

    /// Resolves once that instance is no longer to be ended there.
    pub(super) async fn gone(&self, id: InstanceId) {
        self.remains.gone(&id).await;
    }

    fn doubts(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Doubt>> {
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn swept(&self) -> MutexGuard<'_, Option<Sweep>> {
        self.swept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_there(list: &List, id: InstanceId) -> bool {
    list.instances.iter().any(|one| one.id() == Some(id) && one.state != Condition::Ended)
}

impl Place {
    /// Drops what is gone by a list that was asked for when these were in doubt, and returns what is
    /// there: a list may lag behind or leave something out, but not twice in a row.
    fn judge(&self, asked: &[InstanceId], list: &List) -> Vec<(InstanceId, ServiceName)> {
        let mut there = Vec::new();
        self.doubts().retain(|id, doubt| {
            if !asked.contains(id) {
                return true;
            }
            (doubt.seen, doubt.missed) =
                if is_there(list, *id) { (doubt.seen + 1, 0) } else { (0, doubt.missed + 1) };
            if doubt.seen >= MISSING {
                there.push((*id, doubt.service.clone()));
            }
            doubt.seen.max(doubt.missed) < MISSING
        });
        there
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
        core.place.remains.order(|| *core.place.swept() = Some(what)).await;
        let silent = matches!(&*core.place.seen.lock().await, Some((_, Err(_))));
        let patience = if silent { Duration::ZERO } else { AT_START };
        let cleaning = Arc::clone(core);
        let clean = async move { cleaning.clean(None).await };
        let ended = remains::at_start(core.transport.kind(), patience, clean).await;
        if ended.is_none() {
            Self::tend(core);
        }
        ended.unwrap_or_default()
    }

    /// Carries out what is still to be cleaned up; returns how many instances were ended. For one
    /// service only its own remains count, once it is known whose there are.
    pub(super) async fn clean(&self, of: Option<&ServiceName>) -> Result<usize, ProviderError> {
        self.transport.settle().await?;
        self.place.remains.clear(of, self.pass()).await
    }

    async fn pass(&self) -> Result<usize, ProviderError> {
        let remains = &self.place.remains;
        let (swept, mut running) = (self.place.swept().clone(), Vec::new());
        if let Some(what) = swept {
            let list = self.list(None, None).await?;
            let mut doomed: BTreeMap<_, _> = what.lost.iter().map(|id| (*id, None)).collect();
            for listed in list.instances {
                let Some(id) = listed.id().filter(|id| !what.keep.contains(id)) else { continue };
                if listed.state != Condition::Ended {
                    running.push(id);
                }
                doomed.insert(id, listed.service);
            }
            // By name from here on: what is made once this is known is no part of it.
            *self.place.swept() = None;
            remains.found(doomed);
        }
        let bound = self.traits.timeout.max(ASIDE);
        let ended = remains.end(bound, |_| true, |id| self.end_for_sure(id)).await;
        Ok(running.iter().filter(|id| ended.contains(id)).count())
    }

    /// Ends what a failed creation may have made, now or later: nobody else knows of it before the
    /// next start.
    pub(super) async fn undo(core: &Arc<Self>, id: InstanceId, service: &ServiceName) {
        let Err(error) = core.end(id, Duration::ZERO).await else {
            return Self::doubt(core, id, service);
        };
        tracing::error!(
            instance = %id, %service, %error,
            "what a failed creation may have left behind cannot be ended; trying again, and nothing \
             new of its service is made there before"
        );
        core.place.remains.add(id, service, &error);
        Self::tend(core);
    }

    /// Ends it and looks whether that is so.
    async fn end_for_sure(&self, id: InstanceId) -> Result<(), ProviderError> {
        self.end(id, Duration::ZERO).await?;
        let list = self.seen().await.map_err(ProviderError::Other)?;
        if is_there(&list, id) {
            let kind = self.transport.kind();
            return Err(ProviderError::Other(format!(
                "the {kind} provider says that {id} has ended, and lists it as running"
            )));
        }
        Ok(())
    }

    /// Looks later whether what is said to have ended is gone; what is not is ended again and again, as
    /// what a failed creation left behind is.
    pub(super) fn doubt(core: &Arc<Self>, id: InstanceId, service: &ServiceName) {
        let first = {
            let mut doubts = core.place.doubts();
            doubts.insert(id, Doubt { service: service.clone(), seen: 0, missed: 0 });
            doubts.len() == 1
        };
        if first {
            tokio::spawn(Self::look_after(Arc::clone(core)));
        }
    }

    /// Until there is no doubt.
    async fn look_after(core: Arc<Self>) {
        let mut pause = core.traits.poll;
        loop {
            tokio::time::sleep(pause).await;
            let asked: Vec<InstanceId> = core.place.doubts().keys().copied().collect();
            // What cannot be seen now is looked for ever more seldom.
            pause = (pause * 2).min(AGAIN.1.max(core.traits.poll));
            if let Ok(list) = core.list(None, None).await {
                pause = core.traits.poll;
                for (id, service) in core.place.judge(&asked, &list) {
                    let why =
                        ProviderError::Other("it was said to have ended, and runs".to_owned());
                    tracing::error!(
                        instance = %id, %service,
                        "its provider said that it has ended, and still lists it as running; ending it again"
                    );
                    core.place.remains.add(id, &service, &why);
                    Self::tend(&core);
                }
            }
            if core.place.doubts().is_empty() {
                return;
            }
        }
    }

    /// Cleans up again and again until that is done, by one task for all that is to be done there.
    fn tend(core: &Arc<Self>) {
        if core.place.tended.swap(true, Ordering::AcqRel) {
            return;
        }
        let core = Arc::clone(core);
        tokio::spawn(async move {
            let mut pause = AGAIN.0;
            loop {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(AGAIN.1);
                if core.clean(None).await.is_err() {
                    continue;
                }
                core.place.tended.store(false, Ordering::Release);
                // What came between finds no task, or this one goes on for it.
                if core.place.remains.is_clear() || core.place.tended.swap(true, Ordering::AcqRel) {
                    return;
                }
            }
        });
    }
}
