//! The providers under test.

use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};

use foreshadow_control::InstanceId;
use foreshadow_shadow::{
    BearerToken, Capabilities, Concurrency, DockerProvider, DockerSpec, EngineEndpoint,
    ExecProvider, ExecSpec, Facility, MountSpec, NetworkSpec, ProcessHost, ProcessProvider,
    Provider, Traits, WebhookProvider, WebhookSpec,
};

use super::pods::Pods;
use super::{Subject, machines};
use crate::support::engine::{self, IMAGE};
use crate::support::{self, host, processes_with, role};

/// The subject of that name, keeping its state below `dir`.
pub(crate) fn opened(name: &str, dir: &Path) -> Box<dyn Subject> {
    let dir = dir.to_owned();
    match name {
        "process" => Box::new(Processes { dir, facility: Facility::Auto }),
        "process-v1" => Box::new(Processes { dir, facility: Facility::V1 }),
        "process-signals" => Box::new(Processes { dir, facility: Facility::None }),
        "docker" => Box::new(Containers { dir, isolate: false }),
        "docker-isolated" => Box::new(Containers { dir, isolate: true }),
        "kubernetes" => Box::new(Pods { dir, resizes: true }),
        "kubernetes-old" => Box::new(Pods { dir, resizes: false }),
        "vm" => Box::new(machines::Machines::opened(dir)),
        "exec" => Box::new(Exec { dir }),
        "webhook" => Box::new(Webhook::opened(dir, None)),
        "functions" => {
            let figures = Concurrency { shadow: 0, warm: 1, full: 20 };
            Box::new(Webhook::opened(dir, Some(figures)))
        }
        other => panic!("no such provider: {other}"),
    }
}

/// A sample of the examples.
pub(crate) fn sample(name: &str) -> String {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/examples/providers").join(name);
    path.canonicalize().expect("the sample is there").display().to_string()
}

/// The interpreter itself, without what wrappers and site packages add to its start.
pub(crate) fn python() -> Vec<String> {
    static FOUND: OnceLock<String> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let mut ask = Command::new("python3");
        let asked = ask.args(["-c", "import sys; print(sys.executable)"]).output();
        let asked = asked.expect("the samples are tested with python3; install it");
        String::from_utf8(asked.stdout).unwrap().trim().to_owned()
    });
    vec![found.clone(), "-SE".to_owned()]
}

/// Instances of the test's server whose environment names `dir`.
fn running(dir: &Path) -> Vec<(InstanceId, u32)> {
    let here = processes_with(&format!("STATE_DIR={}\0", dir.display()));
    let mut found: Vec<(InstanceId, u32)> = here
        .into_iter()
        .filter_map(|pid| {
            let environ = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
            let environ = String::from_utf8_lossy(&environ).into_owned();
            let set = |name: &str| {
                let prefix = format!("{name}=");
                environ.split('\0').find_map(|v| v.strip_prefix(&prefix).map(str::to_owned))
            };
            // Between fork and exec a child carries the environment of its parent.
            (set(support::ROLE)? == "server").then_some(())?;
            Some((InstanceId(set("INSTANCE")?.strip_prefix('i')?.parse().ok()?), pid))
        })
        .collect();
    found.sort_unstable();
    found
}

pub(crate) fn ids(dir: &Path) -> Vec<InstanceId> {
    running(dir).into_iter().map(|(id, _)| id).collect()
}

pub(crate) fn end(dir: &Path, id: InstanceId) {
    for (_, pid) in running(dir).into_iter().filter(|(found, _)| *found == id) {
        support::kill(pid);
    }
}

struct Processes {
    dir: PathBuf,
    facility: Facility,
}

impl Subject for Processes {
    fn provider(&self) -> Arc<dyn Provider> {
        let dir = self.dir.display().to_string();
        let spec = role("server", &[("STATE_DIR", &dir), ("INSTANCE", "{id}")]);
        Arc::new(ProcessProvider::new(host(&self.dir, self.facility), spec))
    }

    fn running(&self) -> Vec<InstanceId> {
        ids(&self.dir)
    }

    fn kill(&self, id: InstanceId) {
        end(&self.dir, id);
    }
}

struct Exec {
    dir: PathBuf,
}

/// A host for providers that need only its name.
pub(crate) fn plain_host(dir: &Path) -> Arc<ProcessHost> {
    host(dir, Facility::None)
}

impl Subject for Exec {
    fn provider(&self) -> Arc<dyn Provider> {
        let server = role("server", &[("STATE_DIR", &self.dir.display().to_string())]);
        let place = self.dir.join("place").display().to_string();
        let mut command = python();
        command.extend([sample("exec.py"), place, "--".to_owned()]);
        command.extend(server.command);
        let can = Capabilities { freeze: true, resize: false, snapshot: true };
        let traits = Traits { can, ..Traits::default() };
        let spec = ExecSpec { command, env: server.env, dir: None, traits };
        ExecProvider::new(&plain_host(&self.dir), spec)
    }

    fn running(&self) -> Vec<InstanceId> {
        ids(&self.dir)
    }

