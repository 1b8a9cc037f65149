//! Scaling primaries: one call at a time, the newest wish, failures and restarts with a scaler of the
//! tests, and workloads on a fake API server.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod asking;
mod crash;
mod known;
mod workload;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use foreshadow_control::{Action, InstanceId, Tier};
use foreshadow_shadow::{
    Facility, Manager, Primaries, ProviderError, ScaleEvent, ScaleWish, ScaledService, Scaler,
    Scaling, ServiceScaling,
};
use support::{host, role, shop, until};
use tokio::sync::Semaphore;

#[test]
fn role_entry() {
    if std::env::var(support::ROLE).as_deref() == Ok("scaling") {
        return crash::play();
    }
    support::play_role();
}

/// A scaler that does as the test says.
pub(crate) struct Script {
    pub(crate) answer: Mutex<Primaries>,
    pub(crate) fails: AtomicBool,
    /// Orders only.
    pub(crate) refuses: AtomicBool,
    /// Orders end one by one, as permits come.
    pub(crate) gate: Semaphore,
    /// Every call that was begun, in order.
    pub(crate) calls: Mutex<Vec<String>>,
    busy: AtomicBool,
}

impl Script {
    pub(crate) fn new(wanted: u32, ready: &[&str]) -> Arc<Self> {
        Arc::new(Self {
            answer: Mutex::new(Primaries { wanted, ready: addresses(ready), leaving: Vec::new() }),
            fails: AtomicBool::new(false),
            refuses: AtomicBool::new(false),
            gate: Semaphore::new(1_000),
            calls: Mutex::default(),
            busy: AtomicBool::new(false),
        })
    }

    pub(crate) fn set(&self, ready: &[&str], leaving: &[&str]) {
        let mut answer = self.answer.lock().unwrap();
        (answer.ready, answer.leaving) = (addresses(ready), addresses(leaving));
    }

    fn begin(&self, call: String) {
        self.calls.lock().unwrap().push(call);
        assert!(!self.busy.swap(true, Ordering::AcqRel), "two calls at a time");
    }

    fn end(&self) -> Result<Primaries, ProviderError> {
        self.busy.store(false, Ordering::Release);
        if self.fails.load(Ordering::Acquire) {
            return Err(ProviderError::Other("asked the test: it fails".to_owned()));
        }
        Ok(self.answer.lock().unwrap().clone())
    }

    /// The orders that were begun.
    pub(crate) fn orders(&self) -> Vec<String> {
        let calls = self.calls.lock().unwrap();
        calls.iter().filter(|call| *call != "look").cloned().collect()
    }
}

pub(crate) fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Frees the scaler when a call is given up half-way.
struct Free<'a>(&'a Script);

impl Drop for Free<'_> {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

#[async_trait]
impl Scaler for Script {
    fn name(&self) -> &'static str {
        "test"
    }

    fn place(&self) -> String {
        "here".to_owned()
    }

    async fn look(&self) -> Result<Primaries, ProviderError> {
        self.begin("look".to_owned());
        self.end()
    }

    async fn scale(&self, primaries: u32) -> Result<Primaries, ProviderError> {
        self.begin(format!("scale {primaries}"));
        let _free = Free(self);
        if self.refuses.load(Ordering::Acquire) {
            return Err(ProviderError::Other("asked the test: no more of them".to_owned()));
        }
        if !self.fails.load(Ordering::Acquire) {
            // Done before the answer is heard, as elsewhere.
            self.answer.lock().unwrap().wanted = primaries;
        }
        self.gate.acquire().await.unwrap().forget();
        self.end()
    }
}

/// A manager with one service that is scaled.
pub(crate) struct Bench {
    dir: tempfile::TempDir,
    manager: Manager,
    pub(crate) scaling: Scaling,
    pub(crate) script: Arc<Script>,
    pub(crate) events: Vec<ScaleEvent>,
}

impl Bench {
    pub(crate) async fn start(script: Arc<Script>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (manager, scaling) = begin(dir.path(), &script).await;
        Self { dir, manager, scaling, script, events: Vec::new() }
    }

    /// Ends as a crash would, as far as the registry sees it, and starts again.
    pub(crate) async fn restart(self) -> Self {
        let Self { dir, manager, scaling, script, .. } = self;
        scaling.close();
        manager.shutdown().await;
        drop((manager, scaling));
        let (manager, scaling) = begin(dir.path(), &script).await;
        Self { dir, manager, scaling, script, events: Vec::new() }
    }

    /// A shadow of the same service.
    pub(crate) async fn shadow(&self) -> (InstanceId, SocketAddr) {
        let host = host(self.dir.path(), Facility::None);
        let shadows = support::service(&host, role("server", &[]));
        assert!(self.manager.reconfigure(vec![shadows]).is_empty());
        self.manager.apply(&shop(), &[Action::create(Tier::Warm)]);
        let manager = self.manager.clone();
        until("a shadow", || {
            let all = manager.snapshot();
            let one = all.iter().find(|one| one.tier == Tier::Warm && one.moving_to.is_none())?;
            Some((one.id, one.address?))
        })
        .await
    }

    pub(crate) fn view(&self) -> ScaledService {
        self.scaling.snapshot().remove(&shop()).unwrap()
    }

    pub(crate) fn wish(&self, primaries: Option<u32>) {
        let wish = primaries.map(|primaries| ScaleWish { primaries, original: 1 });
        self.scaling.wish(&shop(), wish);
    }

    pub(crate) async fn sees<T>(
        &mut self,
        what: &str,
        look: impl Fn(&ScaledService) -> Option<T>,
    ) -> T {
        let scaling = self.scaling.clone();
        let found = until(what, || look(&scaling.snapshot().remove(&shop()).unwrap())).await;
        self.events.extend(self.scaling.take_events().into_iter().map(|(_, event)| event));
        found
    }

    /// Waits for this many more looks.
    pub(crate) async fn looks(&self, more: usize) {
        let count = || self.script.calls.lock().unwrap().iter().filter(|c| *c == "look").count();
        let goal = count() + more;
        until("looks at what there is", || (count() >= goal).then_some(())).await;
    }
}

async fn begin(dir: &std::path::Path, script: &Arc<Script>) -> (Manager, Scaling) {
    scaled_by(dir, Arc::clone(script) as Arc<dyn Scaler>).await
}

pub(crate) async fn scaled_by(
    dir: &std::path::Path,
    scaler: Arc<dyn Scaler>,
) -> (Manager, Scaling) {
    let host = host(dir, Facility::None);
    let manager = support::start(dir, &host, Vec::new()).await.unwrap();
    let settings = ServiceScaling {
        service: shop(),
        scaler,
        poll: Duration::from_millis(20),
        configured: addresses(&["10.0.0.1:80"]),
        barred: Arc::new(|address| {
            (address.port() == 8080).then(|| "where requests would go round in a circle".to_owned())
        }),
    };
    let scaling = Scaling::start(&manager, vec![settings]).await.unwrap();
    (manager, scaling)
}
