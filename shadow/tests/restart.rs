//! Foreshadow dies and comes back; settings change under running shadows.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use foreshadow_control::{Action, Fact, ServiceName, Tier};
use foreshadow_shadow::{
    Facility, Manager, OnExit, ProcessHost, ProcessProvider, ServiceShadows, ShadowError,
};
use support::{
    answers, exists, host, processes_with, role, service, settled, shop, spawn_foreshadow, start,
    until,
};

#[test]
fn role_entry() {
    support::play_role();
}

/// Server processes of the shadows kept under `dir`, found by the environment they inherited.
fn servers(dir: &Path) -> Vec<u32> {
    let tag = format!("STATE_DIR={}", dir.display());
    let marked: BTreeSet<u32> = processes_with("SHADOW_TEST_ROLE=server").into_iter().collect();
    processes_with(&tag).into_iter().filter(|pid| marked.contains(pid)).collect()
}

async fn restart(dir: &Path, with_service: bool) -> (Manager, Arc<ProcessHost>) {
    let host = host(dir, Facility::Auto);
    let services = if with_service { vec![service(&host, role("server", &[]))] } else { vec![] };
    (start(dir, &host, services).await.unwrap(), host)
}

fn pids(manager: &Manager) -> Vec<u32> {
    let mut pids: Vec<u32> = manager.snapshot().iter().filter_map(|i| i.pid).collect();
    pids.sort_unstable();
    pids
}

