//! What a process of an instance is held to, seen from outside.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use foreshadow_shadow::{
    Confinement, Facility, Handle, ProcessProvider, ProcessSpec, Provider, Sweep,
};
use support::{confined as provider, host, is_root, not_tested, request, until};

#[test]
fn role_entry() {
    support::play_role();
}

async fn made(provider: &Arc<dyn Provider>, id: u64) -> (Handle, Proc) {
    let handle = provider.create(&request(id)).await.unwrap();
    let proc = Proc(PathBuf::from(format!("/proc/{}", handle.pid.unwrap())));
    // A program can be seen a moment after it was begun.
    until("its environment", || (!proc.variables().is_empty()).then_some(())).await;
    (handle, proc)
}

/// What the kernel says of a process.
struct Proc(PathBuf);

impl Proc {
    fn read(&self, file: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.0.join(file)).unwrap_or_default()).into_owned()
    }

    fn variables(&self) -> Vec<String> {
        let text = self.read("environ");
        let mut names: Vec<String> = text
            .split('\0')
            .filter_map(|variable| Some(variable.split_once('=')?.0.to_owned()))
            .collect();
        names.sort();
        names
    }

    fn status(&self, field: &str) -> String {
        let text = self.read("status");
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
        line.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn limit(&self, name: &str) -> String {
        let text = self.read("limits");
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }
}

