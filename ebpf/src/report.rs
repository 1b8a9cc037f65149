//! Where each kernel signal comes from on this machine, and why.

use std::fmt;
use std::os::fd::AsFd;

use aya::maps::MapType;
use aya::programs::ProgramType;
use serde::Serialize;

use crate::capabilities::Capabilities;
use crate::tcp_info::tcp_info;

/// Something the kernel can say of the connections to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// Smoothed round-trip time.
    Rtt,
    /// Segments sent again.
    Retransmits,
    /// Segments sent and not acknowledged.
    Unacked,
    /// Bytes acknowledged and received.
    Bytes,
    /// Time from SYN to established, as the kernel saw it.
    ConnectLatency,
    /// Connections that were never established.
    ConnectFailures,
    /// Resets received from the instance.
    Resets,
}

impl Signal {
    /// All signals.
    pub const ALL: [Self; 7] = [
        Self::Rtt,
        Self::Retransmits,
        Self::Unacked,
        Self::Bytes,
        Self::ConnectLatency,
        Self::ConnectFailures,
        Self::Resets,
    ];

    /// The name as written in logs and the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rtt => "rtt",
            Self::Retransmits => "retransmits",
            Self::Unacked => "unacked",
            Self::Bytes => "bytes",
            Self::ConnectLatency => "connect_latency",
            Self::ConnectFailures => "connect_failures",
            Self::Resets => "resets",
        }
    }

    /// Whether `TCP_INFO` has it too: it can be read from an established connection at any time,
    /// where the others are events that have passed by then.
    fn in_tcp_info(self) -> bool {
        matches!(self, Self::Rtt | Self::Retransmits | Self::Unacked | Self::Bytes)
    }

    fn hook(self) -> Hook {
        match self {
            Self::Resets => Hook::TpBtf,
            _ => Hook::SockOps,
        }
    }
}

/// Where a signal comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A program in the kernel that sees every event.
    Kernel,
    /// `getsockopt(TCP_INFO)` on our own sockets, as often as we ask.
    TcpInfo,
    /// Nothing: the signal is missing.
    Absent,
}

/// One signal, its source, and why it is that one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SignalSource {
    /// The signal.
    pub signal: Signal,
    /// Where it comes from.
    pub source: Source,
    /// Why, and whether this kernel would allow the better source.
    pub why: String,
}

/// What this machine's kernel offers to this process. [`fmt::Display`] gives one line for a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KernelReport {
    /// The kernel's release; empty when it cannot be read.
    pub release: String,
    /// The capabilities this process has.
    pub capabilities: Capabilities,
    /// One entry per signal, in the order of [`Signal::ALL`].
    pub sources: Vec<SignalSource>,
}

/// Asks the kernel what it offers to this process, by trying: the kernel's version says little,
/// since features are configured out, back-ported and forbidden. Loads empty programs and makes a
/// map where the capabilities allow it, and leaves nothing behind. Takes milliseconds; call it
/// once, at start.
#[must_use]
pub fn probe() -> KernelReport {
    let capabilities = Capabilities::of_this_process();
    report(capabilities, &try_tcp_info(), |hook| hook.try_out(capabilities))
}

/// The part of the kernel a signal's program would be attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hook {
    /// `sock_ops` with socket storage, on a cgroup.
    SockOps,
    /// A tracepoint with kernel types, for received resets.
    TpBtf,
}

impl Hook {
    /// `Err` says what stands in the way.
    fn try_out(self, capabilities: Capabilities) -> Result<(), String> {
        self.permitted(capabilities)?;
        match self {
            Self::SockOps => {
                supported(
                    "sock_ops programs",
                    aya::sys::is_program_supported(ProgramType::SockOps),
                )?;
                supported("socket storage", aya::sys::is_map_supported(MapType::SkStorage))
            }
            Self::TpBtf => {
                std::fs::metadata("/sys/kernel/btf/vmlinux").map_err(|error| {
                    format!("the kernel's type information is missing: {error}")
                })?;
                // Whether tracing programs may be attached to functions is another question than
                // whether they may be attached to tracepoints, and the probe fails on the first.
                match aya::sys::is_program_supported(ProgramType::Tracing) {
                    Ok(false) => Err("the kernel has no tracing programs".to_owned()),
                    Ok(true) | Err(_) => Ok(()),
                }
            }
        }
    }

    fn permitted(self, capabilities: Capabilities) -> Result<(), String> {
        let wanted = [
            (capabilities.bpf, "CAP_BPF", true),
            (capabilities.net_admin, "CAP_NET_ADMIN", true),
            (capabilities.perfmon, "CAP_PERFMON", self == Self::TpBtf),
        ];
        let lacking: Vec<&str> = wanted
            .into_iter()
            .filter_map(|(held, name, needed)| (needed && !held).then_some(name))
            .collect();
        if lacking.is_empty() {
            Ok(())
        } else {
            Err(format!("this process lacks {}", lacking.join(" and ")))
        }
    }
}

fn supported<E: std::error::Error>(what: &str, probed: Result<bool, E>) -> Result<(), String> {
    match probed {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("the kernel has no {what}")),
        Err(error) => {
            let cause = error.source().map_or_else(String::new, |source| format!(": {source}"));
            Err(format!("trying {what} failed: {error}{cause}"))
        }
    }
}