#[tokio::test(flavor = "multi_thread")]
async fn running_shadows_are_taken_over_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = spawn_foreshadow(dir.path(), "shadow,warm,serving", "settled");
    let before = servers(dir.path());
    assert_eq!(before.len(), 3);
    first.kill().unwrap();
    first.wait().unwrap();

    let (manager, _host) = restart(dir.path(), true).await;
    assert_eq!(pids(&manager), before, "the same processes, no more and no fewer");
    assert_eq!(servers(dir.path()), before);
    let tiers: Vec<Tier> = manager.snapshot().iter().map(|i| i.tier).collect();
    assert_eq!(tiers, [Tier::Shadow, Tier::Warm, Tier::Serving]);
    let adopted = manager.take_facts();
    assert_eq!(adopted.len(), 3);
    assert!(adopted.iter().all(|(_, fact)| matches!(fact, Fact::Adopted { .. })), "{adopted:?}");

    // What was taken over works like any other: it moves, its end is seen, it can be ended.
    let all = manager.snapshot();
    let parked = &all[0];
    manager.apply(&shop(), &[Action::Move { instance: parked.id, tier: Tier::Serving }]);
    settled(&manager, parked.id, Tier::Serving).await;
    assert!(answers(parked.address.unwrap()).await);
    support::kill(all[1].pid.unwrap());
    until("the exit of one taken over is seen", || {
        manager.take_facts().into_iter().find(
            |(_, fact)| matches!(fact, Fact::Exited { instance, .. } if *instance == all[1].id),
        )
    })
    .await;
    manager.apply(&shop(), &[Action::create(Tier::Shadow)]);
    manager.shutdown().await;
    assert_eq!(servers(dir.path()), [] as [u32; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_moment_leaks_nothing_and_starts_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    for delay_ms in [0, 1, 2, 4, 6, 8, 11, 15, 20, 30, 45, 70] {
        let mut first = spawn_foreshadow(dir.path(), "shadow,full,serving,warm", "started");
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        first.kill().unwrap();
        first.wait().unwrap();
        let (manager, host) = restart(dir.path(), true).await;
        assert_eq!(servers(dir.path()), pids(&manager), "killed after {delay_ms} ms");
        manager.shutdown().await;
        assert_eq!(servers(dir.path()), [] as [u32; 0], "killed after {delay_ms} ms");
        drop((manager, host));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shadows_of_a_lost_database_or_a_removed_service_are_ended() {
    let dir = tempfile::tempdir().unwrap();
    for lose_database in [true, false] {
        let mut first = spawn_foreshadow(dir.path(), "shadow,serving", "settled");
        first.kill().unwrap();
        first.wait().unwrap();
        assert_eq!(servers(dir.path()).len(), 2);
        if lose_database {
            for suffix in ["", "-wal", "-shm"] {
                std::fs::remove_file(dir.path().join(format!("foreshadow.db{suffix}"))).unwrap();
            }
        }
        let (manager, _host) = restart(dir.path(), lose_database).await;
        until("they are ended", || servers(dir.path()).is_empty().then_some(())).await;
        until("nothing is shown", || manager.snapshot().is_empty().then_some(())).await;
        manager.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_foreshadow_on_the_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = spawn_foreshadow(dir.path(), "shadow", "settled");
    let host = host(dir.path(), Facility::Auto);
    let error = start(dir.path(), &host, vec![]).await.err().unwrap();
    assert!(matches!(error, ShadowError::Locked { .. }), "{error}");
    assert!(error.to_string().contains(&format!("pid {}", first.id())), "{error}");
    assert_eq!(servers(dir.path()).len(), 1, "the refused one touched nothing");
    first.kill().unwrap();
    first.wait().unwrap();
    let (manager, _host) = restart(dir.path(), true).await;
    manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_shadows_outlive_a_graceful_stop_and_are_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let host = host(dir.path(), Facility::Auto);
    let keep = |host| {
        let mut service = service(host, role("server", &[]));
        service.on_exit = OnExit::Keep;
        service
    };
    let manager = start(dir.path(), &host, vec![keep(&host)]).await.unwrap();
    manager.apply(&shop(), &[Action::create(Tier::Warm)]);
    let id = manager.snapshot()[0].id;
    let made = settled(&manager, id, Tier::Warm).await;
    let primary = manager.primary_id(&shop(), "127.0.0.1:1".parse().unwrap()).await.unwrap();
    manager.shutdown().await;
    assert!(answers(made.address.unwrap()).await);
    drop((manager, host));

    let host = support::host(dir.path(), Facility::Auto);
    let manager =
        start(dir.path(), &host, vec![service(&host, role("server", &[]))]).await.unwrap();
    let found = manager.snapshot();
    assert_eq!((found[0].id, found[0].pid), (made.id, made.pid));
    let again = manager.primary_id(&shop(), "127.0.0.1:1".parse().unwrap()).await.unwrap();
    assert_eq!(again, primary);
    assert_ne!(primary, id);
    manager.shutdown().await;
    assert!(!exists(made.pid.unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn shadows_taken_over_under_changed_settings_are_replaced_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = spawn_foreshadow(dir.path(), "shadow,warm,serving", "settled");
    first.kill().unwrap();
    first.wait().unwrap();
    let host = host(dir.path(), Facility::Auto);
    let manager = start(dir.path(), &host, vec![named("shop", &host, "2")]).await.unwrap();
    let old = |tiers: &[Tier]| {
        let all = manager.snapshot();
        let rests = all.len() == 3 && all.iter().all(|i| i.moving_to.is_none());
        let old = all.iter().filter(|i| i.outdated).map(|i| i.tier).collect::<Vec<_>>();
        (rests && old == tiers).then_some(())
    };
    until("they are taken over", || old(&[Tier::Shadow, Tier::Warm, Tier::Serving])).await;
    manager.apply(&shop(), &[Action::create(Tier::Warm)]);
    until("the least ready one is replaced", || old(&[Tier::Warm, Tier::Serving])).await;
    manager.apply(&shop(), &[Action::create(Tier::Warm)]);
    until("the next is replaced, the one that serves is not", || old(&[Tier::Serving])).await;
    manager.shutdown().await;
}

fn named(name: &str, host: &Arc<ProcessHost>, version: &str) -> ServiceShadows {
    let spec = role("server", &[("VERSION", version)]);
    let provider = Arc::new(ProcessProvider::new(Arc::clone(host), spec));
    let service = service(host, role("server", &[]));
    ServiceShadows { service: ServiceName::from(name), provider, ..service }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_ends_replaces_and_leaves_alone() {
    let dir = tempfile::tempdir().unwrap();
    let host = host(dir.path(), Facility::Auto);
    let names = ["gone", "changed", "same"];
    let services = names.map(|name| named(name, &host, "1")).to_vec();
    let manager = start(dir.path(), &host, services).await.unwrap();
    for name in names {
        let name = ServiceName::from(name);
        for tier in [Tier::Shadow, Tier::Warm, Tier::Serving] {
            manager.apply(&name, &[Action::create(tier)]);
        }
    }
    let settled_all = || {
        let all = manager.snapshot();
        all.iter().all(|i| i.moving_to.is_none()).then_some(all)
    };
    let before = until("all are made", settled_all).await;
    assert_eq!(before.len(), 9);
    let of = |all: &[foreshadow_shadow::ShadowInstance], name: &str| {
        let all = all.iter().filter(|i| i.service.as_str() == name);
        all.map(|i| (i.id, i.tier)).collect::<Vec<_>>()
    };

    let leaving =
        manager.reconfigure(vec![named("changed", &host, "2"), named("same", &host, "1")]);
    for shadow in &leaving {
        let drained = settled(&manager, shadow.id, Tier::Draining).await;
        assert!(exists(drained.pid.unwrap()), "ended before its requests were");
        manager.end_leaving(shadow);
    }
    let after = until("the first round is over", settled_all).await;
    assert_eq!(of(&after, "gone"), []);
    assert_eq!(of(&after, "same"), of(&before, "same"));
    let left = of(&after, "changed");
    assert_eq!(left, of(&before, "changed"), "there is room for another beside them: all wait");

    // Each new one that is as ready as an old one lets that go; the one that serves stays until it may go.
    let changed = ServiceName::from("changed");
    for (made, tiers) in [
        (Tier::Shadow, [Tier::Warm, Tier::Serving, Tier::Shadow]),
        (Tier::Warm, [Tier::Serving, Tier::Shadow, Tier::Warm]),
    ] {
        manager.apply(&changed, &[Action::create(made)]);
        until("one is replaced", || {
            let of = of(&settled_all()?, "changed");
            of.iter().map(|(_, tier)| *tier).eq(tiers).then_some(())
        })
        .await;
    }
    manager.apply(&changed, &[Action::create(Tier::Shadow)]);
    let fresh = until("one is made for the one that serves", || {
        let of = of(&settled_all()?, "changed");
        (of.len() == 4).then_some(of)
    })
    .await;
    let serving = fresh[0].0;
    assert_eq!(fresh[0], (serving, Tier::Serving));
    manager.apply(&changed, &[Action::Move { instance: serving, tier: Tier::Shadow }]);
    let last = until("the last old one goes", || {
        let of = of(&settled_all()?, "changed");
        (of.len() == 3).then_some(of)
    })
    .await;
    assert_eq!(last, fresh[1..]);
    assert!(manager.snapshot().iter().all(|i| !i.outdated));
    manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_command_that_does_not_work_costs_no_shadow_where_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let host = host(dir.path(), Facility::Auto);
    let manager = start(dir.path(), &host, vec![named("shop", &host, "1")]).await.unwrap();
    for _ in 0..3 {
        manager.apply(&shop(), &[Action::create(Tier::Shadow)]);
    }
    until("all are made", || {
        manager.snapshot().iter().all(|i| i.moving_to.is_none()).then_some(())
    })
    .await;
    let mut broken = named("shop", &host, "2");
    let mut spec = role("server", &[]);
    spec.command = vec!["/bin/false".to_owned()];
    broken.provider = Arc::new(ProcessProvider::new(Arc::clone(&host), spec));
    manager.reconfigure(vec![broken]);
    for round in 0..2 {
        until("a new one fails", || {
            manager.apply(&shop(), &[Action::create(Tier::Shadow)]);
            manager
                .take_facts()
                .into_iter()
                .find(|(_, fact)| matches!(fact, Fact::StepFailed { instance: Some(_), .. }))
        })
        .await;
        let old = manager.snapshot().iter().filter(|i| i.outdated).count();
        assert_eq!(old, 3, "round {round}");
    }
    manager.shutdown().await;
}
