//! What is ours, what is not, and what is not while another has the lease.

use std::time::Duration;

use foreshadow_control::InstanceId;
use foreshadow_shadow::{
    Cause, Facility, KubernetesProvider, KubernetesSpec, Provider as _, Sweep,
};
use serde_json::{Value, json};

use crate::support::fake_cluster::{FakeCluster, refused, running};
use crate::support::fake_engine::{Reply, refusal};
use crate::support::{host, request, until};

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

    drop(next);
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

/// A provider of what was copied with all that is in it, on the same machine.
fn copied(fake: &FakeCluster, dir: &std::path::Path) -> KubernetesProvider {
    std::fs::copy(fake.dir.path().join("name"), dir.join("name"))
        .expect("a provider was made there");
    KubernetesProvider::new(&host(dir, Facility::None), fake.spec())
}

#[tokio::test]
async fn a_copy_of_the_state_directory_on_the_same_machine_makes_and_ends_nothing() {
    let fake = FakeCluster::start(running(), |_, _| None).await;
    let provider = fake.provider(fake.spec());
    provider.sweep(&Sweep::default()).await.unwrap();
    let made = provider.create(&request(1)).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let copy = copied(&fake, dir.path());
    assert_eq!(copy.sweep(&Sweep::default()).await.unwrap(), 0);
    assert!(!copy.is_swept());
    let text = copy.create(&request(65)).await.unwrap_err().to_string();
    assert!(text.contains("has it, under the same name as this one"), "{text}");
    assert_eq!(fake.store.all("pods").len(), 1);
    let quiet = tokio::time::timeout(Duration::from_millis(50), provider.exited(&made)).await;
    assert!(quiet.is_err(), "it runs: {quiet:?}");

    // One that ends in good order is not waited for.
    provider.leave().await;
    copy.create(&request(65)).await.unwrap();
    let lease = fake.store.all("leases").remove(0);
    assert_ne!(lease["spec"]["holderIdentity"], "");
    assert_eq!(fake.store.count("DELETE pod"), 1, "what it does not know is nobody's");
}

/// A machine restored from its memory goes by the same name as the one that runs on.
#[tokio::test]
async fn a_lease_that_another_renews_under_our_name_is_not_ours() {
    let fake = FakeCluster::start(running(), |_, _| None).await;
    let provider = fake.provider(KubernetesSpec { lease: Duration::from_secs(1), ..fake.spec() });
    provider.create(&request(1)).await.unwrap();
    let name = fake.store.all("leases")[0]["metadata"]["name"].as_str().unwrap().to_owned();
    let store = std::sync::Arc::clone(&fake.store);
    let rival = tokio::spawn(async move {
        for micros in 0_u32.. {
            let time = format!("2026-01-01T00:00:00.{micros:06}Z");
            store.change("leases", &name, &json!({ "spec": { "renewTime": time } }));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    for id in 2.. {
        assert!(tokio::time::Instant::now() < end, "the copy is noticed");
        if let Err(error) = provider.create(&request(id)).await {
            assert!(error.to_string().contains("under the same name as this one"), "{error}");
            break;
        }
    }
    rival.abort();
}

#[tokio::test]
async fn a_lease_of_one_that_is_gone_is_asked_for_until_it_is_ours_and_then_it_is_cleaned_up() {
    let fake = FakeCluster::start(running(), |_, _| None).await;
    let provider = fake.provider(KubernetesSpec { lease: Duration::from_secs(1), ..fake.spec() });
    let owner = std::fs::read_to_string(fake.dir.path().join("name")).unwrap();
    let owner = owner.trim();
    fake.store.change("leases", &format!("foreshadow-{owner}"), &lease_of("the-pod-before"));
    let labels = json!({
        "foreshadow.dev/owner": owner, "foreshadow.dev/service": "shop",
        "foreshadow.dev/instance": "i7",
    });
    let left = json!({ "metadata": { "labels": labels }, "status": running() });
    fake.store.change("pods", "left-7", &left);
    let what = Sweep { keep: Vec::new(), lost: vec![InstanceId(7)] };
    assert_eq!(provider.sweep(&what).await.unwrap(), 0);
    until("the lease is ours", || provider.is_swept().then_some(())).await;
    assert_eq!(fake.store.all("pods"), Vec::<Value>::new());
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
