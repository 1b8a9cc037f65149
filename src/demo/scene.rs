//! The scene: real backends and a real node as processes of their own, and their end.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use foreshadow_control::Mode;
use rustix::process::{Pid, Signal, kill_process};

use super::script::{CONCURRENCY, EVALUATION_WINDOW_MS, OBJECTIVE_MS, PRIMARIES, SERVICE_TIME_MS};

/// Variable by which everything that belongs to one scene is found again, shadows included.
const MARK: &str = "FORESHADOW_DEMO_SCENE";
/// Variable with the process that what is started ends with.
const PARENT: &str = "FORESHADOW_DEMO_PARENT";
const START_PATIENCE: Duration = Duration::from_secs(20);
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// What scripts/with-docker.sh makes: the libraries that this program needs, and a network.
const DOCKER_IMAGE: &str = "foreshadow-demo/libraries:1";
const DOCKER_NETWORK: &str = "foreshadow-demo";

/// Name of the one service.
pub(super) const SERVICE: &str = "shop";

/// Ends this process when the demo that started it is killed, which then cannot end it itself.
/// Shadows have the variable too, but another parent, which ends them.
///
/// # Errors
/// When the kernel refuses, or the demo has ended already.
pub(crate) fn end_with_demo() -> anyhow::Result<()> {
    let Ok(demo) = std::env::var(PARENT) else { return Ok(()) };
    let is_parent = || {
        let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
        parent.is_some_and(|parent| parent == demo)
    };
    if is_parent() {
        rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
        anyhow::ensure!(is_parent(), "the demo has ended");
    }
    Ok(())
}

/// Where scenes are set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stage<'a> {
    /// Files of all scenes.
    pub(super) dir: &'a Path,
    /// The engine whose containers shadows are; processes where there is none.
    pub(super) docker: Option<&'a str>,
}

/// A primary and its process.
#[derive(Debug)]
pub(super) struct Primary {
    pub(super) name: String,
    pub(super) address: SocketAddr,
    child: Child,
}

/// Everything that runs for one mode. Dropping it ends all of it.
#[derive(Debug)]
pub(super) struct Scene {
    dir: PathBuf,
    pub(super) config: String,
    pub(super) proxy: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) primaries: Vec<Primary>,
    node: Option<Child>,
    /// The engine whose containers the shadows are; processes where there is none.
    docker: Option<String>,
    /// What runs does not end with this process.
    outlives: bool,
    kept: bool,
}

/// What was left when the node had ended; empty as it should be.
pub(super) type Orphans = Vec<u32>;

impl Scene {
    /// Starts the primaries and the node in `mode`, on `stage`. Unless they are to be
    /// kept they end with this process, whatever ends it.
    ///
    /// # Errors
    /// When a process cannot be started or a backend does not open its port.
    pub(super) async fn start(mode: Mode, stage: &Stage<'_>, keep: bool) -> anyhow::Result<Self> {
        let dir = stage.dir.join(mode.to_string());
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let (proxy, admin) = free_addresses()?;
        let mut scene = Self {
            dir,
            config: String::new(),
            proxy,
            admin,
            primaries: Vec::new(),
            node: None,
            docker: stage.docker.map(str::to_owned),
            outlives: keep,
            kept: false,
        };
        for nth in 1..=PRIMARIES {
            scene.start_primary(nth).await?;
        }
        scene.config = scene.config_text(mode)?;
        let path = scene.dir.join("foreshadow.yaml");
        std::fs::write(&path, &scene.config)?;
        let log = File::create(scene.log_path())?;
        let mut command = scene.command()?;
        command.args(["run", "--log-format", "text", "-c"]).arg(&path);
        command.stdout(log.try_clone()?).stderr(log);
        scene.node = Some(command.spawn().context("cannot start the node")?);
        Ok(scene)
    }

    /// Where the node's log is.
    pub(super) fn log_path(&self) -> PathBuf {
        self.dir.join("node.log")
    }

    /// The mark of this scene's processes.
    fn mark(&self) -> String {
        self.dir.display().to_string()
    }

