//! The built command on its way up: nothing is taken on that it may not be able to carry.

use std::io::ErrorKind;
use std::net::TcpStream;

use rusqlite::Connection;

use crate::support::{Node, eventually, free_address, write_config};

/// History is locked by the test, which so stops the start where it likes; the last thing a start
/// does that can fail is the watch on the directory of its configuration.
#[test]
fn a_start_that_fails_has_never_accepted_a_connection() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (proxy, admin) = (free_address(), free_address());
    write_config(dir.path(), proxy, admin, "  shop:\n    primaries: [127.0.0.1:1]");
    let file = dir.path().join("foreshadow.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let inside = dir.path().join("state").display().to_string();
    assert!(text.contains(&inside));
    std::fs::write(&file, text.replace(&inside, &state.path().display().to_string())).unwrap();
    let held = Connection::open(state.path().join("history.db")).unwrap();
    held.execute_batch("CREATE TABLE held (one); BEGIN EXCLUSIVE").unwrap();
    let mut process = Node::launch(dir.path());
    eventually("the start to come to history", || {
        process.log().contains("kernel signals").then_some(())
    });
    let refused = |when: &str| {
        let error = TcpStream::connect(proxy).expect_err(when);
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{when}");
    };
    refused("while the node starts");
    std::fs::remove_dir_all(dir.path()).unwrap();
    drop(held);
    assert_eq!(process.wait(), Some(1), "{}", process.log());
    assert!(process.log().contains("cannot watch"), "{}", process.log());
    refused("after the node has failed");
}
