//! The recording of the built command: what a start that fails, a crash and a neighbour leave of it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use crate::support::{Backend, Node, config_path, eventually, free_address, write_config};
use rustix::process::Signal;

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
