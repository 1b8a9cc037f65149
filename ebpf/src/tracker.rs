//! Readings of sockets to what happened since the last reading.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use foreshadow_control::KernelSample;

use crate::tcp_info::{TcpInfoSample, socket_cookie, tcp_info};

/// Sockets remembered by [`sample_socket`], per thread: more than one worker has in use, and
/// about 2 MB when full.
const SOCKETS_PER_THREAD: usize = 32_768;

thread_local! {
    static OF_THIS_THREAD: RefCell<SocketTracker> =
        RefCell::new(SocketTracker::new(SOCKETS_PER_THREAD));
}

/// Reads a connected socket with a [`SocketTracker`] that belongs to the calling thread.
///
/// A worker of the proxy opens, uses and closes its connections on one thread, so that nothing is
/// shared and no lock is needed. Costs two system calls, about a microsecond.
///
/// # Errors
///
/// Those of [`tcp_info`].
pub fn sample_socket(socket: BorrowedFd<'_>) -> io::Result<KernelSample> {
    OF_THIS_THREAD.with_borrow_mut(|tracker| tracker.sample(socket))
}

/// Turns the running totals of sockets into what happened since the last reading of each.
///
/// It remembers one number per socket, for at most `max_sockets` sockets; when that many are
/// known, the half that was not read for longest is forgotten, which in practice is the half that
/// was closed. A socket that is forgotten and read again counts its total again.
pub struct SocketTracker {
    max_sockets: usize,
    readings: u64,
    seen: HashMap<Key, Seen>,
}

/// What tells one connection from another.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Cookie(u64),
    /// On kernels without cookies. A number is used again after a close; the total then starts
    /// over, which is noticed unless the new connection has caught up with the old one.
    Descriptor(i32),
}

#[derive(Clone, Copy)]
struct Seen {
    retransmits_total: u32,
    /// The number of the reading.
    read_at: u64,
}

impl SocketTracker {
    /// A tracker that remembers up to `max_sockets` sockets, at about 60 bytes each; 0 is taken
    /// for 1.
    #[must_use]
    pub fn new(max_sockets: usize) -> Self {
        Self { max_sockets: max_sockets.max(1), readings: 0, seen: HashMap::new() }
    }

    /// Reads a connected socket: one sample, with the segments sent again since its last reading.
    ///
    /// What a connection has sent again before its first reading counts as happening now, so that
    /// short connections and repeated SYNs are not lost.
    ///
    /// # Errors
    ///
    /// Those of [`tcp_info`].
    pub fn sample(&mut self, socket: BorrowedFd<'_>) -> io::Result<KernelSample> {
        let info = tcp_info(socket)?;
        let key =
            socket_cookie(socket).map_or_else(|_| Key::Descriptor(socket.as_raw_fd()), Key::Cookie);
        Ok(self.since_last(key, &info))
    }

    fn since_last(&mut self, key: Key, info: &TcpInfoSample) -> KernelSample {
        self.readings += 1;
        let now = Seen { retransmits_total: info.retransmits_total, read_at: self.readings };
        if self.seen.len() >= self.max_sockets && !self.seen.contains_key(&key) {
            self.forget_older_half();
        }
        let before = self.seen.insert(key, now).map_or(0, |seen| seen.retransmits_total);
        // A total that went back belongs to a new connection.
        let retransmits =
            info.retransmits_total.checked_sub(before).unwrap_or(info.retransmits_total);
        KernelSample {
            samples: 1,
            srtt_us: f64::from(info.srtt_us),
            retransmits: u64::from(retransmits),
            unacked_segments: u64::from(info.unacked),
        }
    }

