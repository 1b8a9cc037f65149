//! Foreshadow ends in the middle of a step: by SIGKILL in a process of its own, and by dropping
//! the manager with all its work. The next start must find everything, once.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use foreshadow_control::{Action, Tier};
use foreshadow_shadow::{
    Adoption, Capabilities, CpuShare, CreateRequest, Diagnosis, ExitDetail, Handle, Manager,
    ManagerSettings, Provider, ProviderError, ServiceShadows, ShadowError, Sweep,
};

use super::Subject;
use super::subjects::opened;
use crate::support::{SaysOk, role, shop, until};

/// What a walk through all tiers calls, with how often each call comes at least.
const STEPS: [&str; 6] = ["create", "freeze", "thaw", "set_share", "set_activated", "destroy"];
/// Relative to the call: never begun, begun and then cut off after so many microseconds, done but
/// not yet known.
const MOMENTS: [&str; 4] = ["before", "100", "20000", "after"];
/// Moments that a drop meets in another way than a kill does.
const DROPS: [&str; 2] = ["20000", "after"];

/// A command, an engine or a machine takes a hundred times as long as the rest, so it is met at the moments that
/// differ for it.
fn moments(name: &str) -> &'static [&'static str] {
    match name {
        "exec" | "vm" => &DROPS,
        "docker" | "docker-isolated" | "kubernetes" | "kubernetes-old" => {
            &["before", "20000", "after"]
        }
        _ => &MOMENTS,
    }
}

/// What happens at the chosen moment; never returns in a process that kills itself.
type Blow = Arc<dyn Fn() + Send + Sync>;

/// Passes every call on, and strikes at the chosen moment of the chosen step.
struct Fragile {
    inner: Arc<dyn Provider>,
    step: String,
    moment: String,
    blow: Blow,
    calls: AtomicU32,
}

impl Fragile {
    async fn around<T: Send>(&self, step: &str, call: impl Future<Output = T> + Send) -> T {
        if step != self.step || self.calls.fetch_add(1, Ordering::AcqRel) != 0 {
            return call.await;
        }
        match self.moment.as_str() {
            "before" => {
                (self.blow)();
                std::future::pending().await
            }
            "after" => {
                call.await;
                (self.blow)();
                std::future::pending().await
            }
            micros => {
                let pause = Duration::from_micros(micros.parse().unwrap());
                tokio::select! {
                    _ = call => {}
                    () = tokio::time::sleep(pause) => {}
                }
                (self.blow)();
                std::future::pending().await
            }
        }
    }
}

