//! Real processes for the tests: the test binary runs itself again as a small server, or as a
//! small Foreshadow that can be killed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stdout, reason = "how a process of a role tells that it is ready")]
#![allow(dead_code, reason = "each test binary uses its own part of this")]

pub(crate) mod engine;
pub(crate) mod exec;
pub(crate) mod fake_cluster;
pub(crate) mod fake_engine;
pub(crate) mod kubelet;
pub(crate) mod machine;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use foreshadow_control::{Action, Fact, InstanceId, ServiceName, Tier};
use foreshadow_shadow::{
    Confinement, CreateRequest, Endpoint, Facility, HostSettings, Manager, ManagerSettings,
    ProcessHost, ProcessProvider, ProcessSpec, Provider, Readiness, ServiceShadows, ShadowInstance,
};
use tokio::io::AsyncReadExt as _;

/// What this process is when the test binary runs itself; unset in the test itself.
pub(crate) const ROLE: &str = "SHADOW_TEST_ROLE";
const DEADLINE: Duration = Duration::from_secs(30);

/// Each test binary has a test of this name that calls [`play_role`].
const ENTRY: &str = "role_entry";

pub(crate) fn shop() -> ServiceName {
    ServiceName::from("shop")
}

/// Waits for a real condition; fails the test with `what` when it does not come about.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "never came about: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Ready when the server of the test binary says so.
pub(crate) struct SaysOk;

#[async_trait]
impl Readiness for SaysOk {
    async fn ready(&self, _: &ServiceName, address: SocketAddr) -> Result<(), String> {
        let ask = async {
            let mut stream = tokio::net::TcpStream::connect(address).await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await.map(|_| text)
        };
        match tokio::time::timeout(Duration::from_millis(500), ask).await {
            Ok(Ok(text)) if text == "ok" => Ok(()),
            Ok(Ok(text)) => Err(format!("answered {text:?}")),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer".to_owned()),
        }
    }
}

/// The command that runs this test binary as `role`.
pub(crate) fn role(role: &str, env: &[(&str, &str)]) -> ProcessSpec {
    let exe = std::env::current_exe().unwrap().display().to_string();
    let command = [&exe, ENTRY, "--exact", "--nocapture"].map(str::to_owned).to_vec();
    let own = [(ROLE, role)];
    let env = own.iter().chain(env).map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    ProcessSpec { command, env: env.collect(), ..ProcessSpec::default() }
}

pub(crate) fn host(dir: &Path, facility: Facility) -> Arc<ProcessHost> {
    let mut settings = HostSettings::new(dir.to_owned());
    settings.facility = facility;
    ProcessHost::new(&settings).unwrap()
}

/// A service of the test server with quick times and no parked checks.
pub(crate) fn service(host: &Arc<ProcessHost>, spec: ProcessSpec) -> ServiceShadows {
    let provider = Arc::new(ProcessProvider::new(Arc::clone(host), spec));
    let mut service = ServiceShadows::new(shop(), provider);
    service.parked_check = None;
    service
}

pub(crate) async fn start(
    dir: &Path,
    host: &Arc<ProcessHost>,
    services: Vec<ServiceShadows>,
) -> Result<Manager, foreshadow_shadow::ShadowError> {
    let settings = ManagerSettings {
        state_dir: dir.to_owned(),
        services,
        janitors: vec![Arc::new(ProcessProvider::janitor(Arc::clone(host)))],
        concurrent_creates: 4,
    };
    Manager::start(settings, Arc::new(SaysOk)).await
}

/// A manager with one service in a directory of its own.
pub(crate) struct Bench {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) host: Arc<ProcessHost>,
    pub(crate) manager: Manager,
    /// Every fact taken so far.
    pub(crate) facts: Vec<Fact>,
}

impl Bench {
    pub(crate) async fn new(
        facility: Facility,
        spec: ProcessSpec,
        change: impl FnOnce(&mut ServiceShadows),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = host(dir.path(), facility);
        let mut service = service(&host, spec);
        change(&mut service);
        let manager = start(dir.path(), &host, vec![service]).await.unwrap();
        Self { dir, host, manager, facts: Vec::new() }
    }

    pub(crate) fn apply(&self, action: Action) {
        self.manager.apply(&shop(), &[action]);
    }

