//! Foreshadow is killed around every write of scaling and every call of a scaler: the next start knows the same
//! primaries under the same ids, and an order is neither lost nor given twice.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use foreshadow_control::InstanceId;
use foreshadow_shadow::{Primaries, ProviderError, ScaleWish, ScaledService, Scaler, Scaling};
use rusqlite::Connection;

use crate::support::{role, shop, until};
use crate::{addresses, scaled_by};

/// A writer is given so long to come to where it waits for its turn.
const WAITING: Duration = Duration::from_millis(30);

/// Where it is killed: before a write, while that waits for its turn, or as soon as it is seen; or in a call of
/// the scaler.
const POINTS: [&str; 12] = [
    "before the first id",
    "after the first id",
    "before the first answer",
    "after the first answer",
    "before the intent",
    "after the intent",
    "before the order",
    "after the order",
    "before it is noted as taken",
    "after it is noted as taken",
    "before the primary that came is noted",
    "after the primary that came is noted",
];

/// What scales outlives what asks it: its number is in a file, and every change of that with it. A primary is
/// there as soon as it is wanted.
struct Outside {
    dir: PathBuf,
    point: &'static str,
}

impl Outside {
    fn changes(dir: &Path) -> Vec<u32> {
        let text = std::fs::read_to_string(dir.join("scaler")).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    fn answer(&self) -> Primaries {
        let wanted = Self::changes(&self.dir).last().copied().unwrap();
        let all = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"];
        Primaries { wanted, ready: addresses(&all[..wanted as usize]), leaving: Vec::new() }
    }
}

#[async_trait]
impl Scaler for Outside {
    fn name(&self) -> &'static str {
        "test"
    }

    fn place(&self) -> String {
        "outside".to_owned()
    }

    async fn look(&self) -> Result<Primaries, ProviderError> {
        Ok(self.answer())
    }

    async fn scale(&self, primaries: u32) -> Result<Primaries, ProviderError> {
        if self.point == "before the order" {
            kill();
        }
        if self.point == "after the intent" {
            // It stands until it was seen: what follows would end it within less than a look.
            std::future::pending::<()>().await;
        }
        let mut changes = Self::changes(&self.dir);
        if changes.last() != Some(&primaries) {
            changes.push(primaries);
            let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
            std::fs::write(self.dir.join("scaler.new"), lines.join("\n")).unwrap();
            std::fs::rename(self.dir.join("scaler.new"), self.dir.join("scaler")).unwrap();
        }
        if self.point == "after the order" {
            kill();
        }
        if matches!(
            self.point,
            "before it is noted as taken" | "before the primary that came is noted"
        ) {
            hold(&self.dir);
        }
        Ok(self.answer())
    }
}

fn kill() -> ! {
    let me = rustix::process::getpid();
    rustix::process::kill_process(me, rustix::process::Signal::KILL).unwrap();
    unreachable!("a process does not survive its SIGKILL")
}

fn database(dir: &Path) -> Connection {
    let db = Connection::open(dir.join("foreshadow.db")).unwrap();
    db.busy_timeout(Duration::from_secs(5)).unwrap();
    db
}

/// Keeps everybody from writing, until the end comes in another thread.
fn hold(dir: &Path) {
    let dir = dir.to_owned();
    let (held, holds) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let db = database(&dir);
        db.execute_batch("BEGIN IMMEDIATE").unwrap();
        held.send(()).unwrap();
        std::thread::sleep(WAITING);
        kill();
    });
    holds.recv().unwrap();
}

/// What is to be seen in the database once a write is done.
fn seen(point: &str) -> Option<&'static str> {
    Some(match point {
        "after the first id" => "SELECT count(*) > 0 FROM ids",
        "after the first answer" => "SELECT count(*) > 0 FROM scaled_services WHERE wanted = 1",
        "after the intent" => "SELECT count(*) > 0 FROM scaled_services WHERE intent = 2",
        "after it is noted as taken" => "SELECT count(*) > 0 FROM scaled_services WHERE asked = 2",
        "after the primary that came is noted" => {
            "SELECT count(*) > 0 FROM scaled_services WHERE addresses LIKE '%10.0.0.2:80%'"
        }
        _ => return None,
    })
}

/// The play of one life: what is there is looked at, and two primaries are asked for.
pub(crate) fn play() {
    let set = |name: &str| std::env::var(name).unwrap();
    let (dir, point) = (PathBuf::from(set("STATE_DIR")), set("POINT"));
    let point = POINTS.into_iter().find(|known| *known == point).unwrap();
    if let Some(query) = seen(point) {
        let dir = dir.clone();
        std::thread::spawn(move || {
            loop {
                let found = Connection::open(dir.join("foreshadow.db"))
                    .and_then(|db| db.query_row(query, [], |row| row.get::<_, bool>(0)));
                if matches!(found, Ok(true)) {
                    kill();
                }
                std::thread::sleep(Duration::from_micros(100));
            }
        });
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let outside = Outside { dir: dir.clone(), point };
        if point == "before the first id" {
            // The tables are there, and no primary is.
            let (manager, scaling) = scaled_by(&dir, Arc::new(Silent)).await;
            scaling.close();
            manager.shutdown().await;
            drop((manager, scaling));
            hold(&dir);
        }
        let (_manager, scaling) = scaled_by(&dir, Arc::new(outside)).await;
        if point == "before the first answer" {
            wait_for(&dir, "SELECT count(*) > 0 FROM ids");
            hold(&dir);
        }
        until("a first look", || view(&scaling).wanted).await;
        if point == "before the intent" {
            wait_for(&dir, "SELECT count(*) > 0 FROM scaled_services WHERE wanted = 1");
            hold(&dir);
        }
        scaling.wish(&shop(), Some(ScaleWish { primaries: 2, original: 1 }));
        std::future::pending::<()>().await;
    });
}

