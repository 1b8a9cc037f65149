//! Which service a request is for: by listener, host and path.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use foreshadow_control::ServiceName;

use crate::table::TableError;

/// The name of a listener, cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerName(Arc<str>);

impl ListenerName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ListenerName {
    fn from(name: &str) -> Self {
        Self(Arc::from(name))
    }
}

impl Borrow<str> for ListenerName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ListenerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The routes of one listener, in any order.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerRoutes {
    /// The listener.
    pub listener: ListenerName,
    /// Its routes; the most specific one that matches wins.
    pub routes: Vec<RouteSpec>,
}

/// Requests that match both host and path go to the service.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteSpec {
    /// The host.
    pub host: HostMatch,
    /// The path.
    pub path: PathMatch,
    /// The service.
    pub service: ServiceName,
}

/// Which hosts match, whatever their case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostMatch {
    /// Every host, or none given.
    Any,
    /// This one.
    Exact(String),
    /// Every host with at least one label more: `example.com` here stands for `*.example.com`.
    Suffix(String),
}

/// Which paths match, by bytes and without decoding.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathMatch {
    /// This path and all below it: `/api` matches `/api`, `/api/` and `/api/x`, not `/apix`.
    Prefix(String),
    /// This path only.
    Exact(String),
}

/// The routes of one listener, ready for lookups. Values index a list of services.
#[derive(Debug, Default)]
pub(crate) struct Router {
    exact: HashMap<Box<[u8]>, Paths>,
    suffix: HashMap<Box<[u8]>, Paths>,
    any: Paths,
}

/// The routes of one host.
#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<Box<str>, usize>,
    /// Without a trailing slash; `/` is empty.
    prefix: HashMap<Box<str>, usize>,
    longest_prefix: usize,
}

/// Longest name that DNS allows.
const HOST_MAX: usize = 253;

impl Router {
    /// Adds a route to the service with this index.
    pub(crate) fn add(
        &mut self,
        listener: &ListenerName,
        route: &RouteSpec,
        service: usize,
    ) -> Result<(), TableError> {
        let paths = match &route.host {
            HostMatch::Any => &mut self.any,
            HostMatch::Exact(host) => self.exact.entry(key(listener, host)?).or_default(),
            HostMatch::Suffix(host) => self.suffix.entry(key(listener, host)?).or_default(),
        };
        if paths.add(&route.path, service) {
            return Ok(());
        }
        let (PathMatch::Prefix(path) | PathMatch::Exact(path)) = &route.path;
        if path.starts_with('/') {
            return Err(TableError::DuplicateRoute {
                listener: listener.clone(),
                route: format!("{:?} {:?}", route.host, route.path),
            });
        }
        Err(TableError::BadPath { listener: listener.clone(), path: path.clone() })
    }

    /// The most specific route: the exact host before the longest wildcard before any host, and
    /// within these the exact path before the longest prefix. A host whose routes do not cover the
    /// path leaves it to the less specific ones.
    pub(crate) fn find(&self, host: &str, path: &str) -> Option<usize> {
        let mut buffer = [0; HOST_MAX];
        let host = lower(host, &mut buffer);
        if let Some(found) = self.exact.get(host).and_then(|paths| paths.find(path)) {
            return Some(found);
        }
        if !self.suffix.is_empty() {
            let dots = host.iter().enumerate().filter(|&(_, &byte)| byte == b'.');
            for (dot, _) in dots {
                let paths = self.suffix.get(&host[dot + 1..]);
                if let Some(found) = paths.and_then(|paths| paths.find(path)) {
                    return Some(found);
                }
            }
        }
        self.any.find(path)
    }
}

impl Paths {
    /// False when the path is taken or is none.
    fn add(&mut self, path: &PathMatch, service: usize) -> bool {
        let (map, key) = match path {
            PathMatch::Exact(path) => (&mut self.exact, path.as_str()),
            PathMatch::Prefix(path) => (&mut self.prefix, path.trim_end_matches('/')),
        };
        let (PathMatch::Prefix(whole) | PathMatch::Exact(whole)) = path;
        if !whole.starts_with('/') || map.contains_key(key) {
            return false;
        }
        map.insert(Box::from(key), service);
        if matches!(path, PathMatch::Prefix(_)) {
            self.longest_prefix = self.longest_prefix.max(key.len());
        }
        true
    }

    fn find(&self, path: &str) -> Option<usize> {
        if !self.exact.is_empty()
            && let Some(&service) = self.exact.get(path)
        {
            return Some(service);
        }
        if self.prefix.is_empty() {
            return None;
        }
        // Nothing longer than the longest prefix is tried, or else a path of a thousand slashes
        // would cost a thousand lookups.
        let bytes = path.as_bytes();
        let mut end = bytes.len();
        loop {
            if end <= self.longest_prefix
                && (end == bytes.len() || bytes[end] == b'/')
                && let Some(&service) = self.prefix.get(&path[..end])
            {
                return Some(service);
            }
            let reach = end.min(self.longest_prefix + 1);
            let Some(slash) = bytes[..reach].iter().rposition(|&byte| byte == b'/') else {
                // A path without any slash (`OPTIONS *`) is below the root all the same.
                return self.prefix.get("").copied();
            };
            end = slash;
        }
    }
}

/// The host in lower case without a final dot; empty when it is too long to be one.
fn lower<'a>(host: &str, buffer: &'a mut [u8; HOST_MAX]) -> &'a [u8] {
    let host = host.strip_suffix('.').unwrap_or(host).as_bytes();
    let Some(lowered) = buffer.get_mut(..host.len()) else { return &[] };
    lowered.copy_from_slice(host);
    lowered.make_ascii_lowercase();
    lowered
}

fn key(listener: &ListenerName, host: &str) -> Result<Box<[u8]>, TableError> {
    let mut buffer = [0; HOST_MAX];
    let key = lower(host, &mut buffer);
    if key.is_empty() || key.starts_with(b".") || host.contains(['*', '/', ' ']) {
        return Err(TableError::BadHost { listener: listener.clone(), host: host.to_owned() });
    }
    Ok(Box::from(key))
}
