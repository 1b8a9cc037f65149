//! A provider, and a health check, that strike their Foreshadow down at the chosen moment of the chosen
//! call.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use foreshadow_control::{InstanceId, ServiceName};
use foreshadow_shadow::{
    Adoption, Capabilities, CpuShare, CreateRequest, Diagnosis, ExitDetail, Fault, Handle,
    Provider, ProviderError, Readiness, Snapshot, Sweep, Usage,
};

use super::points::Point;
use crate::support::SaysOk;

/// What happens at the chosen moment; never returns in a process that kills itself.
pub(crate) type Blow = Arc<dyn Fn() + Send + Sync>;

/// Where the blow falls, and how often its step was called so far.
pub(crate) struct Fate {
    pub(crate) point: Point,
    pub(crate) blow: Blow,
    pub(crate) dir: PathBuf,
    calls: AtomicU32,
}

impl Fate {
    pub(crate) fn new(point: Point, blow: Blow, dir: &Path) -> Arc<Self> {
        Arc::new(Self { point, blow, dir: dir.to_owned(), calls: AtomicU32::new(0) })
    }

    /// Counts its calls anew.
    pub(crate) fn again(&self) {
        self.calls.store(0, Ordering::Release);
    }

    async fn around<T: Send>(&self, step: &str, call: impl Future<Output = T> + Send) -> T {
        if step != self.point.step {
            return call.await;
        }
        if self.calls.fetch_add(1, Ordering::AcqRel) + 1 != self.point.nth {
            return call.await;
        }
        match self.point.moment {
            "before" => {}
            "after" => drop(call.await),
            micros => {
                let pause = Duration::from_micros(micros.parse().unwrap());
                tokio::select! {
                    _ = call => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
        (self.blow)();
        std::future::pending().await
    }
}

/// Passes every call on, and strikes at the chosen one.
pub(crate) struct Fragile {
    pub(crate) inner: Arc<dyn Provider>,
    pub(crate) fate: Arc<Fate>,
    /// Of its settings.
    pub(crate) version: u32,
}

#[async_trait]
impl Provider for Fragile {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn fingerprint(&self) -> String {
        let newer = if self.version > 0 { ", newer" } else { "" };
        format!("{}{newer}", self.inner.fingerprint())
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    fn place(&self) -> String {
        self.inner.place()
    }
    fn is_work_here(&self) -> bool {
        self.inner.is_work_here()
    }
    fn can_call_off(&self) -> bool {
        self.inner.can_call_off()
    }
    fn is_swept(&self) -> bool {
        self.inner.is_swept()
    }
    async fn create(&self, request: &CreateRequest) -> Result<Handle, ProviderError> {
        self.fate.around("create", self.inner.create(request)).await
    }
    async fn call_off(&self, request: &CreateRequest) {
        self.fate.around("call_off", self.inner.call_off(request)).await;
    }
    async fn undone(&self, id: InstanceId) {
        self.inner.undone(id).await;
    }
    async fn freeze(&self, handle: &Handle) -> Result<(), ProviderError> {
        self.fate.around("freeze", self.inner.freeze(handle)).await
    }
    async fn thaw(&self, handle: &Handle) -> Result<(), ProviderError> {
        self.fate.around("thaw", self.inner.thaw(handle)).await
    }
    async fn set_share(&self, handle: &Handle, share: CpuShare) -> Result<(), ProviderError> {
        self.fate.around("set_share", self.inner.set_share(handle, share)).await
    }
    async fn set_activated(&self, handle: &Handle, activated: bool) -> Result<(), ProviderError> {
        self.fate.around("set_activated", self.inner.set_activated(handle, activated)).await
    }
    fn can_disturb(&self, fault: Fault) -> Result<(), ProviderError> {
        self.inner.can_disturb(fault)
    }
    async fn disturb(&self, handle: &Handle, fault: Fault) -> Result<(), ProviderError> {
        self.fate.around("disturb", self.inner.disturb(handle, fault)).await
    }
    async fn snapshot(&self, handle: &Handle) -> Result<Snapshot, ProviderError> {
        self.fate.around("snapshot", self.inner.snapshot(handle)).await
    }
    async fn discard(&self, snapshot: &Snapshot) -> Result<(), ProviderError> {
        self.fate.around("discard", self.inner.discard(snapshot)).await
    }
    async fn destroy(&self, handle: &Handle, grace: Duration) -> Result<(), ProviderError> {
        self.fate.around("destroy", self.inner.destroy(handle, grace)).await
    }
    async fn adopt(&self, handle: &Handle) -> Result<Adoption, ProviderError> {
        self.fate.around("adopt", self.inner.adopt(handle)).await
    }
    async fn exited(&self, handle: &Handle) -> ExitDetail {
        self.inner.exited(handle).await
    }
    async fn leaves_within(&self, handle: &Handle) -> Option<Duration> {
        self.inner.leaves_within(handle).await
    }
    async fn diagnose(&self, handle: &Handle) -> Diagnosis {
        self.inner.diagnose(handle).await
    }
    async fn usage(&self, handle: &Handle) -> Usage {
        self.inner.usage(handle).await
    }
    async fn sweep(&self, what: &Sweep) -> Result<usize, ProviderError> {
        self.fate.around("sweep", self.inner.sweep(what)).await
    }
    async fn is_outdated(&self, handle: &Handle) -> bool {
        self.inner.is_outdated(handle).await
    }
    async fn leave(&self) {
        self.fate.around("leave", self.inner.leave()).await;
    }
}

/// The check of the test's server, which may be the last thing that is done.
pub(crate) struct FragileCheck(pub(crate) Arc<Fate>);

#[async_trait]
impl Readiness for FragileCheck {
    async fn ready(&self, service: &ServiceName, address: SocketAddr) -> Result<(), String> {
        self.0.around("ready", SaysOk.ready(service, address)).await
    }
}
