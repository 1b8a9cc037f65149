//! The providers under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use foreshadow_control::InstanceId;
use foreshadow_shadow::{
    Capabilities, ExecProvider, ExecSpec, Facility, ProcessHost, ProcessProvider, Provider, Traits,
};

use super::Subject;
use crate::support::{self, host, processes_with, role};

/// The subject of that name, keeping its state below `dir`.
pub(crate) fn opened(name: &str, dir: &Path) -> Box<dyn Subject> {
    let dir = dir.to_owned();
    match name {
        "process" => Box::new(Processes { dir, facility: Facility::Auto }),
        "process-v1" => Box::new(Processes { dir, facility: Facility::V1 }),
        "process-signals" => Box::new(Processes { dir, facility: Facility::None }),
        "exec" => Box::new(Exec { dir }),
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

fn ids(dir: &Path) -> Vec<InstanceId> {
    running(dir).into_iter().map(|(id, _)| id).collect()
}

fn end(dir: &Path, id: InstanceId) {
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