    pub(crate) fn take(&mut self) -> &[Fact] {
        self.facts.extend(self.manager.take_facts().into_iter().map(|(_, fact)| fact));
        &self.facts
    }

    /// Waits until a fact of the wanted kind has come.
    pub(crate) async fn fact<T>(&mut self, what: &str, want: impl Fn(&Fact) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = self.take().iter().find_map(&want) {
                return found;
            }
            assert!(start.elapsed() < DEADLINE, "no {what} among {:?}", self.facts);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Creates one shadow and waits until it is where it should be.
    pub(crate) async fn create(&mut self, tier: Tier) -> ShadowInstance {
        let before: Vec<InstanceId> = self.manager.snapshot().iter().map(|i| i.id).collect();
        self.apply(Action::create(tier));
        let id = self.manager.snapshot().iter().map(|i| i.id).find(|id| !before.contains(id));
        let id = id.unwrap_or_else(|| panic!("refused: {:?}", self.take()));
        self.settled(id, tier).await
    }

    pub(crate) async fn move_to(&self, id: InstanceId, tier: Tier) -> ShadowInstance {
        self.apply(Action::Move { instance: id, tier });
        self.settled(id, tier).await
    }

    pub(crate) async fn settled(&self, id: InstanceId, tier: Tier) -> ShadowInstance {
        settled(&self.manager, id, tier).await
    }
}

pub(crate) async fn settled(manager: &Manager, id: InstanceId, tier: Tier) -> ShadowInstance {
    until(&format!("{id} at {tier}"), || {
        let all = manager.snapshot();
        let found = all.into_iter().find(|i| i.id == id);
        let found = found.unwrap_or_else(|| panic!("{id} is gone: {:?}", manager.take_facts()));
        (found.tier == tier && found.moving_to.is_none()).then_some(found)
    })
    .await
}

pub(crate) async fn answers(address: SocketAddr) -> bool {
    SaysOk.ready(&shop(), address).await.is_ok()
}

/// Whether a process exists; one that waits to be reaped counts, as it should not be there.
pub(crate) fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Processor time of a process so far, in clock ticks.
pub(crate) fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Running processes that have `text` in their environment.
pub(crate) fn processes_with(text: &str) -> Vec<u32> {
    let mut found: Vec<u32> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let is_zombie = fs::read_to_string(format!("/proc/{pid}/stat"))
                .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|s| s.1.starts_with(" Z")));
            *pid != std::process::id()
                && !is_zombie
                && environ.windows(text.len()).any(|window| window == text.as_bytes())
        })
        .collect();
    found.sort_unstable();
    found
}

pub(crate) fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// The same for one that may have ended meanwhile.
pub(crate) fn kill_if_there(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    match rustix::process::kill_process(pid, rustix::process::Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => panic!("process {pid:?} cannot be ended: {error}"),
    }
}

/// Does what the environment says; returns at once in the test itself.
pub(crate) fn play_role() {
    match std::env::var(ROLE).as_deref() {
        Ok("server") => serve(),
        Ok("foreshadow") => small_foreshadow(),
        Ok(other) => panic!("no such role: {other}"),
        Err(_) => {}
    }
}

/// Answers `ok` to every connection; what else it does comes from its environment.
fn serve() {
    let set = |name: &str| std::env::var(name).ok();
    let port: u16 = set("PORT").unwrap().parse().unwrap();
    if let Some(dir) = set("YIELD_PORT").map(PathBuf::from)
        && !dir.join("wanted").exists()
    {
        fs::write(dir.join("wanted.tmp"), port.to_string()).unwrap();
        fs::rename(dir.join("wanted.tmp"), dir.join("wanted")).unwrap();
        while !dir.join("taken").exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    if set("BUSY").is_some() {
        std::thread::spawn(|| {
            loop {
                std::hint::spin_loop();
            }
        });
    }
    if let Some(script) = set("SCRIPT") {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script]).stdin(Stdio::null());
        std::thread::spawn(move || command.status().unwrap());
    }
    // Within a container loopback is its own.
    let host = set("BIND").map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |host| host.parse().unwrap());
    let listener = TcpListener::bind((host, port)).unwrap();
    let sick = set("SICK_WHEN").map(PathBuf::from);
    for stream in listener.incoming() {
        let word = if sick.as_ref().is_some_and(|flag| flag.exists()) { "sick" } else { "ok" };
        // A client that went away is no reason to end.
        if let Ok(mut stream) = stream
            && stream.write_all(word.as_bytes()).is_err()
        {}
    }
}

