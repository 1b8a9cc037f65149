//! Pods that are taken out of a Deployment.

use std::sync::Arc;
use std::time::Duration;

use foreshadow_control::InstanceId;
use foreshadow_shadow::{
    Cause, Facility, KubernetesProvider, KubernetesSpec, PodSource, Provider as _, Sweep,
};
use serde_json::{Value, json};

use crate::support::fake_cluster::{FakeCluster, refused, running};
use crate::support::fake_engine::{Reply, refusal};
use crate::support::{host, request, until};

/// A Deployment whose pods wait to be taken, as `pods` of them run.
pub(crate) fn pool(fake: &FakeCluster, pods: usize) {
    let gates = json!([{ "conditionType": "foreshadow.dev/active" }]);
    fake.store.change(
        "deployments",
        "pool",
        &json!({
            "spec": {
                "replicas": 2, "selector": { "matchLabels": { "app": "pool" } },
                "template": { "spec": { "containers": [], "readinessGates": gates } },
            },
            "status": { "replicas": 2, "conditions": [
                { "type": "ReplicaFailure", "status": "True", "message": "exceeded quota: few" },
            ] },
        }),
    );
    for number in 0..pods {
        add(fake, "pool", &number.to_string(), &json!({}));
    }
}

/// A pod of a Deployment that has the label `app: pool`, changed as given.
fn add(fake: &FakeCluster, deployment: &str, number: &str, change: &Value) {
    let owner = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{deployment}-1"), "uid": "r",
        "controller": true,
    });
    let name = format!("{deployment}-1-{number}");
    let pod = json!({
        "metadata": {
            "labels": { "app": "pool", "pod-template-hash": "1" }, "ownerReferences": [owner],
        },
        "spec": {
            "containers": [{ "name": "shadow", "image": "shop:1" }],
            "readinessGates": [{ "conditionType": "foreshadow.dev/active" }],
        },
        "status": running(),
    });
    fake.store.change("pods", &name, &pod);
    fake.store.change("pods", &name, change);
}

pub(crate) fn claiming(fake: &FakeCluster) -> KubernetesProvider {
    fake.provider(KubernetesSpec { pod: PodSource::Claim("pool".to_owned()), ..fake.spec() })
}

#[tokio::test]
async fn a_pod_is_taken_out_of_a_deployment_once_and_for_one() {
    let fake = FakeCluster::start(running(), |_, _| None).await;
    pool(&fake, 2);
    let provider = claiming(&fake);
    let (first, second) = (request(1), request(2));
    let (first, second) = tokio::join!(provider.create(&first), provider.create(&second));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_ne!(first.state, second.state, "each has its own");
    for pod in fake.store.all("pods") {
        let labels = &pod["metadata"]["labels"];
        assert_eq!(labels.get("pod-template-hash"), None, "its ReplicaSet lets go of it");
        assert_eq!(
            (&labels["app"], &labels["foreshadow.dev/service"]),
            (&"pool".into(), &"shop".into())
        );
    }
    assert_eq!(fake.store.count("POST pods"), 0);

    let (cause, text) = refusal(provider.create(&request(3)).await);
    assert_eq!(cause, Cause::NoRoom);
    assert!(
        text.contains(
            "to give a running pod of deployment pool: none of its pods runs and is free"
        ),
        "{text}"
    );
    assert!(text.contains("it wants 2 and has 2: exceeded quota: few"), "{text}");

    provider.set_activated(&first, true).await.unwrap();
    provider.destroy(&first, Duration::ZERO).await.unwrap();
    assert_eq!(fake.store.all("pods").len(), 1);

    // Its node would start it again: that is another one, and not the one that was verified.
    let again = json!({ "status": { "containerStatuses": [{
        "name": "shadow", "image": "shop:1", "imageID": "", "ready": true, "restartCount": 1,
        "state": { "running": {} },
        "lastState": { "terminated": { "exitCode": 137, "reason": "OOMKilled" } },
    }] } });
    fake.store.change("pods", &fake.pod(), &again);
    let seen = tokio::time::timeout(Duration::from_secs(10), provider.exited(&second)).await;
    assert_eq!(seen.unwrap().0, "its container ended with status 137: OOMKilled");
}

