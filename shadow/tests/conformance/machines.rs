//! Virtual machines under test. A boot takes seconds and every step makes some, so one is booted and
//! saved, and the others begin from that.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use foreshadow_control::InstanceId;
use foreshadow_shadow::{
    Adoption, Capabilities, CpuShare, CreateRequest, Diagnosis, ExitDetail, Handle, Provider,
    ProviderError, Snapshot, Sweep, VmProvider, VmSpec,
};

use super::Subject;
use crate::support::{self, answers, machine};

/// The name of the file that names the snapshot that all begin from.
const TEMPLATE: &str = "template";

/// A state directory with a machine that was saved once it answered.
pub(crate) async fn booted(test: &str) -> Option<machine::Scratch> {
    let spec = machine::guest(test)?;
    let dir = machine::Scratch::new();
    let provider = machine::provider(dir.path(), spec);
    let made = provider.create(&support::request(1_000)).await.unwrap();
    let begun = std::time::Instant::now();
    while !answers(made.address).await {
        let seen = provider.diagnose(&made).await;
        assert!(begun.elapsed() < Duration::from_secs(60), "it never answers: {seen:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let template = provider.snapshot(&made).await.unwrap();
    provider.destroy(&made, Duration::ZERO).await.unwrap();
    std::fs::write(dir.path().join(TEMPLATE), template.0).unwrap();
    Some(dir)
}

/// Only what all began from is still there.
pub(crate) fn nothing_left(dir: &Path) {
    let template = std::fs::read_to_string(dir.join(TEMPLATE)).unwrap();
    assert_eq!(machine::left(dir), [template]);
}

pub(super) struct Machines {
    dir: PathBuf,
    spec: VmSpec,
}

impl Machines {
    pub(super) fn opened(dir: PathBuf) -> Self {
        Self { dir, spec: machine::guest("a subject").expect("there was one before") }
    }
}

impl Subject for Machines {
    fn provider(&self) -> Arc<dyn Provider> {
        let template = std::fs::read_to_string(self.dir.join(TEMPLATE)).unwrap();
        let inner = machine::provider(&self.dir, self.spec.clone());
        Arc::new(Begun { inner, template: Snapshot(template) })
    }

    fn running(&self) -> Vec<InstanceId> {
        machine::emulators(&self.dir).into_iter().map(|(id, _)| id).collect()
    }

    fn kill(&self, id: InstanceId) {
        let all = machine::emulators(&self.dir).into_iter();
        all.filter(|(found, _)| *found == id).for_each(|(_, pid)| support::kill(pid));
    }
}

/// Makes what would be booted from a snapshot instead; passes everything else on.
struct Begun {
    inner: Arc<VmProvider>,
    template: Snapshot,
}

#[async_trait]
impl Provider for Begun {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn fingerprint(&self) -> String {
        self.inner.fingerprint()
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    async fn create(&self, request: &CreateRequest) -> Result<Handle, ProviderError> {
        let from = request.from.clone().or_else(|| Some(self.template.clone()));
        self.inner.create(&CreateRequest { from, ..request.clone() }).await
    }
    async fn freeze(&self, handle: &Handle) -> Result<(), ProviderError> {
        self.inner.freeze(handle).await
    }
    async fn thaw(&self, handle: &Handle) -> Result<(), ProviderError> {
        self.inner.thaw(handle).await
    }
    async fn set_share(&self, handle: &Handle, share: CpuShare) -> Result<(), ProviderError> {
        self.inner.set_share(handle, share).await
    }
    async fn snapshot(&self, handle: &Handle) -> Result<Snapshot, ProviderError> {
        self.inner.snapshot(handle).await
    }
    async fn discard(&self, snapshot: &Snapshot) -> Result<(), ProviderError> {
        self.inner.discard(snapshot).await
    }
    async fn destroy(&self, handle: &Handle, grace: Duration) -> Result<(), ProviderError> {
        self.inner.destroy(handle, grace).await
    }
    async fn adopt(&self, handle: &Handle) -> Result<Adoption, ProviderError> {
        self.inner.adopt(handle).await
    }
    async fn exited(&self, handle: &Handle) -> ExitDetail {
        self.inner.exited(handle).await
    }
    async fn diagnose(&self, handle: &Handle) -> Diagnosis {
        self.inner.diagnose(handle).await
    }
    async fn sweep(&self, what: &Sweep) -> Result<usize, ProviderError> {
        self.inner.sweep(what).await
    }
}