    /// This program again, in a process group of its own: Ctrl-C on the terminal is for the demo,
    /// which then ends them in order.
    fn command(&self) -> anyhow::Result<Command> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let mut command = Command::new(program);
        command.env(MARK, self.mark()).current_dir(&self.dir);
        if !self.outlives {
            command.env(PARENT, std::process::id().to_string());
        }
        command.stdin(Stdio::null()).process_group(0);
        Ok(command)
    }

    async fn start_primary(&mut self, nth: u32) -> anyhow::Result<()> {
        let name = format!("primary-{nth}");
        let path = self.dir.join(format!("{name}.log"));
        let out = File::create(&path)?;
        let mut command = self.command()?;
        command.args(["testbed", "backend", "--name", &name, "--seed", &nth.to_string()]);
        command.args(backend_flags()).stdout(out.try_clone()?).stderr(out);
        let child = command.spawn().context("cannot start a backend")?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        self.primaries.push(Primary { name, address, child });
        let primary = self.primaries.last_mut().expect("it was pushed just now");
        primary.address = announced(&path, &mut primary.child).await?;
        Ok(())
    }

    fn config_text(&self, mode: Mode) -> anyhow::Result<String> {
        let provider = self.provider_text()?;
        let primaries: Vec<String> =
            self.primaries.iter().map(|p| format!("\"{}\"", p.address)).collect();
        Ok(format!(
            "\
# What the demo runs. Capacity is not given: it is learned.
listeners:
  - address: {proxy}
    routes:
      - service: {SERVICE}
services:
  {SERVICE}:
    primaries: [{primaries}]
    objective: {{ latency_p99: {OBJECTIVE_MS}ms, error_rate: 1% }}
    health: {{ path: /healthz, interval: 500ms, timeout: 500ms }}
    mode: {mode}
    warm_up: 3s
    forecast: {{ horizon: 10s, evaluation_window: {EVALUATION_WINDOW_MS}ms }}
    shadows:
      pool: {{ shadow: 1, warm: 1, max: 8 }}
      mirror: {{ share: 5% }}
      provider:
{provider}
admin:
  address: {admin}
state_dir: state
drain_timeout: 5s
",
            proxy = self.proxy,
            admin = self.admin,
            primaries = primaries.join(", "),
        ))
    }

    /// What makes shadows.
    fn provider_text(&self) -> anyhow::Result<String> {
        let program = serde_json::to_string(&std::env::current_exe()?)?;
        let mark = serde_json::to_string(&self.mark())?;
        let flags: Vec<String> = backend_flags().iter().map(|f| format!("\"{f}\"")).collect();
        let flags = flags.join(", ");
        let rest = format!(
            "\
testbed, backend, --listen, \"{listen}\", --name, \"shadow-{{id}}\",
            --startup, 1.5s, --warmup, 3s, --cold-factor, \"2\", {flags}]
          env: {{ {MARK}: {mark} }}
          stop_timeout: 2s",
            listen = if self.docker.is_some() { "0.0.0.0:{port}" } else { "{address}" },
        );
        let Some(endpoint) = &self.docker else {
            return Ok(format!("        process:\n          command: [{program}, {rest}"));
        };
        Ok(format!(
            "        docker:
          endpoint: {endpoint}
          image: {DOCKER_IMAGE}
          networks: [{DOCKER_NETWORK}]
          port: 8080
          init: on
          mounts: [{{ source: {program}, target: /foreshadow }}]
          command: [/foreshadow, {rest}",
            endpoint = serde_json::to_string(endpoint)?,
        ))
    }

    /// Process id of primary number `nth` from 0, for `kill -9`. The child is not waited for before
    /// the scene ends, so the id stays its own.
    pub(super) fn primary_pid(&self, nth: usize) -> anyhow::Result<Pid> {
        Ok(Pid::from_child(&self.primaries.get(nth).context("there is no such primary")?.child))
    }

    /// Fails with the end of the log when the node has ended by itself.
    ///
    /// # Errors
    /// When it has.
    pub(super) fn check_node(&mut self) -> anyhow::Result<()> {
        let path = self.log_path();
        let node = self.node.as_mut().context("the node was stopped already")?;
        if let Some(status) = node.try_wait()? {
            let log = std::fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<&str> = log.lines().rev().take(8).collect();
            let tail: Vec<&str> = lines.into_iter().rev().collect();
            anyhow::bail!("the node ended with {status}:\n{}", tail.join("\n"));
        }
        Ok(())
    }

    /// Leaves everything running and says which processes that are.
    pub(super) fn keep(mut self) -> Vec<u32> {
        self.kept = true;
        let mut pids: Vec<u32> = self.node.iter().map(Child::id).collect();
        for primary in &mut self.primaries {
            if matches!(primary.child.try_wait(), Ok(None)) {
                pids.push(primary.child.id());
            }
        }
        pids
    }

    /// Ends the node, then the backends, and makes sure that nothing is left; returns what the
    /// node should have ended and did not.
    pub(super) fn stop(&mut self) -> Orphans {
        if let Some(mut node) = self.node.take() {
            signal(&node, Signal::TERM);
            let deadline = Instant::now() + STOP_PATIENCE;
            while matches!(node.try_wait(), Ok(None)) {
                if Instant::now() >= deadline {
                    signal(&node, Signal::KILL);
                    node.wait().ok();
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        for primary in &mut self.primaries {
            signal(&primary.child, Signal::KILL);
            // It was killed or had been before; either way this only takes it off the table.
            primary.child.wait().ok();
        }
        self.primaries.clear();
        let orphans = marked(&self.mark());
        for pid in orphans.iter().filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?)) {
            kill_process(pid, Signal::KILL).ok();
        }
        orphans
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if !self.kept {
            self.stop();
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    // A child that has ended already needs no signal.
    kill_process(Pid::from_child(child), signal).ok();
}

fn backend_flags() -> Vec<String> {
    let flags = format!(
        "--concurrency {CONCURRENCY} --service-time {SERVICE_TIME_MS}ms \
         --distribution lognormal --cv 0.5"
    );
    flags.split_whitespace().map(str::to_owned).collect()
}

/// Two addresses nobody listens on; held together, so that they differ.
fn free_addresses() -> anyhow::Result<(SocketAddr, SocketAddr)> {
    let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("there is no free port");
    let (proxy, admin) = (free()?, free()?);
    Ok((proxy.local_addr()?, admin.local_addr()?))
}

/// Waits for the line in which a backend names its address.
async fn announced(path: &Path, child: &mut Child) -> anyhow::Result<SocketAddr> {
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        let said = std::fs::read_to_string(path)?;
        let line = said.lines().find_map(|line| line.strip_prefix("listening on "));
        if let (Some(address), true) = (line, said.ends_with('\n')) {
            return address.parse().with_context(|| format!("{address} is not an address"));
        }
        if let Some(status) = child.try_wait()? {
            anyhow::bail!("a backend ended with {status}: {said}");
        }
        anyhow::ensure!(Instant::now() < deadline, "a backend opens no port: {said}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Processes whose environment carries the mark.
fn marked(mark: &str) -> Vec<u32> {
    let wanted = format!("{MARK}={mark}");
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            // Processes of others cannot be read, and are not ours.
            let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes())
        })
        .collect()
}
