//! Every provider passes the same suite.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "how many schedules ran is part of the result")]

mod conformance;
mod support;

use std::time::Duration;

use conformance::subjects::{FRONT, TOKEN, opened, plain_host, python, sample, serve};
use conformance::{crash, machines, points, steps};
use foreshadow_control::{Action, InstanceId, Tier};
use foreshadow_shadow::{
    BearerToken, Cause, CreateRequest, ProviderError, Traits, WebhookProvider, WebhookSpec,
};
use support::engine::{self, Engine, engine};

#[test]
fn role_entry() {
    if std::env::var(support::ROLE).as_deref() == Ok("crash") {
        return crash::crash();
    }
    support::play_role();
}

#[test]
fn no_step_and_no_write_goes_without_an_end_in_it() {
    points::every_step_and_write_is_met();
}

macro_rules! conforms {
    ($module:ident, $name:literal) => {
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn carries_out_every_step() {
                let dir = tempfile::tempdir().unwrap();
                steps::all(&*opened($name, dir.path())).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn survives_a_kill_in_every_step() {
                let dir = tempfile::tempdir().unwrap();
                crash::killed_in_every_step($name, dir.path()).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn survives_a_drop_in_every_step() {
                let dir = tempfile::tempdir().unwrap();
                crash::dropped_in_every_step($name, dir.path()).await;
            }
        }
    };
}

conforms!(process, "process");
conforms!(process_on_cgroup_v1, "process-v1");
conforms!(process_by_signals, "process-signals");
conforms!(exec, "exec");
conforms!(webhook, "webhook");
conforms!(functions, "functions");

/// Each on an engine of its own, with what is left there afterwards.
macro_rules! conforms_on_an_engine {
    ($module:ident, $name:literal) => {
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn carries_out_every_step() {
                let Some((engine, dir)) = on_engine(concat!($name, " steps")) else { return };
                steps::all(&*opened($name, dir.path())).await;
                nothing_left(&engine).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn survives_a_kill_in_every_step() {
                let Some((engine, dir)) = on_engine(concat!($name, " killed")) else { return };
                crash::killed_in_every_step($name, dir.path()).await;
                engine.forget_snapshots();
                nothing_left(&engine).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn survives_a_drop_in_every_step() {
                let Some((engine, dir)) = on_engine(concat!($name, " dropped")) else { return };
                crash::dropped_in_every_step($name, dir.path()).await;
                nothing_left(&engine).await;
            }
        }
    };
}

conforms_on_an_engine!(docker, "docker");
conforms_on_an_engine!(docker_isolated, "docker-isolated");

/// Each on machines that begin from one that was booted and saved.
mod vm {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn carries_out_every_step() {
        let Some(dir) = machines::booted("vm steps").await else { return };
        steps::all(&*opened("vm", dir.path())).await;
        machines::nothing_left(dir.path());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn survives_a_kill_in_every_step() {
        let Some(dir) = machines::booted("vm killed").await else { return };
        crash::killed_in_every_step("vm", dir.path()).await;
        machines::nothing_left(dir.path());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn survives_a_drop_in_every_step() {
        let Some(dir) = machines::booted("vm dropped").await else { return };
        crash::dropped_in_every_step("vm", dir.path()).await;
        machines::nothing_left(dir.path());
    }
}

/// An engine with the network of the tests, and a state directory that names it.
fn on_engine(test: &str) -> Option<(Engine, tempfile::TempDir)> {
    let engine = engine(test)?;
    let body = format!("{{\"Name\": \"{FRONT}\"}}");
    let made = engine::ask(&engine.socket, "POST", "/networks/create", body.as_bytes());
    assert_eq!(made.unwrap().0, 201);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("engine"), engine.socket.display().to_string()).unwrap();
    Some((engine, dir))
}

/// What a call that was cut off had ordered may come to be there later, and is then removed.
async fn nothing_left(engine: &Engine) {
    support::until("nothing is left at the engine", || {
        let left = engine.left();
        left.is_empty().then_some(()).or_else(|| {
            println!("still there: {left:?}");
            None
        })
    })
    .await;
}

/// Runs a manager to the end of `work` on a runtime of its own, and then drops it as a crash would.
fn crashed<W: Future<Output = ()>>(work: impl FnOnce() -> W + Send) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(work());
            runtime.shutdown_timeout(Duration::from_secs(20));
        });
    });
}

