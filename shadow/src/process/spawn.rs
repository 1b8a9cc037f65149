//! Starting one process: command template, environment, control groups, output file.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use foreshadow_control::{InstanceId, ServiceName};

use rustix::pipe::{PipeFlags, pipe_with};

use super::confine::{self, Confinement, Fitted, KEPT, Step};
use super::logs::OutputBounds;
use super::procfs::MARKER;
use crate::error::ProviderError;

/// How instances of a service are started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessSpec {
    /// Program and arguments. `{port}`, `{address}` (host:port), `{id}` and `{service}` are
    /// replaced in each; so they are in the values of `env`.
    pub command: Vec<String>,
    /// Whether the command stands as it is: nothing in it is replaced.
    pub verbatim: bool,
    /// Whether it opens its output once more, and so must be the owner of that file.
    pub owns_output: bool,
    /// Added to Foreshadow's own environment; `PORT` is always set.
    pub env: Vec<(String, String)>,
    /// Working directory; Foreshadow's own when absent.
    pub dir: Option<PathBuf>,
    /// Ports handed out to instances; outside the kernel's ephemeral range is best.
    pub ports: RangeInclusive<u16>,
    /// What its processes are held to.
    pub confinement: Confinement,
    /// How much of what they write is kept.
    pub output: OutputBounds,
}

impl Default for ProcessSpec {
    /// No command, Foreshadow's environment and directory, ports 20000 to 29999, unconfined.
    fn default() -> Self {
        Self {
            command: Vec::new(),
            verbatim: false,
            owns_output: false,
            env: Vec::new(),
            dir: None,
            ports: 20_000..=29_999,
            confinement: Confinement::default(),
            output: OutputBounds::default(),
        }
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
    /// Whether these hold everything that it will start.
    pub(crate) in_group: bool,
    /// What it reads; nothing where absent.
    pub(crate) input: Option<File>,
    /// Where stdout and stderr are appended.
    pub(crate) output: File,
}

/// Starts the process in a session of its own; returns its pid. It is a child of this process and
/// must be reaped by whoever watches it.
pub(crate) fn spawn(spec: &ProcessSpec, mut birth: Birth<'_>) -> Result<u32, ProviderError> {
    let (address, id, service) = (birth.address, birth.id, birth.service);
    let fill = |text: &String| {
        text.replace("{port}", &address.port().to_string())
            .replace("{address}", &address.to_string())
            .replace("{id}", &id.to_string())
            .replace("{service}", service.as_str())
    };
    let (program, args) = spec.command.split_first().ok_or_else(|| ProviderError::Command {
        command: spec.command.clone(),
        problem: "it is empty; give the program and its arguments".to_owned(),
    })?;
    let fitted = Fitted::new(&spec.confinement, spec.dir.as_deref())?;
    fitted.check_reach(birth.in_group)?;
    let word = |text: &String| if spec.verbatim { text.clone() } else { fill(text) };
    let program = word(program);
    let args: Vec<String> = args.iter().map(word).collect();
    let input = birth.input.take().map_or_else(Stdio::null, Stdio::from);
    let mut command = begun(spec, &program, &args, input, birth.address)?;
    environment(&mut command, spec, &fitted, &birth, fill);
    let errors = birth.output.try_clone().map_err(ProviderError::io("duplicate", "output file"))?;
    command.stdout(birth.output).stderr(errors);
    let (told, tell) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
        .map_err(|error| ProviderError::io("make", "a pipe")(error.into()))?;
    let entrances = birth.entrances;
    let prepare = move || {
        let refuse = |(step, error): (Step, std::io::Error)| {
            confine::tell(&tell, step);
            error
        };
        rustix::process::setsid()?;
        for file in &entrances {
            join_group(file).map_err(|error| refuse((Step::Group, error)))?;
        }
        fitted.put_on().map_err(refuse)?;
        fitted.enter()
    };
    #[expect(unsafe_code, reason = "a child is confined before its program runs")]
    // SAFETY: between fork and exec the closure only makes system calls, on descriptors opened and
    // values looked up before the fork; it allocates nothing and takes no lock. Errors are built
    // from an errno, which does not allocate.
    unsafe {
        command.pre_exec(prepare);
    }
    let spawned = command.spawn();
    spawned.map(|child| child.id()).map_err(|source| {
        let mut byte = [0];
        let refused = rustix::io::read(&told, &mut byte).is_ok_and(|read| read == 1);
        if let Some(step) = Step::of(byte[0]).filter(|_| refused) {
            return step.refused(source);
        }
        ProviderError::Spawn {
            searched: searched(&program, &search_path(spec)),
            program,
            dir: spec.dir.clone().or_else(|| std::env::current_dir().ok()).unwrap_or_default(),
            source,
        }
    })
}

/// The command itself, with what it reads: its input, or the socket that it listens on.
fn begun(
    spec: &ProcessSpec,
    program: &str,
    args: &[String],
    input: Stdio,
    address: SocketAddr,
) -> Result<Command, ProviderError> {
    if !spec.confinement.private_network {
        let mut command = Command::new(program);
        command.args(args).stdin(input);
        return Ok(command);
    }
    // The socket is of this network and works in the other. It is handed over as service managers
    // do (sd_listen_fds(3)): as descriptor 3, for the process whose id is named. Only the process
    // itself knows that number before it runs, so a shell says it and becomes the program.
    let listener = TcpListener::bind(address).map_err(ProviderError::io("listen on", address))?;
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", HAND_OVER, "sh", program])
        .args(args)
        .env("LISTEN_FDS", "1")
        .stdin(Stdio::from(OwnedFd::from(listener)));
    Ok(command)
}

const HAND_OVER: &str = "LISTEN_PID=$$; export LISTEN_PID; exec \"$@\" 3<&0 0</dev/null";

/// Variables that say whose a process is.
const OF_A_USER: [&str; 3] = ["USER", "LOGNAME", "HOME"];

fn environment(
    command: &mut Command,
    spec: &ProcessSpec,
    fitted: &Fitted,
    birth: &Birth<'_>,
    fill: impl Fn(&String) -> String,
) {
    if spec.confinement.clean_env {
        let listening = command.get_envs().any(|(name, _)| name == "LISTEN_FDS");
        command.env_clear();
        command.envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        if listening {
            command.env("LISTEN_FDS", "1");
        }
    }
    match fitted.account().map(|account| &account.known) {
        Some(Some((name, home))) => {
            command.env("USER", name).env("LOGNAME", name).env("HOME", home);
        }
        // Those of Foreshadow's own user are another's.
        Some(None) => OF_A_USER.iter().for_each(|name| {
            command.env_remove(name);
        }),
        None => {}
    }
    command
        .env("PORT", birth.address.port().to_string())
        .envs(spec.env.iter().map(|(name, value)| (name, fill(value))))
        .env(MARKER, format!("{}:{}", birth.state_marker, birth.id.0));
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