fn wait_for(dir: &Path, query: &str) {
    let db = database(dir);
    while !matches!(db.query_row(query, [], |row| row.get::<_, bool>(0)), Ok(true)) {
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// A scaler that never answers.
struct Silent;

#[async_trait]
impl Scaler for Silent {
    fn name(&self) -> &'static str {
        "test"
    }

    fn place(&self) -> String {
        "outside".to_owned()
    }

    async fn look(&self) -> Result<Primaries, ProviderError> {
        std::future::pending().await
    }

    async fn scale(&self, _: u32) -> Result<Primaries, ProviderError> {
        std::future::pending().await
    }
}

fn view(scaling: &Scaling) -> ScaledService {
    scaling.snapshot().remove(&shop()).unwrap()
}

fn ids(view: &ScaledService) -> BTreeMap<SocketAddr, InstanceId> {
    view.primaries.iter().map(|primary| (primary.address, primary.id)).collect()
}

async fn killed(dir: &Path, point: &str) {
    let spec = role("scaling", &[]);
    let mut child = Command::new(&spec.command[0])
        .args(&spec.command[1..])
        .envs(spec.env)
        .env("STATE_DIR", dir)
        .env("POINT", point)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let ended = until(point, || child.try_wait().unwrap()).await;
    assert_eq!(ended.signal(), Some(9), "{point}: it ended otherwise: {ended}");
}

/// What the database knows of primaries.
fn on_record(dir: &Path) -> (Vec<SocketAddr>, BTreeMap<SocketAddr, u64>) {
    let db = database(dir);
    let addresses: Vec<String> = {
        let mut select = db.prepare("SELECT addresses FROM scaled_services").unwrap();
        select.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let addresses =
        addresses.iter().flat_map(|text| text.split(' ')).filter(|text| !text.is_empty());
    let mut select = db.prepare("SELECT address, id FROM ids").unwrap();
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get(1)?));
    let ids = select.query_map([], read).unwrap().map(Result::unwrap);
    (
        addresses.map(|text| text.parse().unwrap()).collect(),
        ids.map(|(address, id)| (address.parse().unwrap(), id)).collect(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_around_any_write_loses_no_primary_and_no_order_and_doubles_none() {
    for point in POINTS {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        std::fs::write(dir.join("scaler"), "1").unwrap();
        killed(dir, point).await;
        let (known, given) = on_record(dir);
        let before = Outside::changes(dir);
        // Nobody answers: what was on record serves, under the ids it had.
        let (manager, scaling) = scaled_by(dir, Arc::new(Silent)).await;
        let serving = view(&scaling);
        assert_eq!(serving.primaries.len(), known.len(), "{point}");
        for primary in &serving.primaries {
            assert!(known.contains(&primary.address) && primary.ready, "{point}: {primary:?}");
            assert_eq!(Some(&primary.id.0), given.get(&primary.address), "{point}");
        }
        scaling.close();
        manager.shutdown().await;
        drop((manager, scaling));
        // It answers again: what was carried out is known to be ours, before anything is asked again.
        let outside = Outside { dir: dir.to_owned(), point: "" };
        let (manager, scaling) = scaled_by(dir, Arc::new(outside)).await;
        let found =
            until(point, || Some(view(&scaling)).filter(|view| view.wanted.is_some())).await;
        let carried_out = before.last() == Some(&2);
        assert_eq!(found.asked, carried_out.then_some(2), "{point}");
        assert_eq!(found.wanted, before.last().copied(), "{point}");
        // The law asks for what it needs as before.
        scaling.wish(&shop(), Some(ScaleWish { primaries: 2, original: 1 }));
        let asked = |view: &ScaledService| view.asked == Some(2) && view.primaries.len() == 2;
        let last = until(point, || Some(view(&scaling)).filter(asked)).await;
        assert_eq!(last.original, Some(1), "{point}");
        assert_eq!(Outside::changes(dir), [1, 2], "{point}: once, and no more");
        for (address, id) in given {
            assert_eq!(ids(&last).get(&address), Some(&InstanceId(id)), "{point}: {address}");
        }
        scaling.close();
        manager.shutdown().await;
    }
    println!("scaling: {} kills, 0 orders lost or doubled, 0 primaries forgotten", POINTS.len());
}
