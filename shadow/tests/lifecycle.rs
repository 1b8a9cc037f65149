//! One shadow through its life, on real processes, with and without control groups.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use foreshadow_control::{Action, Fact, Tier};
use foreshadow_shadow::Facility;
use support::{Bench, answers, cpu_ticks, exists, kill, processes_with, role, until};

#[test]
fn role_entry() {
    support::play_role();
}

/// Burns processor time of this process until the clock of ticks has moved on by several.
fn burn() {
    let me = std::process::id();
    let start = cpu_ticks(me);
    while cpu_ticks(me) < start + 10 {
        std::hint::black_box((0..10_000_u64).sum::<u64>());
    }
}

async fn whole_life(facility: Facility) {
    let mut bench = Bench::new(facility, role("server", &[("BUSY", "1")]), |_| {}).await;
    let made = bench.create(Tier::Shadow).await;
    let (pid, address) = (made.pid.unwrap(), made.address.unwrap());

    let parked = cpu_ticks(pid);
    burn();
    assert_eq!(cpu_ticks(pid), parked, "a frozen shadow uses no processor time");

    bench.move_to(made.id, Tier::Serving).await;
    assert!(answers(address).await);
    until("it runs again", || (cpu_ticks(pid) > parked).then_some(())).await;

    bench.move_to(made.id, Tier::Draining).await;
    bench.move_to(made.id, Tier::Serving).await;
    bench.move_to(made.id, Tier::Shadow).await;
    let parked = cpu_ticks(pid);
    burn();
    assert_eq!(cpu_ticks(pid), parked, "a shadow that is parked again uses none");

    bench.apply(Action::Destroy { instance: made.id });
    until("it is gone", || (bench.manager.snapshot().is_empty()).then_some(())).await;
    assert!(!exists(pid), "neither running nor left as a zombie");
    let walked: Vec<(Tier, Tier)> = bench
        .take()
        .iter()
        .map(|fact| match fact {
            Fact::TierReached { from, tier, .. } => (*from, *tier),
            other => panic!("unexpected {other:?}"),
        })
        .collect();
    use Tier::{Cold, Draining, Full, Serving, Shadow, Warm};
    let expected = [
        (Cold, Shadow),
        (Shadow, Warm),
        (Warm, Full),
        (Full, Serving),
        (Serving, Draining),
        (Draining, Serving),
        (Serving, Draining),
        (Draining, Warm),
        (Warm, Shadow),
        (Shadow, Cold),
    ];
    assert_eq!(walked, expected);
    bench.manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_life_with_the_best_facilities() {
    whole_life(Facility::Auto).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_life_on_cgroup_v1() {
    whole_life(Facility::V1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_life_on_signals_alone() {
    whole_life(Facility::None).await;
}

/// The children leave the process group and the session, and one leaves its parent.
async fn whole_tree(facility: Facility) {
    let dir = tempfile::tempdir().unwrap();
    let tag = format!("TREE_TAG={}", dir.path().display());
    let script = "sleep 1000 & setsid sleep 1000 & (setsid sh -c 'sleep 1000; true' &) ; wait";
    let spec = role("server", &[("SCRIPT", script), ("TREE_TAG", &dir.path().to_string_lossy())]);
    let mut bench =
        Bench::new(facility, spec, |service| service.stop_timeout = Duration::from_millis(50))
            .await;
    let made = bench.create(Tier::Full).await;
    until("its tree has grown", || (processes_with(&tag).len() >= 6).then_some(())).await;
    bench.move_to(made.id, Tier::Shadow).await;
    bench.apply(Action::Destroy { instance: made.id });
    until("it is gone", || (bench.manager.snapshot().is_empty()).then_some(())).await;
    assert_eq!(processes_with(&tag), [] as [u32; 0]);
    bench.manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_tree_is_killed_by_the_best_facilities() {
    whole_tree(Facility::Auto).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_tree_is_killed_on_cgroup_v1() {
    whole_tree(Facility::V1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_tree_is_killed_by_signals_alone() {
    whole_tree(Facility::None).await;
}

async fn exit_is_seen(facility: Facility) {
    let mut bench = Bench::new(facility, role("server", &[]), |_| {}).await;
    for tier in [Tier::Shadow, Tier::Serving] {
        let made = bench.create(tier).await;
        let pid = made.pid.unwrap();
        kill(pid);
        let (at, detail) = bench
            .fact("exit", |fact| match fact {
                Fact::Exited { instance, tier, detail } if *instance == made.id => {
                    Some((*tier, detail.clone()))
                }
                _ => None,
            })
            .await;
        assert_eq!(at, tier);
        assert!(detail.contains("killed by signal 9"), "{detail}");
        assert!(bench.manager.snapshot().is_empty(), "a fact of an exit follows the removal");
        until("it is reaped", || (!exists(pid)).then_some(())).await;
        // Ending soon after being made is a failure: the next is refused for a while.
        bench.apply(Action::create(Tier::Shadow));
        bench
            .fact("refusal", |fact| match fact {
                Fact::StepFailed { instance: None, retry_in_ms, .. } if *retry_in_ms > 0 => {
                    Some(())
                }
                _ => None,
            })
            .await;
        bench.facts.clear();
        until("the back-off is over", || {
            bench.apply(Action::create(Tier::Shadow));
            (!bench.manager.snapshot().is_empty()).then_some(())
        })
        .await;
        let id = bench.manager.snapshot()[0].id;
        assert!(bench.manager.snapshot()[0].restarts > 0);
        bench.settled(id, Tier::Shadow).await;
        bench.apply(Action::Destroy { instance: id });
        until("it is gone", || (bench.manager.snapshot().is_empty()).then_some(())).await;
        bench.take();
        bench.facts.clear();
    }
    bench.manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_is_seen_whatever_the_tier() {
    exit_is_seen(Facility::Auto).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_is_seen_on_signals_alone() {
    exit_is_seen(Facility::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_target_wins_and_every_step_still_happens_in_order() {
    let mut bench = Bench::new(Facility::Auto, role("server", &[]), |_| {}).await;
    let made = bench.create(Tier::Shadow).await;
    for _ in 0..20 {
        for tier in [Tier::Serving, Tier::Warm, Tier::Full, Tier::Shadow] {
            bench.apply(Action::Move { instance: made.id, tier });
        }
    }
    let end = bench.move_to(made.id, Tier::Warm).await;
    assert_eq!(end.pid, made.pid);
    let mut at = Tier::Cold;
    for fact in bench.take() {
        let Fact::TierReached { from, tier, .. } = fact else { panic!("unexpected {fact:?}") };
        assert_eq!(*from, at, "steps of one shadow follow each other");
        at = *tier;
    }
    assert_eq!(at, Tier::Warm);
    bench.manager.shutdown().await;
    assert!(!exists(made.pid.unwrap()), "shutdown ends what is not to be kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_shadow_that_no_longer_answers_is_found_and_ended() {
    let flag = tempfile::tempdir().unwrap();
    let sick = flag.path().join("sick");
    let spec = role("server", &[("SICK_WHEN", &sick.to_string_lossy())]);
    let mut bench = Bench::new(Facility::Auto, spec, |service| {
        service.parked_check = Some(Duration::from_millis(20));
        service.start_timeout = Duration::from_secs(10);
    })
    .await;
    let made = bench.create(Tier::Shadow).await;
    std::fs::write(&sick, "").unwrap();
    let detail = bench
        .fact("exit", |fact| match fact {
            Fact::Exited { instance, detail, .. } if *instance == made.id => Some(detail.clone()),
            _ => None,
        })
        .await;
    assert!(detail.starts_with("readiness failed while parked"), "{detail}");
    assert!(detail.contains("answered \"sick\""), "{detail}");
    until("its process is gone", || (!exists(made.pid.unwrap())).then_some(())).await;
    bench.manager.shutdown().await;
}
