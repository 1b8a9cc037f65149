//! Pods: the suite of all providers, and what only pods have, on a fake API server in the ordinary run
//! and on a real one by `make test-k8s`. The node is played by the test in both.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(
    clippy::print_stdout,
    reason = "what was left out, and how many schedules ran, is part of the result"
)]
#![allow(dead_code, reason = "the suite has parts for other providers")]

#[path = "../conformance/mod.rs"]
mod conformance;
#[path = "../support/mod.rs"]
mod support;

mod on_a_real_one;

use std::path::Path;
use std::time::Duration;

use conformance::subjects::opened;
use conformance::{crash, pods, steps};
use foreshadow_shadow::{CpuShare, KubernetesProvider, Provider as _};
use support::fake_cluster::FakeCluster;
use support::kubelet::Kubelet;
use support::request;

#[test]
fn role_entry() {
    if std::env::var(support::ROLE).as_deref() == Ok("crash") {
        return crash::crash();
    }
    support::play_role();
}

/// A state directory with the names of its cluster.
fn place(kubeconfig: &Path, namespace: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("kubeconfig"), kubeconfig.display().to_string()).unwrap();
    std::fs::write(dir.path().join("namespace"), namespace).unwrap();
    dir
}

mod on_a_fake {
    use super::*;

    struct Site {
        fake: FakeCluster,
        dir: tempfile::TempDir,
        _kubelet: Kubelet,
    }

    impl Site {
        async fn new() -> Self {
            let fake = FakeCluster::good().await;
            fake.can_resize();
            let namespace = support::fake_cluster::NAMESPACE;
            let dir = place(&fake.kubeconfig, namespace);
            let kubelet = Kubelet::start(&fake.kubeconfig, namespace, false);
            Self { fake, dir, _kubelet: kubelet }
        }

        async fn nothing_left(&self) {
            support::until("no pod is left", || {
                self.fake.store.all("pods").is_empty().then_some(())
            })
            .await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn carries_out_every_step() {
        let site = Site::new().await;
        steps::all(&*opened("kubernetes", site.dir.path())).await;
        site.nothing_left().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn survives_a_kill_in_every_step() {
        let site = Site::new().await;
        crash::killed_in_every_step("kubernetes", site.dir.path()).await;
        site.nothing_left().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn survives_a_drop_in_every_step() {
        let site = Site::new().await;
        crash::dropped_in_every_step("kubernetes", site.dir.path()).await;
        site.nothing_left().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_share_is_given_in_place_and_taken_back_to_full_size() {
        let site = Site::new().await;
        let host = conformance::subjects::plain_host(site.dir.path());
        let provider = KubernetesProvider::new(&host, pods::spec(site.dir.path()));
        let made = provider.create(&request(1)).await.unwrap();
        let limits = || {
            let pod = site.fake.store.all("pods").remove(0);
            let resources = &pod["spec"]["containers"][0]["resources"];
            (resources["requests"]["cpu"].clone(), resources["limits"]["cpu"].clone())
        };
        provider.set_share(&made, CpuShare::Percent(10)).await.unwrap();
        assert_eq!(limits(), ("100m".into(), "100m".into()));
        provider.set_share(&made, CpuShare::Unlimited).await.unwrap();
        assert_eq!(limits(), ("500m".into(), "500m".into()));
        provider.destroy(&made, Duration::ZERO).await.unwrap();
    }
}
