//! What the built command keeps in its state directory: for whom, and whole after a clean end.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::shadows::{settled, with_shadows};
use crate::support::{Backend, Node, eventually, foreshadow};
use rustix::process::Signal;
use serde_json::json;

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

/// Everything in `dir` that others than the owner may do something with.
fn open_to_others(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| mode(path).trailing_zeros() < 6)
        .map(|path| format!("{} {:o}", path.display(), mode(&path)))
        .collect()
}

#[test]
fn what_is_kept_is_for_the_owner_only_and_a_directory_that_was_there_stays_as_it_was() {
    let primary = Backend::start(&[]);
    let there = tempfile::tempdir().unwrap();
    let state = there.path().join("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o755)).unwrap();
    let services = with_shadows(&primary, "{ shadow: 0, warm: 1, max: 1 }", "");
    let node = Node::start_in(there, &services);
    settled(&node, &[("warm", 1)]);
    assert_eq!(mode(&state), 0o755);
    for name in ["foreshadow.db", "foreshadow.db-wal", "history.db", "logs"] {
        assert!(state.join(name).exists(), "no {name}");
    }
    let open = open_to_others(&state);
    assert!(open.is_empty(), "{open:?}");
    assert!(std::fs::read_dir(state.join("logs")).unwrap().count() > 0, "no output of a shadow");
    let node = Node::start(&format!("  shop:\n    primaries: [{}]\n", primary.address));
    assert_eq!(mode(&node.dir.path().join("state")), 0o700);
}

#[test]
fn after_a_clean_end_the_database_alone_holds_everything() {
    let backend = Backend::start(&[]);
    let mut node = Node::start(&format!("  shop:\n    primaries: [{}]\n", backend.address));
    let (status, answer) = node.post("/api/v1/services/shop/mode", &json!({ "mode": "observe" }));
    assert_eq!(status, 200, "{answer}");
    eventually("the order to be on record", || {
        let page = node.api("/api/v1/decisions?kind=operator");
        (page["decisions"].as_array()?.len() == 1).then_some(())
    });
    node.process.signal(Signal::TERM);
    assert_eq!(node.process.wait(), Some(0), "{}", node.process.log());
    let state = node.dir.path().join("state");
    for name in ["foreshadow.db", "history.db", "audit.db"] {
        let log = state.join(format!("{name}-wal"));
        let left = log.metadata().map_or(0, |log| log.len());
        assert_eq!(left, 0, "{} holds what {name} does not", log.display());
    }
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(state.join("foreshadow.db"), copy.path().join("foreshadow.db")).unwrap();
    std::fs::copy(state.join("audit.db"), copy.path().join("audit.db")).unwrap();
    let audit = foreshadow().args(["audit", "export", "--state-dir"]).arg(copy.path()).output();
    let said = String::from_utf8(audit.unwrap().stdout).unwrap();
    assert!(said.contains("order.mode") && said.contains("node.stop"), "{said}");
    let explained =
        foreshadow().args(["explain", "--state-dir"]).arg(copy.path()).output().unwrap();
    let said = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(said.contains("mode of shop set to observe"), "{said}");
}
