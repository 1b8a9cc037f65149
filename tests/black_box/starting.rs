//! The built command on its way up: nothing is taken on that it may not be able to carry.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt;

use crate::support::{Node, eventually, free_address, write_config};

/// The configuration is a pipe: what reads it waits for the test, which so stops the start where
/// it likes. The last thing a start reads it for is the watch on its directory.
#[test]
fn a_start_that_fails_has_never_accepted_a_connection() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (proxy, admin) = (free_address(), free_address());
    write_config(dir.path(), proxy, admin, "  shop:\n    primaries: [127.0.0.1:1]");
    let pipe = dir.path().join("foreshadow.yaml");
    let text = std::fs::read_to_string(&pipe).unwrap();
    let inside = dir.path().join("state").display().to_string();
    assert!(text.contains(&inside));
    let text = text.replace(&inside, &state.path().display().to_string());
    std::fs::remove_file(&pipe).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let mut process = Node::launch(dir.path());
    // Without a wait in `open`, so that a node that never reads fails the test by its deadline.
    let reader = |what: &str| {
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
        eventually(what, || options.open(&pipe).ok())
    };
    reader("the node to read its configuration").write_all(text.as_bytes()).unwrap();
    eventually("the node to have read it", || {
        process.log().contains("control groups").then_some(())
    });
    let again = reader("the node to read it again");
    let refused = |when: &str| {
        let error = TcpStream::connect(proxy).expect_err(when);
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{when}");
    };
    refused("while the node starts");
    std::fs::remove_dir_all(dir.path()).unwrap();
    drop(again);
    assert_eq!(process.wait(), Some(1), "{}", process.log());
    assert!(process.log().contains("cannot watch"), "{}", process.log());
    refused("after the node has failed");
}
