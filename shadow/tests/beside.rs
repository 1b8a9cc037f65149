//! What goes on beside a provider that hangs, is away or has no means: shown by one that does as it is
//! told.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/paused.rs"]
mod paused;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use foreshadow_control::{Action, Fact, InstanceId, ServiceName, Tier};
use foreshadow_shadow::{
    Adoption, Capabilities, Cause, CpuShare, CreateRequest, Diagnosis, ExitDetail, Handle, Manager,
    OnExit, Provider, ProviderError, ServiceShadows, Sweep, Usage,
};
use tokio::sync::Notify;
use tokio::time::Instant;

use self::paused::{pool, shop, until};

#[derive(Default)]
struct Told {
    place: &'static str,
    /// Where its instances are by their records.
    made_at: Mutex<&'static str>,
    asked_for_usage: AtomicUsize,
    /// Making one does not end.
    hangs: AtomicBool,
    begun: AtomicBool,
    called_off: Mutex<Vec<InstanceId>>,
    /// Why steps fail that make one larger or let others meet it.
    raises: Mutex<Option<Cause>>,
    raised: AtomicBool,
    ended: Notify,
    leaves_within: Mutex<Option<Duration>>,
    graces: Mutex<Vec<Duration>>,
    /// Ending one does not end.
    ends_slowly: AtomicBool,
    /// A sweep fails.
    stuck: AtomicBool,
    /// Those up to here were made after something that has changed since.
    rolled_out: AtomicU64,
    left: AtomicBool,
}

