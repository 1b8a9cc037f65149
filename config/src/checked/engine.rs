//! Where an engine of containers is: `unix:///path` or `tcp://host:port`.

use std::fmt;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

/// The ports of an engine where none is given (docker(1)): without TLS, and with it.
const PORTS: (u16, u16) = (2375, 2376);

/// Where an engine is, in the words of `DOCKER_HOST`; the same place is the same value, however it was
/// written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineEndpoint {
    /// A socket in the file system.
    Unix(PathBuf),
    /// Host and port.
    Tcp {
        /// A name in lower case or an address, in brackets where that is one of IPv6.
        host: String,
        /// Above 0 once it is known whether TLS is spoken; 0 where none was given.
        port: u16,
    },
}

impl EngineEndpoint {
    /// Reads what [`fmt::Display`] writes, and other spellings of it; nothing for any other text.
    pub(crate) fn read(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix://") {
            let usable = path.starts_with('/') && !path.contains('\0');
            return usable.then(|| Self::Unix(path.into()));
        }
        let rest = text.strip_prefix("tcp://")?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let digits = port.bytes().all(|byte| byte.is_ascii_digit());
                (host, port.parse().ok().filter(|port| digits && *port > 0)?)
            }
            _ => (rest, 0),
        };
        let named = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) => format!("[{}]", inner.parse::<std::net::Ipv6Addr>().ok()?),
            None if host.is_empty() || !host.bytes().all(named) => return None,
            None => host.to_ascii_lowercase(),
        };
        Some(Self::Tcp { host, port })
    }

    /// With the port that goes without saying.
    pub(crate) fn spoken(self, tls: bool) -> Self {
        match self {
            Self::Tcp { host, port: 0 } => {
                Self::Tcp { host, port: if tls { PORTS.1 } else { PORTS.0 } }
            }
            known => known,
        }
    }
}

impl Default for EngineEndpoint {
    fn default() -> Self {
        Self::Unix("/var/run/docker.sock".into())
    }
}

impl fmt::Display for EngineEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port: 0 } => write!(f, "tcp://{host}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
        }
    }
}

impl Serialize for EngineEndpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn endpoints_are_read_as_they_are_shown_and_nonsense_is_refused() {
        let shown = |text| EngineEndpoint::read(text).map(|endpoint| endpoint.to_string());
        for text in ["unix:///run/docker.sock", "tcp://a:1", "tcp://a", "tcp://[::1]:2375"] {
            assert_eq!(shown(text).as_deref(), Some(text));
        }
        for text in ["tcp://a:2376/", "tcp://a:02376", "tcp://A:2376"] {
            assert_eq!(shown(text).as_deref(), Some("tcp://a:2376"));
        }
        assert_eq!(shown("tcp://[0:0::1]").as_deref(), Some("tcp://[::1]"));
        for text in [
            "",
            "a:1",
            "tcp://",
            "tcp://a:0",
            "tcp://a:x",
            "tcp://a:+1",
            "tcp://a/b",
            "unix://x",
            "tcp://[x]",
            "ssh://me@there",
        ] {
            assert_eq!(shown(text), None, "{text}");
        }
    }

    #[test]
    fn the_port_that_goes_without_saying_is_that_of_the_engine() {
        let spoken = |text, tls| EngineEndpoint::read(text).unwrap().spoken(tls).to_string();
        assert_eq!(
            [spoken("tcp://a", false), spoken("tcp://[::1]", true), spoken("tcp://a:9", true)],
            ["tcp://a:2375", "tcp://[::1]:2376", "tcp://a:9"]
        );
    }

    proptest! {
        #[test]
        fn what_is_read_is_shown_in_a_form_that_reads_the_same(text in "(tcp|unix)://.{0,40}") {
            if let Some(endpoint) = EngineEndpoint::read(&text) {
                prop_assert_eq!(EngineEndpoint::read(&endpoint.to_string()), Some(endpoint));
            }
        }
    }
}
