//! The load generator against real sockets.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::Duration;

use foreshadow_testbed::backend::{self, BackendHandle};
use foreshadow_testbed::load::{
    self, FailureKind, LoadError, LoadReport, LoadSpec, Profile, Spread,
};
use support::{fault, stats, wait_for};

const HANG: &str = r#"{"kind":"hang"}"#;
const NONE: &str = r#"{"kind":"none"}"#;

fn backend() -> BackendHandle {
    let args = backend::Args {
        concurrency: 64,
        service_time: Duration::from_millis(1),
        name: Some("b".to_owned()),
        ..Default::default()
    };
    backend::spawn(args).expect("the backend starts")
}

fn spec(address: SocketAddr, profile: &str) -> LoadSpec {
    LoadSpec {
        spread: Spread::Even,
        timeout: support::DEADLINE,
        ..LoadSpec::new(
            format!("http://{address}/"),
            Profile::parse(profile).expect("a good profile"),
        )
    }
}

/// What must hold for every report.
fn check(report: &LoadReport) {
    let totals = &report.totals;
    assert_eq!(totals.offered, totals.completed + totals.failed.total(), "{totals:?}");
    assert_eq!(totals.in_flight, 0);
    assert!(report.seconds.iter().all(|second| second.settled));
    let sum = |of: fn(&load::SecondStats) -> u64| report.seconds.iter().map(of).sum::<u64>();
    assert_eq!(sum(|second| second.offered), totals.offered);
    assert_eq!(sum(|second| second.completed), totals.completed);
    assert_eq!(sum(|second| second.failed.total()), totals.failed.total());
    assert_eq!(sum(|second| second.over_objective), totals.over_objective);
    assert_eq!(sum(|second| second.latency.count), report.latency.count);
    assert_eq!(report.failures.len() as u64, totals.failed.total());
    assert!(report.failures.is_sorted_by_key(|failure| failure.failed_unix_ms));
}

#[test]
fn a_healthy_backend_answers_everything_over_few_connections() {
    let backend = backend();
    let report = load::start(spec(backend.address(), "ramp:100rps..300rps:500ms,pause:100ms"));
    let report = report.unwrap().join().unwrap();
    check(&report);
    assert_eq!(report.totals.offered, 100);
    assert_eq!(report.totals.failed.total(), 0, "{:?}", report.failures);
    assert_eq!(report.totals.instances["b"].answered, 100);
    assert_eq!(stats(backend.address()).served, 100);
    assert!(report.totals.connections_opened < 100, "{:?}", report.totals);
    assert!(report.latency.p50_ms >= 1.0 && report.latency.p99_ms <= report.latency.max_ms);
}

#[test]
fn a_hang_omits_nothing_and_shows_in_every_latency() {
    let backend = backend();
    // Fewer connections than hanging requests: the wait for one has to count as well.
    let spec = LoadSpec { connections: 8, ..spec(backend.address(), "hold:200rps:2s") };
    fault(backend.address(), HANG);
    let handle = load::start(spec).unwrap();
    // A closed loop would stop at the eight that hang.
    wait_for("requests in flight to grow with the time", || {
        (handle.totals().in_flight >= 150).then_some(())
    });
    assert!(stats(backend.address()).in_service <= 8);
    fault(backend.address(), NONE);
    let report = handle.join().unwrap();
    check(&report);
    assert_eq!((report.totals.offered, report.totals.completed), (400, 400));
    // 150 arrivals at 200 per second are 750 ms, which the oldest of them had to wait, the next
    // 5 ms less, and so on: at least 100 of the 400 waited for 250 ms and more.
    assert!(report.latency.max_ms >= 700.0, "{:?}", report.latency);
    assert!(report.totals.over_objective >= 100, "{:?}", report.totals);
    assert!(report.latency.p90_ms >= 250.0, "{:?}", report.latency);
}

