//! Instances that their provider cannot end: they are kept in sight, counted, and tried again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/logged.rs"]
mod logged;
#[path = "support/paused.rs"]
mod paused;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use foreshadow_control::{Action, Fact, ServiceName, Tier};
use foreshadow_shadow::{
    Adoption, Capabilities, CpuShare, CreateRequest, Diagnosis, ExitDetail, Handle, Manager,
    Provider, ProviderError, ShadowInstance, Sweep,
};
use tokio::sync::watch;
use tracing::Level;

use self::logged::Logged;
use self::paused::{pool, shop, until};

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

async fn manager(dir: &tempfile::TempDir, provider: &Arc<Stuck>) -> Manager {
    let stuck = Arc::clone(provider) as Arc<dyn Provider>;
    paused::manager(dir.path(), vec![pool(shop(), stuck, 2)], 4).await
}

async fn shadows(manager: &Manager, wanted: impl Fn(&[ShadowInstance]) -> bool) {
    until("shadows are as wanted", || wanted(&manager.snapshot())).await;
}

async fn two_parked(manager: &Manager) {
    manager.apply(&shop(), &[(); 2].map(|()| Action::create(Tier::Shadow)));
    shadows(manager, |all| all.len() == 2 && all.iter().all(|i| i.tier == Tier::Shadow)).await;
}

fn unended(all: &[ShadowInstance]) -> bool {
    all.len() == 2 && all.iter().all(|i| i.tier == Tier::Cold && i.moving_to == Some(Tier::Cold))
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_ended_has_a_bound_of_its_own_so_that_nothing_piles_up() {
    let dir = tempfile::tempdir().unwrap();
    let provider = Stuck::new();
    let manager = manager(&dir, &provider).await;
    two_parked(&manager).await;
    provider.ended.send_replace(true);
    shadows(&manager, unended).await;
    assert!(!manager.take_facts().is_empty());
    // Nobody waits for what is lost: the pool is filled once more.
    provider.ended.send_replace(false);
    tokio::time::sleep(Duration::from_secs(60)).await;
    manager.apply(&shop(), &[(); 2].map(|()| Action::create(Tier::Shadow)));
    let parked =
        |all: &[ShadowInstance]| all.iter().filter(|i| i.tier == Tier::Shadow).count() == 2;
    shadows(&manager, parked).await;
    let mut ids: Vec<_> = manager.snapshot().iter().map(|i| i.id).collect();
    ids.dedup();
    assert_eq!(ids.len(), 4, "no id is used twice");
    drop(manager.take_facts());
    for _ in 0..100 {
        manager.apply(&shop(), &[Action::create(Tier::Shadow)]);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(provider.made(), 4, "more than twice the pool's max may be running");
    let refused = |(_, fact): &(ServiceName, Fact)| {
        matches!(fact, Fact::StepFailed { instance: None, error, .. }
            if error == "2 shadows exist and the pool's max is 2")
    };
    assert_eq!(manager.take_facts().iter().filter(|fact| refused(fact)).count(), 100);

    // These are lost, too: that is the end of it.
    provider.ended.send_replace(true);
    shadows(&manager, |all| all.len() == 4 && all.iter().all(|i| i.tier == Tier::Cold)).await;
    provider.ended.send_replace(false);
    tokio::time::sleep(Duration::from_secs(60)).await;
    drop(manager.take_facts());
    manager.apply(&shop(), &[Action::create(Tier::Shadow)]);
    let told = manager.take_facts();
    let refused = |(_, fact): &(ServiceName, Fact)| {
        matches!(fact, Fact::StepFailed { instance: None, error, .. }
            if error.starts_with("4 shadows that were lost cannot be confirmed"))
    };
    assert!(told.iter().any(refused), "{told:?}");

    provider.stuck.store(false, Ordering::Relaxed);
    shadows(&manager, <[_]>::is_empty).await;
    two_parked(&manager).await;
    assert_eq!(provider.made(), 6);
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_failing_is_told_now_and_then_and_alarmed_once() {
    let errors = Logged::new(|metadata| *metadata.level() == Level::ERROR);
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
    let told: Vec<String> = errors.lines().into_iter().map(|(_, text)| text).collect();
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
