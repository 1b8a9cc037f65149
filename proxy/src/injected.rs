//! Faults that the data plane makes of a backend on purpose, until a fixed time.
//!
//! They are part of the table, which is swapped whole; a request pays for them by looking at an empty
//! list. Their end is kept here: nobody has to be alive to take them back.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use foreshadow_control::{InstanceId, ServiceName};
use socket2::{Domain, Socket, Type};

use crate::TableError;

/// Longest time a fault may last.
pub const LONGEST_INJECTED: Duration = Duration::from_secs(600);
/// Connections that a hanging backend takes before further ones hang while they are made.
const BACKLOG: i32 = 1024;

/// What a backend seems to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InjectedFault {
    /// It refuses connections.
    Refuse,
    /// It accepts connections and never answers.
    Hang,
    /// It is given each request, and each check, this much later.
    Delay(Duration),
}

/// Why a fault was not injected.
#[derive(Debug, thiserror::Error)]
pub enum InjectError {
    /// No table in force has it.
    #[error("instance {instance} is not in the routing table; name one that is")]
    Unknown {
        /// The instance.
        instance: InstanceId,
    },
    /// It would last too long.
    #[error("a fault of {} s was asked for; it may last {} s at most", .asked.as_secs(),
            LONGEST_INJECTED.as_secs())]
    TooLong {
        /// What was asked for.
        asked: Duration,
    },
    /// There is no socket for requests to be led to.
    #[error(
        "cannot make a socket to lead requests to: {source}; is the limit on open files too low?"
    )]
    Socket {
        /// What the system said.
        source: io::Error,
    },
    /// The table with the fault in it was refused.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// A fault of one backend.
#[derive(Clone, Debug)]
pub(crate) struct Injection {
    pub(crate) instance: InstanceId,
    fault: InjectedFault,
    /// On the clock of the data plane.
    until_ms: u64,
    /// Where its requests are led instead of to it, as long as anybody may look there.
    decoy: Option<Arc<Decoy>>,
}

/// What is to be done with a request or a check for a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Detour {
    /// Where it goes instead.
    pub(crate) instead: Option<SocketAddr>,
    /// How long it waits first.
    pub(crate) wait: Duration,
}

/// A socket that nobody serves: connections to it are refused, or accepted by the kernel and left.
#[derive(Debug)]
struct Decoy {
    address: SocketAddr,
    _held: Socket,
}

impl Decoy {
    fn new(accepts: bool) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM.cloexec(), None)?;
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
        if accepts {
            socket.listen(BACKLOG)?;
        }
        let address = socket.local_addr()?.as_socket();
        let address = address.ok_or_else(|| io::Error::other("a socket without an address"))?;
        Ok(Self { address, _held: socket })
    }
}

impl Injection {
    pub(crate) fn new(
        instance: InstanceId,
        fault: InjectedFault,
        now_ms: u64,
        lasts: Duration,
    ) -> Result<Self, InjectError> {
        if lasts > LONGEST_INJECTED {
            return Err(InjectError::TooLong { asked: lasts });
        }
        let decoy = match fault {
            InjectedFault::Refuse => Some(Decoy::new(false)),
            InjectedFault::Hang => Some(Decoy::new(true)),
            InjectedFault::Delay(_) => None,
        };
        let decoy = decoy.transpose().map_err(|source| InjectError::Socket { source })?;
        let lasts_ms = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX);
        let until_ms = now_ms.saturating_add(lasts_ms);
        Ok(Self { instance, fault, until_ms, decoy: decoy.map(Arc::new) })
    }

    pub(crate) fn is_over(&self, now_ms: u64) -> bool {
        now_ms >= self.until_ms
    }

    /// What becomes of a request that begins now.
    pub(crate) fn detour(&self, now_ms: u64) -> Detour {
        if self.is_over(now_ms) {
            return Detour::default();
        }
        let wait = match self.fault {
            InjectedFault::Delay(wait) => wait,
            InjectedFault::Refuse | InjectedFault::Hang => Duration::ZERO,
        };
        Detour { instead: self.decoy.as_ref().map(|decoy| decoy.address), wait }
    }
}

/// A fault in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injected {
    /// The service.
    pub service: ServiceName,
    /// The backend.
    pub instance: InstanceId,
    /// What it seems to do.
    pub fault: InjectedFault,
    /// Time it lasts yet.
    pub left: Duration,
}

impl Injected {
    pub(crate) fn of(injection: &Injection, service: ServiceName, now_ms: u64) -> Self {
        let left = Duration::from_millis(injection.until_ms.saturating_sub(now_ms));
        Self { service, instance: injection.instance, fault: injection.fault, left }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn injection(fault: InjectedFault) -> Injection {
        Injection::new(InstanceId(7), fault, 1_000, Duration::from_secs(2)).unwrap()
    }

    #[test]
    fn a_fault_ends_by_itself() {
        let slow = injection(InjectedFault::Delay(Duration::from_millis(5)));
        assert_eq!(slow.detour(2_999).wait, Duration::from_millis(5));
        assert_eq!(slow.detour(3_000), Detour::default());
        assert!(slow.is_over(3_000));
    }

    #[test]
    fn decoys_refuse_or_take_and_stay_silent() {
        let refusing = injection(InjectedFault::Refuse).detour(1_000).instead;
        // The socket is gone with the injection, and nobody listens there either way.
        let held = injection(InjectedFault::Refuse);
        let address = held.detour(1_000).instead.unwrap();
        let refused = TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert!(refusing.is_some());
        let hanging = injection(InjectedFault::Hang);
        let stream = TcpStream::connect(hanging.detour(1_000).instead.unwrap()).unwrap();
        stream.set_nonblocking(true).unwrap();
        let silent = std::io::Read::read(&mut &stream, &mut [0]).unwrap_err();
        assert_eq!(silent.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn none_lasts_too_long() {
        let fault = InjectedFault::Refuse;
        let error = Injection::new(InstanceId(7), fault, 0, Duration::from_secs(601)).unwrap_err();
        assert!(error.to_string().contains("601 s was asked for; it may last 600 s"), "{error}");
    }
}
