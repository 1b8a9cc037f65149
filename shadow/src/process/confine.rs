//! What a new process may do: user, limits, privileges, network. Put on between fork and exec.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::thread::{CapabilitySet, CapabilitySets};

use super::cgroup::Limits;
use super::user::{self, Account};
use crate::error::ProviderError;

/// What the processes of a service are held to; nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// Name or number; supplementary groups are dropped. Absent: Foreshadow's own.
    pub user: Option<String>,
    /// Name or number; absent: that of the user.
    pub group: Option<String>,
    /// Whether Foreshadow's environment is kept from it, all but a few variables.
    pub clean_env: bool,
    /// Open files at once.
    pub open_files: Option<u64>,
    /// Size of a core dump, in bytes.
    pub core_bytes: Option<u64>,
    /// Address space, in bytes.
    pub address_space_bytes: Option<u64>,
    /// Processes of its user, on the whole machine.
    pub user_processes: Option<u64>,
    /// File mode creation mask.
    pub umask: Option<u32>,
    /// Whether it can gain no rights by running others' programs.
    pub no_new_privileges: bool,
    /// Memory of the whole tree, in bytes; needs a control group.
    pub memory_bytes: Option<u64>,
    /// Threads and processes of the whole tree; needs a control group.
    pub tasks: Option<u64>,
    /// A network of its own with nothing but loopback; it is handed its listening socket.
    pub private_network: bool,
}

impl Confinement {
    /// The user and group that files for it must belong to; nothing for Foreshadow's own.
    pub(crate) fn owner(&self) -> Result<Option<(u32, u32)>, ProviderError> {
        let Some(user) = &self.user else { return Ok(None) };
        let account = user::account(user, self.group.as_deref())?;
        Ok(Some((account.uid, account.gid)))
    }

    pub(super) fn groups(&self) -> Limits {
        Limits { memory_bytes: self.memory_bytes, tasks: self.tasks }
    }
}

/// Variables that a clean environment keeps.
pub(super) const KEPT: [&str; 4] = ["PATH", "LANG", "LC_ALL", "TZ"];

/// A confinement with everything looked up, to be put on in a child.
pub(super) struct Fitted {
    account: Option<Account>,
    rlimits: Vec<(Step, libc::__rlimit_resource_t, libc::rlimit)>,
    umask: Option<libc::mode_t>,
    no_new_privileges: bool,
    private_network: bool,
    dir: Option<CString>,
}

/// What can be refused, told by its number through a pipe: a child can say no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Step {
    Group = 1,
    Network,
    OpenFiles,
    Core,
    AddressSpace,
    Processes,
    User,
    Signal,
    Privileges,
}

impl Step {
    const ALL: [Self; 9] = [
        Self::Group,
        Self::Network,
        Self::OpenFiles,
        Self::Core,
        Self::AddressSpace,
        Self::Processes,
        Self::User,
        Self::Signal,
        Self::Privileges,
    ];

    /// What was refused and what can be done.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Group => (
                "join its control group (cgroup.procs)",
                "see who owns the control groups of this service manager",
            ),
            Self::Network => (
                "give it a private network",
                "run foreshadow with CAP_SYS_ADMIN, or take out `network: private`",
            ),
            Self::OpenFiles => ("limit its open files", HARD),
            Self::Core => ("limit its core dumps", HARD),
            Self::AddressSpace => ("limit its address space", HARD),
            Self::Processes => ("limit its user's processes", HARD),
            Self::User => (
                "run it as another user",
                "run foreshadow as root or with CAP_SETUID, CAP_SETGID and CAP_KILL, or take out `user`",
            ),
            Self::Signal => (
                "signal another user's process, so it could not be ended",
                "run foreshadow as root or with CAP_KILL beside CAP_SETUID and CAP_SETGID, or take \
                 out `user`",
            ),
            Self::Privileges => ("keep new privileges from it", "take out `no_new_privileges`"),
        }
    }

    pub(super) fn refused(self, source: io::Error) -> ProviderError {
        let (operation, remedy) = self.words();
        ProviderError::Confine { operation, source, remedy }
    }

    pub(super) fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|step| *step as u8 == number)
    }
}

