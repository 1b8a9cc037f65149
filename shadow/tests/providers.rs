//! Every provider passes the same suite.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "how many schedules ran is part of the result")]

mod conformance;
mod support;

use std::time::Duration;

use conformance::subjects::opened;
use conformance::{crash, steps};
use foreshadow_control::{Action, Tier};

#[test]
fn role_entry() {
    if std::env::var(support::ROLE).as_deref() == Ok("crash") {
        return crash::play();
    }
    support::play_role();
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
        manager.apply(&support::shop(), &[Action::Create { tier: Tier::Warm }]);
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