    fn kill(&self, id: InstanceId) {
        end(&self.dir, id);
    }
}

struct Webhook {
    dir: PathBuf,
    endpoint: String,
    functions: Option<Concurrency>,
    /// Of the one that started it, for as long as the test.
    _server: Option<Server>,
}

/// The sample server, ended when dropped.
pub(crate) struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

pub(crate) const TOKEN: &str = "a-token-of-the-test";

/// Starts the sample server with `options`; returns it with its address.
pub(crate) fn serve(dir: &Path, options: &[&str]) -> (Server, String) {
    let server = role("server", &[("STATE_DIR", &dir.display().to_string())]);
    let run = python();
    let place = dir.join("place").display().to_string();
    let mut child = Command::new(&run[0])
        .args(&run[1..])
        .args([&sample("webhook.py"), "127.0.0.1:0", &place])
        .args(options)
        .arg("--")
        .args(&server.command)
        .envs(server.env)
        .env("PROVIDER_TOKEN", TOKEN)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let endpoint = line.trim().rsplit(' ').next().unwrap().to_owned();
    (Server(child), endpoint)
}

impl Webhook {
    /// The server that was started for `dir`, or a fresh one.
    fn opened(dir: PathBuf, functions: Option<Concurrency>) -> Self {
        let file = dir.join("endpoint");
        if let Ok(endpoint) = std::fs::read_to_string(&file) {
            return Self { dir, endpoint, functions, _server: None };
        }
        let (server, endpoint) = serve(&dir, &[]);
        std::fs::write(file, &endpoint).unwrap();
        Self { dir, endpoint, functions, _server: Some(server) }
    }
}

impl Subject for Webhook {
    fn provider(&self) -> Arc<dyn Provider> {
        let can = match self.functions {
            Some(_) => Capabilities::default(),
            None => Capabilities { freeze: true, resize: false, snapshot: true },
        };
        let spec = WebhookSpec {
            endpoint: support::endpoint_at(&self.endpoint),
            token: Some(BearerToken(TOKEN.to_owned())),
            traits: Traits { can, concurrency: self.functions, ..Traits::default() },
        };
        WebhookProvider::new(&plain_host(&self.dir), spec)
    }

    fn running(&self) -> Vec<InstanceId> {
        ids(&self.dir)
    }

    fn kill(&self, id: InstanceId) {
        end(&self.dir, id);
    }

    fn freezes_by_size(&self) -> bool {
        self.functions.is_some()
    }
}

/// Containers of the engine whose socket is named in the file `engine`.
struct Containers {
    dir: PathBuf,
    isolate: bool,
}

/// The network that activated containers of the tests are in.
pub(crate) const FRONT: &str = "foreshadow-test-front";

/// The test's server as a container.
pub(crate) fn container_spec(socket: &Path) -> DockerSpec {
    let server = role("server", &[("BIND", "0.0.0.0")]);
    let program = server.command[0].clone();
    let mut command = server.command;
    command[0] = "/server".to_owned();
    DockerSpec {
        endpoint: EngineEndpoint::Unix(socket.to_owned()),
        image: IMAGE.to_owned(),
        command,
        env: server.env,
        mounts: vec![MountSpec { source: program, target: "/server".to_owned(), write: false }],
        network: NetworkSpec { names: vec![FRONT.to_owned()], ..NetworkSpec::default() },
        init: true,
        ..DockerSpec::default()
    }
}

impl Containers {
    fn socket(&self) -> PathBuf {
        std::fs::read_to_string(self.dir.join("engine")).expect("the test named it").into()
    }

    fn all(&self) -> Vec<(InstanceId, String)> {
        let (_, list) = engine::get(&self.socket(), "/containers/json?all=1").unwrap();
        let mut all: Vec<(InstanceId, String)> = list
            .as_array()
            .unwrap()
            .iter()
            .filter(|one| !["created", "exited", "dead"].contains(&one["State"].as_str().unwrap()))
            .filter_map(|one| {
                let name = one["Labels"]["foreshadow.instance"].as_str()?;
                let id = InstanceId(name.strip_prefix('i')?.parse().ok()?);
                Some((id, one["Id"].as_str()?.to_owned()))
            })
            .collect();
        all.sort_unstable();
        all
    }
}

impl Subject for Containers {
    fn provider(&self) -> Arc<dyn Provider> {
        let mut spec = container_spec(&self.socket());
        spec.network.isolate = self.isolate;
        Arc::new(DockerProvider::new(&plain_host(&self.dir), spec))
    }

    fn running(&self) -> Vec<InstanceId> {
        self.all().into_iter().map(|(id, _)| id).collect()
    }

    fn kill(&self, id: InstanceId) {
        for (_, container) in self.all().into_iter().filter(|(found, _)| *found == id) {
            let path = format!("/containers/{container}/kill");
            let (status, answer) = engine::ask(&self.socket(), "POST", &path, b"").unwrap();
            assert_eq!(status, 204, "{answer}");
        }
    }

    fn isolates(&self) -> bool {
        self.isolate
    }
}
