//! Sizes, gates, words and usage of pods that run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use foreshadow_shadow::{
    Cause, CpuShare, Handle, KubernetesProvider, KubernetesSpec, PodImage, PodSource,
    Provider as _, ProviderError,
};
use serde_json::json;

use crate::claimed::{claiming, pool};
use crate::support::fake_cluster::{FakeCluster, refused, running, waiting};
use crate::support::fake_engine::{Reply, refusal};
use crate::support::{request, until};

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

fn condition(fake: &FakeCluster) -> Option<String> {
    let pod = fake.store.all("pods").remove(0);
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let ours = conditions.into_iter().find(|one| one["type"] == "foreshadow.dev/active");
    ours.map(|one| one["status"].as_str().expect("a condition has a status").to_owned())
}

/// A failover must not wait for the API: a shadow is reached by its own address.
#[tokio::test]
async fn the_way_to_serve_does_not_wait_for_an_api_server_that_is_away() {
    for reply in [refused(503, "ServiceUnavailable", "etcd is down"), Reply::Hang] {
        let away = Arc::new(AtomicBool::new(false));
        let (told, away_with) = (Arc::clone(&away), reply.clone());
        let fake = FakeCluster::start(running(), move |_, _| {
            told.load(Ordering::SeqCst).then(|| away_with.clone())
        })
        .await;
        fake.can_resize();
        let provider = sized(&fake);
        let made = provider.create(&request(1)).await.unwrap();
        provider.set_share(&made, CpuShare::Percent(10)).await.unwrap();
        away.store(true, Ordering::SeqCst);
        provider.set_share(&made, CpuShare::Unlimited).await.unwrap();
        provider.set_activated(&made, true).await.unwrap();
        away.store(false, Ordering::SeqCst);
        let limit = || {
            let pod = fake.store.all("pods").remove(0);
            pod["spec"]["containers"][0]["resources"]["limits"]["cpu"].clone()
        };
        until("it is given later", || {
            (condition(&fake).as_deref() == Some("True") && limit() == "1000m").then_some(())
        })
        .await;

        // The way back is strict, and nothing that was owed comes after it.
        away.store(true, Ordering::SeqCst);
        provider.set_activated(&made, true).await.unwrap();
        assert!(provider.set_activated(&made, false).await.is_err(), "{reply:?}");
        assert!(provider.set_share(&made, CpuShare::Percent(10)).await.is_err(), "{reply:?}");
        away.store(false, Ordering::SeqCst);
        provider.set_activated(&made, false).await.unwrap();
        let before = fake.store.count("PATCH pod/status");
        provider.destroy(&made, Duration::ZERO).await.unwrap();
        assert_eq!(fake.store.count("PATCH pod/status"), before);
    }
}

#[tokio::test]
async fn the_size_is_what_the_api_server_made_of_the_pod() {
    let fake = FakeCluster::start(running(), |_, _| None).await;
    fake.can_resize();
    fake.admit_with(json!({ "spec": { "containers": [{
        "name": "shadow",
        "resources": { "limits": { "cpu": "500m" }, "requests": { "cpu": "250m" } },
    }] } }));
    let provider = fake.provider(fake.spec());
    let made = provider.create(&request(1)).await.unwrap();
    assert!(provider.capabilities().resize, "a default of its namespace limits it");
    let state: serde_json::Value = serde_json::from_str(&made.state).unwrap();
    assert_eq!(state["size"], json!({ "request": 250, "limit": 500 }));
}

#[tokio::test]
async fn a_cluster_that_does_not_say_what_it_can_is_tried() {
    let fake = FakeCluster::start(running(), |asked, before| match asked {
        "GET discovery" => Some(refused(403, "Forbidden", "cannot get path \"/api/v1\"")),
        "PATCH pod/resize" if before > 0 => {
            Some(refused(404, "NotFound", "the server could not find the requested resource"))
        }
        _ => None,
    })
    .await;
    let provider = sized(&fake);
    let made = provider.create(&request(1)).await.unwrap();
    provider.set_share(&made, CpuShare::Percent(10)).await.unwrap();
    assert!(provider.capabilities().resize);
    assert!(is_unsupported(provider.set_share(&made, CpuShare::Percent(20)).await));
    assert!(!provider.capabilities().resize);
}

#[tokio::test]
async fn the_words_of_one_among_several_containers_are_those_of_the_one_that_serves() {
    let fake = FakeCluster::start(running(), |_, _| None).await;
    let sidecar = json!({ "spec": { "containers": [{ "name": "injected", "image": "side:1" }] } });
    fake.admit_with(sidecar);
    let provider = fake.provider(fake.spec());
    let made = provider.create(&request(1)).await.unwrap();
    assert_eq!(provider.diagnose(&made).await.last_lines, ["last", "words of"]);
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
    let measured_once = || (fake.store.count("GET measured") == 1).then_some(());
    assert_eq!(provider.usage(&made).await, foreshadow_shadow::Usage::default());
    until("it is asked", measured_once).await;
    assert_eq!(provider.usage(&made).await, foreshadow_shadow::Usage::default());
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
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let sample = provider.usage(&made).await.sample;
        if (sample.cpu_cores, sample.memory_bytes) == (Some(0.25), Some(64 << 20)) {
            break;
        }
        assert!(tokio::time::Instant::now() < end, "it is known in the end");
        tokio::task::yield_now().await;
    }
    assert_eq!(other.store.count("GET measured"), 1);
}

/// The runner of a shadow asks for it, and hears orders and ends again only when it has an answer.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_what_pods_use() {
    let fake =
        FakeCluster::start(running(), |asked, _| (asked == "GET measured").then_some(Reply::Hang))
            .await;
    let provider = fake.provider(fake.spec());
    let made = provider.create(&request(1)).await.unwrap();
    let begun = tokio::time::Instant::now();
    assert_eq!(provider.usage(&made).await, foreshadow_shadow::Usage::default());
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

/// A failover must not bring back what was rolled out of use.
#[tokio::test]
async fn a_rollout_makes_what_was_made_before_it_outdated() {
    for mirrors in [true, false] {
        let fake = FakeCluster::start(running(), |_, _| None).await;
        pool(&fake, 1);
        let containers = |image: &str| {
            let containers = json!([{ "name": "shadow", "image": image }]);
            json!({ "spec": { "template": { "spec": { "containers": containers } } } })
        };
        fake.store.change("deployments", "pool", &containers("shop:1"));
        let mirror =
            KubernetesSpec { pod: PodSource::Deployment("pool".to_owned()), ..fake.spec() };
        let provider = if mirrors { fake.provider(mirror.clone()) } else { claiming(&fake) };
        let made = provider.create(&request(1)).await.unwrap();
        assert!(!provider.is_outdated(&made).await);
        fake.store.change("deployments", "pool", &json!({ "spec": { "replicas": 7 } }));
        // Another one has not looked yet.
        let next = if mirrors { fake.provider(mirror.clone()) } else { claiming(&fake) };
        assert!(!next.is_outdated(&made).await, "more of the same");
        fake.store.change("deployments", "pool", &containers("shop:2"));
        let next = if mirrors { fake.provider(mirror) } else { claiming(&fake) };
        assert!(next.is_outdated(&made).await, "{mirrors}");
        fake.store.remove("deployments", "pool");
        let blind = claiming(&fake);
        assert!(!blind.is_outdated(&made).await, "who does not know does not replace");
    }
}
