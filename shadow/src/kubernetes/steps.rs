//! The steps of a pod that runs.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::api::{LogParams, Patch, PatchParams};
use tokio::time::Instant;

use super::{KubernetesProvider, State, body};
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
    /// Opens or closes its gate, for Services of the cluster.
    pub(super) async fn gate(&self, state: &State, active: bool) -> Result<(), ProviderError> {
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let patch = Patch::Strategic(body::gate(active, &now));
        let name = &state.pod;
        let done = self.cluster.pods(self.spec.timeout, |pods| async move {
            pods.patch_status(name, &PatchParams::default(), &patch).await.map(drop)
        });
        match done.await {
            Ok(()) => Ok(()),
            // What is gone is met by nobody.
            Err(trouble) if trouble.is_absent() && !active => Ok(()),
            Err(trouble) => {
                let what = if active { "open" } else { "close" };
                let asked = self.cluster.asked(format_args!("{what} the gate of pod {name}"));
                Err(trouble.told(asked))
            }
        }
    }

    /// Gives it another size, and waits until it has it where that is more.
    pub(super) async fn resize(
        &self,
        handle: &Handle,
        state: &State,
        share: CpuShare,
    ) -> Result<(), ProviderError> {
        let (cluster, name) = (&self.cluster, &state.pod);
        cluster.learn(self.spec.timeout).await?;
        let (Some(full), Some(true)) = (state.size, cluster.resizes()) else {
            return Err(ProviderError::unsupported("kubernetes", "resize"));
        };
        let size = full.at(share);
        let patch = Patch::Strategic(size.patch(&state.container));
        let asked =
            || cluster.asked(format_args!("give pod {name} {}m of processor time", size.limit));
        let done = cluster.pods(self.spec.timeout, |pods| async move {
            pods.patch_resize(name, &PatchParams::default(), &patch).await.map(drop)
        });
        done.await.map_err(|trouble| trouble.told(asked()))?;
        if share != CpuShare::Unlimited {
            return Ok(());
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
    pub(super) async fn last_words(&self, name: &str) -> Vec<String> {
        let params = LogParams {
            container: self.spec.container.clone(),
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
        lines.extend(self.last_words(&state.pod).await);
        lines
    }
}
