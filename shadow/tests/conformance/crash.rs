//! Foreshadow ends in the middle of a step: by SIGKILL in a process of its own, and by dropping
//! the manager with all its work. The next start must find everything, once.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foreshadow_control::{Action, Tier};
use foreshadow_shadow::Manager;

use super::fragile::Blow;
use super::points::{Point, Scene, drops, kills};
use super::subjects::opened;
use super::{Subject, play};
use crate::support::{role, shop, until};

pub(crate) use super::play::manager;

/// What a process does whose role is to crash: its environment says where and when.
pub(crate) fn crash() {
    let set = |name: &str| std::env::var(name).unwrap();
    let point = Point {
        scene: Scene::named(&set("SCENE")),
        step: set("STEP"),
        nth: set("NTH").parse().unwrap(),
        moment: set("MOMENT").leak(),
    };
    let blow: Blow = Arc::new(|| {
        let me = rustix::process::getpid();
        rustix::process::kill_process(me, rustix::process::Signal::KILL).unwrap();
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dir = PathBuf::from(set("STATE_DIR"));
    runtime.block_on(play::play(&set("SUBJECT"), &dir, point, blow));
}

/// Runs a small Foreshadow until it kills itself there.
async fn killed(name: &str, dir: &Path, point: &Point) {
    let what = format!("{name} killed: {point}");
    let spec = role("crash", &[]);
    let child = Command::new(&spec.command[0])
        .args(&spec.command[1..])
        .envs(spec.env)
        .env("STATE_DIR", dir)
        .env("SUBJECT", name)
        .env("SCENE", format!("{:?}", point.scene))
        .env("STEP", &point.step)
        .env("NTH", point.nth.to_string())
        .env("MOMENT", point.moment)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut child = Player(child);
    let ended = until(&what, || child.0.try_wait().unwrap()).await;
    use std::os::unix::process::ExitStatusExt as _;
    assert_eq!(ended.signal(), Some(9), "{what}: it ended otherwise: {ended}");
}

/// What a start finds: two on record for it to take over, or one that is made and not on record.
fn left_for(point: &Point) -> Point {
    let (scene, step, nth) = match point.step.as_str() {
        "adopt" => (Scene::Stopped, "registry.both", 1),
        _ => (Scene::Walk, "create", 2),
    };
    Point { scene, step: step.to_owned(), nth, moment: "after" }
}

/// Ended with the test that waits for it.
struct Player(std::process::Child);

impl Drop for Player {
    fn drop(&mut self) {
        // One that has ended is no error to kill.
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Kills a small Foreshadow at every point and starts again on what it left.
pub(crate) async fn killed_in_every_step(name: &str, dir: &Path) {
    let subject = opened(name, dir);
    let points = kills(name, &*subject);
    for point in &points {
        if point.scene == Scene::Again {
            killed(name, dir, &left_for(point)).await;
        }
        killed(name, dir, point).await;
        in_order(&*subject, dir, point, &format!("{name} killed: {point}")).await;
    }
    println!("{name}: {} kills, 0 leaked, 0 doubled, 0 forgotten", points.len());
}

/// The same, with the manager dropped in this process and no process killed.
pub(crate) async fn dropped_in_every_step(name: &str, dir: &Path) {
    let subject = opened(name, dir);
    let points = drops(name, &*subject);
    for point in &points {
        let what = format!("{name} dropped: {point}");
        let (struck, strike) = tokio::sync::oneshot::channel();
        let struck = Mutex::new(Some(struck));
        let blow: Blow = Arc::new(move || {
            if let Some(struck) = struck.lock().unwrap().take() {
                struck.send(()).unwrap();
            }
        });
        let (dir_of, name_of, point_of) = (dir.to_owned(), name.to_owned(), point.clone());
        tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = play::play(&name_of, &dir_of, point_of, blow) => {}
                    struck = strike => struck.unwrap(),
                }
            });
            // What blocks is let finish: it cannot be stopped within a process.
            runtime.shutdown_timeout(Duration::from_secs(20));
        })
        .await
        .unwrap();
        in_order(&*subject, dir, point, &what).await;
    }
    println!("{name}: {} drops, 0 leaked, 0 doubled, 0 forgotten", points.len());
}

/// Whether an order to end something may have been on its way: then its end is still to be seen.
fn may_be_ending(point: &Point) -> bool {
    let ends = ["destroy", "call_off", "sweep", "adopt", "registry.ended"];
    ends.contains(&point.step.as_str()) || point.scene == Scene::Replaced
}

/// Starts on what is there, and looks whether what runs is what is known; then ends all of it.
async fn in_order(subject: &dyn Subject, dir: &Path, point: &Point, what: &str) {
    let manager = manager(dir, Some(subject.provider())).await;
    let ids = || manager.snapshot().iter().map(|i| i.id).collect::<Vec<_>>();
    let known = ids();
    // What is replaced stays until another is there.
    let most = if point.scene == Scene::Replaced { 3 } else { 2 };
    assert!(known.len() <= most, "{what}: {known:?}");
    let mut facts = Vec::new();
    // Nothing else may differ, not for a moment.
    if may_be_ending(point) {
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
    if !may_be_ending(point) {
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
