//! The providers that are timed, each with real instances of the testbed's backend.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::Context;
use foreshadow_control::InstanceId;
use foreshadow_shadow::{
    Capabilities, DockerProvider, DockerSpec, Endpoint, EngineEndpoint, ExecProvider, ExecSpec,
    HostSettings, MountSpec, NetworkSpec, ProcessHost, ProcessProvider, ProcessSpec, Provider,
    Traits, WebhookProvider, WebhookSpec,
};

/// What scripts/with-docker.sh makes: the libraries that the command needs, and a network.
pub(crate) const IMAGE: &str = "foreshadow-demo/libraries:1";
pub(crate) const NETWORK: &str = "foreshadow-demo";

/// A provider, and how much of it is timed.
pub(crate) struct Place {
    pub(crate) name: &'static str,
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) instances: u32,
    /// Times that each is frozen, thawed and resized.
    pub(crate) cycles: u32,
    /// Whether they are ended by `kill -9`, rather than asked to end.
    pub(crate) kills: bool,
    pub(crate) first_id: u64,
    /// What tells its instances from others of this machine.
    tag: String,
    _server: Option<Server>,
}

impl Place {
    /// The argument by which a process of an instance is known.
    pub(crate) fn mark(&self, id: InstanceId) -> String {
        format!("{}-{id}", self.tag)
    }
}

/// A program that ends with this value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// What there is to make providers with.
pub(crate) struct Here<'a> {
    /// The command, whose testbed is the backend.
    pub(crate) program: &'a Path,
    pub(crate) dir: &'a Path,
    /// The socket of a Docker Engine.
    pub(crate) docker: Option<PathBuf>,
    /// The folder of the sample providers.
    pub(crate) samples: PathBuf,
    /// Fewer of everything.
    pub(crate) quick: bool,
}

/// Words that run the backend; `listen` and `name` are filled in by the provider.
pub(crate) fn backend(program: &str, listen: &str, name: &str) -> Vec<String> {
    let words = [program, "testbed", "backend", "--listen", listen, "--name", name];
    let flags = ["--concurrency", "8", "--service-time", "0"];
    words.iter().chain(&flags).map(|word| (*word).to_owned()).collect()
}

impl Here<'_> {
    pub(crate) fn place(&self, name: &str) -> anyhow::Result<Place> {
        let tag = format!("bench-{}-{name}", std::process::id());
        let (instances, cycles) = match name {
            "process" | "process-signals" => (20, 25),
            "docker" => (10, 10),
            _ => (5, 5),
        };
        let part = if self.quick { 5 } else { 1 };
        let place = |name, provider, kills, server| Place {
            name,
            provider,
            instances: (instances / part).max(1),
            cycles,
            kills,
            first_id: 1,
            tag: tag.clone(),
            _server: server,
        };
        let program = self.program.display().to_string();
        let local = || backend(&program, "127.0.0.1:{port}", &format!("{tag}-{{id}}"));
        Ok(match name {
            "process" => {
                let spec = ProcessSpec { command: local(), ..ProcessSpec::default() };
                let provider = Arc::new(ProcessProvider::new(self.host(name)?, spec));
                place("process", provider, true, None)
            }
            "docker" => {
                let command = backend("/foreshadow", "0.0.0.0:{port}", &format!("{tag}-{{id}}"));
                place("docker", Arc::new(self.docker(name, command)?), true, None)
            }
            "exec" => {
                let data = self.dir.join("exec-data").display().to_string();
                let mut command = vec![self.sample("exec.py"), data, "--".to_owned()];
                command.extend(local());
                let spec = ExecSpec { command, env: Vec::new(), dir: None, traits: traits() };
                place("exec", ExecProvider::new(&self.host(name)?, spec), false, None)
            }
            "webhook" => {
                let (server, endpoint) = self.serve(&local())?;
                let spec = WebhookSpec { endpoint, token: None, traits: traits() };
                let provider = WebhookProvider::new(&self.host(name)?, spec);
                place("webhook", provider, false, Some(server))
            }
            other => anyhow::bail!("there is no provider {other:?} to time"),
        })
    }

    /// What is known of this machine to the providers of one name.
    fn host(&self, name: &str) -> anyhow::Result<Arc<ProcessHost>> {
        let dir = self.dir.join(name);
        std::fs::create_dir_all(&dir)?;
        Ok(ProcessHost::new(&HostSettings::new(dir))?)
    }

    fn docker(&self, name: &str, command: Vec<String>) -> anyhow::Result<DockerProvider> {
        let socket = self.docker.clone().context("there is no Docker Engine")?;
        let source = self.program.canonicalize()?.display().to_string();
        let spec = DockerSpec {
            endpoint: EngineEndpoint::Unix(socket),
            image: IMAGE.to_owned(),
            command,
            mounts: vec![MountSpec { source, target: "/foreshadow".to_owned(), write: false }],
            network: NetworkSpec { names: vec![NETWORK.to_owned()], ..NetworkSpec::default() },
            init: true,
            ..DockerSpec::default()
        };
        Ok(DockerProvider::new(&self.host(name)?, spec))
    }

    fn sample(&self, name: &str) -> String {
        self.samples.join(name).display().to_string()
    }

    /// Starts the sample server; it says where it listens.
    fn serve(&self, backend: &[String]) -> anyhow::Result<(Server, Endpoint)> {
        let mut child = Command::new(self.sample("webhook.py"))
            .arg("127.0.0.1:0")
            .arg(self.dir.join("webhook-data"))
            .arg("--")
            .args(backend)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the sample webhook.py; it needs python3")?;
        let stdout = child.stdout.take().context("it was piped")?;
        let server = Server(child);
        let mut line = String::new();
        std::io::BufReader::new(stdout).read_line(&mut line)?;
        let said = line.trim().rsplit(' ').next().unwrap_or_default();
        let authority = said.strip_prefix("http://").context("webhook.py did not start")?;
        let authority = authority.trim_end_matches('/').to_owned();
        Ok((server, Endpoint::Tcp { authority, prefix: String::new() }))
    }
}

fn traits() -> Traits {
    let can = Capabilities { freeze: true, resize: false, snapshot: true };
    Traits { can, ..Traits::default() }
}
