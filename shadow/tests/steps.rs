//! Steps that fail in the middle, and providers that are slow for one service: shown by a provider
//! that does as it is told.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/paused.rs"]
mod paused;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use foreshadow_control::{Action, Fact, InstanceId, ServiceName, Tier};
use foreshadow_shadow::{
    Adoption, Capabilities, CpuShare, CreateRequest, Diagnosis, ExitDetail, Handle, Manager,
    OnExit, Provider, ProviderError, ServiceShadows, ShadowInstance, Sweep,
};
use tokio::sync::Notify;

use self::paused::{pool, shop, until};

/// What it was told, and where its instances are.
#[derive(Default)]
struct Told {
    place: &'static str,
    /// Making one is work of this machine.
    works_here: bool,
    /// Of how many the making was begun.
    begun: AtomicUsize,
    /// Making one does not end.
    hangs: AtomicBool,
    /// Activating one does so, and fails all the same.
    half: AtomicBool,
    /// One that is activated stays so.
    sticks: AtomicBool,
    /// None can be made smaller.
    stays_large: AtomicBool,
    /// Ending one does not end.
    ends_slowly: AtomicBool,
    /// One of those that run ends by itself.
    ended: Notify,
    /// A sweep does not come about.
    away: AtomicBool,
    /// What sweeps were to keep and to end.
    swept: Mutex<Vec<Sweep>>,
    /// What became of instances of an earlier run, where they do not run.
    adoption: Mutex<Option<Adoption>>,
    active: Mutex<BTreeSet<InstanceId>>,
    frozen: Mutex<BTreeSet<InstanceId>>,
    full: Mutex<BTreeSet<InstanceId>>,
}

impl Told {
    fn put(set: &Mutex<BTreeSet<InstanceId>>, id: InstanceId, is: bool) {
        let mut set = set.lock().unwrap();
        if is {
            set.insert(id)
        } else {
            set.remove(&id)
        };
    }

    fn is(set: &Mutex<BTreeSet<InstanceId>>) -> bool {
        !set.lock().unwrap().is_empty()
    }
}

#[async_trait]
impl Provider for Told {
    fn name(&self) -> &'static str {
        "told"
    }
    fn fingerprint(&self) -> String {
        String::new()
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities { freeze: true, resize: true, snapshot: false }
    }
    fn place(&self) -> String {
        self.place.to_owned()
    }
    fn is_work_here(&self) -> bool {
        self.works_here
    }
    async fn create(&self, request: &CreateRequest) -> Result<Handle, ProviderError> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        Ok(Handle {
            id: request.id,
            service: request.service.clone(),
            address: "127.0.0.1:9".parse().unwrap(),
            pid: None,
            state: String::new(),
        })
    }
    async fn freeze(&self, handle: &Handle) -> Result<(), ProviderError> {
        assert!(!self.active.lock().unwrap().contains(&handle.id), "callers meet a paused one");
        Self::put(&self.frozen, handle.id, true);
        Ok(())
    }
    async fn thaw(&self, handle: &Handle) -> Result<(), ProviderError> {
        Self::put(&self.frozen, handle.id, false);
        Ok(())
    }
    async fn set_share(&self, handle: &Handle, share: CpuShare) -> Result<(), ProviderError> {
        if share != CpuShare::Unlimited && self.stays_large.load(Ordering::Relaxed) {
            return Err(ProviderError::Other("it stays large".to_owned()));
        }
        Self::put(&self.full, handle.id, share == CpuShare::Unlimited);
        Ok(())
    }
    async fn set_activated(&self, handle: &Handle, activated: bool) -> Result<(), ProviderError> {
        if !activated && self.sticks.load(Ordering::Relaxed) {
            return Err(ProviderError::Other("it stays".to_owned()));
        }
        Self::put(&self.active, handle.id, activated);
        if activated && self.half.load(Ordering::Relaxed) {
            return Err(ProviderError::Other("the second network is full".to_owned()));
        }
        Ok(())
    }
    async fn destroy(&self, _: &Handle, _: Duration) -> Result<(), ProviderError> {
        if self.ends_slowly.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
    async fn adopt(&self, _: &Handle) -> Result<Adoption, ProviderError> {
        Ok(self.adoption.lock().unwrap().clone().unwrap_or(Adoption::Running))
    }
    async fn exited(&self, _: &Handle) -> ExitDetail {
        self.ended.notified().await;
        ExitDetail("ended by itself".to_owned())
    }
    async fn diagnose(&self, _: &Handle) -> Diagnosis {
        Diagnosis::default()
    }
    async fn sweep(&self, what: &Sweep) -> Result<usize, ProviderError> {
        self.swept.lock().unwrap().push(what.clone());
        Ok(0)
    }
    fn is_swept(&self) -> bool {
        !self.away.load(Ordering::Relaxed)
    }
}