/// A service that went away together with the only command that could end its instances.
#[test]
fn an_instance_that_nothing_here_can_end_stays_recorded_until_something_can() {
    let dir = tempfile::tempdir().unwrap();
    let subject = opened("exec", dir.path());
    crashed(|| async {
        let manager = crash::manager(dir.path(), Some(subject.provider())).await;
        manager.apply(&support::shop(), &[Action::create(Tier::Warm)]);
        let id = manager.snapshot()[0].id;
        support::settled(&manager, id, Tier::Warm).await;
    });
    let running = subject.running();
    assert_eq!(running.len(), 1);
    crashed(|| async {
        let manager = crash::manager(dir.path(), None).await;
        assert_eq!(manager.snapshot(), []);
        manager.shutdown().await;
    });
    assert_eq!(subject.running(), running, "nobody could end it");
    crashed(|| async {
        let manager = crash::manager(dir.path(), Some(subject.provider())).await;
        let known: Vec<_> = manager.snapshot().iter().map(|i| i.id).collect();
        assert_eq!(known, running, "it was not forgotten");
        manager.shutdown().await;
    });
    assert_eq!(subject.running(), []);
}

/// The sample server says why it refuses, and that reaches the operator.
#[tokio::test(flavor = "multi_thread")]
async fn a_quota_and_a_wrong_token_are_told_by_the_sample() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, endpoint) = serve(dir.path(), &["--most", "1"]);
    let of = |token: &str| {
        let spec = WebhookSpec {
            endpoint: support::endpoint_at(&endpoint),
            token: Some(BearerToken(token.to_owned())),
            traits: Traits::default(),
        };
        WebhookProvider::new(&plain_host(dir.path()), spec)
    };
    let ask = |id| CreateRequest {
        id: InstanceId(id),
        service: support::shop(),
        tier: Tier::Warm,
        from: None,
    };
    let provider = of(TOKEN);
    let made = provider.create(&ask(1)).await.unwrap();
    let error = provider.create(&ask(2)).await.unwrap_err();
    assert!(matches!(error, ProviderError::Refused { cause: Cause::Quota, .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("403 Forbidden: 1 of 1 instances exist; raise the quota"), "{text}");
    provider.destroy(&made, Duration::ZERO).await.unwrap();
    let error = of("another-token").create(&ask(3)).await.unwrap_err();
    assert!(matches!(error, ProviderError::Refused { cause: Cause::Denied, .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("401 Unauthorized: a bearer token is needed"), "{text}");
    assert!(!text.contains("another-token"), "{text}");
}

/// The sample's list while an order is under way, and what it keeps of instances long gone.
#[test]
fn the_sample_command_lists_what_is_being_made_and_forgets_what_is_long_gone() {
    use std::io::Write as _;
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("owner");
    let ask = |operation: &str, more: &str| -> serde_json::Value {
        let run = python();
        let mut command = std::process::Command::new(&run[0]);
        command.args(&run[1..]).arg(sample("exec.py")).arg(dir.path());
        command.args(["--", "true", operation]);
        let (stdin, stdout) = (std::process::Stdio::piped(), std::process::Stdio::piped());
        let mut child = command.stdin(stdin).stdout(stdout).spawn().unwrap();
        let document = format!("{{\"owner\": \"owner\"{more}}}");
        child.stdin.take().unwrap().write_all(document.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    };
    let state = || ask("list", "")["instances"][0]["state"].as_str().unwrap().to_owned();

    // As `create` leaves it between the record and the process.
    std::fs::create_dir(&place).unwrap();
    let record =
        r#"{"instance": "i7", "service": "shop", "address": "127.0.0.1:7", "state": "running"}"#;
    std::fs::write(place.join("i7.json"), record).unwrap();
    let lock = std::fs::File::create(place.join("i7.lock")).unwrap();
    lock.lock().unwrap();
    assert_eq!(state(), "starting");
    lock.unlock().unwrap();
    assert_eq!(state(), "ended");

    for name in ["i1.gone", "i1.lock", "i2.gone", "i2.lock"] {
        std::fs::write(place.join(name), "").unwrap();
    }
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(25 * 3_600);
    let old = std::fs::File::options().write(true).open(place.join("i1.gone")).unwrap();
    old.set_modified(long_ago).unwrap();
    ask("destroy", ", \"instance\": \"i7\"");
    let mut left: Vec<_> = std::fs::read_dir(&place)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["i2.gone", "i2.lock", "i7.gone", "i7.lock"]);
}
