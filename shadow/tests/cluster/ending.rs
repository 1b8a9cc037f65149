//! How long pods have to end, and who says so.

use std::sync::Arc;
use std::time::Duration;

use foreshadow_shadow::{KubernetesSpec, PodSource, Provider as _};
use serde_json::json;

use crate::support::fake_cluster::{FakeCluster, refused, running};
use crate::support::fake_engine::{Reply, refusal};
use crate::support::{request, until};

/// A drained node, or a preemption, gives requests that are under way their time.
#[tokio::test]
async fn what_the_cluster_ends_keeps_the_grace_that_it_has_there() {
    let fake = FakeCluster::start(running(), |_, _| None).await;
    let spec = KubernetesSpec { timeout: Duration::from_secs(5), ..fake.spec() };
    let provider = Arc::new(fake.provider(spec));
    let made = provider.create(&request(1)).await.unwrap();
    let drained = json!({ "metadata": {
        "deletionTimestamp": "2026-01-01T00:01:00Z", "deletionGracePeriodSeconds": 60,
    } });
    fake.store.change("pods", &fake.pod(), &drained);
    let seen = tokio::time::timeout(Duration::from_secs(10), provider.exited(&made)).await;
    assert_eq!(seen.expect("it is to lose its load at once").0, "its pod is being deleted");
    let before = fake.store.count("GET pod");
    let ending = Arc::clone(&provider);
    let ending = tokio::spawn(async move { ending.destroy(&made, Duration::ZERO).await });
    until("it is waited for", || (fake.store.count("GET pod") > before + 2).then_some(())).await;
    assert_eq!(fake.graces(), Vec::<u64>::new());
    assert!(!ending.is_finished());
    fake.store.remove("pods", &fake.pod());
    ending.await.unwrap().unwrap();
    assert_eq!(fake.store.count("DELETE pod"), 0);
}

#[tokio::test]
async fn an_end_of_ours_can_be_hurried() {
    let fake = FakeCluster::start(running(), |asked, before| {
        (asked == "DELETE pod" && before == 0).then(|| Reply::Json(200, "{}".to_owned()))
    })
    .await;
    let provider = fake.provider(KubernetesSpec { timeout: Duration::from_secs(5), ..fake.spec() });
    let made = provider.create(&request(1)).await.unwrap();
    let slow = tokio::time::timeout(Duration::from_millis(300), async {
        provider.destroy(&made, Duration::from_secs(60)).await
    });
    assert!(slow.await.is_err(), "it has its time");
    let begun = json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:01:00Z" } });
    fake.store.change("pods", &fake.pod(), &begun);
    provider.destroy(&made, Duration::ZERO).await.unwrap();
    assert_eq!((fake.store.count("DELETE pod"), fake.graces()), (2, vec![1]));
}

#[tokio::test]
async fn a_template_may_ask_for_a_longer_grace() {
    let fake = FakeCluster::start(running(), |_, _| None).await;
    let template = json!({ "spec": {
        "terminationGracePeriodSeconds": 60, "containers": [{ "name": "shadow", "image": "x" }],
    } });
    let pod = PodSource::Template(template);
    let provider = fake.provider(KubernetesSpec { pod, ..fake.spec() });
    for grace in [10, 90, 0] {
        let made = provider.create(&request(1)).await.unwrap();
        provider.destroy(&made, Duration::from_secs(grace)).await.unwrap();
    }
    assert_eq!(fake.graces(), [60, 90, 1]);
}

#[tokio::test]
async fn who_does_not_let_a_pod_be_deleted_is_quoted() {
    let fake = FakeCluster::start(running(), |asked, before| {
        let text = "admission webhook \"keep\" denied the request: not today";
        (asked == "DELETE pod" && before == 0).then(|| refused(409, "Conflict", text))
    })
    .await;
    let provider = fake.provider(fake.spec());
    let made = provider.create(&request(1)).await.unwrap();
    let (_, text) = refusal(provider.destroy(&made, Duration::ZERO).await);
    assert!(text.contains("denied the request: not today"), "{text}");
    provider.destroy(&made, Duration::ZERO).await.unwrap();
}
