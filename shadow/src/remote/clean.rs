//! Ending what earlier runs and failed creations left behind.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foreshadow_control::InstanceId;

use super::contract::Condition;
use super::{BearerToken, Core};
use crate::error::ProviderError;
use crate::provider::Sweep;

/// First and longest pause between two tries to end what a failed creation may have left behind.
const AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// The places that providers of this process lead to.
#[derive(Default)]
pub(crate) struct Places {
    known: Mutex<BTreeMap<(&'static str, String), Arc<Place>>>,
}

/// One place, however many providers lead there.
#[derive(Default)]
pub(crate) struct Place {
    /// What is still to be cleaned up there. Held over the work, so that nothing is made meanwhile:
    /// what is listed then is of earlier runs.
    todo: tokio::sync::Mutex<Option<Sweep>>,
    /// Of the newest settings that lead there: shadows made under older ones need it too.
    token: Mutex<Option<BearerToken>>,
}

impl Places {
    pub(super) fn at(&self, kind: &'static str, name: &str) -> Arc<Place> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry((kind, name.to_owned())).or_default())
    }
}

impl Place {
    pub(super) fn set_token(&self, token: Option<BearerToken>) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }

    pub(super) fn token(&self) -> Option<BearerToken> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) async fn order(&self, what: Sweep) {
        *self.todo.lock().await = Some(what);
    }
}

impl Core {
    /// Carries out what is still to be cleaned up; returns how many instances were ended.
    pub(super) async fn clean(&self) -> Result<usize, ProviderError> {
        self.transport.settle().await?;
        let mut todo = self.place.todo.lock().await;
        let Some(what) = todo.as_ref() else { return Ok(0) };
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
        *todo = None;
        Ok(ended)
    }

    /// Ends what a failed creation may have made, now or later: nobody else knows of it before the
    /// next start.
    pub(super) async fn undo(core: &Arc<Self>, id: InstanceId) {
        let Err(error) = core.end(id, Duration::ZERO).await else { return };
        tracing::error!(
            instance = %id, %error,
            "what a failed creation may have left behind cannot be ended; trying again"
        );
        let core = Arc::clone(core);
        tokio::spawn(async move {
            let mut pause = AGAIN.0;
            loop {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(AGAIN.1);
                match core.end(id, Duration::ZERO).await {
                    Ok(()) => return,
                    Err(error) => tracing::warn!(instance = %id, %error, "still cannot be ended"),
                }
            }
        });
    }
}
