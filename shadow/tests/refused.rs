//! What a machine refuses: rights, room on a disk, one process more.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(
    clippy::print_stdout,
    reason = "how a role tells what it met, and a test what it left out"
)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use foreshadow_control::{Action, Fact, Tier};
use foreshadow_shadow::{
    Confinement, Facility, ProcessProvider, ProcessSpec, Provider as _, Sweep,
};
use support::{confined as provider, host, is_root, not_tested, request, role, shop, start, until};

#[test]
fn role_entry() {
    match std::env::var(support::ROLE).as_deref() {
        Ok("unprivileged") => unprivileged(),
        Ok("capable") => capable(),
        Ok("full disk") => full_disk(),
        _ => support::play_role(),
    }
}

#[tokio::test]
async fn a_program_that_may_not_be_run_or_not_once_more_is_told_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain");
    fs::write(&plain, "#!/bin/sh\n").unwrap();
    let denied = provider(dir.path(), &[plain.to_str().unwrap()], Confinement::default());
    let error = denied.create(&request(1)).await.unwrap_err().to_string();
    assert!(error.contains("Permission denied (os error 13); make it executable"), "{error}");

    if !is_root("a user that may have no more processes") {
        return;
    }
    // The kernel looks at what the user has already when a process becomes it.
    let confinement = |user_processes| Confinement {
        user: Some("54322".to_owned()),
        group: Some("12345".to_owned()),
        user_processes,
        ..Confinement::default()
    };
    let first = provider(dir.path(), &["sleep", "1000"], confinement(None));
    let runs = first.create(&request(2)).await.unwrap();
    let too = first.create(&request(4)).await.unwrap();
    let second = provider(dir.path(), &["sleep", "1000"], confinement(Some(1)));
    let error = second.create(&request(3)).await.unwrap_err().to_string();
    assert!(error.contains("may have no more processes; raise that limit"), "{error}");
    let keep = Sweep { keep: vec![runs.id, too.id], lost: vec![] };
    assert_eq!(second.sweep(&keep).await.unwrap(), 0, "nothing of it is left");
    for handle in [runs, too] {
        first.destroy(&handle, Duration::ZERO).await.unwrap();
    }
}

/// Runs this test binary in a role; returns what it said, or nothing where it could not be run.
fn played(mut command: Command, name: &str, dir: &Path) -> Option<String> {
    let spec = role(name, &[]);
    command.args(&spec.command).envs(spec.env).env("STATE_DIR", dir).stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !said.contains("role begun") {
        not_tested(name, &String::from_utf8_lossy(&output.stderr));
        return None;
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complaint}");
    Some(said)
}

#[test]
fn rights_that_foreshadow_lacks_are_named() {
    if !is_root("what an unprivileged foreshadow says") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--"]);
    std::os::unix::fs::chown(dir.path(), Some(65_534), Some(65_534)).unwrap();
    let Some(said) = played(command, "unprivileged", dir.path()) else { return };
    let user = "cannot run it as another user: Operation not permitted (os error 1); \
                run foreshadow as root or with CAP_SETUID, CAP_SETGID and CAP_KILL, or take out";
    assert!(said.contains(user), "{said}");
    let network = "cannot give it a private network: Operation not permitted (os error 1); \
                   run foreshadow with CAP_SYS_ADMIN";
    assert!(said.contains(network), "{said}");
    assert!(said.contains("cannot limit its open files: Operation not permitted"), "{said}");
}

/// The state of a service manager's unit with `User=` and these `AmbientCapabilities=`.
fn with_ambient(capabilities: &[&str], dir: &Path) -> Command {
    let raised = |option: &str| {
        let each = capabilities.iter().map(|name| format!(",+{name}"));
        format!("--{option}=-all{}", each.collect::<String>())
    };
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.args([raised("inh-caps"), raised("ambient-caps"), "--".to_owned()]);
    std::os::unix::fs::chown(dir, Some(65_534), Some(65_534)).unwrap();
    command
}

#[test]
fn capabilities_of_foreshadow_do_not_pass_to_its_instances() {
    if !is_root("what an instance inherits of ambient capabilities") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let all = ["setuid", "setgid", "kill", "sys_ptrace", "dac_read_search"];
    let command = with_ambient(&all, dir.path());
    let Some(said) = played(command, "capable", dir.path()) else { return };
    let none = "0".repeat(16);
    let held: Vec<&str> = said.lines().filter(|line| line.starts_with("Cap")).collect();
    let with_user = ["CapInh", "CapPrm", "CapEff", "CapAmb"].map(|set| format!("{set} {none}"));
    assert_eq!(held, [with_user.clone(), with_user.clone(), with_user].concat(), "{said}");
}