const HARD: &str = "a limit cannot be above foreshadow's own hard limit; \
                    raise that, or lower the one under `limits`";

impl Fitted {
    pub(super) fn new(
        confinement: &Confinement,
        dir: Option<&Path>,
    ) -> Result<Self, ProviderError> {
        let account = match &confinement.user {
            Some(user) => Some(user::account(user, confinement.group.as_deref())?),
            None => None,
        };
        let wanted = [
            (Step::OpenFiles, libc::RLIMIT_NOFILE, confinement.open_files),
            (Step::Core, libc::RLIMIT_CORE, confinement.core_bytes),
            (Step::AddressSpace, libc::RLIMIT_AS, confinement.address_space_bytes),
            (Step::Processes, libc::RLIMIT_NPROC, confinement.user_processes),
        ];
        let rlimits = wanted.into_iter().filter_map(|(step, resource, limit)| {
            let limit = limit?;
            Some((step, resource, libc::rlimit { rlim_cur: limit, rlim_max: limit }))
        });
        Ok(Self {
            account,
            rlimits: rlimits.collect(),
            umask: confinement.umask,
            no_new_privileges: confinement.no_new_privileges,
            private_network: confinement.private_network,
            dir: dir.map(|dir| CString::new(dir.as_os_str().as_bytes())).transpose().map_err(
                |_| ProviderError::Other("the provider's `dir` has a NUL in it".to_owned()),
            )?,
        })
    }

    /// Refuses an account whose processes could be started but not ended by this process.
    pub(super) fn check_reach(&self, in_group: bool) -> Result<(), ProviderError> {
        let own = rustix::process::geteuid().as_raw();
        let Some(account) = self.account.as_ref().filter(|account| account.uid != own) else {
            return Ok(());
        };
        let can = rustix::thread::capabilities(None)
            .map_err(|error| Step::Signal.refused(error.into()))?
            .effective;
        let becomes = can.contains(CapabilitySet::SETUID | CapabilitySet::SETGID);
        if becomes && !can.contains(CapabilitySet::KILL) {
            return Err(Step::Signal.refused(io::Error::from_raw_os_error(libc::EPERM)));
        }
        let reads = can.contains(CapabilitySet::SYS_PTRACE)
            && can.intersects(CapabilitySet::DAC_READ_SEARCH | CapabilitySet::DAC_OVERRIDE);
        if !in_group && !reads {
            tracing::warn!(
                uid = account.uid,
                "without control groups the processes of another user are found by their \
                 environment, which foreshadow may not read: what they start in sessions of their \
                 own outlives them; run foreshadow with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
            );
        }
        Ok(())
    }

    /// The account it will run as, where that is another than Foreshadow's own.
    pub(super) fn account(&self) -> Option<&Account> {
        self.account.as_ref()
    }

    /// Puts it on. Only makes system calls, so that it may run between fork and exec; the user
    /// comes late, since all before it may need the rights of the one before, and the directory
    /// after it, since what that user may not enter is not entered for it.
    pub(super) fn put_on(&self) -> Result<(), (Step, io::Error)> {
        if self.private_network {
            private_network().map_err(|error| (Step::Network, error))?;
        }
        for (step, resource, limit) in &self.rlimits {
            #[expect(unsafe_code, reason = "the limits of rustix take no plain resource numbers")]
            // SAFETY: the structure is valid for the time of the call.
            check(unsafe { libc::setrlimit(*resource, limit) }).map_err(|error| (*step, error))?;
        }
        if let Some(mask) = self.umask {
            #[expect(unsafe_code, reason = "a system call that cannot fail")]
            // SAFETY: it takes a number and touches no memory.
            unsafe {
                libc::umask(mask);
            }
        }
        if let Some(account) = &self.account {
            if self.no_new_privileges && account.uid != 0 {
                lower_bounds().map_err(|error| (Step::Privileges, error))?;
            }
            become_user(account).map_err(|error| (Step::User, error))?;
        }
        give_up_capabilities().map_err(|error| (Step::Privileges, error))?;
        if self.no_new_privileges {
            #[expect(unsafe_code, reason = "a system call")]
            // SAFETY: with this option it takes numbers only.
            let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
            check(result).map_err(|error| (Step::Privileges, error))?;
        }
        Ok(())
    }