#[tokio::test]
async fn what_was_taken_and_not_recorded_is_ended_by_the_next_start() {
    let fake = FakeCluster::start(running(), |_, _| None).await;
    pool(&fake, 2);
    let provider = claiming(&fake);
    let kept = provider.create(&request(1)).await.unwrap();
    provider.create(&request(2)).await.unwrap();
    drop(provider);
    let next = claiming(&fake);
    assert_eq!(next.adopt(&kept).await.unwrap(), foreshadow_shadow::Adoption::Running);
    let sweep = Sweep { keep: vec![kept.id], lost: vec![InstanceId(2)] };
    assert_eq!(next.sweep(&sweep).await.unwrap(), 1);
    assert_eq!(fake.store.all("pods").len(), 1);
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_leaves_no_pod_to_nobody() {
    let fake = FakeCluster::start(running(), |_, _| None).await;
    fake.store.lose("PATCH pod", Reply::Hang);
    pool(&fake, 2);
    let provider = claiming(&fake);
    let (cause, text) = refusal(provider.create(&request(1)).await);
    assert_eq!(cause, Cause::Late, "{text}");
    assert_eq!(fake.store.all("pods").len(), 1, "the Deployment makes another in its place");
    provider.create(&request(2)).await.unwrap();
}

/// Whatever becomes of a claim, it ends no pod of which nobody says that it is ours.
#[tokio::test]
async fn a_claim_that_fails_ends_no_pod_of_the_deployment() {
    for failure in [
        refused(
            500,
            "InternalError",
            "Internal error occurred: failed calling webhook \"x\": refused",
        ),
        refused(500, "InternalError", "etcdserver: request timed out"),
        Reply::Hang,
    ] {
        let fails = failure.clone();
        let fake = FakeCluster::start(running(), move |asked, before| {
            (asked == "PATCH pod" && before % 2 == 0).then(|| fails.clone())
        })
        .await;
        pool(&fake, 3);
        let provider = claiming(&fake);
        refusal(provider.create(&request(1)).await);
        assert_eq!(fake.store.count("DELETE pod"), 0, "{failure:?}");
        assert_eq!(fake.store.all("pods").len(), 3, "{failure:?}");
    }
}

#[tokio::test]
async fn a_claim_that_fails_leaves_the_pod_to_another_one_who_got_it() {
    let fake = FakeCluster::start(running(), |asked, before| {
        (asked == "PATCH pod" && before == 0).then_some(Reply::Hang)
    })
    .await;
    pool(&fake, 1);
    let first = Arc::new(claiming(&fake));
    let failing = Arc::clone(&first);
    let failing = tokio::spawn(async move { failing.create(&request(1)).await });
    until("a claim", || (fake.store.count("PATCH pod") > 0).then_some(())).await;
    let dir = tempfile::tempdir().unwrap();
    let spec = KubernetesSpec { pod: PodSource::Claim("pool".to_owned()), ..fake.spec() };
    let other = KubernetesProvider::new(&host(dir.path(), Facility::None), spec);
    let made = other.create(&request(1)).await.unwrap();
    refusal(failing.await.unwrap());
    assert_eq!(fake.store.count("DELETE pod"), 0);
    let quiet = tokio::time::timeout(Duration::from_millis(50), other.exited(&made)).await;
    assert!(quiet.is_err(), "it runs: {quiet:?}");
}

/// The order to take it does not fit the pod any more, so that it cannot be carried out late.
#[tokio::test]
async fn a_pod_that_was_not_taken_has_another_version_afterwards() {
    let fake = FakeCluster::start(running(), |asked, before| {
        (asked == "PATCH pod" && before == 0).then_some(Reply::Hang)
    })
    .await;
    pool(&fake, 1);
    let version = || fake.store.all("pods")[0]["metadata"]["resourceVersion"].clone();
    let before = version();
    refusal(claiming(&fake).create(&request(1)).await);
    assert_ne!(version(), before);
    let labels = &fake.store.all("pods")[0]["metadata"]["labels"];
    assert_eq!(*labels, json!({ "app": "pool", "pod-template-hash": "1" }));
}

#[tokio::test]
async fn only_gated_pods_of_that_very_deployment_are_taken() {
    let open = json!({ "spec": { "readinessGates": [] } });
    let fake = FakeCluster::start(running(), |_, _| None).await;
    pool(&fake, 0);
    add(&fake, "pool", "before-the-gate", &open);
    add(&fake, "pool-canary", "serving", &json!({}));
    add(&fake, "pool", "by-hand", &json!({ "metadata": { "ownerReferences": null } }));
    let old = json!({ "spec": { "containers": [{ "name": "shadow", "image": "shop:0" }] } });
    add(&fake, "pool", "0-old", &old);
    let selector = json!({ "spec": {
        "selector": { "matchExpressions": [
            { "key": "track", "operator": "NotIn", "values": ["canary", "beta"] },
            { "key": "app", "operator": "In", "values": ["pool", "pools"] },
        ] },
        "template": { "spec": { "containers": [{ "name": "shadow", "image": "shop:1" }] } },
    } });
    fake.store.change("deployments", "pool", &selector);
    let beta = json!({ "metadata": { "labels": { "track": "beta" } } });
    add(&fake, "pool", "0-beta", &beta);
    add(&fake, "pool", "9", &json!({}));
    let provider = claiming(&fake);
    let taken = |handle: foreshadow_shadow::Handle| {
        serde_json::from_str::<Value>(&handle.state).unwrap()["pod"].clone()
    };
    assert_eq!(taken(provider.create(&request(1)).await.unwrap()), "pool-1-9", "the newest image");
    assert_eq!(taken(provider.create(&request(2)).await.unwrap()), "pool-1-0-old");
    assert_eq!(refusal(provider.create(&request(3)).await).0, Cause::NoRoom);
}

#[tokio::test]
async fn a_deployment_without_the_gate_is_not_taken_from() {
    let fake = FakeCluster::start(running(), |_, _| None).await;
    pool(&fake, 1);
    let open = json!({ "spec": { "template": { "spec": { "readinessGates": [] } } } });
    fake.store.change("deployments", "pool", &open);
    let (cause, text) = refusal(claiming(&fake).create(&request(1)).await);
    assert_eq!(cause, Cause::Absent);
    assert!(text.contains("has no readiness gate foreshadow.dev/active"), "{text}");
}

/// Those who wait look together, and ever more seldom.
#[tokio::test]
async fn many_that_wait_for_a_pod_ask_no_more_than_one() {
    let fake = FakeCluster::start(running(), |_, _| None).await;
    pool(&fake, 0);
    let pod = PodSource::Claim("pool".to_owned());
    let patience = Duration::from_secs(2);
    let spec = KubernetesSpec { pod, schedule_timeout: patience, ..fake.spec() };
    let provider = Arc::new(fake.provider(spec));
    let mut waiting = tokio::task::JoinSet::new();
    for id in 1..=8 {
        let provider = Arc::clone(&provider);
        waiting.spawn(async move { provider.create(&request(id)).await });
    }
    for made in waiting.join_all().await {
        assert_eq!(refusal(made).0, Cause::NoRoom);
    }
    let looks = (fake.store.count("GET deployment"), fake.store.count("GET pods"));
    assert!(looks.0 <= 6 && looks.1 <= 6, "{looks:?} of 8 that waited for 2 s");
}
