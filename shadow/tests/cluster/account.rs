//! Commands that a kubeconfig has for credentials, and files that change.

use std::sync::Arc;

use foreshadow_control::ServiceName;
use foreshadow_shadow::{Cause, CreateRequest, KubernetesSpec, Provider as _};
use serde_json::{Value, json};

use crate::support::fake_cluster::{FakeCluster, running};
use crate::support::fake_engine::refusal;
use crate::support::request;

/// Has credentials come of a command of the shell from now on.
fn by_command(fake: &FakeCluster, script: &str) {
    let text = std::fs::read_to_string(&fake.kubeconfig).expect("it was written");
    let mut config: Value = serde_json::from_str(&text).expect("it is JSON");
    config["users"][0]["user"] = json!({ "exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", script],
        "env": [{ "name": "AWS_SECRET_ACCESS_KEY", "value": "hunter2" }],
        "interactiveMode": "IfAvailable",
    } });
    std::fs::write(&fake.kubeconfig, config.to_string()).expect("it can be written");
}

#[tokio::test]
async fn secrets_of_a_command_for_credentials_are_not_told() {
    for (script, told) in [
        (
            "echo token-hunter2; echo no session >&2; exit 3",
            "ended with exit status: 3; it complained of: no session",
        ),
        ("echo hunter2", "gives none that can be used"),
        ("echo '{token: hunter2'", "gives none that can be used"),
    ] {
        let fake = FakeCluster::start(running(), |_, _| None).await;
        by_command(&fake, script);
        let (cause, text) = refusal(fake.provider(fake.spec()).create(&request(1)).await);
        assert_eq!(cause, Cause::Denied, "{text}");
        assert!(text.contains(told) && !text.contains("hunter2"), "{text}");
    }
}

/// The runtime of this test has one thread: what holds that up holds up everything.
#[tokio::test]
async fn a_command_for_credentials_that_hangs_is_run_once_and_holds_nobody_up() {
    let fake = FakeCluster::start(running(), |_, _| None).await;
    let at = |name: &str| fake.dir.path().join(name);
    let credentials = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        "status": { "token": "t" },
    });
    by_command(
        &fake,
        &format!(
            "echo run >> {}; for _ in $(seq 400); do [ -e {} ] && break; sleep 0.05; done; echo '{credentials}'",
            at("runs").display(),
            at("go").display(),
        ),
    );
    let provider = Arc::new(fake.provider(KubernetesSpec { ..fake.spec() }));
    let mut creating = tokio::task::JoinSet::new();
    for id in 1..=3 {
        let provider = Arc::clone(&provider);
        let service = ServiceName::from(format!("s{id}").as_str());
        let request = CreateRequest { service, ..request(id) };
        creating.spawn(async move { provider.create(&request).await });
    }
    for made in creating.join_all().await {
        let (cause, text) = refusal(made);
        assert_eq!(cause, Cause::Late, "{text}");
        assert!(text.contains("no answer within 500 ms"), "{text}");
    }
    assert_eq!(std::fs::read_to_string(at("runs")).unwrap(), "run\n", "one at a time");
    std::fs::write(at("go"), "").unwrap();
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while let Err(error) = provider.create(&request(9)).await {
        assert!(tokio::time::Instant::now() < end, "{error}");
    }
}

#[tokio::test]
async fn a_cluster_that_has_moved_is_found_by_its_file() {
    let fake = FakeCluster::start(running(), |_, _| None).await;
    let provider = fake.provider(fake.spec());
    provider.create(&request(1)).await.unwrap();
    let next = FakeCluster::start(running(), |_, _| None).await;
    std::fs::copy(&next.kubeconfig, &fake.kubeconfig).unwrap();
    fake.stop();
    // The first call that reaches nobody looks at the file.
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while let Err(error) = provider.create(&request(2)).await {
        assert!(tokio::time::Instant::now() < end, "{error}");
    }
    assert_eq!(next.store.count("POST pods"), 1);
}
