//! The built command told something at a bad time, or given a file that is none.

use std::path::Path;
use std::time::Instant;

use rusqlite::Connection;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use serde_json::json;

use crate::shadows::{processes, settled, with_shadows};
use crate::support::{
    Backend, Node, PATIENCE, Process, eventually, foreshadow, free_address, try_get, write_config,
};

/// Puts something else in the place of the file at `path`, as a move does.
fn replaced_by(path: &Path, make: impl FnOnce(&Path)) {
    let beside = path.with_extension("new");
    make(&beside);
    std::fs::rename(&beside, path).unwrap();
}

fn pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

/// The most memory that the process ever had, in KiB.
fn peak_kib(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// History that cannot be opened until the lock goes, or five seconds have passed: so long does a
/// start wait, at a point that its log tells.
fn history_locked(dir: &Path) -> Connection {
    let state = dir.join("state");
    std::fs::create_dir_all(&state).unwrap();
    for file in ["history.db", "history.db-wal", "history.db-shm"] {
        std::fs::remove_file(state.join(file)).ok();
    }
    let database = Connection::open(state.join("history.db")).unwrap();
    database.execute_batch("CREATE TABLE held (one); BEGIN EXCLUSIVE").unwrap();
    database
}

fn starting(dir: &Path) -> Process {
    let process = Node::launch(dir);
    eventually("the start to come to history", || {
        process.log().contains("kernel signals").then_some(())
    });
    process
}

#[test]
fn check_does_not_wait_for_a_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("foreshadow.yaml");
    pipe(&path);
    let mut command = foreshadow();
    command.arg("check").arg(&path);
    let mut check = Process::spawn(command);
    assert_eq!(check.wait(), Some(1));
    assert!(check.log().contains("not a regular file"), "{}", check.log());
}

#[test]
fn what_is_no_configuration_is_refused_in_bounded_time_and_memory() {
    let backend = Backend::start(&[]);
    let good = format!("  shop:\n    primaries: [{}]\n", backend.address);
    let mut node = Node::start(&good);
    let before_kib = peak_kib(&node.process);
    let huge = |path: &Path| std::fs::File::create(path).unwrap().set_len(700 << 20).unwrap();
    for (make, said) in [(&huge as &dyn Fn(&Path), "at most 1MiB"), (&pipe, "not a regular file")] {
        replaced_by(&node.config(), make);
        node.process.signal(Signal::HUP);
        eventually(said, || node.process.log().contains(said).then_some(()));
        let metrics = try_get(node.admin, "/metrics").unwrap().text();
        assert!(metrics.contains("foreshadow_config_good 0"), "{metrics}");
    }
    let grown_kib = peak_kib(&node.process) - before_kib;
    assert!(grown_kib < 100 << 10, "{grown_kib} KiB more");
    node.rewrite(&good);
    let (status, answer) = node.post("/api/v1/reload", &json!({}));
    assert_eq!((status, &answer["applied"]), (200, &json!(true)), "{answer}");
    let told = Instant::now();
    node.process.signal(Signal::TERM);
    assert_eq!(node.process.wait(), Some(0), "{}", node.process.log());
    assert!(told.elapsed() < PATIENCE, "{:?}", told.elapsed());
}

#[test]
fn a_hangup_during_the_start_reloads_once_started() {
    let backend = Backend::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let (proxy, admin) = (free_address(), free_address());
    let services = format!("  shop:\n    primaries: [{}]\n", backend.address);
    write_config(dir.path(), proxy, admin, &services);
    let held = history_locked(dir.path());
    let process = starting(dir.path());
    process.signal(Signal::HUP);
    drop(held);
    let node = Node { process, proxy, admin, dir };
    node.wait_ready();
    eventually("the reload", || {
        (node.api("/api/v1/status")["reloads"]["applied"] == 1).then_some(())
    });
}

#[test]
fn told_to_end_during_the_start_it_ends_in_order_with_the_shadows_it_took_over() {
    let primary = Backend::start(&[]);
    let mut node = Node::start(&with_shadows(&primary, "{ shadow: 0, warm: 1, max: 1 }", ""));
    settled(&node, &[("warm", 1)]);
    let left = processes(&node);
    assert!(!left.is_empty());
    node.process.kill();
    let held = history_locked(node.dir.path());
    node.process = starting(node.dir.path());
    node.process.signal(Signal::TERM);
    drop(held);
    assert_eq!(node.process.wait(), Some(0), "{}", node.process.log());
    for pid in left {
        // Whoever has ended and was not reaped yet has no command line any more.
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(command.is_empty(), "{pid} goes on: {}", node.process.log());
    }
}
