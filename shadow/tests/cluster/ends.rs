//! Ends that are told by a watch, and those that are not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use foreshadow_shadow::{Provider as _, Sweep};
use serde_json::{Value, json};

use crate::support::fake_cluster::{FakeCluster, refused, running};
use crate::support::fake_engine::Reply;
use crate::support::{request, until};

#[tokio::test]
async fn an_end_is_seen_and_said_whoever_brought_it_about() {
    let evicted = json!({ "status": {
        "phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory.",
    } });
    let starved = json!({ "status": { "containerStatuses": [{
        "name": "shadow", "image": "shop:1", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "terminated": { "exitCode": 137, "reason": "OOMKilled" } },
    }] } });
    let deleted = json!({
        "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" },
        "status": { "conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
        }] },
    });
    let lost =
        json!({ "status": { "reason": "NodeLost", "message": "Node a which was running pod" } });
    for (change, told) in [
        (evicted, "its pod failed: Evicted: The node was low on resource: memory."),
        (starved, "its container ended with status 137: OOMKilled"),
        (deleted, "its pod is being deleted: DeletionByTaintManager: Taint manager"),
        (lost, "its node is lost: NodeLost: Node a"),
        (Value::Null, "its pod was deleted"),
    ] {
        let fake = FakeCluster::start(running(), |_, _| None).await;
        let provider = fake.provider(fake.spec());
        let made = provider.create(&request(1)).await.unwrap();
        assert_eq!(made.address, "10.9.8.7:8080".parse().unwrap());
        match &change {
            Value::Null => fake.store.remove("pods", &fake.pod()),
            change => fake.store.change("pods", &fake.pod(), change),
        }
        let seen = tokio::time::timeout(Duration::from_secs(10), provider.exited(&made)).await;
        let seen = seen.expect("its end is seen").0;
        assert!(seen.starts_with(told), "{seen}");
    }
}

/// What a watch does not tell is seen by looking.
#[tokio::test]
async fn an_end_is_seen_without_a_watch() {
    for reply in [
        Reply::Hang,
        Reply::Stream(String::new()),
        refused(410, "Expired", "too old resource version"),
        refused(500, "InternalError", "x"),
    ] {
        let silent = reply.clone();
        let fake = FakeCluster::start(running(), move |asked, _| {
            (asked == "WATCH pods").then(|| silent.clone())
        })
        .await;
        let mut spec = fake.spec();
        spec.schedule_timeout = Duration::from_secs(10);
        let provider = fake.provider(spec);
        // The schedule of looks begins again with it.
        provider.sweep(&Sweep::default()).await.unwrap();
        let made = provider.create(&request(1)).await.unwrap();
        fake.store.remove("pods", &fake.pod());
        let seen = tokio::time::timeout(Duration::from_secs(60), provider.exited(&made)).await;
        assert_eq!(seen.expect("its end is seen").0, "its pod was deleted", "{reply:?}");
    }
}

#[tokio::test]
async fn an_end_is_heard_while_a_list_hangs() {
    let hangs = Arc::new(AtomicBool::new(false));
    let slow = Arc::clone(&hangs);
    let fake = FakeCluster::start(running(), move |asked, _| {
        (asked == "GET pods" && slow.load(Ordering::SeqCst)).then_some(Reply::Hang)
    })
    .await;
    let provider = fake.provider(fake.spec());
    let made = provider.create(&request(1)).await.unwrap();
    // The schedule of looks begins again with it.
    provider.sweep(&Sweep::default()).await.unwrap();
    hangs.store(true, Ordering::SeqCst);
    let before = fake.store.count("GET pods");
    until("a list that hangs", || (fake.store.count("GET pods") > before).then_some(())).await;
    fake.store.remove("pods", &fake.pod());
    let seen = tokio::time::timeout(Duration::from_secs(5), provider.exited(&made)).await;
    assert_eq!(seen.expect("it is heard at once").0, "its pod was deleted");
}
