//! The steps of a container that runs.

use std::time::Duration;

use bollard::models::{ContainerConfig, ContainerUpdateBody};
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, LogsOptionsBuilder, RemoveImageOptionsBuilder,
    StatsOptionsBuilder, StopContainerOptionsBuilder,
};
use foreshadow_control::InstanceId;
use futures_util::StreamExt as _;

use super::{DockerProvider, body};
use crate::error::ProviderError;
use crate::provider::{CpuShare, Handle, Snapshot};
use crate::remote::shorten;

/// Lines and characters quoted of what a container wrote.
const QUOTED_LINES: usize = 10;
const QUOTED_CHARS: usize = 400;

impl DockerProvider {
    /// Pauses it or lets it go on; one that is so already is left alone.
    pub(super) async fn pause(&self, container: &str, pause: bool) -> Result<(), ProviderError> {
        let done = self.engine.call(self.spec.timeout, |docker| async move {
            match pause {
                true => docker.pause_container(container).await,
                false => docker.unpause_container(container).await,
            }
        });
        let Err(trouble) = done.await else { return Ok(()) };
        // The engine refuses what is so already; in what words depends on its version.
        if trouble.status().is_some()
            && let Ok(found) = self.engine.inspect(container, self.spec.timeout).await
            && let Some(state) = found.state
            && state.running == Some(true)
            && state.paused == Some(pause)
        {
            return Ok(());
        }
        let what = if pause { "pause" } else { "unpause" };
        Err(trouble.told(self.engine.asked(format_args!("{what} container {container}"))))
    }

    /// Kills it and leaves all else as it is.
    pub(super) async fn kill(&self, container: &str) -> Result<(), ProviderError> {
        let killed = self.engine.call(self.spec.timeout, |docker| async move {
            docker.kill_container(container, None).await
        });
        let asked = || self.engine.asked(format_args!("kill container {container}"));
        killed.await.map_err(|trouble| trouble.told(asked()))
    }

