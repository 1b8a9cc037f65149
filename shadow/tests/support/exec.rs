//! Command providers whose command is a shell script.

use std::path::Path;
use std::sync::Arc;

use foreshadow_control::InstanceId;
use foreshadow_shadow::{Cause, ExecProvider, ExecSpec, Facility, Handle, Provider, ProviderError};

use super::{host, shop};

/// A provider whose command is a shell script; the operation is its `$1`.
pub(crate) fn provider(dir: &Path, script: &str) -> Arc<dyn Provider> {
    with(dir, script, |_| {})
}

pub(crate) fn with(
    dir: &Path,
    script: &str,
    change: impl FnOnce(&mut ExecSpec),
) -> Arc<dyn Provider> {
    let command = ["/bin/sh", "-c", script, "provider"].map(str::to_owned).to_vec();
    let env = vec![("DIR".to_owned(), dir.display().to_string())];
    let mut spec = ExecSpec { command, env, ..ExecSpec::default() };
    change(&mut spec);
    ExecProvider::new(&host(dir, Facility::None), spec)
}

pub(crate) fn handle(id: u64) -> Handle {
    Handle {
        id: InstanceId(id),
        service: shop(),
        address: "127.0.0.1:9".parse().unwrap(),
        pid: None,
        state: "{\"place\": \"\"}".to_owned(),
    }
}

pub(crate) fn told(error: &ProviderError) -> (Cause, String) {
    match error {
        ProviderError::Refused { cause, .. } => (*cause, error.to_string()),
        other => panic!("{other}"),
    }
}