    /// Enters its directory. Only makes a system call.
    pub(super) fn enter(&self) -> io::Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        #[expect(unsafe_code, reason = "the only call that is sure to allocate nothing")]
        // SAFETY: the path ends with NUL and is valid for the time of the call.
        check(unsafe { libc::chdir(dir.as_ptr()) })
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn become_user(account: &Account) -> io::Result<()> {
    #[expect(unsafe_code, reason = "changes the credentials of the whole process")]
    // SAFETY: no groups are read where their number is zero, and the others take numbers only. A
    // child has one thread, so the C library has no others to tell.
    unsafe {
        check(libc::setgroups(0, std::ptr::null()))?;
        check(libc::setgid(account.gid))?;
        check(libc::setuid(account.uid))
    }
}

/// Rights that Foreshadow was given beyond those of its user are for Foreshadow: the ambient ones
/// would survive exec, and with CAP_SETUID make root of any user (capabilities(7)). What runs as root
/// has all of them by its user, which was asked for.
fn give_up_capabilities() -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    match rustix::thread::clear_ambient_capability_set() {
        // Kernels before 4.3 have none.
        Ok(()) | Err(rustix::io::Errno::INVAL) => {}
        Err(error) => return Err(error.into()),
    }
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets)?;
    Ok(())
}

/// Empties the bounding set, above which no program can raise what it may (capabilities(7)).
fn lower_bounds() -> io::Result<()> {
    for capability in 0..CAPABILITIES {
        #[expect(unsafe_code, reason = "a system call")]
        // SAFETY: with this option it takes numbers only.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        match check(result).map_err(|error| (error.raw_os_error(), error)) {
            Ok(()) => {}
            // This kernel has no more of them, or Foreshadow not the right (CAP_SETPCAP): programs
            // that would raise anything are without effect by PR_SET_NO_NEW_PRIVS in any case.
            Err((Some(libc::EINVAL | libc::EPERM), _)) => break,
            Err((_, error)) => return Err(error),
        }
    }
    Ok(())
}

/// Bits of a set of capabilities.
const CAPABILITIES: libc::c_ulong = 64;

/// A network namespace of its own, with loopback up.
fn private_network() -> io::Result<()> {
    #[expect(unsafe_code, reason = "system calls without an equivalent that allocates nothing")]
    // SAFETY: unshare and socket take numbers; the request is a structure of plain numbers, for
    // which zero is valid, it names an interface with NUL at the end, and it is valid for the time
    // of both calls.
    unsafe {
        check(libc::unshare(libc::CLONE_NEWNET))?;
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = *from as libc::c_char;
        }
        check(libc::ioctl(socket, libc::SIOCGIFFLAGS as _, &raw mut request))?;
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        check(libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &raw mut request))?;
        check(libc::close(socket))
    }
}

/// Tells the parent which step was refused.
pub(super) fn tell(pipe: &OwnedFd, step: Step) {
    let byte = [step as u8];
    #[expect(unsafe_code, reason = "the only write that is sure to be async-signal-safe")]
    // SAFETY: the byte is valid for its length and the descriptor is open, being borrowed.
    let written = unsafe { libc::write(pipe.as_raw_fd(), byte.as_ptr().cast(), 1) };
    // Without it the parent still has the error itself.
    debug_assert!(written <= 1);
}
