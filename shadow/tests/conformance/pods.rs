//! Pods under test: their API server is a fake or a real one, their node is played by the test.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use foreshadow_control::InstanceId;
use foreshadow_shadow::{
    ClusterAccess, KubernetesProvider, KubernetesSpec, PodImage, PodSource, Provider,
};

use super::Subject;
use super::subjects::{end, ids, plain_host};
use crate::support::role;

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

impl Subject for Pods {
    fn provider(&self) -> Arc<dyn Provider> {
        Arc::new(KubernetesProvider::new(&plain_host(&self.dir), spec(&self.dir)))
    }

    fn running(&self) -> Vec<InstanceId> {
        ids(&self.dir)
    }

    fn kill(&self, id: InstanceId) {
        end(&self.dir, id);
    }

    fn isolates(&self) -> bool {
        true
    }

    fn resizes(&self) -> bool {
        self.resizes
    }
}
