//! Several places of one service: bounds, back-off and facts of each, restarts, and a place that goes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::Path;
use std::sync::Arc;

use foreshadow_control::{Action, Fact, InstanceId, PlaceName, ServiceName, Tier};
use foreshadow_shadow::{Facility, Manager, OnExit, ProcessHost, ServiceShadows};
use support::{host, role, service, shop, start, until};

#[test]
fn role_entry() {
    support::play_role();
}

/// The service in one of its places; what runs there is told which version it is of.
fn at(place: &str, host: &Arc<ProcessHost>, version: &str) -> ServiceShadows {
    ServiceShadows {
        place: PlaceName::from(place),
        zone: format!("zone of {place}"),
        on_exit: OnExit::Keep,
        ..service(host, role("server", &[("VERSION", version)]))
    }
}

/// The service in a place where nothing can be made.
fn broken(place: &str, host: &Arc<ProcessHost>) -> ServiceShadows {
    let mut spec = role("server", &[]);
    spec.command = vec!["/bin/false".to_owned()];
    ServiceShadows { place: PlaceName::from(place), ..service(host, spec) }
}

fn create(manager: &Manager, place: &str) {
    let place = PlaceName::from(place);
    manager.apply(&shop(), &[Action::Create { tier: Tier::Shadow, place }]);
}

/// Every shadow that rests, by id, with its place and whether it is outdated.
async fn rest(manager: &Manager, count: usize) -> Vec<(InstanceId, String, bool)> {
    until("all rest", || {
        let all = manager.snapshot();
        let rests = all.len() == count && all.iter().all(|i| i.moving_to.is_none());
        let shown = |i: &foreshadow_shadow::ShadowInstance| {
            assert_eq!(i.zone, format!("zone of {}", i.place), "it is where its place is");
            (i.id, i.place.to_string(), i.outdated)
        };
        rests.then(|| all.iter().map(shown).collect())
    })
    .await
}

async fn run(dir: &Path, places: &[(&str, &str)]) -> (Manager, Arc<ProcessHost>) {
    let host = host(dir, Facility::Auto);
    let services = places.iter().map(|(place, version)| at(place, &host, version)).collect();
    (start(dir, &host, services).await.unwrap(), host)
}

/// Ends everything, what is kept over a stop as well.
async fn end(manager: &Manager) {
    let leaving = manager.reconfigure(Vec::new());
    leaving.iter().for_each(|shadow| manager.end_leaving(shadow));
    until("all end", || manager.snapshot().is_empty().then_some(())).await;
    manager.shutdown().await;
}

