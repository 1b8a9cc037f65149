//! What goes wrong with a Kubernetes cluster, shown by a fake API server: each is told with what was
//! asked, what came back and what can be done, and nothing is left, doubled or killed that should not be.

#[path = "../support/mod.rs"]
mod support;

mod account;
mod claimed;
mod ending;
mod ends;
mod left;
mod owned;
mod steps;

use foreshadow_shadow::{Cause, ClusterAccess, KubernetesSpec, Provider as _};
use serde_json::{Value, json};
use support::fake_cluster::{FakeCluster, kubeconfig_text, refused, running, waiting};
use support::fake_engine::{Reply, refusal};
use support::request;

fn kubeconfig(fake: &FakeCluster, context: Option<&str>) -> ClusterAccess {
    let context = context.map(str::to_owned);
    ClusterAccess::Kubeconfig { path: fake.kubeconfig.clone(), context }
}

#[tokio::test]
async fn a_cluster_that_cannot_be_reached_is_named() {
    let fake = FakeCluster::start(running(), |_, _| None).await;
    let of = |access| fake.provider(KubernetesSpec { access, ..fake.spec() });
    let path = "/nowhere/config".into();
    let access = ClusterAccess::Kubeconfig { path, context: None };
    let (cause, text) = refusal(of(access).create(&request(1)).await);
    assert_eq!(cause, Cause::Absent);
    assert!(
        text.contains("namespace default of the cluster of /nowhere/config to take lease"),
        "{text}"
    );
    assert!(text.contains("/nowhere/config cannot be used"), "{text}");

    let (cause, text) = refusal(of(kubeconfig(&fake, Some("prod"))).create(&request(1)).await);
    assert_eq!(cause, Cause::Absent);
    assert!(
        text.contains("of context prod in ")
            && text.contains("failed to load current context: prod"),
        "{text}"
    );

    let (cause, text) = refusal(of(ClusterAccess::InCluster).create(&request(1)).await);
    assert_eq!(cause, Cause::Absent);
    assert!(text.contains("this is no pod with an account of a cluster"), "{text}");

    std::fs::write(&fake.kubeconfig, kubeconfig_text("http://127.0.0.1:1")).unwrap();
    let (cause, text) = refusal(of(kubeconfig(&fake, None)).create(&request(1)).await);
    assert_eq!(cause, Cause::Unreachable);
    assert!(text.contains("no whole answer: Connection refused"), "{text}");
    assert_eq!(fake.store.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn what_an_api_server_refuses_is_told_and_nothing_is_left() {
    let denied =
        "pods is forbidden: User \"shop\" cannot create resource \"pods\" in API group \"\"";
    let quota = "pods \"x\" is forbidden: exceeded quota: few, requested: pods=1, used: pods=8";
    let invalid = "Pod \"x\" is invalid: spec.containers[0].image: Required value";
    for (code, reason, message, wanted, remedy) in [
        (403, "Forbidden", denied, Cause::Denied, "give this account the right"),
        (403, "Forbidden", quota, Cause::Quota, "raise the quota or lower the pool's `max`"),
        (401, "Unauthorized", "Unauthorized", Cause::Denied, "or set the right token"),
        (
            404,
            "NotFound",
            "namespaces \"default\" not found",
            Cause::Absent,
            "correct the provider's settings",
        ),
        (422, "Invalid", invalid, Cause::Absent, "correct the provider's settings"),
        (429, "TooManyRequests", "slow down", Cause::Busy, "asked again after a pause"),
        (
            500,
            "InternalError",
            "etcdserver: mvcc: database space exceeded",
            Cause::DiskFull,
            "make room",
        ),
    ] {
        let fake = FakeCluster::start(running(), move |asked, _| {
            (asked == "POST pods").then(|| refused(code, reason, message))
        })
        .await;
        let (cause, text) = refusal(fake.provider(fake.spec()).create(&request(1)).await);
        assert_eq!(cause, wanted, "{text}");
        assert!(text.contains("to create pod foreshadow-"), "{text}");
        assert!(text.contains(&format!("{code}: {message}")) && text.contains(remedy), "{text}");
        assert_eq!(fake.store.all("pods"), Vec::<Value>::new());
    }
}

#[tokio::test]
async fn an_order_whose_answer_was_lost_is_undone() {
    for reply in [
        Reply::Hang,
        Reply::Raw(b"HTTP/1.1 200 OK\r\n\r\nnonsense".to_vec()),
        Reply::Raw(Vec::new()),
    ] {
        let fake = FakeCluster::start(running(), |_, _| None).await;
        let provider = fake.provider(fake.spec());
        fake.store.lose("POST pods", reply.clone());
        let (cause, text) = refusal(provider.create(&request(1)).await);
        assert!(
            matches!(cause, Cause::Late | Cause::Malformed | Cause::Unreachable),
            "{reply:?}: {text}"
        );
        assert_eq!(fake.store.count("DELETE pod"), 1, "{reply:?}");
        assert_eq!(fake.store.all("pods"), Vec::<Value>::new());
        provider.create(&request(2)).await.expect("it works as before");

        // What has the name and not our label is somebody else's.
        let provider = fake.provider(fake.spec());
        let name = fake.pod().replace("i2", "i3");
        fake.store.change("pods", &name, &json!({ "status": running() }));
        fake.store.lose("POST pods", reply.clone());
        refusal(provider.create(&request(3)).await);
        assert_eq!(fake.store.all("pods").len(), 2, "{reply:?}");
    }
}

#[tokio::test]
async fn what_keeps_a_pod_from_running_is_told_and_the_pod_taken_back() {
    let scheduler = "0/3 nodes are available: 3 Insufficient memory.";
    let unplaced = json!({
        "phase": "Pending",
        "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": scheduler,
        }],
    });
    let mut crashing = waiting("CrashLoopBackOff", "back-off 5m0s restarting failed container");
    crashing["containerStatuses"][0]["restartCount"] = 7.into();
    crashing["containerStatuses"][0]["lastState"] =
        json!({ "terminated": { "exitCode": 137, "reason": "OOMKilled" } });
    let mut starved = running();
    starved["phase"] = "Failed".into();
    starved["containerStatuses"][0]["state"] =
        json!({ "terminated": { "exitCode": 137, "reason": "OOMKilled" } });
    let pull = "Back-off pulling image \"shop:1\"";
    for (status, wanted, told, remedy) in [
        (unplaced, Cause::NoRoom, format!("Unschedulable: {scheduler}"), "add nodes, ask for less"),
        (
            waiting("ImagePullBackOff", pull),
            Cause::NotPulled,
            format!("container shadow of image shop:1 waits: ImagePullBackOff: {pull}"),
            "imagePullSecrets",
        ),
        (
            waiting("ErrImagePull", "pull access denied"),
            Cause::NotPulled,
            "ErrImagePull: pull access denied".to_owned(),
            "correct `image`",
        ),
        (
            waiting("CreateContainerConfigError", "secret \"shop\" not found"),
            Cause::Absent,
            "CreateContainerConfigError: secret \"shop\" not found".to_owned(),
            "correct the provider's settings",
        ),
        (
            crashing,
            Cause::Failed,
            "it ended 7 times, last with status 137: OOMKilled".to_owned(),
            "see its own log",
        ),
        (
            starved,
            Cause::Failed,
            "its pod failed: its container ended with status 137: OOMKilled; it wrote: last | words of".to_owned(),
            "see its own log",
        ),
        (
            json!({ "phase": "Pending" }),
            Cause::Late,
            "its container was not started, and no reason is given, within 500 ms".to_owned(),
            "raise `timeout`",
        ),
    ] {
        let fake = FakeCluster::start(status, |_, _| None).await;
        let (cause, text) = refusal(fake.provider(fake.spec()).create(&request(1)).await);
        assert_eq!(cause, wanted, "{text}");
        assert!(text.contains("to run pod foreshadow-"), "{text}");
        assert!(text.contains(&told) && text.contains(remedy), "{text}");
        assert_eq!(fake.store.all("pods"), Vec::<Value>::new(), "{text}");
    }
}