impl Told {
    fn away(&self) -> Result<(), ProviderError> {
        self.raises.lock().unwrap().map_or(Ok(()), |cause| {
            let (asked, came_back) = ("the cluster".to_owned(), "no".to_owned());
            Err(ProviderError::Refused { cause, asked, came_back })
        })
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
        Capabilities { freeze: false, resize: true, snapshot: false }
    }
    fn place(&self) -> String {
        self.place.to_owned()
    }
    fn can_call_off(&self) -> bool {
        true
    }
    async fn call_off(&self, request: &CreateRequest) {
        self.called_off.lock().unwrap().push(request.id);
    }
    async fn create(&self, request: &CreateRequest) -> Result<Handle, ProviderError> {
        self.begun.store(true, Ordering::Relaxed);
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
    async fn freeze(&self, _: &Handle) -> Result<(), ProviderError> {
        Ok(())
    }
    async fn thaw(&self, _: &Handle) -> Result<(), ProviderError> {
        Ok(())
    }
    async fn set_share(&self, _: &Handle, _: CpuShare) -> Result<(), ProviderError> {
        self.away()
    }
    async fn set_activated(&self, _: &Handle, activated: bool) -> Result<(), ProviderError> {
        self.away()?;
        self.raised.store(activated, Ordering::Relaxed);
        Ok(())
    }
    async fn destroy(&self, _: &Handle, grace: Duration) -> Result<(), ProviderError> {
        self.graces.lock().unwrap().push(grace);
        if self.ends_slowly.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
    async fn adopt(&self, _: &Handle) -> Result<Adoption, ProviderError> {
        Ok(match *self.made_at.lock().unwrap() == self.place {
            true => Adoption::Running,
            false => Adoption::OutOfReach("it is elsewhere".to_owned()),
        })
    }
    async fn exited(&self, _: &Handle) -> ExitDetail {
        self.ended.notified().await;
        ExitDetail("its pod is being deleted".to_owned())
    }
    async fn is_outdated(&self, handle: &Handle) -> bool {
        handle.id.0 <= self.rolled_out.load(Ordering::Relaxed)
    }
    async fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }
    async fn leaves_within(&self, _: &Handle) -> Option<Duration> {
        *self.leaves_within.lock().unwrap()
    }
    async fn diagnose(&self, _: &Handle) -> Diagnosis {
        Diagnosis::default()
    }
    /// Nobody is ever told.
    async fn usage(&self, _: &Handle) -> Usage {
        self.asked_for_usage.fetch_add(1, Ordering::Relaxed);
        std::future::pending().await
    }
    async fn sweep(&self, _: &Sweep) -> Result<usize, ProviderError> {
        match self.stuck.load(Ordering::Relaxed) {
            true => Err(ProviderError::Other("the device is busy".to_owned())),
            false => Ok(0),
        }
    }
}

async fn manager(dir: &tempfile::TempDir, services: &[(&str, &Arc<Told>)]) -> Manager {
    let pools = services.iter().map(|(name, provider)| {
        let told = Arc::clone(provider) as Arc<dyn Provider>;
        ServiceShadows { on_exit: OnExit::Keep, ..pool(ServiceName::from(*name), told, 4) }
    });
    paused::manager(dir.path(), pools.collect(), 4).await
}

/// The only shadow of a manager, at that tier and nowhere on the way.
fn rests(manager: &Manager, tier: Tier) -> bool {
    manager.snapshot().iter().any(|one| one.tier == tier && one.moving_to.is_none())
}

async fn one_at(manager: &Manager, tier: Tier) -> InstanceId {
    manager.apply(&shop(), &[Action::create(tier)]);
    until("it is there", || rests(manager, tier)).await;
    manager.snapshot()[0].id
}

fn has_ended(manager: &Manager) -> bool {
    manager.take_facts().iter().any(|(_, fact)| matches!(fact, Fact::Exited { .. }))
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_never_tells_what_is_used_holds_up_neither_orders_nor_ends() {
    let (dir, provider) = (tempfile::tempdir().unwrap(), Arc::new(Told::default()));
    let manager = manager(&dir, &[("shop", &provider)]).await;
    let instance = one_at(&manager, Tier::Shadow).await;
    let asked = || provider.asked_for_usage.load(Ordering::Relaxed);
    until("it is asked what it uses", || asked() > 0).await;
    let begun = Instant::now();
    manager.apply(&shop(), &[Action::Move { instance, tier: Tier::Serving }]);
    until("it serves", || rests(&manager, Tier::Serving)).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let before = asked();
    until("it is asked again, the first time given up", || asked() > before).await;
    let begun = Instant::now();
    provider.ended.notify_one();
    until("its end is told", || has_ended(&manager)).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_creation_that_hangs_is_called_off_and_undone() {
    for by_shutdown in [false, true] {
        let (dir, provider) = (tempfile::tempdir().unwrap(), Arc::new(Told::default()));
        provider.hangs.store(true, Ordering::Relaxed);
        let manager = manager(&dir, &[("shop", &provider)]).await;
        manager.apply(&shop(), &[Action::create(Tier::Shadow)]);
        until("it is begun", || provider.begun.load(Ordering::Relaxed)).await;
        let instance = manager.snapshot()[0].id;
        let begun = Instant::now();
        match by_shutdown {
            true => manager.shutdown().await,
            false => manager.apply(&shop(), &[Action::Destroy { instance }]),
        }
        until("nothing is left of it", || manager.snapshot().is_empty()).await;
        // A paused clock runs ahead of the database that a shutdown waits for.
        assert!(by_shutdown || begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        assert_eq!(*provider.called_off.lock().unwrap(), [instance]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_away_keeps_nothing_that_answers_from_serving() {
    for away in [Cause::Unreachable, Cause::Late, Cause::Busy] {
        for from in [Tier::Shadow, Tier::Warm, Tier::Full] {
            let (dir, provider) = (tempfile::tempdir().unwrap(), Arc::new(Told::default()));
            let manager = manager(&dir, &[("shop", &provider)]).await;
            let instance = one_at(&manager, from).await;
            *provider.raises.lock().unwrap() = Some(away);
            let begun = Instant::now();
            manager.apply(&shop(), &[Action::Move { instance, tier: Tier::Serving }]);
            until("it serves", || rests(&manager, Tier::Serving)).await;
            assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
            // The way back is not gone without the provider.
            manager.apply(&shop(), &[Action::Move { instance, tier: Tier::Draining }]);
            until("it drains", || rests(&manager, Tier::Draining)).await;
            manager.apply(&shop(), &[Action::Move { instance, tier: Tier::Warm }]);
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert!(!rests(&manager, Tier::Warm));
            manager.apply(&shop(), &[Action::Move { instance, tier: Tier::Serving }]);
            until("it serves again", || rests(&manager, Tier::Serving)).await;
            *provider.raises.lock().unwrap() = None;
            until("what was left out is done", || provider.raised.load(Ordering::Relaxed)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_provider_refuses_is_not_gone_without() {
    for refusal in [Cause::Quota, Cause::Denied, Cause::NoRoom] {
        let (dir, provider) = (tempfile::tempdir().unwrap(), Arc::new(Told::default()));
        let manager = manager(&dir, &[("shop", &provider)]).await;
        let instance = one_at(&manager, Tier::Warm).await;
        *provider.raises.lock().unwrap() = Some(refusal);
        manager.apply(&shop(), &[Action::Move { instance, tier: Tier::Serving }]);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(manager.snapshot()[0].tier, Tier::Warm);
        let told = manager.take_facts();
        let failed = |(_, fact): &(ServiceName, Fact)| matches!(fact, Fact::StepFailed { to: Tier::Full, error, .. } if error.starts_with("asked the cluster: no"));
        assert!(told.iter().any(failed), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_its_place_ends_in_order_has_the_time_that_it_was_given() {
    let (dir, provider) = (tempfile::tempdir().unwrap(), Arc::new(Told::default()));
    let manager = manager(&dir, &[("shop", &provider)]).await;
    one_at(&manager, Tier::Serving).await;
    *provider.leaves_within.lock().unwrap() = Some(Duration::from_secs(60));
    provider.ends_slowly.store(true, Ordering::Relaxed);
    provider.ended.notify_one();
    until("its end is told at once", || has_ended(&manager)).await;
    assert!(manager.snapshot().is_empty(), "it is given no more requests");
    let asked = || provider.graces.lock().unwrap().clone();
    until("it is ended", || !asked().is_empty()).await;
    assert_eq!(asked(), [Duration::from_secs(60)]);
}

#[tokio::test(start_paused = true)]
async fn what_belongs_to_no_service_any_more_is_ended_by_whoever_leads_to_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let at = |place| Arc::new(Told { place, ..Told::default() });
    let (there, elsewhere) = (at("there"), at("elsewhere"));
    for provider in [&there, &elsewhere] {
        *provider.made_at.lock().unwrap() = "there";
    }
    let first = manager(&dir, &[("shop", &there)]).await;
    one_at(&first, Tier::Shadow).await;
    first.shutdown().await;
    drop(first);
    let second = manager(&dir, &[("other", &elsewhere)]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(there.graces.lock().unwrap().is_empty() && second.snapshot().is_empty());
    second.shutdown().await;
    drop(second);
    // By the name of another service, and where its own service has moved away.
    let third =
        manager(&dir, &[("another", &elsewhere), ("shop", &elsewhere), ("other", &there)]).await;
    until("it is ended", || !there.graces.lock().unwrap().is_empty()).await;
    until("it is forgotten", || third.snapshot().is_empty()).await;
    assert!(elsewhere.graces.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_swept_keeps_no_start_from_coming_about() {
    let (dir, provider) = (tempfile::tempdir().unwrap(), Arc::new(Told::default()));
    provider.stuck.store(true, Ordering::Relaxed);
    let manager = manager(&dir, &[("shop", &provider)]).await;
    one_at(&manager, Tier::Serving).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_rolled_out_since_replaces_shadows_one_by_one_and_none_that_serves() {
    let (dir, provider) = (tempfile::tempdir().unwrap(), Arc::new(Told::default()));
    let manager = manager(&dir, &[("shop", &provider)]).await;
    for tier in [Tier::Serving, Tier::Warm, Tier::Warm] {
        manager.apply(&shop(), &[Action::create(tier)]);
    }
    let all = || manager.snapshot();
    let rest = || all().iter().all(|one| one.moving_to.is_none() && one.tier >= Tier::Warm);
    until("they are there", || all().len() == 3 && rest()).await;
    let newest = all().iter().map(|one| one.id.0).max().unwrap();
    provider.rolled_out.store(newest, Ordering::Relaxed);
    until("it is seen", || all().iter().all(|one| one.outdated)).await;
    for fresh in [1, 2] {
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(all().len(), 3, "each waits for a fresh one, or for half a minute without any");
        assert!(all().iter().any(|one| one.tier == Tier::Serving));
        manager.apply(&shop(), &[Action::create(Tier::Warm)]);
        until("a fresh one is in the place of one", || {
            all().len() == 3 && all().iter().filter(|one| one.id.0 > newest).count() == fresh
        })
        .await;
    }
    until("all but the one that serves are fresh", || {
        all().len() == 3 && rest() && all().iter().filter(|one| one.id.0 > newest).count() == 2
    })
    .await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(all().iter().filter(|one| one.outdated).count(), 1, "{:?}", all());
    manager.shutdown().await;
    assert!(provider.left.load(Ordering::Relaxed), "what is held only while it runs is given back");
}
