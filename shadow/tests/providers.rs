//! Every provider passes the same suite.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "how many schedules ran is part of the result")]

mod conformance;
mod support;

use conformance::subjects::opened;
use conformance::{crash, steps};

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
