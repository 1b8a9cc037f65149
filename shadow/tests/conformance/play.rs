//! What a Foreshadow plays until its end comes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use foreshadow_control::{Action, Tier};
use foreshadow_shadow::{
    Fault, Handle, Manager, ManagerSettings, OnExit, Provider, Readiness, ServiceShadows,
    ShadowError,
};
use rusqlite::Connection;

use super::fragile::{Blow, Fate, Fragile, FragileCheck};
use super::points::{Point, Scene};
use super::subjects::opened;
use crate::support::{SaysOk, shop, until};

/// A registry that waits for its turn to write is given so long before the end comes.
const WAITING: Duration = Duration::from_millis(30);

fn shadows(provider: Arc<dyn Provider>, on_exit: OnExit) -> ServiceShadows {
    ServiceShadows { parked_check: None, on_exit, ..ServiceShadows::new(shop(), provider) }
}

/// A manager of one service, or of none.
pub(crate) async fn manager(dir: &Path, provider: Option<Arc<dyn Provider>>) -> Manager {
    let service = provider.map(|provider| shadows(provider, OnExit::Destroy));
    managing(dir, service, Arc::new(SaysOk)).await
}

async fn managing(
    dir: &Path,
    service: Option<ServiceShadows>,
    readiness: Arc<dyn Readiness>,
) -> Manager {
    let end = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let settings = ManagerSettings {
            state_dir: dir.to_owned(),
            services: service.clone().into_iter().collect(),
            janitors: Vec::new(),
            concurrent_creates: 4,
        };
        match Manager::start(settings, Arc::clone(&readiness)).await {
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

/// One who plays: a manager on a fragile provider.
struct Player {
    manager: Manager,
    inner: Arc<dyn Provider>,
    fate: Arc<Fate>,
}

/// Plays the scene of a point until the blow falls.
pub(crate) async fn play(name: &str, dir: &Path, point: Point, blow: Blow) {
    let fate = Fate::new(point, blow, dir);
    let inner = opened(name, dir).provider();
    let watch = fate.point.step.strip_prefix("registry.").map(str::to_owned);
    if let Some(write) = &watch {
        at_the_registry(&fate, write);
    }
    let fragile =
        Arc::new(Fragile { inner: Arc::clone(&inner), fate: Arc::clone(&fate), version: 0 });
    let on_exit = if fate.point.scene == Scene::Stopped { OnExit::Keep } else { OnExit::Destroy };
    let check = Arc::new(FragileCheck(Arc::clone(&fate)));
    let manager = managing(dir, Some(shadows(fragile, on_exit)), check).await;
    let player = Player { manager, inner, fate };
    player.scene(watch.as_deref()).await;
    // A step that was never called is a point that was never met: the test says so when it is not killed.
    std::future::pending::<()>().await;
}

impl Player {
    async fn scene(&self, write: Option<&str>) {
        if write == Some("primary_id") {
            let address = "127.0.0.1:9".parse().unwrap();
            drop(self.manager.primary_id(&shop(), address).await);
        }
        match self.fate.point.scene {
            Scene::Walk => self.walk().await,
            Scene::CalledOff => self.called_off().await,
            Scene::Replaced => self.replaced().await,
            // The start is all.
            Scene::Again => {}
            Scene::Saved => self.saved().await,
            Scene::Stopped => {
                self.two().await;
                self.manager.shutdown().await;
            }
            Scene::Hung => {
                self.two().await;
                let id = self.manager.snapshot()[1].id;
                self.manager.disturb(&shop(), id, Fault::Hang).await.unwrap();
            }
        }
    }

    async fn two(&self) {
        let create = Action::create;
        self.manager.apply(&shop(), &[create(Tier::Shadow), create(Tier::Warm)]);
        self.settled("two", 2).await;
    }

    async fn settled(&self, what: &str, many: usize) {
        until(what, || {
            let all = self.manager.snapshot();
            let settled = all.iter().all(|one| one.moving_to.is_none() && one.tier != Tier::Cold);
            (all.len() == many && settled).then_some(())
        })
        .await;
    }

    /// Two shadows, of which one goes up to full, back and away.
    async fn walk(&self) {
        let create = Action::create;
        self.manager.apply(&shop(), &[create(Tier::Full), create(Tier::Warm)]);
        let id = self.manager.snapshot()[0].id;
        for tier in [Tier::Full, Tier::Shadow] {
            self.manager.apply(&shop(), &[Action::Move { instance: id, tier }]);
            until("it is there", || {
                let all = self.manager.snapshot();
                let one = all.iter().find(|one| one.id == id)?;
                (one.tier == tier && one.moving_to.is_none()).then_some(())
            })
            .await;
        }
        self.manager.apply(&shop(), &[Action::Destroy { instance: id }]);
    }

    async fn called_off(&self) {
        self.manager.apply(&shop(), &[Action::create(Tier::Warm)]);
        let id = self.manager.snapshot()[0].id;
        // Long enough that it is being made, and far too short that it is made.
        tokio::time::sleep(Duration::from_millis(15)).await;
        self.manager.apply(&shop(), &[Action::Destroy { instance: id }]);
    }

    async fn replaced(&self) {
        self.two().await;
        let (inner, fate) = (Arc::clone(&self.inner), Arc::clone(&self.fate));
        fate.again();
        let newer = Arc::new(Fragile { inner, fate, version: 1 });
        let left = self.manager.reconfigure(vec![shadows(newer, OnExit::Destroy)]);
        assert!(left.is_empty(), "none of them serves");
        self.manager.apply(&shop(), &[Action::create(Tier::Warm)]);
        let old = || self.manager.snapshot().iter().filter(|one| one.outdated).count();
        until("one is ended", || (old() < 2).then_some(())).await;
    }

    /// The manager makes no use of it, so it is asked for as the manager would.
    async fn saved(&self) {
        self.manager.apply(&shop(), &[Action::create(Tier::Warm)]);
        self.settled("one", 1).await;
        let db = Connection::open(self.fate.dir.join("foreshadow.db")).unwrap();
        let text: String =
            db.query_row("SELECT handle FROM instances", [], |row| row.get(0)).unwrap();
        let handle: Handle = serde_json::from_str(&text).unwrap();
        let fragile =
            Fragile { inner: Arc::clone(&self.inner), fate: Arc::clone(&self.fate), version: 0 };
        let saved = fragile.snapshot(&handle).await.unwrap();
        fragile.discard(&saved).await.unwrap();
    }
}

/// Strikes around a write: before, while it waits behind another writer; after, as soon as it is seen.
fn at_the_registry(fate: &Arc<Fate>, write: &str) {
    let (path, blow) = (fate.dir.join("foreshadow.db"), Arc::clone(&fate.blow));
    let (write, before) = (write.to_owned(), fate.point.moment == "before");
    std::thread::spawn(move || {
        if before {
            hold_before(&path, &write);
        } else {
            wait_after(&path, &write);
        }
        blow();
    });
}

/// What the database holds just before a write, and once it is done.
fn stage(write: &str) -> &'static str {
    match write {
        "reserve_ids" => "SELECT count(*) > 0 FROM next_id",
        "primary_id" | "creating" => "SELECT next > 1 FROM next_id",
        "created" => "SELECT count(*) > 0 FROM instances",
        "tier" => "SELECT count(*) > 0 FROM instances WHERE handle IS NOT NULL",
        "ended" => "SELECT count(*) > 0 FROM instances WHERE tier = 'full'",
        other => panic!("no such write: {other}"),
    }
}

/// Returns as soon as the write is seen.
fn wait_after(path: &Path, write: &str) {
    let db = wait_for_database(path);
    let pause = || std::thread::sleep(Duration::from_micros(100));
    if write == "ended" {
        let mut most = 0;
        loop {
            let query = "SELECT count(*) FROM instances";
            let now: u32 = db.query_row(query, [], |row| row.get(0)).unwrap();
            if now < most {
                return;
            }
            most = most.max(now);
            pause();
        }
    }
    while !matches!(db.query_row(seen(write), [], |row| row.get::<_, bool>(0)), Ok(true)) {
        pause();
    }
}

fn seen(write: &str) -> &'static str {
    match write {
        "reserve_ids" => "SELECT next > 1 FROM next_id",
        "primary_id" => "SELECT count(*) > 0 FROM ids",
        "creating" => "SELECT count(*) > 0 FROM instances",
        "created" => "SELECT count(*) > 0 FROM instances WHERE handle IS NOT NULL",
        "tier" => "SELECT count(*) > 0 FROM instances WHERE tier = 'warm'",
        // Not one write: both are there for a start to take over.
        "both" => "SELECT count(*) > 1 FROM instances WHERE tier <> 'cold'",
        other => panic!("no such write: {other}"),
    }
}

fn wait_for_database(path: &Path) -> Connection {
    loop {
        let tables = "SELECT count(*) = 3 FROM sqlite_master \
                      WHERE name IN ('instances', 'ids', 'next_id')";
        if path.exists()
            && let Ok(db) = Connection::open(path)
            && db.busy_timeout(Duration::from_secs(5)).is_ok()
            && matches!(db.query_row(tables, [], |row| row.get::<_, bool>(0)), Ok(true))
        {
            return db;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Lets nobody write from the stage before that write on, and returns once that has been so for a while.
fn hold_before(path: &Path, write: &str) {
    let db = wait_for_database(path);
    loop {
        db.execute_batch("BEGIN IMMEDIATE").unwrap();
        if matches!(db.query_row(stage(write), [], |row| row.get::<_, bool>(0)), Ok(true)) {
            std::thread::sleep(WAITING);
            return;
        }
        db.execute_batch("ROLLBACK").unwrap();
        std::thread::sleep(Duration::from_micros(200));
    }
}