#[async_trait]
impl Provider for Fragile {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn fingerprint(&self) -> String {
        self.inner.fingerprint()
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    fn place(&self) -> String {
        self.inner.place()
    }
    async fn create(&self, request: &CreateRequest) -> Result<Handle, ProviderError> {
        self.around("create", self.inner.create(request)).await
    }
    async fn freeze(&self, handle: &Handle) -> Result<(), ProviderError> {
        self.around("freeze", self.inner.freeze(handle)).await
    }
    async fn thaw(&self, handle: &Handle) -> Result<(), ProviderError> {
        self.around("thaw", self.inner.thaw(handle)).await
    }
    async fn set_share(&self, handle: &Handle, share: CpuShare) -> Result<(), ProviderError> {
        self.around("set_share", self.inner.set_share(handle, share)).await
    }
    async fn set_activated(&self, handle: &Handle, activated: bool) -> Result<(), ProviderError> {
        self.around("set_activated", self.inner.set_activated(handle, activated)).await
    }
    async fn destroy(&self, handle: &Handle, grace: Duration) -> Result<(), ProviderError> {
        self.around("destroy", self.inner.destroy(handle, grace)).await
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

/// A manager of one service, or of none.
pub(crate) async fn manager(dir: &Path, provider: Option<Arc<dyn Provider>>) -> Manager {
    let service = provider.map(|provider| ServiceShadows {
        parked_check: None,
        ..ServiceShadows::new(shop(), provider)
    });
    let end = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let settings = ManagerSettings {
            state_dir: dir.to_owned(),
            services: service.clone().into_iter().collect(),
            janitors: Vec::new(),
            concurrent_creates: 4,
        };
        match Manager::start(settings, Arc::new(SaysOk)).await {
            Ok(manager) => return manager,
            // A child that was forked for an instance keeps the lock until it runs its program; the
            // holder it names is this very process, which dropped a manager.
            Err(ShadowError::Locked { .. }) if tokio::time::Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Err(error) => panic!("it must start, whatever was before: {error}"),
        }
    }
}

/// Two shadows, of which one goes up to full, back and away, until the blow falls.
async fn walk(manager: &Manager) {
    manager.apply(&shop(), &[Action::create(Tier::Full), Action::create(Tier::Warm)]);
    let id = manager.snapshot()[0].id;
    for tier in [Tier::Full, Tier::Shadow] {
        manager.apply(&shop(), &[Action::Move { instance: id, tier }]);
        until("it is there", || {
            let all = manager.snapshot();
            let one = all.iter().find(|i| i.id == id)?;
            (one.tier == tier && one.moving_to.is_none()).then_some(())
        })
        .await;
    }
    manager.apply(&shop(), &[Action::Destroy { instance: id }]);
    std::future::pending::<()>().await;
}

/// What a process does whose role is to crash: its environment says where and when.
pub(crate) fn play() {
    let set = |name: &str| std::env::var(name).unwrap();
    let (dir, step, moment) = (PathBuf::from(set("STATE_DIR")), set("STEP"), set("MOMENT"));
    let blow: Blow = Arc::new(|| {
        let me = rustix::process::getpid();
        rustix::process::kill_process(me, rustix::process::Signal::KILL).unwrap();
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let inner = opened(&set("SUBJECT"), &dir).provider();
        let fragile = Fragile { inner, step, moment, blow, calls: AtomicU32::new(0) };
        let manager = manager(&dir, Some(Arc::new(fragile))).await;
        walk(&manager).await;
    });
}

fn possible(subject: &dyn Subject, step: &str) -> bool {
    let can = subject.provider().capabilities();
    match step {
        "freeze" | "thaw" => can.freeze,
        "set_share" => subject.resizes(),
        "set_activated" => subject.isolates(),
        _ => true,
    }
}

/// Kills a small Foreshadow in every step and starts again on what it left.
pub(crate) async fn killed_in_every_step(name: &str, dir: &Path) {
    let subject = opened(name, dir);
    let mut schedules = 0;
    for step in STEPS.into_iter().filter(|step| possible(&*subject, step)) {
        for moment in moments(name).iter().copied() {
            let what = format!("{name} killed in {step}, {moment}");
            let spec = role("crash", &[]);
            let mut child = Command::new(&spec.command[0])
                .args(&spec.command[1..])
                .envs(spec.env)
                .env("STATE_DIR", dir)
                .env("SUBJECT", name)
                .env("STEP", step)
                .env("MOMENT", moment)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            let ended = until(&what, || child.try_wait().unwrap()).await;
            use std::os::unix::process::ExitStatusExt as _;
            assert_eq!(ended.signal(), Some(9), "{what}: it ended otherwise: {ended}");
            in_order(&*subject, dir, step, &what).await;
            schedules += 1;
        }
    }
    println!("{name}: {schedules} kills, 0 leaked, 0 doubled, 0 forgotten");
}

/// The same, with the manager dropped in this process and no process killed.
pub(crate) async fn dropped_in_every_step(name: &str, dir: &Path) {
    let subject = opened(name, dir);
    let mut schedules = 0;
    for step in STEPS.into_iter().filter(|step| possible(&*subject, step)) {
        for moment in DROPS {
            let what = format!("{name} dropped in {step}, {moment}");
            let (struck, strike) = tokio::sync::oneshot::channel();
            let struck = Mutex::new(Some(struck));
            let blow: Blow = Arc::new(move || {
                if let Some(struck) = struck.lock().unwrap().take() {
                    struck.send(()).unwrap();
                }
            });
            let (dir_of, name_of) = (dir.to_owned(), name.to_owned());
            let (step_of, moment_of) = (step.to_owned(), moment.to_owned());
            tokio::task::spawn_blocking(move || {
                let runtime = tokio::runtime::Runtime::new().unwrap();
                runtime.block_on(async {
                    let inner = opened(&name_of, &dir_of).provider();
                    let calls = AtomicU32::new(0);
                    let (step, moment) = (step_of, moment_of);
                    let fragile = Fragile { inner, step, moment, blow, calls };
                    let manager = manager(&dir_of, Some(Arc::new(fragile))).await;
                    tokio::select! {
                        () = walk(&manager) => {}
                        struck = strike => struck.unwrap(),
                    }
                });
                // What blocks is let finish: it cannot be stopped within a process.
                runtime.shutdown_timeout(Duration::from_secs(20));
            })
            .await
            .unwrap();
            in_order(&*subject, dir, step, &what).await;
            schedules += 1;
        }
    }
    println!("{name}: {schedules} drops, 0 leaked, 0 doubled, 0 forgotten");
}

/// Starts on what is there, and looks whether what runs is what is known; then ends all of it.
async fn in_order(subject: &dyn Subject, dir: &Path, step: &str, what: &str) {
    let manager = manager(dir, Some(subject.provider())).await;
    let ids = || manager.snapshot().iter().map(|i| i.id).collect::<Vec<_>>();
    let known = ids();
    assert!(known.len() <= 2, "{what}: {known:?}");
    let mut facts = Vec::new();
    // An order to end one may have been on its way: then its end is still to be seen. Nothing else
    // may differ, not for a moment.
    if step == "destroy" {
        agreed(subject, &manager, what).await;
    } else {
        assert_eq!(subject.running(), known, "{what}: what runs is not what is known");
    }
    until(&format!("{what}: it works as before"), || {
        let all = manager.snapshot();
        let fresh = all.iter().any(|i| !known.contains(&i.id));
        // Ports are shared with other tests, so one that was made may be in another's way.
        if !fresh {
            manager.apply(&shop(), &[Action::create(Tier::Shadow)]);
        }
        facts.extend(manager.take_facts());
        let settled = all.iter().all(|i| i.moving_to.is_none() && i.tier != Tier::Cold);
        (fresh && settled).then_some(())
    })
    .await;
    agreed(subject, &manager, what).await;
    if step != "destroy" {
        assert_eq!(ids()[..known.len()], known, "{what}: a known one is gone: {facts:?}");
    }
    manager.shutdown().await;
    assert_eq!(subject.running(), [], "{what}: leaked");
}

/// Waits until what runs is what is known.
async fn agreed(subject: &dyn Subject, manager: &Manager, what: &str) {
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let (running, known) = (subject.running(), manager.snapshot());
        if running == known.iter().map(|i| i.id).collect::<Vec<_>>() {
            return;
        }
        let late = tokio::time::Instant::now() > end;
        assert!(!late, "{what}: {running:?} run, known are {known:?}, {:?}", manager.take_facts());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