/// A Foreshadow that makes shadows up to the tiers it is told and then waits to be killed.
fn small_foreshadow() {
    let dir = PathBuf::from(std::env::var("STATE_DIR").unwrap());
    let tiers: Vec<Tier> = std::env::var("TIERS")
        .unwrap()
        .split(',')
        .map(|name| Tier::ALL.into_iter().find(|tier| tier.as_str() == name).unwrap())
        .collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let host = host(&dir, Facility::Auto);
        let service = service(&host, role("server", &[]));
        let manager = start(&dir, &host, vec![service]).await.unwrap();
        println!("started");
        let create: Vec<Action> = tiers.into_iter().map(Action::create).collect();
        manager.apply(&shop(), &create);
        let db = rusqlite::Connection::open(dir.join("foreshadow.db")).unwrap();
        db.busy_timeout(DEADLINE).unwrap();
        until("all shadows at their tiers, and that recorded", || {
            let all = manager.snapshot();
            let query = "SELECT count(*) FROM instances WHERE id = ? AND tier = ?";
            let recorded = |i: &ShadowInstance| -> bool {
                let key = (i.id.0, i.tier.as_str());
                db.query_row(query, key, |row| row.get::<_, i64>(0)).unwrap() == 1
            };
            let settled = |i: &ShadowInstance| i.moving_to.is_none() && recorded(i);
            (all.len() == create.len() && all.iter().all(settled)).then_some(())
        })
        .await;
        println!("settled");
        std::future::pending::<()>().await;
    });
}

/// Starts a small Foreshadow on `dir` and waits until it printed `line`.
pub(crate) fn spawn_foreshadow(dir: &Path, tiers: &str, line: &str) -> std::process::Child {
    let spec = role("foreshadow", &[]);
    let mut child = Command::new(&spec.command[0])
        .args(&spec.command[1..])
        .envs(spec.env)
        .env("STATE_DIR", dir)
        .env("TIERS", tiers)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut seen = String::new();
    let mut byte = [0];
    let stdout = child.stdout.as_mut().unwrap();
    while !seen.ends_with(&format!("{line}\n")) {
        assert_eq!(stdout.read(&mut byte).unwrap(), 1, "it ended after {seen:?}");
        seen.push(char::from(byte[0]));
    }
    child
}

/// Says that something was left out. Where changes are judged, as root, everything must be there that
/// it takes: then it is a failure, since a test that tests nothing looks like one that passed.
pub(crate) fn not_tested(what: &str, why: &str) {
    let text = format!("NOT TESTED: {what}: {why}");
    println!("{text}");
    let judged = std::env::var("NEXTEST_PROFILE").is_ok_and(|profile| profile == "ci");
    assert!(!(judged && rustix::process::geteuid().is_root()), "{text}");
}

/// Whether this test runs as root; says so where it does not.
pub(crate) fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        not_tested(test, "only root can");
    }
    root
}

/// A provider of processes that are held to something, in their state directory.
pub(crate) fn confined(
    dir: &Path,
    command: &[&str],
    confinement: Confinement,
) -> Arc<dyn Provider> {
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    let env = vec![("GIVEN".to_owned(), "yes".to_owned())];
    let dir_of = Some(dir.to_owned());
    let spec = ProcessSpec { command, env, dir: dir_of, confinement, ..ProcessSpec::default() };
    Arc::new(ProcessProvider::new(host(dir, Facility::Auto), spec))
}

/// The endpoint that a test wrote down.
pub(crate) fn endpoint_at(text: &str) -> Endpoint {
    if let Some(path) = text.strip_prefix("unix:") {
        return Endpoint::Unix(path.into());
    }
    let rest = text.strip_prefix("http://").unwrap();
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = if path.is_empty() { String::new() } else { format!("/{path}") };
    Endpoint::Tcp { authority: authority.to_owned(), prefix }
}

/// To make an instance for the warm tier.
pub(crate) fn request(id: u64) -> CreateRequest {
    CreateRequest { id: InstanceId(id), service: shop(), tier: Tier::Warm, from: None }
}
