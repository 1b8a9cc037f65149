//! The recording of the built command: what a start that fails, a crash and a neighbour leave of it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use crate::support::{
    Backend, Node, config_path, eventually, foreshadow, free_address, write_config,
};
use rustix::process::Signal;
use serde_json::{Value, json};

fn recorded(backend: &Backend, path: &Path) -> String {
    let (address, path) = (backend.address, path.display());
    format!("  shop:\n    primaries: [{address}]\nrecording: {{ path: {path} }}\n")
}

fn older(path: &Path, nth: u32) -> PathBuf {
    PathBuf::from(format!("{}.{nth}", path.display()))
}

/// Waits for whole lines and kills the node; what it had recorded.
fn crashed(node: &mut Node, path: &Path) -> Vec<u8> {
    eventually("some lines of the recording", || {
        let bytes = std::fs::read(path).ok()?;
        (bytes.iter().filter(|byte| **byte == b'\n').count() > 3).then_some(())
    });
    node.process.kill();
    std::fs::read(path).unwrap()
}

#[test]
fn starts_that_fail_and_further_crashes_keep_the_recording_of_the_first() {
    let backend = Backend::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("inc.ndjson");
    let mut node = Node::start_in(dir, &recorded(&backend, &path));
    let incident = crashed(&mut node, &path);
    let in_the_way = TcpListener::bind(node.proxy).unwrap();
    for _ in 0..2 {
        let mut failing = Node::launch(node.dir.path());
        assert_eq!(failing.wait(), Some(1), "{}", failing.log());
        assert!(std::fs::read(&path).unwrap() == incident, "a start that failed changed it");
        assert!(!older(&path, 1).exists());
    }
    drop(in_the_way);
    for nth in 1..=2 {
        node.restart();
        eventually("the recording to be moved on", || older(&path, nth).exists().then_some(()));
        assert!(std::fs::read(older(&path, nth)).unwrap() == incident, "lost at restart {nth}");
        crashed(&mut node, &path);
    }
}

#[test]
fn a_second_node_does_not_take_the_recording_of_a_live_one() {
    let backend = Backend::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shared.ndjson");
    let mut node = Node::start_in(dir, &recorded(&backend, &path));
    let other = tempfile::tempdir().unwrap();
    write_config(other.path(), free_address(), free_address(), &recorded(&backend, &path));
    assert!(config_path(other.path()).exists());
    let mut second = Node::launch(other.path());
    assert_eq!(second.wait(), Some(1), "{}", second.log());
    let holder = format!("(pid {})", node.process.pid());
    assert!(second.log().contains(&holder), "{}", second.log());
    assert!(second.log().contains("recording.path"), "{}", second.log());
    assert!(!older(&path, 1).exists());
    let before = std::fs::metadata(&path).unwrap().len();
    eventually("the first to go on", || {
        (std::fs::metadata(&path).unwrap().len() > before).then_some(())
    });
    node.process.signal(Signal::TERM);
    assert_eq!(node.process.wait(), Some(0), "{}", node.process.log());
}

/// The lines of a recording of some requests, each with its entry.
fn recorded_requests() -> Vec<(String, Value)> {
    let backend = Backend::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recording.ndjson");
    let mut node = Node::start_in(dir, &recorded(&backend, &path));
    for _ in 0..20 {
        assert_eq!(node.get("/").status, 200);
    }
    let tick = |node: &Node| node.api("/api/v1/plan")["tick"].as_u64().unwrap();
    let last = tick(&node);
    eventually("a tick that has seen them, and one after it", || {
        (tick(&node) >= last + 2).then_some(())
    });
    node.process.signal(Signal::TERM);
    assert_eq!(node.process.wait(), Some(0), "{}", node.process.log());
    let text = std::fs::read_to_string(&path).unwrap();
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| (line.to_owned(), serde_json::from_str(line).unwrap())).collect()
}

fn replayed(lines: &[(String, Value)], options: &[&str]) -> (Option<i32>, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text: String = lines.iter().map(|(line, _)| line.as_str()).collect();
    std::fs::write(file.path(), text).unwrap();
    let mut command = foreshadow();
    let output = command.args(["explain", "--replay"]).arg(file.path()).args(options).output();
    let output = output.unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_replay_that_differs_names_the_tick_the_service_and_the_fields_and_a_gap_as_one() {
    let lines = recorded_requests();
    let (code, said) = replayed(&lines, &[]);
    assert_eq!(code, Some(0), "{said}");
    let busy = |(_, entry): &(String, Value)| {
        let arrivals = &entry["observation"]["services"][0]["arrivals"];
        entry["entry"] == "tick" && arrivals.as_u64() > Some(0)
    };
    let at = lines.iter().position(busy).unwrap();
    let tick = lines[at].1["observation"]["tick"].as_u64().unwrap();

    let mut altered = lines.clone();
    let entry = &mut altered[at].1;
    entry["plan"]["services"][0]["weights"][0]["weight"] = json!(1);
    altered[at].0 = format!("{entry}\n");
    let (code, said) = replayed(&altered, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("tick {tick} differs")) && !said.contains("gap"), "{said}");
    assert!(said.contains("shop: weights[i") && said.contains(".weight: recorded 1, "), "{said}");
    assert_eq!(said.lines().count(), 2, "{said}");
    let (_, said) = replayed(&altered, &["--json"]);
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["differences"]["tick"], tick, "{report}");
    assert_eq!(report["differences"]["fields"][0]["service"], "shop", "{report}");

    let mut cut = lines;
    cut.remove(at);
    let (code, said) = replayed(&cut, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("gap: tick") && said.contains("missing"), "{said}");
    assert!(said.len() < 10_000, "{said}");
}
