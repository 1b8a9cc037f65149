//! A real node in front of the backends.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use foreshadow_testbed::node;
use serde_json::Value;

/// A running node. It ends with this value.
pub(crate) struct Node {
    running: node::Node,
    listeners: Vec<SocketAddr>,
    // Removed after the node has ended, when this is dropped.
    _state: tempfile::TempDir,
}

/// A service of the node: its name, backend and objective.
pub(crate) struct Service {
    pub(crate) name: &'static str,
    pub(crate) backend: SocketAddr,
    pub(crate) objective_ms: f64,
}

impl Node {
    /// Starts `program` with a listener for each service and waits until it is ready.
    ///
    /// # Errors
    /// When it cannot be started, ends, or is not ready within a minute.
    pub(crate) fn start(program: &Path, services: &[Service]) -> anyhow::Result<Self> {
        let state = tempfile::tempdir()?;
        let listeners =
            services.iter().map(|_| node::free_address()).collect::<Result<Vec<_>, _>>()?;
        let running = node::Node::start(program, state.path(), |admin| {
            Ok(yaml(services, &listeners, admin, state.path())?)
        })?;
        Ok(Self { running, listeners, _state: state })
    }

    /// Where the load of a service goes.
    pub(crate) fn target(&self, nth: usize) -> String {
        format!("http://{}/", self.listeners[nth])
    }

    /// A GET of the admin interface.
    ///
    /// # Errors
    /// When it does not answer, or not with JSON.
    pub(crate) fn api(&self, path: &str) -> anyhow::Result<Value> {
        self.running.api(path)
    }
}

fn yaml(
    services: &[Service],
    listeners: &[SocketAddr],
    admin: SocketAddr,
    state: &Path,
) -> Result<String, std::fmt::Error> {
    let mut text = "listeners:\n".to_owned();
    for (service, listener) in services.iter().zip(listeners) {
        writeln!(text, "  - address: {listener}\n    routes:\n      - service: {}", service.name)?;
    }
    text += "services:\n";
    for Service { name, backend, objective_ms } in services {
        writeln!(text, "  {name}:\n    primaries: [\"{backend}\"]\n    mode: observe")?;
        writeln!(text, "    objective: {{ latency_p99: {objective_ms}ms }}")?;
    }
    writeln!(text, "admin:\n  address: {admin}\nstate_dir: {:?}", state.join("state"))?;
    Ok(text)
}
