//! What a load run is asked to do, and the check of it.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri, header};

use super::arrivals::Spread;
use super::profile::Profile;

/// A load run. [`LoadSpec::new`] gives every field but the first two its default.
#[derive(Debug, Clone)]
pub struct LoadSpec {
    /// Where to: `http://host:port/path`.
    pub target: String,
    /// How much load over time.
    pub profile: Profile,
    /// Arrival process within the rate (Poisson).
    pub spread: Spread,
    /// Request method (GET).
    pub method: Method,
    /// Request headers besides `host`, which follows from the target unless it is given here.
    pub headers: HeaderMap,
    /// Request body (empty).
    pub body: Bytes,
    /// Longest time from the scheduled time to the end of the answer (5 s).
    pub timeout: Duration,
    /// Connections at most (512). When all are busy, requests wait, and that waiting counts.
    pub connections: usize,
    /// Requests that may wait for a connection at most (100,000); further ones fail at once as
    /// [`super::FailureKind::Backlog`].
    pub backlog: usize,
    /// Latency objective: what is slower counts as `over_objective` (50 ms).
    pub objective: Duration,
    /// Seed of the arrival times (1).
    pub seed: u64,
}

/// Why a load could not be run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The target cannot be used.
    #[error("target {target:?}: {problem}")]
    Target {
        /// The target as given.
        target: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A setting is out of range.
    #[error("{name} is {value}: use {range}")]
    Setting {
        /// Name of the setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is accepted.
        range: &'static str,
    },
    /// The profile or trace is wrong.
    #[error(transparent)]
    Profile(#[from] super::profile::ProfileError),
    /// The load thread or its timer could not be made.
    #[error("cannot start the load thread: {0}; check the limits on threads and open files")]
    Thread(std::io::Error),
    /// The load thread ended before its time.
    #[error("the load thread panicked; its message stands above")]
    Ended,
}

/// A checked target.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) path: Uri,
    pub(super) headers: HeaderMap,
}

impl LoadSpec {
    /// A load of GET requests with the defaults named at the fields.
    #[must_use]
    pub fn new(target: impl Into<String>, profile: Profile) -> Self {
        Self {
            target: target.into(),
            profile,
            spread: Spread::Poisson,
            method: Method::GET,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout: Duration::from_secs(5),
            connections: 512,
            backlog: 100_000,
            objective: Duration::from_millis(50),
            seed: 1,
        }
    }

    pub(super) fn checked(&self) -> Result<Target, LoadError> {
        let day = Duration::from_secs(86_400);
        for (name, value) in [("timeout", self.timeout), ("objective", self.objective)] {
            if value.is_zero() || value > day {
                let value = format!("{value:?}");
                return Err(LoadError::Setting { name, value, range: "1ms to 24h" });
            }
        }
        if self.connections == 0 || self.connections > 65_536 {
            return Err(LoadError::Setting {
                name: "connections",
                value: self.connections.to_string(),
                range: "1 to 65536",
            });
        }
        self.resolve()
    }

    fn resolve(&self) -> Result<Target, LoadError> {
        let wrong = |problem: String| LoadError::Target { target: self.target.clone(), problem };
        let uri: Uri = self.target.parse().map_err(|error: http::uri::InvalidUri| {
            wrong(format!("{error}: write it like http://127.0.0.1:8080/"))
        })?;
        let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(wrong(
                "only plain http works: write it like http://127.0.0.1:8080/".into(),
            ));
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let address = (host, authority.port_u16().unwrap_or(80))
            .to_socket_addrs()
            .map_err(|error| wrong(format!("{host:?} does not resolve: {error}")))?
            .next()
            .ok_or_else(|| wrong(format!("{host:?} has no address: use an IP address")))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = path.parse().map_err(|_| wrong(format!("the path {path:?} is not valid")))?;
        let mut headers = self.headers.clone();
        if !headers.contains_key(header::HOST) {
            let host = HeaderValue::from_str(authority.as_str())
                .map_err(|_| wrong("its host does not fit into a header".into()))?;
            headers.insert(header::HOST, host);
        }
        Ok(Target { address, path, headers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(target: &str) -> LoadSpec {
        LoadSpec::new(target, Profile::parse("hold:1rps:1s").unwrap())
    }

    #[test]
    fn a_target_becomes_address_path_and_host() {
        let target = spec("http://127.0.0.1:8080/a?b=c").checked().unwrap();
        assert_eq!(target.address.to_string(), "127.0.0.1:8080");
        assert_eq!(target.path, "/a?b=c");
        assert_eq!(target.headers[header::HOST], "127.0.0.1:8080");
        let target = spec("http://[::1]:81").checked().unwrap();
        assert_eq!((target.address.to_string().as_str(), target.path.path()), ("[::1]:81", "/"));
    }

    #[test]
    fn a_wrong_setting_names_its_remedy() {
        for target in ["https://127.0.0.1/", "127.0.0.1:80", "/x", "http://", "not a uri"] {
            let error = spec(target).checked().unwrap_err().to_string();
            assert!(error.contains(target) && error.contains("http://127.0.0.1:8080/"), "{error}");
        }
        let none = LoadSpec { connections: 0, ..spec("http://127.0.0.1/") };
        assert!(none.checked().unwrap_err().to_string().contains("1 to 65536"));
        let never = LoadSpec { timeout: Duration::ZERO, ..spec("http://127.0.0.1/") };
        assert!(never.checked().unwrap_err().to_string().contains("timeout is 0ns"));
    }
}
