//! The steps of a pod that runs.

use std::time::Duration;

use kube::api::LogParams;
use tokio::time::Instant;

use super::owed::Gift;
use super::{KubernetesProvider, State};
use crate::error::{Cause, ProviderError};
use crate::provider::{CpuShare, Handle};
use crate::remote::shorten;

use super::told::Trouble;

/// Lines and characters quoted of what a container wrote.
const QUOTED_LINES: i64 = 10;
const QUOTED_CHARS: usize = 400;
/// Bytes of output that are fetched at most.
const FETCHED: i64 = 16 << 10;
/// How often a pod that is to grow is looked at, beside what the watch tells.
const LOOK: Duration = Duration::from_secs(1);

impl KubernetesProvider {
    /// Opens or closes its gate, for Services of the cluster. What is to serve does not wait for a
    /// cluster that does not answer; what is not to serve any more does.
    pub(super) async fn gate(
        &self,
        handle: &Handle,
        state: &State,
        active: bool,
    ) -> Result<(), ProviderError> {
        let (cluster, name, patience) = (&self.cluster, &state.pod, self.spec.timeout);
        let gift = Gift::Gate(active);
        let done = match active {
            true => cluster.give_soon(handle.id, name, gift, patience).await.map(drop),
            false => cluster.give(handle.id, name, &gift, patience).await,
        };
        match done {
            Ok(()) => Ok(()),
            // What is gone is met by nobody.
            Err(trouble) if trouble.is_absent() && !active => Ok(()),
            Err(trouble) => {
                let what = if active { "open" } else { "close" };
                Err(trouble.told(cluster.asked(format_args!("{what} the gate of pod {name}"))))
            }
        }
    }

    /// Gives it another size, and waits until it has it where that is more. For full size, which comes
    /// before it serves, a cluster that does not answer is not waited for.
    pub(super) async fn resize(
        &self,
        handle: &Handle,
        state: &State,
        share: CpuShare,
    ) -> Result<(), ProviderError> {
        let (cluster, name, patience) = (&self.cluster, &state.pod, self.spec.timeout);
        let unsupported = || ProviderError::unsupported("kubernetes", "resize");
        let full = state.size.ok_or_else(unsupported)?;
        cluster.learn(patience.min(LOOK)).await;
        if cluster.resizes() == Some(false) {
            return Err(unsupported());
        }
        let size = full.at(share);
        let gift = Gift::Size(size.patch(&state.container));
        let asked =
            || cluster.asked(format_args!("give pod {name} {}m of processor time", size.limit));
        let done = match share {
            CpuShare::Unlimited => cluster.give_soon(handle.id, name, gift, patience).await,
            CpuShare::Percent(_) => {
                cluster.give(handle.id, name, &gift, patience).await.map(|()| false)
            }
        };
        match done {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(trouble) if trouble.is_unknown_path() => {
                cluster.cannot_resize();
                return Err(unsupported());
            }
            Err(trouble) => return Err(trouble.told(asked())),
        }
        self.grown(handle, name, size.limit)
            .await
            .map_err(|(cause, text)| Trouble::Told(cause, text).told(asked()))
    }

    /// Waits until its node has given it what the API server was told.
    async fn grown(&self, handle: &Handle, name: &str, millis: u32) -> Result<(), (Cause, String)> {
        let end = Instant::now() + self.spec.timeout;
        let gone = || (Cause::Failed, "it was ended meanwhile".to_owned());
        let mut views = self.cluster.watched().view(handle.id).ok_or_else(gone)?;
        loop {
            let view = views.borrow_and_update().clone();
            if let Some(how) = view.ended {
                return Err((Cause::Failed, how));
            }
            if view.cpu_millis.is_some_and(|has| has >= millis) {
                return Ok(());
            }
            if Instant::now() >= end {
                let (cause, why) = match view.refused_size {
                    Some(why) => (Cause::NoRoom, why),
                    None => (Cause::Late, "no reason is given".to_owned()),
                };
                let has = view.cpu_millis.map_or("an unknown size".to_owned(), |m| format!("{m}m"));
                return Err((cause, format!("its node leaves it at {has}: {why}")));
            }
            let look = (Instant::now() + LOOK).min(end);
            tokio::select! {
                changed = views.changed() => changed.map_err(|_| gone())?,
                () = tokio::time::sleep_until(look) => self.look_at(name).await,
            }
        }
    }

    /// What it wrote last, oldest first.
    pub(super) async fn last_words(&self, name: &str, container: &str) -> Vec<String> {
        let params = LogParams {
            container: Some(container.to_owned()),
            tail_lines: Some(QUOTED_LINES),
            limit_bytes: Some(FETCHED),
            ..LogParams::default()
        };
        let read = self
            .cluster
            .pods(self.spec.timeout, |pods| async move { pods.logs(name, &params).await });
        match read.await {
            Ok(text) => text.lines().map(|line| shorten(line, QUOTED_CHARS)).collect(),
            // Its container was never begun, as is said elsewhere.
            Err(Trouble::Api(status)) if status.code == 400 || status.code == 404 => Vec::new(),
            Err(trouble) => {
                let asked = self.cluster.asked(format_args!("show what pod {name} wrote"));
                vec![trouble.told(asked).to_string()]
            }
        }
    }

    /// What its cluster says of one that is not ready, and what it wrote last.
    pub(super) async fn why(&self, handle: &Handle, state: &State) -> Vec<String> {
        self.look_at(&state.pod).await;
        let view = self.cluster.watched().view(handle.id).map(|view| view.borrow().clone());
        let view = view.unwrap_or_default();
        let held_up =
            view.held_up.map(|held_up| format!("{}; {}", held_up.text, held_up.cause.next()));
        let mut lines: Vec<String> = view.ended.into_iter().chain(held_up).collect();
        lines.extend(self.last_words(&state.pod, &state.container).await);
        lines
    }
}
