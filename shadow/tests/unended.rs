//! Instances that their provider cannot end: they are kept in sight, counted, and tried again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use foreshadow_control::{Action, Fact, ServiceName, Tier};
use foreshadow_shadow::{
    Adoption, Capabilities, CpuShare, CreateRequest, Diagnosis, ExitDetail, Handle, Manager,
    ManagerSettings, Provider, ProviderError, Readiness, ServiceShadows, ShadowInstance, Sweep,
};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Makes what can be asked to end by itself, and ends nothing while it is stuck.
struct Stuck {
    made: AtomicU32,
    asked: AtomicU32,
    stuck: AtomicBool,
    ended: watch::Sender<bool>,
}

impl Stuck {
    fn new() -> Arc<Self> {
        let (made, asked, stuck) = (AtomicU32::new(0), AtomicU32::new(0), AtomicBool::new(true));
        Arc::new(Self { made, asked, stuck, ended: watch::channel(false).0 })
    }

    fn made(&self) -> u32 {
        self.made.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Provider for Stuck {
    fn name(&self) -> &'static str {
        "stuck"
    }
    fn fingerprint(&self) -> String {
        String::new()
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }
    async fn create(&self, request: &CreateRequest) -> Result<Handle, ProviderError> {
        self.made.fetch_add(1, Ordering::Relaxed);
        Ok(Handle {
            id: request.id,
            service: request.service.clone(),
            address: "127.0.0.1:9".parse().unwrap(),
            pid: None,
            state: String::new(),
        })
    }
    async fn freeze(&self, _: &Handle) -> Result<(), ProviderError> {
        Ok(())
    }
    async fn thaw(&self, _: &Handle) -> Result<(), ProviderError> {
        Ok(())
    }
    async fn set_share(&self, _: &Handle, _: CpuShare) -> Result<(), ProviderError> {
        Ok(())
    }
    async fn destroy(&self, _: &Handle, _: Duration) -> Result<(), ProviderError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.stuck.load(Ordering::Relaxed) {
            return Err(ProviderError::Other("not now".to_owned()));
        }
        Ok(())
    }
    async fn adopt(&self, _: &Handle) -> Result<Adoption, ProviderError> {
        Ok(Adoption::Running)
    }
    async fn exited(&self, _: &Handle) -> ExitDetail {
        self.ended.subscribe().wait_for(|ended| *ended).await.unwrap();
        ExitDetail("ended by itself".to_owned())
    }
    async fn diagnose(&self, _: &Handle) -> Diagnosis {
        Diagnosis::default()
    }
    async fn sweep(&self, _: &Sweep) -> Result<usize, ProviderError> {
        Ok(0)
    }
}

struct Ready;

#[async_trait]
impl Readiness for Ready {
    async fn ready(&self, _: &ServiceName, _: SocketAddr) -> Result<(), String> {
        Ok(())
    }
}

fn shop() -> ServiceName {
    ServiceName::from("shop")
}

async fn manager(dir: &tempfile::TempDir, provider: &Arc<Stuck>) -> Manager {
    let mut service = ServiceShadows::new(shop(), Arc::clone(provider) as Arc<dyn Provider>);
    (service.max, service.parked_check) = (2, None);
    let settings = ManagerSettings {
        state_dir: dir.path().to_owned(),
        services: vec![service],
        janitors: Vec::new(),
        concurrent_creates: 4,
    };
    Manager::start(settings, Arc::new(Ready)).await.unwrap()
}

/// Waits, on the paused clock, until the shadows are as wanted.
async fn shadows(manager: &Manager, wanted: impl Fn(&[ShadowInstance]) -> bool) {
    let end = Instant::now() + Duration::from_secs(600);
    loop {
        let all = manager.snapshot();
        if wanted(&all) {
            return;
        }
        assert!(Instant::now() < end, "never came about: {all:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn two_parked(manager: &Manager) {
    manager.apply(&shop(), &[(); 2].map(|()| Action::Create { tier: Tier::Shadow }));
    shadows(manager, |all| all.len() == 2 && all.iter().all(|i| i.tier == Tier::Shadow)).await;
}

fn unended(all: &[ShadowInstance]) -> bool {
    all.len() == 2 && all.iter().all(|i| i.tier == Tier::Cold && i.moving_to == Some(Tier::Cold))
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_ended_keeps_its_place_so_that_nothing_piles_up() {
    let dir = tempfile::tempdir().unwrap();
    let provider = Stuck::new();
    let manager = manager(&dir, &provider).await;
    two_parked(&manager).await;
    provider.ended.send_replace(true);
    shadows(&manager, unended).await;
    assert!(!manager.take_facts().is_empty());
    for _ in 0..100 {
        manager.apply(&shop(), &[Action::Create { tier: Tier::Shadow }]);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(provider.made(), 2, "more than the pool's max may be running");
    let refused = |(_, fact): &(ServiceName, Fact)| {
        matches!(fact, Fact::StepFailed { instance: None, error, .. }
            if error == "2 shadows exist and the pool's max is 2")
    };
    assert_eq!(manager.take_facts().iter().filter(|fact| refused(fact)).count(), 100);
    assert!(unended(&manager.snapshot()));

    provider.stuck.store(false, Ordering::Relaxed);
    provider.ended.send_replace(false);
    shadows(&manager, <[_]>::is_empty).await;
    two_parked(&manager).await;
    assert_eq!(provider.made(), 4);
}

/// Counts what is logged as an error.
#[derive(Clone, Default)]
struct Errors(Arc<Mutex<Vec<String>>>);

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0 += &format!("{field}={value:?};");
    }
}

impl Subscriber for Errors {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_failing_is_told_now_and_then_and_alarmed_once() {
    let errors = Errors::default();
    let _listening = tracing::subscriber::set_default(errors.clone());
    let dir = tempfile::tempdir().unwrap();
    let provider = Stuck::new();
    let manager = manager(&dir, &provider).await;
    two_parked(&manager).await;
    let first = manager.snapshot()[0].id;
    manager.apply(&shop(), &[Action::Destroy { instance: first }]);
    tokio::time::sleep(Duration::from_secs(3_600)).await;

    let tries = provider.asked.load(Ordering::Relaxed);
    assert!((300..=400).contains(&tries), "it is tried every 10 s: {tries}");
    let told = errors.0.lock().unwrap().clone();
    assert!((5..=10).contains(&told.len()), "{told:#?}");
    assert!(told[0].contains("tries=1;") && told[0].contains("error=\"not now\""), "{told:#?}");
    let count = |text: &String| -> u32 {
        let tries = text.split("tries=").nth(1).unwrap();
        tries.split(';').next().unwrap().parse().unwrap()
    };
    assert!(told.windows(2).all(|pair| count(&pair[0]) < count(&pair[1])), "{told:#?}");
    let to_cold = |fact: &Fact| matches!(fact, Fact::StepFailed { to: Tier::Cold, .. });
    let alarms = manager.take_facts().iter().filter(|(_, fact)| to_cold(fact)).count();
    assert_eq!(alarms, 1);

    provider.stuck.store(false, Ordering::Relaxed);
    shadows(&manager, |all| all.len() == 1).await;
}
