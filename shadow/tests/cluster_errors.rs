//! What goes wrong with a Kubernetes cluster, shown by a fake API server: each is told with what was
//! asked, what came back and what can be done, and nothing is left, doubled or killed that should not be.

mod support;

use std::time::Duration;

use foreshadow_control::InstanceId;
use foreshadow_shadow::{
    Cause, ClusterAccess, CpuShare, Handle, KubernetesProvider, KubernetesSpec, PodImage,
    PodSource, Provider as _, ProviderError, Sweep,
};
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
async fn what_is_not_ours_is_neither_taken_nor_ended() {
    let fake = FakeCluster::start(running(), |_, _| None).await;
    let provider = fake.provider(fake.spec());
    let made = provider.create(&request(1)).await.unwrap();
    let name = fake.pod();

    // Another pod has the name by now: it is not the one that was made.
    fake.store.change("pods", &name, &json!({ "metadata": { "uid": "another" } }));
    provider.destroy(&made, Duration::ZERO).await.unwrap();
    assert_eq!(fake.store.all("pods").len(), 1, "another of its name stays");

    // And one without our label keeps a name from being given.
    let labels = json!({ "metadata": { "labels": { "foreshadow.dev/owner": "somebody" } } });
    fake.store.change("pods", &name, &labels);
    let (cause, text) = refusal(provider.create(&request(1)).await);
    assert_eq!(cause, Cause::Conflict, "{text}");
    assert!(
        text.contains("already exists") && text.contains("remove or rename what has it"),
        "{text}"
    );
    assert_eq!(fake.store.all("pods")[0]["metadata"]["uid"], "another");
}

fn lease_of(holder: &str) -> Value {
    json!({ "spec": { "holderIdentity": holder, "leaseDurationSeconds": 1 } })
}

