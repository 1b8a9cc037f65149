//! Deployments and StatefulSets on a fake API server.

use std::time::Duration;

use foreshadow_shadow::{
    Cause, ClusterAccess, Primaries, ProviderError, Scaler as _, Workload, WorkloadScaler,
    WorkloadSpec,
};
use serde_json::{Value, json};

use crate::addresses;
use crate::support::fake_cluster::{FakeCluster, NAMESPACE, refused};

fn scaler(fake: &FakeCluster, workload: Workload) -> WorkloadScaler {
    WorkloadScaler::new(WorkloadSpec {
        access: ClusterAccess::Kubeconfig { path: fake.kubeconfig.clone(), context: None },
        namespace: NAMESPACE.to_owned(),
        workload,
        port: 8080,
        timeout: Duration::from_secs(2),
    })
}

fn deployment(fake: &FakeCluster, replicas: u32) {
    let spec = json!({ "replicas": replicas, "selector": { "matchLabels": { "app": "web" } } });
    fake.store.change("deployments", "web", &json!({ "spec": spec }));
}

/// A pod of the workload, ready at an address.
fn pod(fake: &FakeCluster, name: &str, ip: &str, owner: (&str, &str), change: &Value) {
    let pod = json!({
        "metadata": {
            "labels": { "app": "web" },
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": owner.0, "name": owner.1, "uid": "u",
                "controller": true,
            }],
        },
        "spec": { "containers": [] },
        "status": {
            "phase": "Running", "podIP": ip,
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    });
    fake.store.change("pods", name, &pod);
    fake.store.change("pods", name, change);
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_pods_of_a_deployment_are_primaries_and_those_that_are_deleted_leave() {
    let fake = FakeCluster::good().await;
    deployment(&fake, 3);
    let owner = ("ReplicaSet", "web-7d9f");
    pod(&fake, "web-a", "10.0.0.1", owner, &json!({}));
    pod(&fake, "web-b", "10.0.0.2", owner, &json!({}));
    let stamp = json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } });
    pod(&fake, "web-c", "10.0.0.3", owner, &stamp);
    let unready = json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }] } });
    pod(&fake, "web-d", "10.0.0.4", owner, &unready);
    pod(&fake, "web-e", "10.0.0.5", owner, &json!({ "status": { "phase": "Failed" } }));
    // Others with its labels: a shadow that mirrors it, one of another workload, one of nobody.
    let shadow = json!({ "metadata": { "labels": { "foreshadow.dev/owner": "o" } } });
    pod(&fake, "foreshadow-o-i7", "10.0.0.6", owner, &shadow);
    pod(&fake, "other", "10.0.0.7", ("ReplicaSet", "webshop-1"), &json!({}));
    pod(&fake, "bare", "10.0.0.8", owner, &json!({ "metadata": { "ownerReferences": null } }));

    let scaler = scaler(&fake, Workload::Deployment("web".to_owned()));
    let found = scaler.look().await.unwrap();
    let wanted = Primaries {
        wanted: 3,
        ready: addresses(&["10.0.0.1:8080", "10.0.0.2:8080"]),
        leaving: addresses(&["10.0.0.3:8080"]),
    };
    assert_eq!(found, wanted);
    let scaled = scaler.scale(5).await.unwrap();
    assert_eq!(scaled, Primaries { wanted: 5, ..wanted });
    assert_eq!(fake.store.all("deployments")[0]["spec"]["replicas"], 5);
    assert_eq!(fake.store.count("PATCH deployment/scale"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_its_pods_is_heard() {
    let fake = FakeCluster::good().await;
    deployment(&fake, 1);
    pod(&fake, "web-a", "10.0.0.1", ("ReplicaSet", "web-7d9f"), &json!({}));
    let scaler = scaler(&fake, Workload::Deployment("web".to_owned()));
    scaler.look().await.unwrap();
    let heard = tokio::time::timeout(Duration::from_millis(300), scaler.changed()).await;
    assert!(heard.is_err(), "nothing has changed");
    let stamp = json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } });
    let (heard, ()) =
        tokio::join!(tokio::time::timeout(Duration::from_secs(20), scaler.changed()), async {
            fake.store.change("pods", "web-a", &stamp)
        });
    heard.expect("it is heard");
    assert_eq!(scaler.look().await.unwrap().leaving, addresses(&["10.0.0.1:8080"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statefulset_is_scaled_and_its_own_pods_count() {
    let fake = FakeCluster::good().await;
    let spec = json!({ "replicas": 1, "selector": { "matchLabels": { "app": "web" } } });
    fake.store.change("statefulsets", "db", &json!({ "spec": spec }));
    pod(&fake, "db-0", "10.0.0.1", ("StatefulSet", "db"), &json!({}));
    pod(&fake, "dbx-0", "10.0.0.2", ("StatefulSet", "dbx"), &json!({}));
    let scaler = scaler(&fake, Workload::StatefulSet("db".to_owned()));
    let ready = addresses(&["10.0.0.1:8080"]);
    assert_eq!(scaler.scale(2).await.unwrap(), Primaries { wanted: 2, ready, leaving: Vec::new() });
    assert_eq!(fake.store.all("statefulsets")[0]["spec"]["replicas"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_server_refuses_is_told_with_what_was_asked() {
    let fake = FakeCluster::start(Value::Null, |what, _| {
        let text = "deployments.apps \"web\" is forbidden: User \"u\" cannot patch resource \
                    \"deployments/scale\" in API group \"apps\"";
        (what == "PATCH deployment/scale").then(|| refused(403, "Forbidden", text))
    })
    .await;
    let of = |name: &str| scaler(&fake, Workload::Deployment(name.to_owned()));
    let told = |error: ProviderError| match error {
        ProviderError::Refused { cause, .. } => (cause, error.to_string()),
        other => panic!("{other}"),
    };
    let (cause, text) = told(of("nothing").look().await.unwrap_err());
    assert_eq!(cause, Cause::Absent);
    assert!(text.contains("to show the scale of deployment nothing: 404"), "{text}");
    deployment(&fake, 1);
    let (cause, text) = told(of("web").scale(3).await.unwrap_err());
    assert_eq!(cause, Cause::Denied);
    assert!(
        text.contains("to scale to 3 deployment web: 403") && text.contains("cannot patch"),
        "{text}"
    );
    assert_eq!(of("web").look().await.unwrap().wanted, 1);
}