    pub(super) async fn resize(
        &self,
        id: InstanceId,
        container: &str,
        share: CpuShare,
    ) -> Result<(), ProviderError> {
        let limits = &self.spec.limits;
        let memory = match (share, limits.warm_memory_bytes, limits.memory_bytes) {
            (CpuShare::Percent(_), Some(warm), _) => self.less_memory(id, container, warm).await,
            (CpuShare::Unlimited, Some(_), full) => full,
            (_, None, _) => None,
        };
        // More memory before more work, and less of it after less work.
        if let (CpuShare::Unlimited, Some(bytes)) = (share, memory) {
            self.update(container, body::memory(bytes)).await?;
        }
        self.update(container, body::cpu(&self.spec, share)).await?;
        match (share, memory) {
            (CpuShare::Percent(_), Some(bytes)) => {
                self.update(container, body::memory(bytes)).await
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn update(
        &self,
        container: &str,
        what: ContainerUpdateBody,
    ) -> Result<(), ProviderError> {
        let updated = self.engine.call(self.spec.timeout, |docker| async move {
            docker.update_container(container, what).await
        });
        let asked = || self.engine.asked(format_args!("limit container {container}"));
        updated.await.map_err(|trouble| trouble.told(asked()))
    }

    /// The limit of the warm tier, if it leaves a quarter of it free: below what is in use the kernel
    /// of one version refuses it, and that of another kills.
    async fn less_memory(&self, id: InstanceId, container: &str, warm: u64) -> Option<u64> {
        let options = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
        let stats = self.engine.call(self.spec.timeout, |docker| async move {
            let mut stats = std::pin::pin!(docker.stats(container, Some(options)));
            stats.next().await.transpose()
        });
        let asked = || self.engine.asked(format_args!("show what container {container} uses"));
        let stats = match stats.await {
            Ok(stats) => stats,
            Err(trouble) => {
                let error = trouble.told(asked());
                tracing::warn!(instance = %id, %error, "its memory stays as it is: what it uses is not known");
                return None;
            }
        };
        match stats.and_then(|stats| stats.memory_stats?.usage) {
            Some(used) if used <= warm / 4 * 3 => Some(warm),
            Some(used) => {
                tracing::info!(instance = %id, warm_bytes = warm, used_bytes = used, "uses too much memory to be given less");
                None
            }
            None => {
                tracing::warn!(instance = %id, "its memory stays as it is: its engine does not say what it uses");
                None
            }
        }
    }

    /// Saves its files as an image of ours.
    pub(super) async fn commit(
        &self,
        handle: &Handle,
        container: &str,
    ) -> Result<Snapshot, ProviderError> {
        let engine = &self.engine;
        let repo = format!("foreshadow/{}", engine.owner);
        let tag = format!("{}-{:08x}", handle.id, rand::random::<u32>());
        let snapshot = Snapshot(format!("{repo}:{tag}"));
        let options = CommitContainerOptionsBuilder::new()
            .container(container)
            .repo(&repo)
            .tag(&tag)
            .pause(true)
            .build();
        let config = ContainerConfig {
            labels: Some(body::labels(&engine.owner, "snapshot", handle.service.as_str())),
            ..ContainerConfig::default()
        };
        let committed = engine.call(self.spec.timeout, |docker| async move {
            docker.commit_container(options, config).await
        });
        let Err(trouble) = committed.await else { return Ok(snapshot) };
        if trouble.may_have_acted()
            && let Err(left) = self.remove_image(&snapshot).await
        {
            tracing::warn!(snapshot = snapshot.0, error = %left, "a failed snapshot may be left behind");
        }
        Err(trouble.told(engine.asked(format_args!("commit container {container}"))))
    }

    pub(super) async fn remove_image(&self, snapshot: &Snapshot) -> Result<(), ProviderError> {
        let options = RemoveImageOptionsBuilder::new().force(true).build();
        let name = &snapshot.0;
        let removed = self.engine.call(self.spec.timeout, |docker| async move {
            docker.remove_image(name, Some(options), None).await
        });
        match removed.await {
            Ok(_) => Ok(()),
            Err(trouble) if trouble.is_absent() => Ok(()),
            Err(trouble) => {
                Err(trouble.told(self.engine.asked(format_args!("remove image {name}"))))
            }
        }
    }

    /// Asks it to end, then makes it, and removes it.
    pub(super) async fn end(&self, container: &str, grace: Duration) -> Result<(), ProviderError> {
        if !grace.is_zero() {
            // A signal to one that is paused would wait until the kill; one that ended has no use for it.
            if let Err(error) = self.pause(container, false).await {
                tracing::debug!(%error, "ended without being asked first");
            }
            let whole = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
            let seconds = i32::try_from(whole).unwrap_or(i32::MAX);
            let options = StopContainerOptionsBuilder::new().t(seconds).build();
            let patience = self.spec.timeout + Duration::from_secs(whole);
            let stopped = self.engine.call(patience, |docker| async move {
                docker.stop_container(container, Some(options)).await
            });
            if let Err(trouble) = stopped.await
                && !trouble.is_absent()
            {
                let error =
                    trouble.told(self.engine.asked(format_args!("stop container {container}")));
                tracing::debug!(%error, "it is removed without having been stopped");
            }
        }
        self.engine.remove(container, self.spec.timeout).await
    }

    /// What it wrote last, oldest first.
    pub(super) async fn last_words(&self, container: &str) -> Vec<String> {
        let options = LogsOptionsBuilder::new()
            .stdout(true)
            .stderr(true)
            .tail(&QUOTED_LINES.to_string())
            .build();
        let read = self.engine.call(self.spec.timeout, |docker| async move {
            let mut logs = std::pin::pin!(docker.logs(container, Some(options)));
            let mut lines = Vec::new();
            while let Some(line) = logs.next().await {
                lines.push(shorten(&line?.to_string(), QUOTED_CHARS));
                if lines.len() >= QUOTED_LINES {
                    break;
                }
            }
            Ok(lines)
        });
        let asked = || self.engine.asked(format_args!("show what container {container} wrote"));
        read.await.unwrap_or_else(|trouble| vec![trouble.told(asked()).to_string()])
    }
}
