//! Starting one process: command template, environment, control groups, output file.

use std::fs::File;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use foreshadow_control::{InstanceId, ServiceName};

use super::procfs::MARKER;
use crate::error::ProviderError;

/// How instances of a service are started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessSpec {
    /// Program and arguments. `{port}`, `{address}` (host:port), `{id}` and `{service}` are
    /// replaced in each; so they are in the values of `env`.
    pub command: Vec<String>,
    /// Added to Foreshadow's own environment; `PORT` is always set.
    pub env: Vec<(String, String)>,
    /// Working directory; Foreshadow's own when absent.
    pub dir: Option<PathBuf>,
    /// Ports handed out to instances; outside the kernel's ephemeral range is best.
    pub ports: RangeInclusive<u16>,
}

impl Default for ProcessSpec {
    /// No command, Foreshadow's environment and directory, ports 20000 to 29999.
    fn default() -> Self {
        Self { command: Vec::new(), env: Vec::new(), dir: None, ports: 20_000..=29_999 }
    }
}

/// What one instance's command is filled in with, and where it is put.
pub(crate) struct Birth<'a> {
    pub(crate) id: InstanceId,
    pub(crate) service: &'a ServiceName,
    pub(crate) address: SocketAddr,
    pub(crate) state_marker: &'a str,
    /// `cgroup.procs` files to join, opened for writing.
    pub(crate) entrances: Vec<File>,
    /// Where stdout and stderr are appended.
    pub(crate) output: File,
}

/// Starts the process in a session of its own; returns its pid. It is a child of this process and
/// must be reaped by whoever watches it.
pub(crate) fn spawn(spec: &ProcessSpec, birth: Birth<'_>) -> Result<u32, ProviderError> {
    let fill = |text: &String| {
        text.replace("{port}", &birth.address.port().to_string())
            .replace("{address}", &birth.address.to_string())
            .replace("{id}", &birth.id.to_string())
            .replace("{service}", birth.service.as_str())
    };
    let (program, args) = spec.command.split_first().ok_or_else(|| ProviderError::Command {
        command: spec.command.clone(),
        problem: "it is empty; give the program and its arguments".to_owned(),
    })?;
    let errors = birth.output.try_clone().map_err(ProviderError::io("duplicate", "output file"))?;
    let mut command = Command::new(fill(program));
    command
        .args(args.iter().map(fill))
        .env("PORT", birth.address.port().to_string())
        .envs(spec.env.iter().map(|(name, value)| (name, fill(value))))
        .env(MARKER, format!("{}:{}", birth.state_marker, birth.id.0))
        .stdin(Stdio::null())
        .stdout(birth.output)
        .stderr(errors);
    if let Some(dir) = &spec.dir {
        command.current_dir(dir);
    }
    let entrances = birth.entrances;
    let join = move || {
        rustix::process::setsid()?;
        for file in &entrances {
            join_group(file)?;
        }
        Ok(())
    };
    #[expect(unsafe_code, reason = "a child joins its groups before it can fork by itself")]
    // SAFETY: between fork and exec the closure only makes the system calls setsid and write, on
    // descriptors opened before the fork; it allocates nothing and takes no lock. Errors are built
    // from an errno, which does not allocate.
    unsafe {
        command.pre_exec(join);
    }
    command.spawn().map(|child| child.id()).map_err(|source| ProviderError::Spawn {
        program: fill(program),
        dir: spec.dir.clone().or_else(|| std::env::current_dir().ok()).unwrap_or_default(),
        searched: searched(&fill(program), &search_path(spec)),
        source,
    })
}

fn join_group(procs: &File) -> std::io::Result<()> {
    const SELF: &[u8] = b"0";
    #[expect(unsafe_code, reason = "the only write that is sure to be async-signal-safe")]
    // SAFETY: `SELF` is valid for its length and the descriptor is open, being borrowed.
    let written = unsafe { libc::write(procs.as_raw_fd(), SELF.as_ptr().cast(), SELF.len()) };
    if written < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// Where a program named without a directory was looked for; a long path only by its beginning.
fn searched(program: &str, path: &str) -> String {
    const SHOWN: usize = 120;
    if program.contains('/') {
        return String::new();
    }
    let shown: String = path.chars().take(SHOWN).collect();
    let rest = if shown.len() < path.len() { "…" } else { "" };
    format!(", which was looked for in PATH={shown}{rest}")
}

fn search_path(spec: &ProcessSpec) -> String {
    let own = || std::env::var("PATH").unwrap_or_default();
    let set = spec.env.iter().rev().find(|(name, _)| name == "PATH");
    set.map_or_else(own, |(_, value)| value.clone())
}

#[cfg(test)]
mod tests {
    use super::searched;

    #[test]
    fn only_a_program_that_is_searched_for_shows_the_path_and_not_all_of_it() {
        assert_eq!(searched("/no/such", "/bin"), "");
        assert_eq!(searched("such", "/bin:/sbin"), ", which was looked for in PATH=/bin:/sbin");
        let long = searched("such", &"/ä/very/long/directory:".repeat(100));
        assert!(long.chars().count() < 170 && long.ends_with('…'), "{long}");
    }
}
