//! Which requests go to which service.

use std::cmp::Reverse;
use std::fmt;

use foreshadow_control::ServiceName;
use serde::{Serialize, Serializer};

/// Requests that match go to the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Route {
    /// Which requests.
    #[serde(rename = "match")]
    pub matches: RouteMatch,
    /// A service of the same configuration.
    pub service: ServiceName,
}

impl Route {
    /// Routes sorted by rank are in the order they should be tried: exact hosts before wildcards
    /// before any host, longer wildcards first; then exact paths before prefixes, longer first.
    /// Two routes of a listener never have equal matches.
    #[must_use]
    pub fn rank(&self) -> impl Ord + use<> {
        let host = match &self.matches.host {
            HostMatch::Exact(_) => (0, Reverse(0)),
            HostMatch::Suffix(suffix) => (1, Reverse(suffix.len())),
            HostMatch::Any => (2, Reverse(0)),
        };
        let path = match &self.matches.path {
            PathMatch::Exact(_) => (0, Reverse(0)),
            PathMatch::Prefix(prefix) => (1, Reverse(prefix.len())),
        };
        (host, path)
    }
}

/// What a request must look like; both parts must match.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct RouteMatch {
    /// The host it asks for.
    #[serde(skip_serializing_if = "HostMatch::is_any")]
    pub host: HostMatch,
    /// The path it asks for.
    pub path: PathMatch,
}

/// Hosts, compared in lower case and without port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostMatch {
    /// Every host, and requests without one.
    Any,
    /// This host, in lower case.
    Exact(String),
    /// Hosts that end in this text, in lower case with its leading dot (`.example.com`), and have
    /// at least one character before it; written `*.example.com`.
    Suffix(String),
}

impl HostMatch {
    fn is_any(&self) -> bool {
        *self == Self::Any
    }

    /// Whether `host` matches; it comes in lower case and without port.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => host == exact,
            Self::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
        }
    }
}

impl fmt::Display for HostMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(host) => f.write_str(host),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
        }
    }
}

impl Serialize for HostMatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Paths, without the query.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PathMatch {
    /// This path.
    Exact(String),
    /// This path and all below it: `/a` covers `/a` and `/a/b` but not `/ab`; `/` covers all.
    Prefix(String),
}

impl PathMatch {
    /// Whether `path` matches.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Prefix(prefix) => path.strip_prefix(prefix.as_str()).is_some_and(|rest| {
                rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/')
            }),
        }
    }
}
