//! On the API server of `make test-k8s`, whose node is played by the test.

use std::path::PathBuf;
use std::time::Duration;

use foreshadow_shadow::{
    Cause, ClusterAccess, KubernetesProvider, KubernetesSpec, PodSource, Provider as _,
    Scaler as _, Workload, WorkloadScaler, WorkloadSpec,
};
use k8s_openapi::api::core::v1::{Endpoints, Namespace, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};

use crate::conformance::subjects::{opened, plain_host};
use crate::conformance::{crash, pods, steps};
use crate::place;
use crate::support::fake_engine::refusal;
use crate::support::kubelet::{self, Kubelet, client};
use crate::support::request;

/// A namespace of its own on the API server of `make test-k8s`.
struct Site {
    kubeconfig: PathBuf,
    namespace: String,
    client: kube::Client,
    dir: tempfile::TempDir,
    _kubelet: Kubelet,
}

impl Site {
    async fn new() -> Self {
        let kubeconfig = std::env::var("FORESHADOW_TEST_KUBECONFIG");
        let kubeconfig: PathBuf = kubeconfig.expect("run it by make test-k8s").into();
        println!("the kubelet is PLAYED by the test: it writes the status of pods itself");
        let client = client(&kubeconfig).await;
        let namespace = format!("test-{}", std::process::id());
        let all: Api<Namespace> = Api::all(client.clone());
        let body = json!({ "metadata": { "name": namespace } });
        all.create(&PostParams::default(), &serde_json::from_value(body).unwrap()).await.unwrap();
        let dir = place(&kubeconfig, &namespace);
        let kubelet = Kubelet::start(&kubeconfig, &namespace, true);
        Self { kubeconfig, namespace, client, dir, _kubelet: kubelet }
    }

    fn provider(&self, change: impl FnOnce(&mut KubernetesSpec)) -> KubernetesProvider {
        let host = plain_host(self.dir.path());
        let mut spec = pods::spec(self.dir.path());
        change(&mut spec);
        KubernetesProvider::new(&host, spec)
    }

    async fn make(&self, path: &str, object: Value) {
        let uri = path.replace("NS", &self.namespace);
        let body = serde_json::to_vec(&object).unwrap();
        let request = hyper::Request::post(uri).header("Content-Type", "application/json");
        self.client.request::<Value>(request.body(body).unwrap()).await.unwrap();
    }

    async fn pods(&self) -> Vec<Pod> {
        let all: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        all.list(&ListParams::default()).await.unwrap().items
    }

