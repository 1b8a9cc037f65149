//! What is ours, what is not, and what is not while another has the lease.

use std::time::Duration;

use foreshadow_control::InstanceId;
use foreshadow_shadow::{Cause, KubernetesSpec, Provider as _, Sweep};
use serde_json::{Value, json};

use crate::support::fake_cluster::{FakeCluster, refused, running};
use crate::support::fake_engine::{Reply, refusal};
use crate::support::request;

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