#[test]
fn a_timeout_counts_from_the_scheduled_time() {
    let backend = backend();
    fault(backend.address(), HANG);
    let spec = LoadSpec {
        timeout: Duration::from_millis(150),
        connections: 3,
        ..spec(backend.address(), "hold:100rps:300ms")
    };
    let handle = load::start(spec).unwrap();
    wait_for("a failure seen live", || (!handle.failures_from(0).is_empty()).then_some(()));
    let report = handle.join().unwrap();
    check(&report);
    assert_eq!(report.totals.failed.timeout, 30, "{:?}", report.totals);
    assert_eq!(report.seconds_beyond_objective(), 1);
    let whole = report.failures_between(report.started_unix_ms, report.ended_unix_ms + 1);
    assert_eq!(whole.count(), 30);
    assert_eq!(report.failures_between(0, report.started_unix_ms + 149).count(), 0);
    for failure in &report.failures {
        assert!(failure.failed_unix_ms - failure.scheduled_unix_ms >= 149, "{failure:?}");
        assert!(failure.scheduled_unix_ms >= report.started_unix_ms);
        assert!(failure.failed_unix_ms <= report.ended_unix_ms);
    }
    // The connection of a timed-out request is closed, so its slot in the backend is free again.
    wait_for("the slots", || (stats(backend.address()).in_service == 0).then_some(()));
}

#[test]
fn failures_are_told_apart() {
    let backend = backend();
    fault(backend.address(), r#"{"kind":"errors"}"#);
    let report = load::start(spec(backend.address(), "hold:50rps:200ms")).unwrap().join().unwrap();
    check(&report);
    assert_eq!(report.totals.failed.status, 10);
    assert!(report.failures.iter().all(|failure| failure.status == Some(500)));

    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let report = load::start(spec(closed, "hold:50rps:200ms")).unwrap().join().unwrap();
    check(&report);
    assert_eq!((report.totals.failed.connect, report.latency.count), (10, 0));

    for (answer, kind) in [
        (&b""[..], FailureKind::Reset),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", FailureKind::Reset),
        (b"\x16\x03\x01 this is no HTTP\r\n\r\n", FailureKind::Protocol),
    ] {
        let (address, server) = raw_server(answer, 5);
        let report = load::start(spec(address, "hold:50rps:100ms")).unwrap().join().unwrap();
        server.join().unwrap();
        check(&report);
        assert_eq!(report.failures.len(), 5, "{kind:?}");
        assert!(report.failures.iter().all(|failure| failure.kind == kind), "{report:?}");
    }
}

/// Gives one connection after another one answer and closes it.
fn raw_server(answer: &'static [u8], connections: usize) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    let serve = move |stream: TcpStream| {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        while reader.read_line(&mut line).expect("a request") > 2 {
            line.clear();
        }
        reader.get_mut().write_all(answer).expect("the client listens");
    };
    let thread = std::thread::spawn(move || {
        listener.incoming().take(connections).for_each(|stream| serve(stream.expect("a client")));
    });
    (address, thread)
}

