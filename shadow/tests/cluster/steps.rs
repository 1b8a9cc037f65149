//! Sizes, gates, words and usage of pods that run.

use foreshadow_shadow::{
    Cause, CpuShare, Handle, KubernetesProvider, KubernetesSpec, PodImage, PodSource,
    Provider as _, ProviderError,
};
use serde_json::json;

use crate::support::fake_cluster::{FakeCluster, refused, running, waiting};
use crate::support::fake_engine::{Reply, refusal};
use crate::support::request;

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