    /// Waits for what must come about on the server.
    async fn until<F: Future<Output = bool>>(&self, what: &str, look: impl Fn() -> F) {
        let end = std::time::Instant::now() + Duration::from_secs(30);
        while !look().await {
            assert!(std::time::Instant::now() < end, "never came about: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn finish(self) {
        self.until("no pod is left", || async { self.pods().await.is_empty() }).await;
        let all: Api<Namespace> = Api::all(self.client.clone());
        all.delete(&self.namespace, &DeleteParams::default()).await.unwrap();
    }
}

const REAL: &str = "needs an API server: make test-k8s";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an API server: make test-k8s"]
async fn carries_out_every_step() {
    let site = Site::new().await;
    steps::all(&*opened("kubernetes-old", site.dir.path())).await;
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an API server: make test-k8s"]
async fn survives_a_kill_in_every_step() {
    let site = Site::new().await;
    crash::killed_in_every_step("kubernetes-old", site.dir.path()).await;
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an API server: make test-k8s"]
async fn survives_a_drop_in_every_step() {
    let site = Site::new().await;
    crash::dropped_in_every_step("kubernetes-old", site.dir.path()).await;
    site.finish().await;
}

/// The endpoints controller is a real one: it goes by the readiness that the gate decides.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an API server: make test-k8s"]
async fn a_service_of_the_cluster_meets_a_shadow_only_while_it_is_activated() {
    let site = Site::new().await;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "shop" },
        "spec": { "selector": { "app": "shop" }, "ports": [{ "port": 80, "targetPort": 8080 }] },
    });
    site.make("/api/v1/namespaces/NS/services", service).await;
    let endpoints: Api<Endpoints> = Api::namespaced(site.client.clone(), &site.namespace);
    let met = || async {
        let found = endpoints.get_opt("shop").await.unwrap();
        let subsets = found.and_then(|found| found.subsets).unwrap_or_default();
        let count = |all: Option<Vec<_>>| all.map_or(0, |all| all.len());
        let each = subsets.into_iter();
        each.fold((0, 0), |(ready, not), one| {
            (ready + count(one.addresses), not + count(one.not_ready_addresses))
        })
    };
    let provider = site.provider(|spec| {
        spec.labels.insert("app".to_owned(), "shop".to_owned());
        spec.pod = PodSource::Template(json!({
            "metadata": { "annotations": { kubelet::ADDRESS: "10.7.7.7" } },
            "spec": { "containers": [{
                "name": "shop", "image": "shop:1", "command": ["sleep", "{port}"],
            }] },
        }));
    });
    let made = provider.create(&request(1)).await.unwrap();
    assert_eq!(made.address, "10.7.7.7:8080".parse().unwrap());
    site.until("it is known and not met", || async { met().await == (0, 1) }).await;
    for _ in 0..2 {
        provider.set_activated(&made, true).await.unwrap();
    }
    site.until("it is met", || async { met().await == (1, 0) }).await;
    provider.set_activated(&made, false).await.unwrap();
    site.until("it is not met any more", || async { met().await == (0, 1) }).await;
    provider.destroy(&made, Duration::ZERO).await.unwrap();
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an API server: make test-k8s"]
async fn what_the_cluster_refuses_is_told_in_its_own_words() {
    let site = Site::new().await;
    let provider = site.provider(|spec| {
        let PodSource::Image(image) = &mut spec.pod else { panic!() };
        image.cpu_millis = Some(1_000_000);
        spec.schedule_timeout = Duration::from_secs(5);
    });
    let (cause, text) = refusal(provider.create(&request(1)).await);
    assert_eq!(cause, Cause::NoRoom, "{text}");
    assert!(text.contains("Unschedulable: 0/1 nodes are available"), "{text}");
    assert!(text.contains("Insufficient cpu"), "{text}");
    site.until("it is taken back", || async { site.pods().await.is_empty() }).await;

    let provider = site.provider(|spec| {
        let path = std::env::var("FORESHADOW_TEST_KUBECONFIG_LIMITED").expect(REAL).into();
        spec.access = foreshadow_shadow::ClusterAccess::Kubeconfig { path, context: None };
    });
    let (cause, text) = refusal(provider.create(&request(2)).await);
    assert_eq!(cause, Cause::Denied, "{text}");
    assert!(text.contains("User \"limited\" cannot"), "{text}");

    let provider = site.provider(|spec| spec.namespace = "nowhere".to_owned());
    let (cause, text) = refusal(provider.create(&request(3)).await);
    assert_eq!(cause, Cause::Absent, "{text}");
    assert!(text.contains("namespaces \"nowhere\" not found"), "{text}");

    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "few" },
        "spec": { "hard": { "pods": "1" } },
    });
    site.make("/api/v1/namespaces/NS/resourcequotas", quota).await;
    let provider = site.provider(|_| {});
    // The controller counts first; until then nothing at all may be made.
    site.until("the quota is counted", || async {
        let path = format!("/api/v1/namespaces/{}/resourcequotas/few", site.namespace);
        let asked = hyper::Request::get(path).body(Vec::new()).unwrap();
        let quota: Value = site.client.request(asked).await.unwrap();
        quota["status"]["hard"]["pods"] == "1"
    })
    .await;
    let made = provider.create(&request(4)).await.unwrap();
    let (cause, text) = refusal(provider.create(&request(5)).await);
    assert_eq!(cause, Cause::Quota, "{text}");
    assert!(text.contains("exceeded quota: few, requested: pods=1, used: pods=1"), "{text}");
    provider.destroy(&made, Duration::ZERO).await.unwrap();
    site.finish().await;
}

