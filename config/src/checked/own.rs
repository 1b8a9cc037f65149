//! Addresses at which this node answers itself: nothing that it sends requests to can be there.

use std::net::{IpAddr, SocketAddr};

use super::{Admin, AdminAddress, Config, Listener};

/// What of a node answers at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// A listener of the proxy.
    Listener,
    /// The admin API.
    Admin,
}

impl Own {
    /// What would come of requests that are sent there.
    #[must_use]
    pub fn consequence(self) -> &'static str {
        match self {
            Self::Listener => "requests would go round in a circle",
            Self::Admin => "clients of the service would reach the admin API",
        }
    }

    /// Whose address it is, to be said after "the address".
    #[must_use]
    pub fn whose(self) -> &'static str {
        match self {
            Self::Listener => "a listener's",
            Self::Admin => "the admin API's",
        }
    }
}

/// Where a node listens, on TCP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnAddresses(Vec<(SocketAddr, Own)>);

impl OwnAddresses {
    /// Those of a configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self::listening(&config.listeners, &config.admin)
    }

    pub(crate) fn listening(listeners: &[Listener], admin: &Admin) -> Self {
        let listeners = listeners.iter().map(|listener| (listener.address, Own::Listener));
        let admin = match admin.address {
            AdminAddress::Tcp(address) => Some((address, Own::Admin)),
            AdminAddress::Unix(_) => None,
        };
        Self(listeners.chain(admin).collect())
    }

    /// What a connection from this machine to `address` ends at. `is_here` says of an address that is no loopback
    /// address whether it is this machine's; it is asked only where that matters.
    #[must_use]
    pub fn find(&self, address: SocketAddr, is_here: impl Fn(IpAddr) -> bool) -> Option<Own> {
        // An IPv4 address may be written as one of IPv6, and nowhere in particular means here.
        let ip = address.ip().to_canonical();
        let is_near = ip.is_loopback() || ip.is_unspecified();
        let ends_at = |listen: &SocketAddr| {
            let listened = listen.ip().to_canonical();
            listen.port() == address.port()
                && if listened.is_unspecified() {
                    is_near || is_here(ip)
                } else {
                    listened == ip || listened.is_loopback() && ip.is_unspecified()
                }
        };
        self.0.iter().find(|(listen, _)| ends_at(listen)).map(|(_, own)| *own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_has_many_names() {
        let all = [
            ("0.0.0.0:80", Own::Listener),
            ("192.0.2.1:81", Own::Listener),
            ("[::]:82", Own::Listener),
            ("127.0.0.1:83", Own::Admin),
        ];
        let own = OwnAddresses(all.iter().map(|(a, own)| (a.parse().unwrap(), *own)).collect());
        let here: IpAddr = "192.0.2.1".parse().unwrap();
        for (address, found) in [
            ("127.0.0.1:80", Some(Own::Listener)),
            ("127.9.9.9:80", Some(Own::Listener)),
            ("[::ffff:127.0.0.1]:80", Some(Own::Listener)),
            ("[::1]:82", Some(Own::Listener)),
            ("192.0.2.1:80", Some(Own::Listener)),
            ("[::ffff:192.0.2.1]:81", Some(Own::Listener)),
            ("192.0.2.1:82", Some(Own::Listener)),
            ("0.0.0.0:83", Some(Own::Admin)),
            ("[::]:80", Some(Own::Listener)),
            ("[::ffff:127.0.0.1]:83", Some(Own::Admin)),
            ("192.0.2.2:80", None),
            ("192.0.2.1:83", None),
            ("127.0.0.1:81", None),
            ("127.0.0.2:83", None),
            ("127.0.0.1:84", None),
        ] {
            assert_eq!(own.find(address.parse().unwrap(), |ip| ip == here), found, "{address}");
        }
    }
}
