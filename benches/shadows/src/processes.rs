//! Instances as processes of this machine, whoever made them: a container's are, too.

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

/// Ends all processes with `word` among their arguments by `kill -9`.
///
/// # Errors
/// When there is none, or one cannot be ended.
pub(crate) fn kill(word: &str) -> anyhow::Result<()> {
    let found = with(word)?;
    anyhow::ensure!(!found.is_empty(), "no process has {word:?} among its arguments");
    for pid in found {
        match kill_process(pid, Signal::KILL) {
            // The init of a container takes the others along.
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error).with_context(|| format!("kill -9 {word}")),
        }
    }
    Ok(())
}

/// Processes with `word` among their arguments.
pub(crate) fn with(word: &str) -> anyhow::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that has ended meanwhile has no arguments.
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if line.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes()) {
            found.extend(Pid::from_raw(pid));
        }
    }
    Ok(found)
}