#[test]
fn an_announced_close_is_no_failure() {
    let (address, server) =
        raw_server(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", 10);
    let report = load::start(spec(address, "hold:50rps:200ms")).unwrap().join().unwrap();
    server.join().unwrap();
    check(&report);
    assert_eq!((report.totals.completed, report.totals.connections_opened), (10, 10));
}

#[test]
fn a_full_backlog_fails_at_once() {
    let backend = backend();
    fault(backend.address(), HANG);
    let spec =
        LoadSpec { connections: 1, backlog: 2, ..spec(backend.address(), "hold:100rps:200ms") };
    let handle = load::start(spec).unwrap();
    wait_for("all that do not fit", || (handle.totals().failed.backlog == 17).then_some(()));
    fault(backend.address(), NONE);
    let report = handle.join().unwrap();
    check(&report);
    assert_eq!(report.totals.completed, 3);
    let length_ms = report.ended_unix_ms - report.started_unix_ms;
    assert!(length_ms < support::DEADLINE.as_millis() as u64, "it ends before the timeout");
}

#[test]
fn a_pause_is_part_of_the_run() {
    let backend = backend();
    let report = load::start(spec(backend.address(), "hold:100rps:100ms,pause:1s"));
    let report = report.unwrap().join().unwrap();
    check(&report);
    assert_eq!(report.totals.completed, 10);
    assert!(report.ended_unix_ms - report.started_unix_ms >= 1_100, "{report:?}");
    let offered: Vec<u64> = report.seconds.iter().map(|second| second.offered).collect();
    assert_eq!(offered, [10, 0]);
}

#[test]
fn a_stop_ends_the_arrivals_but_not_the_requests() {
    let backend = backend();
    let handle = load::start(spec(backend.address(), "hold:100rps:1h")).unwrap();
    wait_for("some answers", || (handle.totals().completed >= 5).then_some(()));
    assert!(!handle.is_finished());
    handle.stop();
    let report = handle.join().unwrap();
    check(&report);
    assert!(report.totals.completed >= 5 && report.totals.failed.total() == 0);
    assert!(report.ended_unix_ms - report.started_unix_ms < 3_600_000);
}

#[test]
fn the_seconds_can_be_followed_live() {
    let backend = backend();
    let handle = load::start(spec(backend.address(), "hold:100rps:1200ms")).unwrap();
    let settled = wait_for("a settled second", || {
        handle.snapshot().first().copied().filter(|second| second.settled)
    });
    assert_eq!((settled.offered, settled.completed, settled.second), (100, 100, 0));
    assert_eq!(settled.unix_ms, handle.started_unix_ms());
    assert_eq!(handle.snapshot_from(1)[0].unix_ms, settled.unix_ms + 1_000);
    assert!(handle.latency().count >= 100);
    check(&handle.join().unwrap());
}

#[test]
fn an_impossible_load_is_refused() {
    let profile = Profile::parse("hold:1rps:1s").unwrap();
    let error = load::start(LoadSpec::new("https://example.test/", profile)).unwrap_err();
    assert!(matches!(error, LoadError::Target { .. }), "{error}");
}

fn testbed(args: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_foreshadow-testbed"))
        .arg("load")
        .args(args)
        .output()
        .expect("the binary runs")
}

#[test]
fn the_command_runs_a_trace_and_writes_json() {
    let backend = backend();
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("rps.txt");
    std::fs::write(&trace, "# per 100 ms\n100\n300\n").unwrap();
    let target = format!("http://{}/x", backend.address());
    let trace = trace.to_str().unwrap();
    let output = testbed(&[
        "--target",
        &target,
        "--trace",
        trace,
        "--step",
        "100ms",
        "--scale",
        "0.5",
        "--spread",
        "even",
        "--header",
        "x-test: 1",
        "--json",
        "-",
    ]);
    assert!(output.status.success(), "{output:?}");
    let report: LoadReport = serde_json::from_slice(&output.stdout).unwrap();
    check(&report);
    assert_eq!((report.totals.offered, report.totals.completed), (20, 20));
    assert_eq!(report.asked_rps, 100.0);
    let table = String::from_utf8(output.stderr).unwrap();
    assert!(table.contains("completed     20"), "{table}");
}

#[test]
fn the_command_explains_what_it_cannot_read() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("rps.txt");
    std::fs::write(&trace, "1\nmany\n").unwrap();
    let trace = trace.to_str().unwrap();
    for (args, expected) in [
        (&["--profile", "hold:1rps:1s,jump:2rps"][..], "column 14"),
        (&["--trace", trace], "line 2"),
        (&["--trace", "/nonexistent/trace"], "/nonexistent/trace"),
        (&[], "--profile"),
        (&["--profile", "hold:1rps:1s", "--header", "x"], "NAME: VALUE"),
        (&["--profile", "hold:1rps:1s", "--json", "/nonexistent/out"], "/nonexistent/out"),
        (&["--profile", "hold:1rps:1s", "--target", "ftp://x/"], "http://127.0.0.1:8080/"),
    ] {
        let output = testbed(args);
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && message.contains(expected), "{args:?}: {message}");
    }
}