fn refusals(manager: &Manager) -> Vec<(PlaceName, Option<InstanceId>, String)> {
    let facts = manager.take_facts().into_iter();
    let refused = facts.filter_map(|(_, fact): (ServiceName, Fact)| match fact {
        Fact::StepFailed { instance, place, error, .. } => Some((place, instance, error)),
        _ => None,
    });
    refused.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_place_has_a_bound_of_its_own_within_that_of_the_service() {
    let dir = tempfile::tempdir().unwrap();
    let host = host(dir.path(), Facility::Auto);
    let bounded = ServiceShadows { max: 3, max_here: Some(1), ..at("east", &host, "1") };
    let west = ServiceShadows { max: 3, ..at("west", &host, "1") };
    let manager = start(dir.path(), &host, vec![bounded, west]).await.unwrap();
    for place in ["east", "east", "west", "west", "west", "north"] {
        create(&manager, place);
    }
    let refused = refusals(&manager);
    let said = refused.iter().map(|(place, _, error)| (place.as_str(), error.as_str()));
    let said: Vec<_> = said.collect();
    assert_eq!(
        said,
        [
            ("east", "1 shadows exist in east and its max is 1"),
            ("west", "3 shadows exist and the pool's max is 3"),
            ("north", "service shop has no place north for shadows any more"),
        ]
    );
    let all = rest(&manager, 3).await;
    let places: Vec<&str> = all.iter().map(|(_, place, _)| place.as_str()).collect();
    assert_eq!(places, ["east", "west", "west"]);
    end(&manager).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_fails_backs_off_alone_and_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let host = host(dir.path(), Facility::Auto);
    let services = vec![broken("east", &host), at("west", &host, "1")];
    let manager = start(dir.path(), &host, services).await.unwrap();
    create(&manager, "east");
    let failed = until("it fails", || {
        refusals(&manager).into_iter().find(|(_, instance, _)| instance.is_some())
    })
    .await;
    assert_eq!(failed.0.as_str(), "east");
    // The other place is asked at once, while this one is not.
    create(&manager, "west");
    create(&manager, "east");
    let refused = refusals(&manager);
    assert!(refused.iter().all(|(place, ..)| place.as_str() == "east"), "{refused:?}");
    assert!(refused.iter().any(|(_, _, error)| error.contains("backing off")), "{refused:?}");
    until("the other's is made", || {
        let all = manager.snapshot();
        all.iter().any(|i| i.place.as_str() == "west" && i.tier == Tier::Shadow).then_some(())
    })
    .await;
    end(&manager).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_finds_every_shadow_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let (manager, host_) = run(dir.path(), &[("east", "1"), ("west", "1")]).await;
    for place in ["west", "east", "west"] {
        create(&manager, place);
    }
    let before = rest(&manager, 3).await;
    manager.shutdown().await;
    drop((manager, host_));

    let (manager, _host) = run(dir.path(), &[("east", "1"), ("west", "2")]).await;
    let after = rest(&manager, 3).await;
    let kept = |id| before.iter().any(|(known, ..)| *known == id);
    assert!(after.iter().all(|(id, ..)| kept(*id)), "taken over, not made anew");
    for (_, place, outdated) in &after {
        assert_eq!(*outdated, place == "west", "only those of the place which changed");
    }
    end(&manager).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shadows_of_a_place_that_goes_are_replaced_one_by_one_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let (manager, host_) = run(dir.path(), &[("east", "1"), ("west", "1")]).await;
    for place in ["east", "east", "west"] {
        create(&manager, place);
    }
    rest(&manager, 3).await;
    manager.reconfigure(vec![at("west", &host_, "1")]);
    let left = rest(&manager, 3).await;
    let shown = left.iter().map(|(_, place, outdated)| (place.as_str(), *outdated));
    let shown: Vec<_> = shown.collect();
    assert_eq!(shown, [("east", true), ("east", true), ("west", false)], "none goes at first");
    for old in [1, 0] {
        create(&manager, "west");
        until("a fresh one lets one go", || {
            let all = manager.snapshot();
            assert!(all.len() >= 3, "the new one is there before the old one goes: {all:?}");
            let rests = all.len() == 3 && all.iter().all(|i| i.moving_to.is_none());
            (rests && all.iter().filter(|i| i.outdated).count() == old).then_some(())
        })
        .await;
    }
    assert!(manager.snapshot().iter().all(|i| i.place.as_str() == "west"));
    end(&manager).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_went_while_nobody_looked_is_left_the_same_way() {
    let dir = tempfile::tempdir().unwrap();
    let (manager, host_) = run(dir.path(), &[("east", "1")]).await;
    create(&manager, "east");
    create(&manager, "east");
    rest(&manager, 2).await;
    manager.shutdown().await;
    drop((manager, host_));

    let (manager, _host) = run(dir.path(), &[("west", "1")]).await;
    until("both are taken over, and stay", || {
        let old = |i: &foreshadow_shadow::ShadowInstance| {
            i.place.as_str() == "east" && i.outdated && i.moving_to.is_none()
        };
        let all = manager.snapshot();
        (all.len() == 2 && all.iter().all(old)).then_some(())
    })
    .await;
    for old in [1, 0] {
        create(&manager, "west");
        until("one goes when a fresh one is there", || {
            let all = manager.snapshot();
            let rests = all.len() == 2 && all.iter().all(|i| i.moving_to.is_none());
            (rests && all.iter().filter(|i| i.outdated).count() == old).then_some(())
        })
        .await;
    }
    end(&manager).await;
}