/// A listening socket is enough to see whether the call is there and fills what is needed.
fn try_tcp_info() -> Result<(), String> {
    std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| tcp_info(listener.as_fd()))
        .map(|_| ())
        .map_err(|error| error.to_string())
}

fn report(
    capabilities: Capabilities,
    tcp_info: &Result<(), String>,
    try_out: impl Fn(Hook) -> Result<(), String>,
) -> KernelReport {
    let (sock_ops, tp_btf) = (try_out(Hook::SockOps), try_out(Hook::TpBtf));
    let sources = Signal::ALL
        .into_iter()
        .map(|signal| {
            let would = match if signal.hook() == Hook::SockOps { &sock_ops } else { &tp_btf } {
                Ok(()) => "this kernel would allow them".to_owned(),
                Err(obstacle) => format!("this kernel would not allow them: {obstacle}"),
            };
            let kernel = format!("kernel programs are not part of this build; {would}");
            let (source, why) = match tcp_info {
                Ok(()) if signal.in_tcp_info() => (Source::TcpInfo, kernel),
                Err(error) if signal.in_tcp_info() => {
                    (Source::Absent, format!("reading tcp_info failed: {error}; {kernel}"))
                }
                _ => (Source::Absent, format!("tcp_info does not have it; {kernel}")),
            };
            SignalSource { signal, source, why }
        })
        .collect();
    KernelReport { release: release(), capabilities, sources }
}

fn release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

impl fmt::Display for KernelReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel {}, capabilities {}", self.release, self.capabilities)?;
        for (source, name) in [
            (Source::Kernel, "from kernel programs"),
            (Source::TcpInfo, "from tcp_info"),
            (Source::Absent, "absent"),
        ] {
            let signals: Vec<&str> = self
                .sources
                .iter()
                .filter(|entry| entry.source == source)
                .map(|entry| entry.signal.as_str())
                .collect();
            if !signals.is_empty() {
                write!(f, "; {name}: {}", signals.join(" "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Capabilities = Capabilities { bpf: true, net_admin: true, perfmon: true };

    fn source_of(report: &KernelReport, signal: Signal) -> &SignalSource {
        report.sources.iter().find(|entry| entry.signal == signal).unwrap()
    }

    #[test]
    fn this_machine_has_the_baseline_and_no_signal_is_left_out() {
        let report = probe();
        let signals: Vec<Signal> = report.sources.iter().map(|entry| entry.signal).collect();
        assert_eq!(signals, Signal::ALL);
        assert!(!report.release.is_empty());
        assert_eq!(source_of(&report, Signal::Rtt).source, Source::TcpInfo);
        assert_eq!(source_of(&report, Signal::Resets).source, Source::Absent);
        assert!(report.sources.iter().all(|entry| entry.why.contains("this kernel would")));
        let line = report.to_string();
        assert!(!line.contains('\n'), "{line}");
        assert!(line.contains("from tcp_info: rtt retransmits unacked bytes"), "{line}");
    }

    #[test]
    fn lacking_capabilities_are_named_without_asking_the_kernel() {
        let none = Capabilities::default();
        let sock_ops = Hook::SockOps.try_out(none).unwrap_err();
        assert_eq!(sock_ops, "this process lacks CAP_BPF and CAP_NET_ADMIN");
        let unprivileged = Capabilities { perfmon: false, ..ALL };
        assert_eq!(Hook::SockOps.permitted(unprivileged), Ok(()));
        let tp_btf = Hook::TpBtf.try_out(unprivileged).unwrap_err();
        assert_eq!(tp_btf, "this process lacks CAP_PERFMON");
    }

    #[test]
    fn what_stands_in_the_way_of_one_hook_is_said_of_its_signals_only() {
        let report = report(ALL, &Ok(()), |hook| match hook {
            Hook::SockOps => Ok(()),
            Hook::TpBtf => Err("no types".to_owned()),
        });
        let resets = source_of(&report, Signal::Resets);
        assert!(resets.why.ends_with("would not allow them: no types"), "{}", resets.why);
        let rtt = source_of(&report, Signal::Rtt);
        assert!(rtt.why.ends_with("would allow them"), "{}", rtt.why);
    }

    #[test]
    fn a_kernel_without_tcp_info_leaves_everything_absent_and_says_why() {
        let report = report(ALL, &Err("not here".to_owned()), |_| Ok(()));
        assert!(report.sources.iter().all(|entry| entry.source == Source::Absent));
        assert!(source_of(&report, Signal::Rtt).why.contains("not here"));
        assert!(!report.to_string().contains("from tcp_info"));
    }

    #[test]
    fn failed_probes_tell_their_cause() {
        assert_eq!(supported::<std::io::Error>("x", Ok(true)), Ok(()));
        assert_eq!(supported::<std::io::Error>("x", Ok(false)), Err("the kernel has no x".into()));
        let error = std::io::Error::from_raw_os_error(libc::EPERM);
        assert!(supported("x", Err(error)).unwrap_err().starts_with("trying x failed: "));
    }
}
