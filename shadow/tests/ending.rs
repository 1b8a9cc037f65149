//! How shadows are asked to end, and what becomes of what they wrote.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/logged.rs"]
mod logged;
mod support;

use std::time::Duration;

use foreshadow_control::{Action, Tier};
use foreshadow_shadow::{Facility, ProcessSpec};
use support::{Bench, exists, role, until};

use self::logged::Logged;

#[test]
fn role_entry() {
    support::play_role();
}

/// The test server started by a shell script, in which `"$0" "$@"` is the server.
fn wrapped(script: &str, env: &[(&str, &str)]) -> ProcessSpec {
    let mut spec = role("server", env);
    let shell = ["/bin/sh", "-c", script].map(str::to_owned);
    spec.command.splice(0..0, shell);
    spec
}

async fn asked_first(facility: Facility) {
    let dir = tempfile::tempdir().unwrap();
    let flag = dir.path().join("asked");
    let script = r#"trap 'echo asked > "$FLAG"; exit 0' TERM; "$0" "$@" & wait"#;
    let spec = wrapped(script, &[("FLAG", &flag.to_string_lossy())]);
    let mut bench = Bench::new(facility, spec, |service| {
        // Long enough that only an answer to the request can end it in time.
        service.stop_timeout = Duration::from_secs(3_600);
    })
    .await;
    for tier in [Tier::Shadow, Tier::Warm, Tier::Full] {
        let made = bench.create(tier).await;
        bench.apply(Action::Destroy { instance: made.id });
        until("it is gone", || bench.manager.snapshot().is_empty().then_some(())).await;
        assert!(flag.exists(), "a shadow at {tier} was not asked to end");
        std::fs::remove_file(&flag).unwrap();
    }
    bench.manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_is_woken_and_asked_before_it_is_killed() {
    asked_first(Facility::Auto).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_is_woken_and_asked_on_cgroup_v1() {
    asked_first(Facility::V1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_is_woken_and_asked_by_signals_alone() {
    asked_first(Facility::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_listen_is_killed() {
    for facility in [Facility::Auto, Facility::V1, Facility::None] {
        let spec = wrapped(r#"trap '' TERM; exec "$0" "$@""#, &[]);
        let mut bench = Bench::new(facility, spec, |service| {
            service.stop_timeout = Duration::from_millis(30);
        })
        .await;
        let made = bench.create(Tier::Shadow).await;
        bench.apply(Action::Destroy { instance: made.id });
        until("it is gone", || bench.manager.snapshot().is_empty().then_some(())).await;
        assert!(!exists(made.pid.unwrap()));
        bench.manager.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_writes_is_logged_with_its_service_and_id_and_kept_for_a_while() {
    let logged = Logged::new(|metadata| metadata.target() == "foreshadow::instance");
    tracing::subscriber::set_global_default(logged.clone()).unwrap();
    let lines = || logged.lines().into_iter().map(|(_, text)| text);
    let script = r#"echo "to stdout"; printf 'bad \377 text, no end' >&2; exec "$0" "$@""#;
    let mut bench = Bench::new(Facility::Auto, wrapped(script, &[]), |_| {}).await;
    let made = bench.create(Tier::Shadow).await;
    let wanted = format!("message=to stdout;service=shop;instance={};", made.id);
    until("the line is logged", || lines().any(|line| line == wanted).then_some(())).await;
    bench.apply(Action::Destroy { instance: made.id });
    until("it is gone", || bench.manager.snapshot().is_empty().then_some(())).await;
    let all: String = lines().collect();
    assert!(all.contains("bad \u{fffd} text, no end"), "{all}");
    let kept = bench.dir.path().join(format!("logs/ended-{}.log", made.id));
    assert!(std::fs::read(kept).unwrap().starts_with(b"to stdout\n"));
    bench.manager.shutdown().await;
}