async fn manager(dir: &tempfile::TempDir, services: &[(&str, &Arc<Told>)]) -> Manager {
    let pools = services.iter().map(|(name, provider)| {
        pool(ServiceName::from(*name), Arc::clone(provider) as Arc<dyn Provider>, 8)
    });
    paused::manager(dir.path(), pools.collect(), 2).await
}

/// The only shadow of a manager, at that tier and nowhere on the way.
fn rests(manager: &Manager, tier: Tier) -> bool {
    manager.snapshot().iter().any(|one| one.tier == tier && one.moving_to.is_none())
}

async fn failed_on_the_way_to_full(manager: &Manager) -> InstanceId {
    manager.apply(&shop(), &[Action::create(Tier::Warm)]);
    until("it is warm", || rests(manager, Tier::Warm)).await;
    let instance = manager.snapshot()[0].id;
    manager.apply(&shop(), &[Action::Move { instance, tier: Tier::Full }]);
    let failed = |(_, fact): &(ServiceName, Fact)| matches!(fact, Fact::StepFailed { to: Tier::Full, error, .. } if error.contains("second"));
    until("the step fails", || manager.take_facts().iter().any(failed)).await;
    instance
}

#[tokio::test(start_paused = true)]
async fn an_activation_that_failed_half_way_is_taken_back() {
    let (dir, provider) = (tempfile::tempdir().unwrap(), Arc::new(Told::default()));
    provider.half.store(true, Ordering::Relaxed);
    let manager = manager(&dir, &[("shop", &provider)]).await;
    let instance = failed_on_the_way_to_full(&manager).await;
    assert!(!Told::is(&provider.active) && !Told::is(&provider.full));
    manager.apply(&shop(), &[Action::Move { instance, tier: Tier::Shadow }]);
    until("it is parked", || rests(&manager, Tier::Shadow) && Told::is(&provider.frozen)).await;
    provider.half.store(false, Ordering::Relaxed);
    manager.apply(&shop(), &[Action::Move { instance, tier: Tier::Full }]);
    until("it is activated", || rests(&manager, Tier::Full) && Told::is(&provider.active)).await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_taken_back_is_tried_again_and_not_paused_before() {
    for target in [Tier::Warm, Tier::Shadow] {
        let (dir, provider) = (tempfile::tempdir().unwrap(), Arc::new(Told::default()));
        provider.half.store(true, Ordering::Relaxed);
        let manager = manager(&dir, &[("shop", &provider)]).await;
        provider.sticks.store(true, Ordering::Relaxed);
        let instance = failed_on_the_way_to_full(&manager).await;
        assert!(Told::is(&provider.active));
        manager.apply(&shop(), &[Action::Move { instance, tier: target }]);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(Told::is(&provider.active) && !Told::is(&provider.frozen));
        provider.sticks.store(false, Ordering::Relaxed);
        until("it is taken back", || rests(&manager, target) && !Told::is(&provider.active)).await;
        assert!(!Told::is(&provider.full) || target == Tier::Shadow);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_start_cannot_bring_back_to_its_tier_is_tried_again() {
    for tier in [Tier::Warm, Tier::Shadow] {
        let (dir, provider) = (tempfile::tempdir().unwrap(), Arc::new(Told::default()));
        let start = async || {
            let told = Arc::clone(&provider) as Arc<dyn Provider>;
            let kept = ServiceShadows { on_exit: OnExit::Keep, ..pool(shop(), told, 4) };
            paused::manager(dir.path(), vec![kept], 2).await
        };
        let manager = start().await;
        manager.apply(&shop(), &[Action::create(tier)]);
        until("it is there", || rests(&manager, tier)).await;
        let id = manager.snapshot()[0].id;
        manager.shutdown().await;
        drop(manager);
        // As after a crash in the middle of a step, with an engine that is away at the next start.
        Told::put(&provider.active, id, true);
        Told::put(&provider.frozen, id, false);
        provider.sticks.store(true, Ordering::Relaxed);
        let manager = start().await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(rests(&manager, tier) && Told::is(&provider.active));
        provider.sticks.store(false, Ordering::Relaxed);
        until("it is brought back", || !Told::is(&provider.active)).await;
        let parked = tier == Tier::Shadow;
        until("it is parked as it was", || Told::is(&provider.frozen) == parked).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_way_down_that_failed_half_way_is_taken_back_before_it_serves_again() {
    for back in [Tier::Full, Tier::Serving] {
        let (dir, provider) = (tempfile::tempdir().unwrap(), Arc::new(Told::default()));
        let manager = manager(&dir, &[("shop", &provider)]).await;
        manager.apply(&shop(), &[Action::create(Tier::Full)]);
        until("it is at full size", || rests(&manager, Tier::Full)).await;
        let instance = manager.snapshot()[0].id;
        provider.stays_large.store(true, Ordering::Relaxed);
        manager.apply(&shop(), &[Action::Move { instance, tier: Tier::Warm }]);
        until("it is half way down", || !Told::is(&provider.active)).await;
        manager.apply(&shop(), &[Action::Move { instance, tier: back }]);
        until("it is back", || rests(&manager, back)).await;
        until("callers meet it", || Told::is(&provider.active) && Told::is(&provider.full)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_slow_for_one_service_holds_no_other_up() {
    let dir = tempfile::tempdir().unwrap();
    let (slow, quick) = (Arc::new(Told::default()), Arc::new(Told::default()));
    slow.hangs.store(true, Ordering::Relaxed);
    let manager = manager(&dir, &[("slow", &slow), ("shop", &quick)]).await;
    let create = Action::create(Tier::Shadow);
    manager.apply(&ServiceName::from("slow"), &[(); 8].map(|()| create.clone()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    manager.apply(&shop(), &[create]);
    until("the other's is made", || rests(&manager, Tier::Shadow)).await;
}

#[tokio::test(start_paused = true)]
async fn a_place_that_is_slow_for_all_its_services_holds_no_other_place_up() {
    let dir = tempfile::tempdir().unwrap();
    let slow = Arc::new(Told { place: "engine", ..Told::default() });
    let quick = Arc::new(Told::default());
    slow.hangs.store(true, Ordering::Relaxed);
    let names = ["a", "b", "c", "d", "e"];
    let mut services: Vec<_> = names.iter().map(|name| (*name, &slow)).collect();
    services.push(("shop", &quick));
    let manager = manager(&dir, &services).await;
    let create = Action::create(Tier::Shadow);
    for name in names {
        manager.apply(&ServiceName::from(name), &[(); 8].map(|()| create.clone()));
    }
    let begun = || slow.begun.load(Ordering::Relaxed);
    until("all turns there are taken", || begun() >= 8).await;
    manager.apply(&shop(), &[create]);
    until("the other's is made", || rests(&manager, Tier::Shadow)).await;
    assert_eq!(begun(), 8, "two of each of four services");
}

#[tokio::test(start_paused = true)]
async fn what_is_work_of_this_machine_is_done_for_few_at_a_time_whatever_their_services() {
    let dir = tempfile::tempdir().unwrap();
    let here = Arc::new(Told { works_here: true, ..Told::default() });
    here.hangs.store(true, Ordering::Relaxed);
    let manager = manager(&dir, &[("a", &here), ("b", &here)]).await;
    for name in ["a", "b"] {
        let create = Action::create(Tier::Shadow);
        manager.apply(&ServiceName::from(name), &[(); 8].map(|()| create.clone()));
    }
    let begun = || here.begun.load(Ordering::Relaxed);
    until("all turns here are taken", || begun() >= 2).await;
    let gone = |one: &ShadowInstance| one.service.as_str() == "b";
    let waiting = manager.snapshot().into_iter().filter(gone).map(|one| one.id);
    for instance in waiting.collect::<Vec<_>>() {
        manager.apply(&ServiceName::from("b"), &[Action::Destroy { instance }]);
    }
    until("those that waited are gone", || manager.snapshot().len() <= 8 + begun()).await;
    assert_eq!(begun(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_turn_can_be_called_off() {
    let (dir, provider) = (tempfile::tempdir().unwrap(), Arc::new(Told::default()));
    provider.hangs.store(true, Ordering::Relaxed);
    let manager = manager(&dir, &[("shop", &provider)]).await;
    let create = Action::create(Tier::Shadow);
    manager.apply(&shop(), &[(); 5].map(|()| create.clone()));
    until("two are being made", || provider.begun.load(Ordering::Relaxed) == 2).await;
    let all: Vec<InstanceId> = manager.snapshot().iter().map(|one| one.id).collect();
    for instance in all {
        manager.apply(&shop(), &[Action::Destroy { instance }]);
    }
    until("those that waited are gone", || manager.snapshot().len() == 2).await;
    assert_eq!(provider.begun.load(Ordering::Relaxed), 2, "what nobody wants is not made");
}

#[tokio::test(start_paused = true)]
async fn a_pool_full_of_what_is_being_ended_is_asked_again_after_a_while() {
    let (dir, provider) = (tempfile::tempdir().unwrap(), Arc::new(Told::default()));
    provider.ends_slowly.store(true, Ordering::Relaxed);
    let manager = manager(&dir, &[("shop", &provider)]).await;
    let create = Action::create(Tier::Shadow);
    manager.apply(&shop(), &[(); 8].map(|()| create.clone()));
    let parked = || manager.snapshot().iter().filter(|i| i.tier == Tier::Shadow).count();
    until("all are parked", || parked() == 8).await;
    provider.ended.notify_one();
    until("one has ended", || manager.snapshot().len() == 7).await;
    drop(manager.take_facts());
    manager.apply(&shop(), &[create]);
    let facts = manager.take_facts();
    let waits = |(_, fact): &(ServiceName, Fact)| {
        matches!(fact, Fact::StepFailed { instance: None, error, retry_in_ms: 1_000, .. }
            if error.contains("1 of them are being ended"))
    };
    assert!(facts.iter().any(waits), "{facts:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_swept_yet_is_not_forgotten_and_what_is_out_of_reach_is_kept() {
    let (dir, provider) = (tempfile::tempdir().unwrap(), Arc::new(Told::default()));
    let start = async || {
        let told = Arc::clone(&provider) as Arc<dyn Provider>;
        let kept = ServiceShadows { on_exit: OnExit::Keep, ..pool(shop(), told, 4) };
        paused::manager(dir.path(), vec![kept], 2).await
    };
    let manager = start().await;
    manager.apply(&shop(), &[Action::create(Tier::Shadow)]);
    until("it is parked", || rests(&manager, Tier::Shadow)).await;
    let id = manager.snapshot()[0].id;
    manager.shutdown().await;
    drop(manager);
    let mut told = Vec::new();
    for (adoption, away) in [
        (Adoption::OutOfReach("elsewhere".to_owned()), false),
        (Adoption::Gone("not seen".to_owned()), true),
        (Adoption::Gone("not seen".to_owned()), false),
        (Adoption::Running, false),
    ] {
        *provider.adoption.lock().unwrap() = Some(adoption);
        provider.away.store(away, Ordering::Relaxed);
        let manager = start().await;
        assert!(manager.snapshot().is_empty());
        manager.shutdown().await;
        told.push(provider.swept.lock().unwrap().pop().unwrap());
    }
    let of =
        |keep: &[InstanceId], lost: &[InstanceId]| Sweep { keep: keep.into(), lost: lost.into() };
    assert_eq!(told, [of(&[id], &[]), of(&[], &[id]), of(&[], &[id]), of(&[], &[])]);
}
