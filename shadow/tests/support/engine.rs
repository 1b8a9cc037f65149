//! A Docker Engine of the test's own: its data, its socket, its control groups, its networks. It
//! ends with the test, and nothing of it stays.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The image that every engine here has: libraries, and nothing to run. What runs is mounted.
pub(crate) const IMAGE: &str = "foreshadow-test/libraries:1";
const UP: Duration = Duration::from_secs(60);
const DOWN: Duration = Duration::from_secs(20);

/// An engine that runs.
pub(crate) struct Engine {
    child: Option<Child>,
    path: String,
    group: String,
    /// Options beyond those that every one has.
    pub(crate) more: Vec<String>,
    pub(crate) socket: PathBuf,
    dir: tempfile::TempDir,
}

/// An engine, or none: then the reason stands in the test's output, which is shown at the end of the
/// run (`.config/nextest.toml`).
pub(crate) fn engine(test: &str) -> Option<Engine> {
    match Engine::start() {
        Ok(engine) => Some(engine),
        Err(why) => {
            println!("SKIPPED: NOT TESTED on a Docker Engine: {test}: {why}");
            None
        }
    }
}

impl Engine {
    fn start() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root can start one".to_owned());
        }
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/local/sbin:/usr/sbin:/sbin";
        let found = |tool: &str| path.split(':').any(|dir| Path::new(dir).join(tool).is_file());
        if let Some(tool) = ["dockerd", "setpriv", "ldd", "tar"].iter().find(|tool| !found(tool)) {
            return Err(format!("there is no {tool}; `make setup` installs it"));
        }
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let group = format!("/foreshadow-test-{}", std::process::id());
        let socket = dir.path().join("sock");
        let mut engine = Self { child: None, path, group, more: Vec::new(), socket, dir };
        engine.run()?;
        engine.import();
        Ok(engine)
    }

    /// Starts it on what it has.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        let at = |name: &str| self.dir.path().join(name).display().to_string();
        let log = File::create(at("log")).map_err(|error| error.to_string())?;
        // It ends with the thread of the test, whatever ends that.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "TERM", "dockerd", "--shutdown-timeout=2"])
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .args(["--ip-forward=false", "--ip-masq=false"])
            .args(["--data-root", &at("data"), "--exec-root", &at("exec")])
            .args(["--pidfile", &at("pid"), "--cgroup-parent", &self.group])
            .args(["-H", &format!("unix://{}", at("sock"))])
            .args(&self.more)
            .env("PATH", &self.path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(|error| error.to_string())?)
            .stderr(log);
        let mut child = command.spawn().map_err(|error| format!("it cannot be run: {error}"))?;
        let begun = Instant::now();
        while get(&self.socket, "/_ping").is_none_or(|(status, _)| status != 200) {
            let ended = child.try_wait().map_err(|error| error.to_string())?;
            if ended.is_some() || begun.elapsed() > UP {
                self.child = Some(child);
                let log = fs::read_to_string(at("log")).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(3).collect();
                return Err(format!("it did not come up ({ended:?}): {}", last.join(" | ")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.child = Some(child);
        Ok(())
    }

    /// Ends it as an operator would; its containers end with it.
    pub(crate) fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let pid = rustix::process::Pid::from_child(&child);
        let asked = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let begun = Instant::now();
        while asked.is_ok() && begun.elapsed() < DOWN && matches!(child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        if matches!(child.try_wait(), Ok(None)) {
            println!("the test's dockerd does not end and is killed");
            child.kill().unwrap_or_default();
            child.wait().map(drop).unwrap_or_default();
        }
    }

    /// The image, from the libraries of this machine: no registry and no network are needed.
    fn import(&self) {
        let exe = std::env::current_exe().unwrap();
        let listed = Command::new("ldd").arg(exe).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        let libraries: Vec<&str> = listed
            .split_whitespace()
            .filter_map(|word| word.strip_prefix('/'))
            .filter(|path| Path::new("/").join(path).is_file())
            .collect();
        assert!(!libraries.is_empty(), "{listed}");
        let packed = Command::new("tar").args(["-C", "/", "-chf", "-"]).args(libraries).output();
        let packed = packed.unwrap().stdout;
        let (repo, tag) = IMAGE.split_once(':').unwrap();
        let path = format!("/images/create?fromSrc=-&repo={repo}&tag={tag}");
        let (status, answer) = ask(&self.socket, "POST", &path, &packed).unwrap();
        assert_eq!(status, 200, "{answer}");
    }

    /// Ends it as an accident would; its containers go on.
    pub(crate) fn crash(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        child.kill().unwrap();
        child.wait().unwrap();
        // Its helper dies of that; the next one would take it for its own until it is gone.
        let begun = Instant::now();
        while !self.helpers("containerd --config").is_empty() {
            assert!(begun.elapsed() < DOWN, "containerd outlives its engine");
            self.helpers("containerd --config").into_iter().for_each(super::kill_if_there);
            std::thread::sleep(Duration::from_millis(5));
        }
        fs::remove_file(self.dir.path().join("exec/containerd/containerd.pid")).unwrap_or_default();
    }

    /// Processes of this engine whose command line begins with a path to `what`.
    fn helpers(&self, what: &str) -> Vec<u32> {
        let here = self.dir.path().display().to_string();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains(&here) && line.contains(what)
        })
        .collect()
    }

    /// Everything that Foreshadow has made there and not taken away, by name.
    pub(crate) fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        let own = |value: &Value| value["Labels"]["foreshadow.owner"].is_string();
        let mut take = |path: &str, name: &str| {
            let (_, list) = get(&self.socket, path).unwrap();
            for one in list.as_array().unwrap().iter().filter(|one| own(one)) {
                left.push(format!("{path} {}", one[name]));
            }
        };
        take("/containers/json?all=1", "Names");
        take("/networks", "Name");
        take("/images/json?all=1", "RepoTags");
        left
    }

    /// Removes what was saved: whoever asked for it keeps its name, and here that is a process that was
    /// killed.
    pub(crate) fn forget_snapshots(&self) {
        let (_, list) = get(&self.socket, "/images/json?all=1").unwrap();
        let own = |one: &&Value| one["Labels"]["foreshadow.owner"].is_string();
        for one in list.as_array().unwrap().iter().filter(own) {
            let path = format!("/images/{}?force=1", one["Id"].as_str().unwrap());
            let (status, answer) = ask(&self.socket, "DELETE", &path, b"").unwrap();
            assert!(matches!(status, 200 | 404), "{answer}");
        }
    }

    fn clear(&self) {
        let (_, list) = get(&self.socket, "/containers/json?all=1").unwrap_or_default();
        for one in list.as_array().into_iter().flatten() {
            let id = one["Id"].as_str().unwrap_or_default();
            ask(&self.socket, "DELETE", &format!("/containers/{id}?force=1&v=1"), b"");
        }
        let (_, list) = get(&self.socket, "/networks").unwrap_or_default();
        for one in list.as_array().into_iter().flatten() {
            let name = one["Name"].as_str().unwrap_or_default();
            if !["host", "none", "bridge"].contains(&name) {
                ask(&self.socket, "DELETE", &format!("/networks/{name}"), b"");
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.clear();
        self.stop();
        // One that could not be asked may have left those that hold its containers.
        self.helpers("containerd").into_iter().for_each(super::kill_if_there);
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let here = self.dir.path().display().to_string();
        let below = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for mount in below.filter(|path| path.starts_with(&here)) {
            Command::new("umount")
                .args(["-l", mount])
                .stderr(Stdio::null())
                .status()
                .map(drop)
                .unwrap_or_default();
        }
        for controller in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let group = controller.path().join(self.group.trim_start_matches('/'));
            // Those of containers stay where their engine crashed.
            for below in fs::read_dir(&group).into_iter().flatten().flatten() {
                fs::remove_dir(below.path()).unwrap_or_default();
            }
            fs::remove_dir(group).unwrap_or_default();
        }
    }
}

pub(crate) fn get(socket: &Path, path: &str) -> Option<(u16, Value)> {
    ask(socket, "GET", path, b"")
}

/// Asks an engine by plain means, none of which the provider uses.
pub(crate) fn ask(socket: &Path, method: &str, path: &str, body: &[u8]) -> Option<(u16, Value)> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(DOWN)).ok()?;
    let kind = if body.first() == Some(&b'{') { "application/json" } else { "application/x-tar" };
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: engine\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    // A progress answer is many documents; the last one says how it went.
    let last = body.trim().lines().last().unwrap_or_default();
    Some((status, serde_json::from_str(last).unwrap_or(Value::Null)))
}
