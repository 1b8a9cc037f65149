//! Free ports for new instances: probed by binding, and reserved for as long as the instance lives.

use std::collections::BTreeSet;
use std::net::{IpAddr, TcpListener};
use std::ops::RangeInclusive;
use std::sync::{Mutex, PoisonError};

use crate::error::ProviderError;

/// Ports of one address that are handed out to instances.
pub(crate) struct Ports {
    host: IpAddr,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    reserved: BTreeSet<u16>,
    /// Offset into a range of the next port to try: a port just given back rests for as long
    /// as possible, so that late packets and lingering connections do not meet a new instance.
    cursor: u32,
}

impl Ports {
    pub(crate) fn new(host: IpAddr) -> Self {
        let cursor = rand::random();
        Self { host, state: Mutex::new(State { cursor, ..State::default() }) }
    }

    /// Reserves a port of `range` that nobody listens on now.
    pub(crate) fn reserve(&self, range: &RangeInclusive<u16>) -> Result<u16, ProviderError> {
        let (first, last) = (*range.start(), *range.end());
        let size = u32::from(last.saturating_sub(first)) + 1;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if first <= last && first > 0 {
            for step in 0..size {
                let offset = state.cursor.wrapping_add(step) % size;
                let port = first + u16::try_from(offset).unwrap_or(0);
                if !state.reserved.contains(&port) && self.is_free(port) {
                    state.reserved.insert(port);
                    state.cursor = offset + 1;
                    return Ok(port);
                }
            }
        }
        Err(ProviderError::NoPort { host: self.host, first, last })
    }

    /// Reserves the port of an instance that was found running.
    pub(crate) fn adopt(&self, port: u16) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).reserved.insert(port);
    }

    /// Gives a port back.
    pub(crate) fn release(&self, port: u16) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).reserved.remove(&port);
    }

    /// Whether a listener could be opened on the port now.
    pub(crate) fn is_free(&self, port: u16) -> bool {
        TcpListener::bind((self.host, port)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn a_port_in_use_or_reserved_is_never_handed_out() {
        let taken = TcpListener::bind((HOST, 0)).unwrap();
        let busy = taken.local_addr().unwrap().port();
        let (ports, only) = (Ports::new(HOST), busy..=busy);
        assert!(matches!(ports.reserve(&only), Err(ProviderError::NoPort { .. })));
        drop(taken);
        assert_eq!(ports.reserve(&only).unwrap(), busy);
        assert!(ports.reserve(&only).is_err());
        ports.release(busy);
        assert_eq!(ports.reserve(&only).unwrap(), busy);
    }

    #[test]
    fn an_empty_or_reversed_range_is_an_error_not_a_panic() {
        let ports = Ports::new(HOST);
        #[expect(clippy::reversed_empty_ranges, reason = "the hostile input under test")]
        let reversed = 9..=1;
        assert!(ports.reserve(&reversed).is_err());
        assert!(ports.reserve(&(0..=0)).is_err());
    }
}