/// The controllers are real: a ReplicaSet takes what it owns, and not what is ours.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an API server: make test-k8s"]
async fn a_deployment_is_mirrored_and_does_not_take_its_shadows() {
    let site = Site::new().await;
    let PodSource::Image(image) = pods::spec(site.dir.path()).pod else { panic!() };
    let env: Vec<Value> = image
        .env
        .iter()
        .chain(&[("PORT".to_owned(), "8080".to_owned())])
        .map(|(name, value)| json!({ "name": name, "value": value }))
        .collect();
    let labels = json!({ "app": "shop" });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "shop" },
        "spec": {
            "replicas": 1, "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": { "containers": [{
                "name": "shop", "image": "shop:1", "command": image.command, "env": env,
            }] } },
        },
    });
    site.make("/apis/apps/v1/namespaces/NS/deployments", deployment).await;
    site.until("the primary runs", || async {
        let all = site.pods().await;
        all.iter().any(|pod| pod.status.as_ref().is_some_and(|s| s.pod_ip.is_some()))
    })
    .await;
    let provider = site.provider(|spec| spec.pod = PodSource::Deployment("shop".to_owned()));
    let made = provider.create(&request(1)).await.unwrap();
    assert!(!provider.capabilities().resize, "nothing limits its processor time");
    let all = site.pods().await;
    assert_eq!(all.len(), 2, "the Deployment keeps its own: {all:?}");
    let ours = all.iter().find(|pod| {
        pod.metadata.name.as_deref().is_some_and(|name| name.starts_with("foreshadow-"))
    });
    let ours = ours.expect("the shadow is there");
    assert_eq!(ours.metadata.labels.as_ref().unwrap()["app"], "shop");
    assert_eq!(ours.metadata.owner_references, None);
    assert_eq!(ours.spec.as_ref().unwrap().containers[0].image.as_deref(), Some("shop:1"));
    provider.destroy(&made, Duration::ZERO).await.unwrap();
    assert_eq!(site.pods().await.len(), 1);
    let path = format!("/apis/apps/v1/namespaces/{}/deployments/shop", site.namespace);
    let asked = hyper::Request::delete(path).body(Vec::new()).unwrap();
    site.client.request::<Value>(asked).await.unwrap();
    site.finish().await;
}

/// The ReplicaSet controller is a real one: it lets go of what is taken and makes another.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an API server: make test-k8s"]
async fn pods_are_taken_out_of_a_deployment_which_makes_others_in_their_place() {
    let site = Site::new().await;
    let labels = json!({ "app": "pool" });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "pool" },
        "spec": {
            "replicas": 2, "selector": { "matchLabels": labels }, "strategy": { "type": "Recreate" },
            "template": { "metadata": { "labels": labels }, "spec": {
                "readinessGates": [{ "conditionType": "foreshadow.dev/active" }],
                "containers": [{ "name": "shop", "image": "shop:1", "command": ["sleep", "900"] }],
            } },
        },
    });
    site.make("/apis/apps/v1/namespaces/NS/deployments", deployment).await;
    let provider = site.provider(|spec| spec.pod = PodSource::Claim("pool".to_owned()));
    let made = provider.create(&request(1)).await.unwrap();
    let spares = || async {
        let all = site.pods().await;
        let owned = |pod: &&Pod| pod.metadata.owner_references.is_some();
        (all.len(), all.iter().filter(owned).count())
    };
    site.until("another is there in its place", || async { spares().await == (3, 2) }).await;
    provider.set_activated(&made, true).await.unwrap();
    provider.destroy(&made, Duration::ZERO).await.unwrap();
    assert_eq!(spares().await, (2, 2));
    let path = format!("/apis/apps/v1/namespaces/{}/deployments/pool", site.namespace);
    let asked = hyper::Request::delete(path).body(Vec::new()).unwrap();
    site.client.request::<Value>(asked).await.unwrap();
    site.finish().await;
}

