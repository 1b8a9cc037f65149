//! Being short of descriptors, ports or memory: ours to mend, and nothing that a peer did.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How often a shortage is written to the log.
const EVERY_MS: u64 = 10_000;

/// Whether this machine, and not the peer, refused to make a connection.
pub(crate) fn is_ours(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EMFILE
                | libc::ENFILE
                | libc::EADDRNOTAVAIL
                | libc::EAGAIN
                | libc::ENOBUFS
                | libc::ENOMEM
                | libc::ENOSPC
        )
    )
}

/// Decides which of many like events is told: the first, then one in ten seconds.
#[derive(Debug, Default)]
pub(crate) struct Seldom {
    /// When one may be told again.
    next_ms: AtomicU64,
    /// Events since the last that was told.
    untold: AtomicU64,
}

impl Seldom {
    /// Counts an event at `now_ms`; the number of events since the last time, this one included,
    /// when it is to be told.
    pub(crate) fn due(&self, now_ms: u64) -> Option<u64> {
        self.untold.fetch_add(1, Relaxed);
        let next = self.next_ms.load(Relaxed);
        if now_ms < next {
            return None;
        }
        // Of two that come at once, one tells.
        let later = now_ms.saturating_add(EVERY_MS);
        self.next_ms.compare_exchange(next, later, Relaxed, Relaxed).ok()?;
        Some(self.untold.swap(0, Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_told_once_in_ten_seconds_with_its_size() {
        let seldom = Seldom::default();
        let mut told = Vec::new();
        for now_ms in (0..=20_000).step_by(50) {
            told.extend(seldom.due(now_ms).map(|count| (now_ms, count)));
        }
        assert_eq!(told, [(0, 1), (10_000, 200), (20_000, 200)]);
    }

    #[test]
    fn only_what_this_machine_lacks_is_ours() {
        for code in [libc::EMFILE, libc::ENFILE, libc::EADDRNOTAVAIL, libc::ENOBUFS, libc::ENOMEM] {
            assert!(is_ours(&io::Error::from_raw_os_error(code)), "{code}");
        }
        for code in [libc::ECONNREFUSED, libc::EHOSTUNREACH, libc::ECONNRESET, libc::ETIMEDOUT] {
            assert!(!is_ours(&io::Error::from_raw_os_error(code)), "{code}");
        }
    }
}