#[test]
fn what_could_not_be_ended_is_not_begun() {
    if !is_root("a foreshadow that may change users and not signal them") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let command = with_ambient(&["setuid", "setgid"], dir.path());
    let Some(said) = played(command, "capable", dir.path()) else { return };
    let refused = "cannot signal another user's process, so it could not be ended: \
                   Operation not permitted (os error 1); run foreshadow as root or with CAP_KILL";
    assert_eq!(said.matches(refused).count(), 2, "{said}");
}

/// Tells what instances of another user, held tighter or not, and of its own user may do.
fn capable() {
    let dir = PathBuf::from(std::env::var("STATE_DIR").unwrap());
    block_on(async {
        for (id, user, no_new_privileges) in
            [(1, Some("54321"), true), (2, Some("54321"), false), (3, None, false)]
        {
            let user = user.map(str::to_owned);
            let group = user.as_ref().map(|_| "12345".to_owned());
            let confinement =
                Confinement { user, group, no_new_privileges, ..Confinement::default() };
            let provider = provider(&dir, &["sleep", "1000"], confinement);
            match provider.create(&request(id)).await {
                Ok(handle) => {
                    let proc = format!("/proc/{}", handle.pid.unwrap());
                    until("its program", || {
                        let name = fs::read_to_string(format!("{proc}/comm")).unwrap();
                        (name == "sleep\n").then_some(())
                    })
                    .await;
                    for line in fs::read_to_string(format!("{proc}/status")).unwrap().lines() {
                        let (name, value) = line.split_once(":\t").unwrap();
                        if ["CapInh", "CapPrm", "CapEff", "CapAmb"].contains(&name) {
                            println!("{name} {value}");
                        }
                    }
                    provider.destroy(&handle, Duration::ZERO).await.unwrap();
                    assert!(!support::exists(handle.pid.unwrap()));
                }
                Err(error) => println!("{error}"),
            }
        }
    });
}

fn block_on(work: impl Future<Output = ()>) {
    println!("role begun");
    tokio::runtime::Runtime::new().unwrap().block_on(work);
}

fn unprivileged() {
    let dir = PathBuf::from(std::env::var("STATE_DIR").unwrap());
    block_on(async {
        let none = Confinement::default();
        for confinement in [
            Confinement { user: Some("root".to_owned()), ..none.clone() },
            Confinement { private_network: true, ..none.clone() },
            Confinement { open_files: Some(u64::MAX >> 1), ..none },
        ] {
            let provider = provider(&dir, &["sleep", "1000"], confinement);
            println!("{}", provider.create(&request(1)).await.unwrap_err());
        }
    });
}

#[test]
fn a_full_disk_is_said_by_whoever_meets_it_and_harms_nothing_that_runs() {
    if !is_root("a full disk") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    let script = r#"mount -t tmpfs -o size=2m,nr_inodes=64 none "$STATE_DIR" && exec "$@""#;
    command.args(["-m", "--", "sh", "-c", script, "sh"]);
    let Some(said) = played(command, "full disk", dir.path()) else { return };
    assert!(said.contains("cannot open its output file: No space left on device"), "{said}");
    assert!(said.contains("make room on that disk, it is tried again after a pause"), "{said}");
    assert!(said.contains("make room on the disk"), "{said}");
}

fn full_disk() {
    let dir = PathBuf::from(std::env::var("STATE_DIR").unwrap());
    block_on(async {
        let host = host(&dir, Facility::None);
        let service = support::service(&host, role("server", &[]));
        let manager = start(&dir, &host, vec![service]).await.unwrap();
        manager.apply(&shop(), &[Action::create(Tier::Warm)]);
        let first = manager.snapshot()[0].id;
        let made = support::settled(&manager, first, Tier::Warm).await;

        // Bytes and names: the registry writes, an output file is new.
        let mut filling = fs::File::create(dir.join("filling")).unwrap();
        while std::io::Write::write_all(&mut filling, &[0; 4096]).is_ok() {}
        for name in 0.. {
            if fs::write(dir.join(format!("filling-{name}")), "").is_err() {
                break;
            }
        }
        let spec = ProcessSpec { command: vec!["true".to_owned()], ..ProcessSpec::default() };
        let provider = ProcessProvider::new(Arc::clone(&host), spec);
        println!("{}", provider.create(&request(99)).await.unwrap_err());
        manager.apply(&shop(), &[Action::create(Tier::Warm)]);
        let error = until("the failure", || {
            manager.take_facts().into_iter().find_map(|(_, fact)| match fact {
                Fact::StepFailed { error, .. } => Some(error),
                _ => None,
            })
        })
        .await;
        println!("{error}");
        assert!(support::answers(made.address.unwrap()).await, "what ran runs");

        drop(filling);
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with("filling") {
                fs::remove_file(path).unwrap();
            }
        }
        until("it works again once there is room", || {
            manager.apply(&shop(), &[Action::create(Tier::Warm)]);
            let all = manager.snapshot();
            let warm = all.iter().filter(|i| i.tier == Tier::Warm).count();
            (warm >= 2).then_some(())
        })
        .await;
        manager.shutdown().await;
    });
}