#[tokio::test]
async fn a_process_is_held_to_limits_mask_privileges_and_a_clean_environment() {
    let dir = tempfile::tempdir().unwrap();
    let confinement = Confinement {
        clean_env: true,
        open_files: Some(64),
        core_bytes: Some(0),
        address_space_bytes: Some(1 << 32),
        user_processes: Some(500),
        umask: Some(0o027),
        no_new_privileges: true,
        ..Confinement::default()
    };
    let provider = provider(dir.path(), &["sleep", "1000"], confinement);
    let (handle, proc) = made(&provider, 1).await;
    assert_eq!(proc.limit("Max open files"), "64 64");
    assert_eq!(proc.limit("Max core file size"), "0 0");
    assert_eq!(proc.limit("Max address space"), "4294967296 4294967296");
    assert_eq!(proc.limit("Max processes"), "500 500");
    assert_eq!((proc.status("Umask"), proc.status("NoNewPrivs")), ("0027".into(), "1".into()));
    let kept = ["FORESHADOW_INSTANCE", "GIVEN", "LANG", "LC_ALL", "PATH", "PORT", "TZ"];
    let names = proc.variables();
    assert!(names.iter().all(|name| kept.contains(&name.as_str())), "{names:?}");
    assert!(["GIVEN", "PATH", "PORT"].iter().all(|name| names.iter().any(|n| n == name)));
    assert_eq!(fs::read_link(proc.0.join("cwd")).unwrap(), dir.path().canonicalize().unwrap());
    provider.destroy(&handle, Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_process_runs_as_another_user_without_further_groups() {
    if !is_root("running as another user") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (user, group, ids) in
        [("nobody", None, None), ("54321", Some("12345"), Some(("54321", "12345")))]
    {
        let confinement = Confinement {
            user: Some(user.to_owned()),
            group: group.map(str::to_owned),
            ..Confinement::default()
        };
        let provider = provider(dir.path(), &["sleep", "1000"], confinement);
        let (handle, proc) = made(&provider, 1).await;
        let uid = proc.status("Uid");
        assert!(!uid.starts_with("0 "), "{uid}");
        assert_eq!(proc.status("Groups"), "");
        if let Some((uid, gid)) = ids {
            assert_eq!(proc.status("Uid"), [uid; 4].join(" "));
            assert_eq!(proc.status("Gid"), [gid; 4].join(" "));
        } else {
            assert!(proc.read("environ").contains("USER=nobody\0"));
        }
        // It is found and ended like any other.
        let second = ProcessProvider::janitor(host(dir.path(), Facility::None));
        assert_eq!(second.sweep(&Sweep::default()).await.unwrap(), 1);
        provider.destroy(&handle, Duration::ZERO).await.unwrap();
    }
}

#[tokio::test]
async fn nothing_of_foreshadows_own_user_is_used_for_another() {
    if !is_root("what is left of root for another user") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let confinement = Confinement {
        user: Some("54321".to_owned()),
        group: Some("12345".to_owned()),
        ..Confinement::default()
    };
    let provider = provider(dir.path(), &["sleep", "1000"], confinement);
    let (handle, proc) = made(&provider, 1).await;
    let names = proc.variables();
    let own = ["HOME", "LOGNAME", "USER"];
    assert!(!names.iter().any(|name| own.contains(&name.as_str())), "{names:?}");
    provider.destroy(&handle, Duration::ZERO).await.unwrap();

    // A directory that only root may enter.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let error = provider.create(&request(2)).await.unwrap_err().to_string();
    assert!(error.contains("Permission denied (os error 13); make it executable"), "{error}");
    assert!(error.contains(&format!("in directory {:?}", dir.path())), "{error}");
}

#[tokio::test]
async fn an_unknown_user_is_an_error_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let confinement =
        Confinement { user: Some("no-such-user".to_owned()), ..Confinement::default() };
    let provider = provider(dir.path(), &["sleep", "1000"], confinement);
    let error = provider.create(&request(1)).await.unwrap_err().to_string();
    assert!(error.contains("there is no user \"no-such-user\""), "{error}");
    assert_eq!(provider.sweep(&Sweep::default()).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_and_tasks_of_the_tree_are_limited_where_the_machine_can() {
    let dir = tempfile::tempdir().unwrap();
    let of = |memory_bytes, tasks| Confinement { memory_bytes, tasks, ..Confinement::default() };
    let greedy = provider(dir.path(), &["tail", "/dev/zero"], of(Some(64 << 20), None));
    match greedy.create(&request(1)).await {
        Ok(handle) => {
            let exit = tokio::time::timeout(Duration::from_secs(60), greedy.exited(&handle)).await;
            let exit = exit.unwrap().0;
            assert!(exit.starts_with("killed by signal 9"), "{exit}");
            greedy.destroy(&handle, Duration::ZERO).await.unwrap();
        }
        Err(error) => {
            assert!(error.to_string().contains("cannot limit memory here"), "{error}");
            not_tested("a limit of memory", &error.to_string());
        }
    }
    // A shell that may have no child beside itself.
    let script = "sleep 1000 & sleep 1000 & sleep 1000 & wait";
    let crowd = provider(dir.path(), &["sh", "-c", script], of(None, Some(2)));
    match crowd.create(&request(2)).await {
        Ok(handle) => {
            let exit = tokio::time::timeout(Duration::from_secs(60), crowd.exited(&handle)).await;
            assert!(exit.unwrap().0.starts_with("exited with code"));
            let lines = crowd.diagnose(&handle).await.last_lines.join(" ");
            assert!(lines.to_lowercase().contains("fork"), "{lines}");
            crowd.destroy(&handle, Duration::ZERO).await.unwrap();
        }
        Err(error) => {
            assert!(error.to_string().contains("cannot limit tasks here"), "{error}");
            not_tested("a limit of tasks", &error.to_string());
        }
    }
}

#[tokio::test]
async fn a_limit_without_a_controller_is_refused_not_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let command = vec!["sleep".to_owned(), "1000".to_owned()];
    for (memory_bytes, tasks, what) in [(Some(1 << 30), None, "memory"), (None, Some(9), "tasks")] {
        let confinement = Confinement { memory_bytes, tasks, ..Confinement::default() };
        let spec = ProcessSpec { command: command.clone(), confinement, ..ProcessSpec::default() };
        let provider = ProcessProvider::new(host(dir.path(), Facility::None), spec);
        let error = provider.create(&request(1)).await.unwrap_err().to_string();
        let expected = format!(
            "cannot limit {what} here: control groups are not used, as configured; take `{what}` out"
        );
        assert!(error.starts_with(&expected), "{error}");
    }
}

/// Answers `ok` on the socket it was handed.
const HANDED: &str = r#"
import os, socket
assert os.environ["LISTEN_FDS"] == "1" and os.environ["LISTEN_PID"] == str(os.getpid())
handed = socket.socket(fileno=3)
with socket.create_server(("127.0.0.1", 0)) as own:
    socket.create_connection(own.getsockname()).close()
while True:
    client, _ = handed.accept()
    client.sendall(b"ok")
    client.close()
"#;

#[tokio::test]
async fn a_private_network_has_loopback_and_the_socket_that_was_handed_over() {
    let dir = tempfile::tempdir().unwrap();
    for clean_env in [false, true] {
        let confinement =
            Confinement { private_network: true, clean_env, ..Confinement::default() };
        let provider = provider(dir.path(), &["python3", "-c", HANDED], confinement);
        let handle = match provider.create(&request(1)).await {
            Ok(handle) => handle,
            Err(error) => {
                assert!(error.to_string().starts_with("cannot give it a private network"));
                return not_tested("a private network", &error.to_string());
            }
        };
        let ready = || async { support::answers(handle.address).await };
        let end = tokio::time::Instant::now() + Duration::from_secs(30);
        while !ready().await {
            let lines = provider.diagnose(&handle).await.last_lines;
            assert!(tokio::time::Instant::now() < end, "it never answers: {lines:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let network = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        assert_ne!(network(&handle.pid.unwrap().to_string()), network("self"));
        provider.destroy(&handle, Duration::ZERO).await.unwrap();
    }
}

#[tokio::test]
async fn only_marked_processes_of_this_state_directory_are_swept() {
    let dir = tempfile::tempdir().unwrap();
    let mut others: Vec<_> = ["other:1", "nonsense", ""]
        .map(|mark| {
            let mut command = Command::new("sleep");
            command.arg("1000").env("FORESHADOW_INSTANCE", mark).spawn().unwrap()
        })
        .into();
    let first = provider(dir.path(), &["sleep", "1000"], Confinement::default());
    let (keep, _) = made(&first, 1).await;
    let (goes, _) = made(&first, 2).await;
    let second = ProcessProvider::janitor(host(dir.path(), Facility::Auto));
    let sweep = Sweep { keep: vec![keep.id], lost: vec![goes.id] };
    assert_eq!(second.sweep(&sweep).await.unwrap(), 1);
    assert!(support::exists(keep.pid.unwrap()));
    for other in &mut others {
        assert_eq!(other.try_wait().unwrap(), None, "somebody else's process was ended");
        other.kill().unwrap();
        other.wait().unwrap();
    }
    for handle in [keep, goes] {
        first.destroy(&handle, Duration::ZERO).await.unwrap();
    }
}
