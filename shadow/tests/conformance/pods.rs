//! Pods under test: their API server is a fake or a real one, their node is played by the test.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use foreshadow_control::InstanceId;
use foreshadow_shadow::{
    ClusterAccess, KubernetesProvider, KubernetesSpec, PodImage, PodSource, Provider,
};

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;

use super::Subject;
use super::subjects::{end, ids, plain_host};
use crate::support::kubelet::client;
use crate::support::role;

/// Longest time until a node has told of an end.
const SEEN: Duration = Duration::from_secs(20);

/// Pods of the namespace and cluster that the files `kubeconfig` and `namespace` name.
pub(crate) struct Pods {
    pub(crate) dir: PathBuf,
    /// Whether their API server can resize them.
    pub(crate) resizes: bool,
}

/// The test's server as a pod.
pub(crate) fn spec(dir: &Path) -> KubernetesSpec {
    let state_dir = dir.display().to_string();
    let server = role("server", &[("STATE_DIR", &state_dir), ("INSTANCE", "{id}")]);
    let image = PodImage {
        image: "foreshadow-test/played:1".to_owned(),
        command: server.command,
        env: server.env,
        cpu_millis: Some(500),
        memory_bytes: Some(64 << 20),
    };
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).expect("the test wrote it");
    KubernetesSpec {
        access: ClusterAccess::Kubeconfig { path: read("kubeconfig").into(), context: None },
        namespace: read("namespace"),
        pod: PodSource::Image(image),
        ..KubernetesSpec::default()
    }
}

/// Waits until the pod of an instance, if it is there, has the status of one that ended.
async fn said_to_end(dir: &Path, namespace: &str, id: InstanceId) {
    let kubeconfig = std::fs::read_to_string(dir.join("kubeconfig")).expect("the test wrote it");
    let pods: Api<Pod> = Api::namespaced(client(Path::new(&kubeconfig)).await, namespace);
    let params = ListParams::default().labels(&format!("foreshadow.dev/instance={id}"));
    let end = Instant::now() + SEEN;
    loop {
        let listed = pods.list(&params).await.expect("pods can be listed");
        let phase = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone());
        if listed.items.iter().all(|pod| phase(pod).is_some_and(|phase| phase != "Running")) {
            return;
        }
        assert!(Instant::now() < end, "its node is silent of {id}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Subject for Pods {
    fn provider(&self) -> Arc<dyn Provider> {
        Arc::new(KubernetesProvider::new(&plain_host(&self.dir), spec(&self.dir)))
    }

    fn running(&self) -> Vec<InstanceId> {
        ids(&self.dir)
    }

    fn kill(&self, id: InstanceId) {
        end(&self.dir, id);
        // It ended when its node says so: before, nobody can know.
        let (dir, spec) = (self.dir.clone(), spec(&self.dir));
        let told = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(said_to_end(&dir, &spec.namespace, id));
        });
        told.join().expect("its node tells of its end");
    }

    fn isolates(&self) -> bool {
        true
    }

    fn resizes(&self) -> bool {
        self.resizes
    }
}
