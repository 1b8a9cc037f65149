//! Commands that do not work, ports that are taken, pools that are full.

mod support;

use std::net::TcpListener;
use std::time::Duration;

use foreshadow_control::{Action, Fact, InstanceId, Tier};
use foreshadow_shadow::{Facility, ProcessSpec};
use support::{Bench, exists, processes_with, role, shop, until};

#[test]
fn role_entry() {
    support::play_role();
}

fn sh(script: &str) -> ProcessSpec {
    let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    ProcessSpec { command, ..ProcessSpec::default() }
}

/// Creates one shadow that cannot work; returns the error and the pause.
async fn failure(bench: &mut Bench) -> (String, u64) {
    bench.apply(Action::create(Tier::Warm));
    let found = bench
        .fact("failed step", |fact| match fact {
            Fact::StepFailed {
                instance: Some(_), to: Tier::Shadow, error, retry_in_ms, ..
            } => Some((error.clone(), *retry_in_ms)),
            _ => None,
        })
        .await;
    assert!(bench.manager.snapshot().is_empty(), "a shadow that never ran is not among them");
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_does_not_exist_is_named_with_where_it_was_looked_for() {
    let spec = ProcessSpec {
        command: vec!["no-such-program-here".to_owned()],
        env: vec![("PATH".to_owned(), "/nowhere:/else".to_owned())],
        dir: Some("/usr".into()),
        ..ProcessSpec::default()
    };
    let mut bench = Bench::new(Facility::Auto, spec, |_| {}).await;
    let (error, retry_in_ms) = failure(&mut bench).await;
    for part in ["\"no-such-program-here\"", "\"/usr\"", "/nowhere:/else", "No such file"] {
        assert!(error.contains(part), "{part} is missing in: {error}");
    }
    assert!((100..=200).contains(&retry_in_ms), "{retry_in_ms}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_command_is_an_error() {
    let mut bench = Bench::new(Facility::Auto, ProcessSpec::default(), |_| {}).await;
    assert!(failure(&mut bench).await.0.contains("it is empty"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_ends_early_is_quoted() {
    let spec = sh("echo starting on $PORT for {service}; echo cannot open config >&2; exit 3");
    let mut bench = Bench::new(Facility::None, spec, |_| {}).await;
    let (error, _) = failure(&mut bench).await;
    assert!(error.contains("exited with code 3 before it was ready"), "{error}");
    assert!(error.contains("for shop | cannot open config"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_never_answers_is_given_up_and_ended() {
    let dir = tempfile::tempdir().unwrap();
    let tag = format!("NEVER_TAG={}", dir.path().display());
    let mut spec = sh("sleep 1000");
    spec.env.push(("NEVER_TAG".to_owned(), dir.path().display().to_string()));
    let mut bench = Bench::new(Facility::Auto, spec, |service| {
        service.start_timeout = Duration::from_millis(60);
    })
    .await;
    let (error, _) = failure(&mut bench).await;
    assert!(error.contains("within 60 ms"), "{error}");
    assert!(error.contains("refused"), "{error}");
    until("it is ended", || processes_with(&tag).is_empty().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ending_a_shadow_that_is_being_made_does_not_wait_for_it() {
    let spec = sh("sleep 1000");
    let mut bench = Bench::new(Facility::Auto, spec, |service| {
        service.start_timeout = Duration::from_secs(3_600);
        service.stop_timeout = Duration::from_millis(500);
    })
    .await;
    bench.apply(Action::create(Tier::Serving));
    let pid = until("its process", || bench.manager.snapshot()[0].pid).await;
    let id = bench.manager.snapshot()[0].id;
    bench.apply(Action::Destroy { instance: id });
    until("it is gone", || bench.manager.snapshot().is_empty().then_some(())).await;
    assert!(!exists(pid));
    assert_eq!(bench.take(), [], "an order that was carried out is no failure");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_taken_meanwhile_leads_to_another() {
    let dir = tempfile::tempdir().unwrap();
    let spec = role("server", &[("YIELD_PORT", &dir.path().to_string_lossy())]);
    let mut bench = Bench::new(Facility::Auto, spec, |_| {}).await;
    bench.apply(Action::create(Tier::Shadow));
    let port: u16 = until("the port it got", || {
        std::fs::read_to_string(dir.path().join("wanted")).ok()?.parse().ok()
    })
    .await;
    let _thief = TcpListener::bind(("127.0.0.1", port)).unwrap();
    std::fs::write(dir.path().join("taken"), "").unwrap();
    let id = bench.manager.snapshot()[0].id;
    let made = bench.settled(id, Tier::Shadow).await;
    assert_ne!(made.address.unwrap().port(), port);
    assert!(bench.take().iter().all(|fact| matches!(fact, Fact::TierReached { .. })));
    bench.manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_never_exceeds_its_maximum_and_refusals_are_bounded() {
    let mut bench = Bench::new(Facility::Auto, role("server", &[]), |s| s.max = 3).await;
    for _ in 0..10_000 {
        bench.apply(Action::create(Tier::Shadow));
    }
    assert_eq!(bench.manager.snapshot().len(), 3);
    let refused = bench.take().len();
    assert!((1..=4_096).contains(&refused), "{refused}");
    let text = format!("{:?}", bench.facts.last());
    assert!(text.contains("3 shadows exist and the pool's max is 3"), "{text}");
    for instance in bench.manager.snapshot() {
        bench.settled(instance.id, Tier::Shadow).await;
    }
    bench.manager.shutdown().await;
    assert!(bench.manager.snapshot().is_empty());
    bench.apply(Action::create(Tier::Shadow));
    assert!(bench.manager.snapshot().is_empty(), "nothing is made after a shutdown");
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_that_make_no_sense_are_refused_with_a_reason() {
    let bench = Bench::new(Facility::Auto, role("server", &[]), |_| {}).await;
    let ghost = InstanceId(4_711);
    let other = "other".into();
    bench.manager.apply(&shop(), &[Action::Destroy { instance: ghost }]);
    bench.manager.apply(&shop(), &[Action::Move { instance: ghost, tier: Tier::Warm }]);
    bench.manager.apply(&shop(), &[Action::create(Tier::Cold)]);
    bench.manager.apply(&other, &[Action::create(Tier::Warm)]);
    let errors: Vec<String> = bench
        .manager
        .take_facts()
        .into_iter()
        .map(|(_, fact)| match fact {
            Fact::StepFailed { error, .. } => error,
            fact => panic!("unexpected {fact:?}"),
        })
        .collect();
    assert_eq!(
        errors,
        [
            "service shop has no shadow i4711",
            "service shop has no shadow i4711",
            "a shadow cannot be made for tier cold",
            "service other has no provider of shadows",
        ]
    );
}
