//! What earlier runs and failed creations left: when it is ended, and whom it holds up until then.

use std::sync::Arc;
use std::time::Duration;

use foreshadow_control::{InstanceId, ServiceName};
use foreshadow_shadow::{
    CreateRequest, Facility, KubernetesProvider, KubernetesSpec, ProcessProvider, Provider as _,
    Sweep,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::claimed::{claiming, pool};
use crate::support::fake_cluster::{FakeCluster, refused, running};
use crate::support::fake_engine::{Reply, refusal};
use crate::support::{host, request, until};

/// Puts pods of an earlier run there.
fn leave(fake: &FakeCluster, ids: &[u64]) {
    let owner = std::fs::read_to_string(fake.dir.path().join("name"));
    let owner = owner.expect("a provider was made there");
    for id in ids {
        let labels = json!({
            "foreshadow.dev/owner": owner.trim(), "foreshadow.dev/service": "shop",
            "foreshadow.dev/instance": format!("i{id}"),
        });
        let pod = json!({ "metadata": { "labels": labels }, "status": running() });
        fake.store.change("pods", &format!("left-{id}"), &pod);
    }
}

fn of(service: &str, id: u64) -> CreateRequest {
    CreateRequest { service: ServiceName::from(service), ..request(id) }
}

/// Settings for a paused clock, which goes on where a real one would not.
fn patient(fake: &FakeCluster) -> KubernetesSpec {
    let patience = Duration::from_secs(20);
    KubernetesSpec { timeout: patience, schedule_timeout: patience, ..fake.spec() }
}

#[tokio::test(start_paused = true)]
async fn what_hangs_on_its_end_holds_up_no_service_while_it_is_little() {
    let fake =
        FakeCluster::start(running(), |asked, _| (asked == "DELETE pod").then_some(Reply::Hang))
            .await;
    let provider = Arc::new(fake.provider(patient(&fake)));
    leave(&fake, &[7, 8]);
    let what = Sweep { keep: Vec::new(), lost: vec![InstanceId(7), InstanceId(8)] };
    assert_eq!(provider.sweep(&what).await.unwrap(), 0);
    assert!(!provider.is_swept());
    let begun = Instant::now();
    let mut creating = tokio::task::JoinSet::new();
    for id in 10..13 {
        let provider = Arc::clone(&provider);
        let request = of(&format!("other{id}"), id);
        creating.spawn(async move { provider.create(&request).await.map(drop) });
    }
    let made = creating.join_all().await;
    let waited = begun.elapsed();
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    assert!(waited < Duration::from_secs(3), "{waited:?} on the paused clock");
    provider.create(&request(9)).await.expect("nor its own, as there is little of it");
    let waited = begun.elapsed();
    assert!(waited < Duration::from_secs(35), "one pass: {waited:?}");
    assert!(!provider.is_swept());
}

#[tokio::test(start_paused = true)]
async fn ends_are_heard_while_what_is_nobodys_does_not_go() {
    let fake =
        FakeCluster::start(running(), |asked, _| (asked == "DELETE pod").then_some(Reply::Hang))
            .await;
    let provider = fake.provider(patient(&fake));
    provider.sweep(&Sweep::default()).await.unwrap();
    let made = provider.create(&of("other", 1)).await.unwrap();
    let name = fake.pod();
    leave(&fake, &[7, 8]);
    until("it is to go", || (fake.store.count("DELETE pod") > 0).then_some(())).await;
    let evicted = json!({ "status": { "phase": "Failed", "reason": "Evicted" } });
    fake.store.change("pods", &name, &evicted);
    let ended = tokio::time::timeout(Duration::from_secs(3), provider.exited(&made)).await;
    assert_eq!(ended.expect("it is heard at once").0, "its pod failed: Evicted");
}

#[tokio::test]
async fn a_cluster_that_is_named_after_the_start_is_swept_before_anything_is_made_there() {
    let fake = FakeCluster::start(running(), |_, _| None).await;
    let host = host(fake.dir.path(), Facility::None);
    leave(&fake, &[1, 7]);
    let what = Sweep { keep: vec![InstanceId(1)], lost: Vec::new() };
    ProcessProvider::janitor(Arc::clone(&host)).sweep(&what).await.unwrap();
    let provider = KubernetesProvider::new(&host, fake.spec());
    provider.create(&request(9)).await.unwrap();
    let asked = fake.store.asked();
    let at = |what: &str| asked.iter().position(|one| one == what);
    let (swept, made) = (at("DELETE pod"), at("POST pods"));
    assert!(swept.is_some() && swept < made, "{asked:?}");
    let names: Vec<_> =
        fake.store.all("pods").iter().map(|p| p["metadata"]["name"].clone()).collect();
    assert!(names.contains(&"left-1".into()) && !names.contains(&"left-7".into()), "{names:?}");
}

/// That is when shadows are needed: a node is away, and what was on it is deleted when it is back.
#[tokio::test(start_paused = true)]
async fn a_node_that_is_away_holds_up_nothing_new() {
    // Nobody plays the node: pods are deleted when it says so, which is never.
    let fake = FakeCluster::start(Value::Null, |_, _| None).await;
    let provider = fake.provider(fake.spec());
    provider.sweep(&Sweep::default()).await.unwrap();
    refusal(provider.create(&request(1)).await);
    for id in 2..4 {
        refusal(provider.create(&request(id)).await);
    }
    assert_eq!(fake.store.count("POST pods"), 3);
    assert_eq!(fake.store.all("pods").len(), 3, "they are deleted when the node is back");
}

#[tokio::test]
async fn what_a_failed_creation_left_is_removed_before_the_next_one_of_its_service() {
    let fake = FakeCluster::start(running(), |asked, before| {
        (asked == "DELETE pod" && before == 0).then(|| refused(500, "InternalError", "etcd"))
    })
    .await;
    let provider = fake.provider(fake.spec());
    fake.store.lose("POST pods", Reply::Hang);
    provider.create(&request(1)).await.unwrap_err();
    provider.create(&request(2)).await.unwrap();
    assert!(fake.pod().ends_with("i2"), "{:?}", fake.store.asked());
}

#[tokio::test]
async fn a_pod_that_was_not_taken_and_could_not_be_ended_may_become_another_ones() {
    let fake = FakeCluster::start(running(), |asked, before| match (asked, before) {
        ("PATCH pod" | "DELETE pod", 0) => Some(refused(500, "InternalError", "etcd")),
        _ => None,
    })
    .await;
    pool(&fake, 1);
    let provider = claiming(&fake);
    refusal(provider.create(&request(1)).await);
    let made = provider.create(&of("other", 2)).await.unwrap();
    refusal(provider.create(&request(3)).await);
    assert_eq!(fake.store.all("pods")[0]["metadata"]["labels"]["foreshadow.dev/instance"], "i2");
    let quiet = tokio::time::timeout(Duration::from_millis(50), provider.exited(&made)).await;
    assert!(quiet.is_err(), "it runs: {quiet:?}");
}