/// Another holder's lease, on a server that keeps two writers apart.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an API server: make test-k8s"]
async fn a_lease_of_another_keeps_from_making_and_is_taken_over_when_it_runs_out() {
    let site = Site::new().await;
    let name = std::fs::read_to_string(site.dir.path().join("name"));
    let provider = site.provider(|spec| spec.lease = Duration::from_secs(1));
    let owner = name.or_else(|_| std::fs::read_to_string(site.dir.path().join("name"))).unwrap();
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": format!("foreshadow-{}", owner.trim()) },
        "spec": { "holderIdentity": "another", "leaseDurationSeconds": 2 },
    });
    site.make("/apis/coordination.k8s.io/v1/namespaces/NS/leases", lease).await;
    let (cause, text) = refusal(provider.create(&request(1)).await);
    assert_eq!(cause, Cause::NotOwned, "{text}");
    assert!(text.contains("another has it, under the same name as this one"), "{text}");
    let end = std::time::Instant::now() + Duration::from_secs(20);
    let made = loop {
        match provider.create(&request(1)).await {
            Ok(made) => break made,
            Err(error) => assert!(std::time::Instant::now() < end, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    provider.destroy(&made, Duration::ZERO).await.unwrap();
    site.finish().await;
}

/// The Deployment's controllers are real: what is asked of its scale is made and ended by them.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an API server: make test-k8s"]
async fn a_deployment_is_scaled_and_its_ready_pods_are_primaries() {
    let site = Site::new().await;
    let labels = json!({ "app": "web" });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": {
            "replicas": 1, "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": { "containers": [{
                "name": "shop", "image": "shop:1", "command": ["sleep", "900"],
            }] } },
        },
    });
    site.make("/apis/apps/v1/namespaces/NS/deployments", deployment).await;
    let scaler = |kubeconfig: PathBuf| {
        WorkloadScaler::new(WorkloadSpec {
            access: ClusterAccess::Kubeconfig { path: kubeconfig, context: None },
            namespace: site.namespace.clone(),
            workload: Workload::Deployment("web".to_owned()),
            port: 8080,
            timeout: Duration::from_secs(5),
        })
    };
    let web = scaler(site.kubeconfig.clone());
    let ready = || async { web.look().await.unwrap().ready.len() };
    site.until("the first is ready", || async { ready().await == 1 }).await;
    let asked = web.scale(3).await.unwrap();
    assert_eq!(asked.wanted, 3, "at once");
    let heard = tokio::time::timeout(Duration::from_secs(30), web.changed()).await;
    heard.expect("new pods are heard of");
    site.until("three are ready", || async { ready().await == 3 }).await;
    let found = web.look().await.unwrap();
    assert!(found.ready.iter().all(|address| address.port() == 8080), "{found:?}");
    assert_eq!(web.scale(1).await.unwrap().wanted, 1);
    site.until("one is left", || async {
        let found = web.look().await.unwrap();
        (found.wanted, found.ready.len(), found.leaving.len()) == (1, 1, 0)
    })
    .await;
    let path = std::env::var("FORESHADOW_TEST_KUBECONFIG_LIMITED").expect(REAL).into();
    let refused = scaler(path).scale(2).await.unwrap_err().to_string();
    assert!(refused.contains("User \"limited\" cannot"), "{refused}");
    let path = format!("/apis/apps/v1/namespaces/{}/deployments/web", site.namespace);
    let asked = hyper::Request::delete(path).body(Vec::new()).unwrap();
    site.client.request::<Value>(asked).await.unwrap();
    site.finish().await;
}