#[tokio::test]
async fn a_lost_lease_stops_making_and_cleaning_and_kills_nothing() {
    let fake = FakeCluster::start(running(), |_, _| None).await;
    let provider = fake.provider(KubernetesSpec { lease: Duration::from_secs(1), ..fake.spec() });
    provider.sweep(&Sweep::default()).await.unwrap();
    let made = provider.create(&request(1)).await.unwrap();
    let lease = fake.store.all("leases").remove(0);
    let name = lease["metadata"]["name"].as_str().unwrap().to_owned();
    let me = lease["spec"]["holderIdentity"].as_str().unwrap().to_owned();
    assert!(me.len() > 36, "a machine and its boot: {me}");
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 1);

    // Another takes it, with good reason or none, and goes on renewing.
    let store = std::sync::Arc::clone(&fake.store);
    let of = name.clone();
    let rival = tokio::spawn(async move {
        loop {
            store.change("leases", &of, &lease_of("another"));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let lost = tokio::time::Instant::now() + Duration::from_secs(20);
    let (cause, text) = loop {
        let asked = provider.create(&request(2)).await;
        match asked {
            Err(_) => break refusal(asked),
            Ok(other) => provider.destroy(&other, Duration::ZERO).await.unwrap(),
        }
        assert!(tokio::time::Instant::now() < lost, "the loss is seen");
    };
    assert_eq!(cause, Cause::NotOwned, "{text}");
    assert!(text.contains(&format!("to take lease {name}: another has it")), "{text}");
    assert!(text.contains("what runs goes on"), "{text}");

    // A start with nothing to keep would end it, if it owned it.
    let next = fake.provider(KubernetesSpec { lease: Duration::from_secs(1), ..fake.spec() });
    assert_eq!(next.sweep(&Sweep::default()).await.unwrap(), 0);
    assert!(!next.is_swept());
    assert_eq!(fake.store.all("pods").len(), 1, "it is not killed");
    let quiet = tokio::time::timeout(Duration::from_millis(50), provider.exited(&made)).await;
    assert!(quiet.is_err(), "it runs: {quiet:?}");

    // It is silent from now on: its lease runs out, and is taken over.
    rival.abort();
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    while let Err(error) = provider.create(&request(3)).await {
        assert!(tokio::time::Instant::now() < end, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let lease = fake.store.all("leases").remove(0);
    assert_eq!(lease["spec"]["holderIdentity"], me);
    assert!(lease["spec"]["leaseTransitions"].as_i64().unwrap() >= 1);
}

#[tokio::test]
async fn two_that_ask_for_a_lease_at_the_same_moment_do_not_both_get_it() {
    let fake = FakeCluster::start(running(), |asked, before| match (asked, before) {
        ("POST leases", 0) => Some(refused(409, "AlreadyExists", "leases already exists")),
        ("PUT lease", 0) => Some(refused(409, "Conflict", "the object has been modified")),
        _ => None,
    })
    .await;
    let provider = fake.provider(fake.spec());
    let (cause, text) = refusal(provider.create(&request(1)).await);
    assert_eq!(cause, Cause::NotOwned);
    assert!(text.contains("another foreshadow took it at the same moment"), "{text}");
    assert_eq!(fake.store.count("POST pods"), 0);
    provider.create(&request(1)).await.expect("then it is free");
}

fn sized(fake: &FakeCluster) -> KubernetesProvider {
    let image = "shop:1".to_owned();
    let image = PodImage { image, cpu_millis: Some(1_000), ..PodImage::default() };
    fake.provider(KubernetesSpec { pod: PodSource::Image(image), ..fake.spec() })
}

fn is_unsupported(outcome: Result<(), ProviderError>) -> bool {
    matches!(outcome, Err(ProviderError::Unsupported { operation: "resize", .. }))
}

#[tokio::test]
async fn sizes_stay_where_the_api_server_or_the_pod_has_no_means_for_it() {
    let fake = FakeCluster::start(running(), |_, _| None).await;
    let provider = sized(&fake);
    let made = provider.create(&request(1)).await.unwrap();
    assert!(!provider.capabilities().resize, "before 1.33");
    assert!(is_unsupported(provider.set_share(&made, CpuShare::Percent(10)).await));
    assert_eq!(fake.store.count("GET discovery"), 1, "it is asked once");

    let fake = FakeCluster::start(running(), |_, _| None).await;
    fake.can_resize();
    let provider = fake.provider(fake.spec());
    let made = provider.create(&request(1)).await.unwrap();
    assert!(!provider.capabilities().resize, "no limit to go back to");
    assert!(is_unsupported(provider.set_share(&made, CpuShare::Percent(10)).await));
    assert_eq!(fake.store.count("PATCH pod/resize"), 0);
}

#[tokio::test]
async fn a_node_without_room_for_full_size_is_quoted() {
    let fake = FakeCluster::start(running(), |_, _| None).await;
    fake.can_resize();
    let provider = sized(&fake);
    let made = provider.create(&request(1)).await.unwrap();
    assert!(provider.capabilities().resize);
    provider.set_share(&made, CpuShare::Percent(10)).await.unwrap();
    let pod = fake.store.all("pods").remove(0);
    let amounts = &pod["spec"]["containers"][0]["resources"];
    assert_eq!(*amounts, json!({ "requests": { "cpu": "100m" }, "limits": { "cpu": "100m" } }));
    let pending = json!({ "status": {
        "conditions": [{
            "type": "PodResizePending", "status": "True", "reason": "Deferred",
            "message": "Node didn't have enough resource: cpu",
        }],
        "containerStatuses": [{
            "name": "shadow", "image": "shop:1", "imageID": "", "ready": true, "restartCount": 0,
            "state": { "running": {} }, "resources": { "limits": { "cpu": "100m" } },
        }],
    } });
    fake.store.change("pods", &fake.pod(), &pending);
    let (cause, text) = refusal(provider.set_share(&made, CpuShare::Unlimited).await);
    assert_eq!(cause, Cause::NoRoom, "{text}");
    assert!(
        text.contains("1000m of processor time: its node leaves it at 100m: Deferred: Node didn't"),
        "{text}"
    );
}

#[tokio::test]
async fn the_gate_is_opened_and_closed_and_a_refusal_says_which_right_is_missing() {
    let denied = "pods \"x\" is forbidden: User \"shop\" cannot patch resource \"pods/status\"";
    let fake = FakeCluster::start(running(), move |asked, before| {
        (asked == "PATCH pod/status" && before == 2).then(|| refused(403, "Forbidden", denied))
    })
    .await;
    let provider = fake.provider(fake.spec());
    let made = provider.create(&request(1)).await.unwrap();
    let gate = || {
        let pod = fake.store.all("pods").remove(0);
        assert_eq!(pod["spec"]["readinessGates"][0]["conditionType"], "foreshadow.dev/active");
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ours = conditions.into_iter().find(|one| one["type"] == "foreshadow.dev/active");
        ours.map(|one| one["status"].as_str().unwrap().to_owned())
    };
    assert_eq!(gate(), None, "absent is closed");
    provider.set_activated(&made, true).await.unwrap();
    assert_eq!(gate().as_deref(), Some("True"));
    provider.set_activated(&made, false).await.unwrap();
    assert_eq!(gate().as_deref(), Some("False"));
    let (cause, text) = refusal(provider.set_activated(&made, true).await);
    assert_eq!(cause, Cause::Denied);
    assert!(text.contains("to open the gate of pod") && text.contains("pods/status"), "{text}");
}

#[tokio::test]
async fn one_that_is_not_ready_says_why_and_what_it_wrote() {
    let fake = FakeCluster::start(running(), |_, _| None).await;
    let provider = fake.provider(fake.spec());
    let made = provider.create(&request(1)).await.unwrap();
    let lines = provider.diagnose(&made).await.last_lines;
    assert_eq!(lines, ["last", "words of"]);
    let status = waiting("CrashLoopBackOff", "back-off");
    fake.store.change("pods", &fake.pod(), &json!({ "status": status }));
    let lines = provider.diagnose(&made).await.last_lines;
    assert!(lines[0].contains("waits: CrashLoopBackOff: back-off; see its own log"), "{lines:?}");
    let other = Handle { state: "{}".to_owned(), ..made };
    assert!(provider.diagnose(&other).await.last_lines[0].contains("not written by this kind"));
}

#[tokio::test]
async fn usage_is_read_where_the_cluster_measures_and_asked_for_seldom() {
    let measured = |name: &str| {
        json!({ "items": [{ "metadata": { "name": name }, "containers": [
            { "name": "shadow", "usage": { "cpu": "250m", "memory": "64Mi" } },
        ] }] })
    };
    let fake = FakeCluster::start(running(), |asked, _| {
        (asked == "GET measured").then(|| refused(404, "NotFound", "the server could not find it"))
    })
    .await;
    let provider = fake.provider(fake.spec());
    let made = provider.create(&request(1)).await.unwrap();
    for _ in 0..3 {
        assert_eq!(provider.usage(&made).await, foreshadow_shadow::Usage::default());
    }
    assert_eq!(fake.store.count("GET measured"), 1);

    let name = std::fs::read_to_string(fake.dir.path().join("name")).unwrap();
    let text = measured(&format!("foreshadow-{}-i1", name.trim())).to_string();
    let other = FakeCluster::start(running(), move |asked, _| {
        (asked == "GET measured").then(|| Reply::Json(200, text.clone()))
    })
    .await;
    std::fs::write(other.dir.path().join("name"), name).unwrap();
    let provider = other.provider(other.spec());
    let made = provider.create(&request(1)).await.unwrap();
    for _ in 0..3 {
        let sample = provider.usage(&made).await.sample;
        assert_eq!((sample.cpu_cores, sample.memory_bytes), (Some(0.25), Some(64 << 20)));
    }
    assert_eq!(other.store.count("GET measured"), 1);
}

#[tokio::test]
async fn a_start_waits_for_no_cluster_and_makes_nothing_before_it_has_looked() {
    let fake = FakeCluster::start(running(), |asked, before| match asked {
        "GET pods" if before < 3 => Some(Reply::Hang),
        _ => None,
    })
    .await;
    let provider = fake.provider(fake.spec());
    fake.store.change("pods", "foreshadow-left", &json!({
        "metadata": { "labels": {
            "foreshadow.dev/owner": std::fs::read_to_string(fake.dir.path().join("name")).unwrap().trim(),
            "foreshadow.dev/instance": "i9", "foreshadow.dev/service": "shop",
        } },
        "status": running(),
    }));
    let begun = tokio::time::Instant::now();
    assert_eq!(
        provider.sweep(&Sweep { keep: Vec::new(), lost: vec![InstanceId(9)] }).await.unwrap(),
        0
    );
    assert!(begun.elapsed() < Duration::from_secs(10), "a start does not hang");
    assert!(!provider.is_swept());
}

/// A Deployment whose pods wait to be taken, as `pods` of them run.
fn pool(fake: &FakeCluster, pods: usize) {
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
        let owner = json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "pool-1", "uid": "r", "controller": true });
        let pod = json!({
            "metadata": {
                "labels": { "app": "pool", "pod-template-hash": "1" }, "ownerReferences": [owner],
            },
            "spec": { "containers": [{ "name": "shadow", "image": "shop:1" }] },
            "status": running(),
        });
        fake.store.change("pods", &format!("pool-1-{number}"), &pod);
    }
}

fn claiming(fake: &FakeCluster) -> KubernetesProvider {
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