    /// Forgets sockets read least recently, in one pass that pays for as many insertions.
    fn forget_older_half(&mut self) {
        let mut readings: Vec<u64> = self.seen.values().map(|seen| seen.read_at).collect();
        let middle = readings.len() / 2;
        let (_, median, _) = readings.select_nth_unstable(middle);
        let newest_forgotten = *median;
        self.seen.retain(|_, seen| seen.read_at > newest_forgotten);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    use socket2::{Domain, SockAddr, Socket, Type};

    use super::*;

    fn reading(retransmits_total: u32, srtt_us: u32, unacked: u32) -> TcpInfoSample {
        TcpInfoSample { retransmits_total, srtt_us, unacked, ..TcpInfoSample::default() }
    }

    #[test]
    fn totals_become_deltas_per_connection() {
        let mut tracker = SocketTracker::new(10);
        let first = tracker.since_last(Key::Cookie(1), &reading(2, 100, 5));
        assert_eq!(
            first,
            KernelSample { samples: 1, srtt_us: 100.0, retransmits: 2, unacked_segments: 5 }
        );
        let deltas = [(1, 7), (2, 1), (1, 7), (2, 4), (1, 8)]
            .map(|(key, total)| tracker.since_last(Key::Cookie(key), &reading(total, 1, 0)))
            .map(|sample| sample.retransmits);
        assert_eq!(deltas, [5, 1, 0, 3, 1]);
    }

    #[test]
    fn a_descriptor_used_again_starts_over() {
        let mut tracker = SocketTracker::new(10);
        tracker.since_last(Key::Descriptor(5), &reading(9, 1, 0));
        let sample = tracker.since_last(Key::Descriptor(5), &reading(2, 1, 0));
        assert_eq!(sample.retransmits, 2);
    }

    #[test]
    fn memory_is_bounded_and_sockets_in_use_are_the_last_to_go() {
        let mut tracker = SocketTracker::new(100);
        for round in 0..1000 {
            // One connection that lives among fifty new ones in every round.
            let sample = tracker.since_last(Key::Cookie(0), &reading(3, 1, 0));
            assert_eq!(sample.retransmits, if round == 0 { 3 } else { 0 }, "round {round}");
            for n in 0..49 {
                tracker.since_last(Key::Cookie(1 + round * 49 + n), &reading(1, 1, 0));
                assert!(tracker.seen.len() <= 100);
            }
        }
        let mut smallest = SocketTracker::new(0);
        for n in 0..10 {
            smallest.since_last(Key::Cookie(n), &reading(1, 1, 0));
            assert_eq!(smallest.seen.len(), 1);
        }
    }

    #[test]
    fn real_sockets_are_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let sockets = [TcpStream::connect(address).unwrap(), TcpStream::connect(address).unwrap()];
        let mut tracker = SocketTracker::new(10);
        for socket in sockets.iter().chain(&sockets) {
            let sample = tracker.sample(socket.as_fd()).unwrap();
            assert_eq!((sample.samples, sample.retransmits), (1, 0));
            assert!(sample.srtt_us > 0.0, "{sample:?}");
        }
        assert_eq!(tracker.seen.len(), 2);
        assert!(sample_socket(sockets[0].as_fd()).is_ok_and(|sample| sample.srtt_us > 0.0));

        let file = std::fs::File::open("/proc/self/status").unwrap();
        assert!(tracker.sample(file.as_fd()).is_err());
    }

    #[test]
    fn a_repeated_syn_is_a_retransmit_once() {
        // Room for one connection that nobody accepts; the kernel then ignores further SYNs, and
        // the client repeats its own after a second.
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
        listener.bind(&SockAddr::from(any)).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let _occupies_the_queue = TcpStream::connect(address.as_socket().unwrap()).unwrap();
        let ignored = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        ignored.set_nonblocking(true).unwrap();
        let pending = ignored.connect(&address).unwrap_err();
        assert_eq!(pending.raw_os_error(), Some(libc::EINPROGRESS));

        let mut tracker = SocketTracker::new(10);
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut seen = 0;
        while seen == 0 {
            assert!(Instant::now() < deadline, "no SYN was repeated");
            std::thread::sleep(Duration::from_millis(20));
            seen = tracker.sample(ignored.as_fd()).unwrap().retransmits;
        }
        assert_eq!(seen, 1);
        // The next one comes two seconds later.
        assert_eq!(tracker.sample(ignored.as_fd()).unwrap().retransmits, 0);
    }
}
