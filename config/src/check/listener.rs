//! Listeners and routes: unique names and addresses, services that exist, routes that can match.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};

use foreshadow_control::ServiceName;

use super::items;
use super::range::{self, DAY_MS, HOUR_MS};
use crate::raw::{List, RawListener, RawMatch, RawPathMatch, RawRoute};
use crate::reader::{At, Field, Place, Problem, Reader, quote};
use crate::{
    HostMatch, Limits, Listener, ListenerTimeouts, PathMatch, Protocol, Route, RouteMatch,
};

/// What was seen before, and where.
struct Seen<K>(HashMap<K, Place>);

impl<K: Hash + Eq> Seen<K> {
    fn new() -> Self {
        Self(HashMap::new())
    }

    /// Reports `key` if it was seen before; `found` and `each` say what it is.
    fn check(&mut self, key: K, place: &Place, found: &str, each: &str, r: &mut Reader<'_>) {
        match self.0.get(&key) {
            Some(earlier) => {
                let line = r.line(earlier);
                let found = format!("{found} again");
                r.report(place, Problem::new(found, format!("{each}; it is also on line {line}")));
            }
            None => {
                self.0.insert(key, place.clone());
            }
        }
    }
}

pub(super) fn listeners(
    list: List<RawListener>,
    services: Option<&[String]>,
    r: &mut Reader<'_>,
) -> Vec<Listener> {
    let (mut addresses, mut names) = (Seen::new(), Seen::new());
    let mut listeners = Vec::with_capacity(list.0.len());
    for raw in list.0 {
        let raw = raw.value;
        let routes = routes(raw.routes, services, r);
        let Some(address) = raw.address.given() else {
            // Still looks for errors in what does not need the address.
            limits(raw.limits, r);
            timeouts(raw.timeouts, r);
            continue;
        };
        let (address, place) = (address.value.0, address.place);
        addresses.check(address, &place, &address.to_string(), "each address once", r);
        if let Some(other) =
            listeners.iter().find(|other: &&Listener| overlap(other.address, address))
        {
            let expected = format!("an address that {} leaves free", other.address);
            r.report(&place, Problem::new(address.to_string(), expected));
        }
        let name = match raw.name.given() {
            Some(name) => {
                let found = quote(&name.value.0);
                names.check(name.value.0.clone(), &name.place, &found, "each name once", r);
                name.value.0
            }
            None => address.to_string(),
        };
        listeners.push(Listener {
            name,
            address,
            protocol: raw.protocol.value().map_or(Protocol::Http, |protocol| protocol.0),
            routes,
            limits: limits(raw.limits, r),
            timeouts: timeouts(raw.timeouts, r),
            trusted_proxies: items(raw.trusted_proxies, Vec::new(), |range| range.0),
            abort_on_close: raw.abort_on_close.value().is_some_and(|flag| flag.0),
        });
    }
    listeners
}

/// Whether one of two different addresses means the other, too: `[::]` is both families.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let holds = |all: IpAddr, one: IpAddr| all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    a != b && a.port() == b.port() && (holds(a.ip(), b.ip()) || holds(b.ip(), a.ip()))
}

fn limits(raw: Field<crate::raw::RawLimits>, r: &mut Reader<'_>) -> Limits {
    let raw = raw.value().unwrap_or_default();
    Limits { max_connections: range::size(raw.max_connections, 1..=10_000_000, 16_384, r) }
}

fn timeouts(raw: Field<crate::raw::RawListenerTimeouts>, r: &mut Reader<'_>) -> ListenerTimeouts {
    let raw = raw.value().unwrap_or_default();
    ListenerTimeouts {
        client_header: range::time(raw.client_header, 1..=HOUR_MS, 10_000, r),
        client_body: range::time(raw.client_body, 1..=HOUR_MS, 60_000, r),
        idle: range::time(raw.idle, 1..=DAY_MS, 75_000, r),
    }
}

fn routes(
    field: Field<List<RawRoute>>,
    services: Option<&[String]>,
    r: &mut Reader<'_>,
) -> Vec<Route> {
    let Some(list) = field.given() else { return Vec::new() };
    if list.value.0.is_empty() {
        r.report(&list.place, Problem::new("an empty list", "at least one route"));
    }
    let mut seen = Seen::new();
    let mut routes = Vec::with_capacity(list.value.0.len());
    for At { value: raw, place } in list.value.0 {
        let service = raw.service.given().map(|at| {
            reference(&at.value.0, &at.place, services, r);
            ServiceName::from(at.value.0.as_str())
        });
        let place = match &raw.r#match {
            Field::Given(at) => at.place.clone(),
            _ => place,
        };
        if let (Some(matches), Some(service)) = (route_match(raw.r#match, r), service) {
            let found = format!("a route for {}", describe(&matches));
            seen.check(matches.clone(), &place, &found, "each match once per listener", r);
            routes.push(Route { matches, service });
        }
    }
    routes
}

fn describe(matches: &RouteMatch) -> String {
    let (PathMatch::Exact(path) | PathMatch::Prefix(path)) = &matches.path;
    format!("{}{path}", matches.host)
}

/// Reports a service that is not there.
fn reference(name: &str, place: &Place, services: Option<&[String]>, r: &mut Reader<'_>) {
    let Some(services) = services else { return };
    if services.iter().any(|service| service == name) {
        return;
    }
    let expected = match services {
        [] => "a service, but there are none".to_owned(),
        services => {
            let shown = services.iter().take(20).map(String::as_str).collect::<Vec<_>>();
            format!("a service of this file: {}", shown.join(", "))
        }
    };
    let problem = Problem::new(quote(name), expected);
    r.report(place, problem.nearest(name, services.iter().map(String::as_str)));
}

/// What a route matches, or nothing where that was reported.
fn route_match(field: Field<RawMatch>, r: &mut Reader<'_>) -> Option<RouteMatch> {
    let raw = match field {
        Field::Absent => RawMatch::default(),
        Field::Invalid => return None,
        Field::Given(at) => at.value,
    };
    let host = match raw.host {
        Field::Absent => HostMatch::Any,
        Field::Invalid => return None,
        Field::Given(at) => at.value.0,
    };
    let path = match raw.path {
        Field::Absent => PathMatch::Prefix("/".to_owned()),
        Field::Invalid => return None,
        Field::Given(at) => path_match(at, r)?,
    };
    Some(RouteMatch { host, path })
}

fn path_match(at: At<RawPathMatch>, r: &mut Reader<'_>) -> Option<PathMatch> {
    match (at.value.prefix, at.value.exact) {
        (Field::Given(prefix), Field::Absent) => Some(PathMatch::Prefix(prefix.value.0)),
        (Field::Absent, Field::Given(exact)) => Some(PathMatch::Exact(exact.value.0)),
        (Field::Absent, Field::Absent) => {
            r.report(&at.place, Problem::new("neither prefix nor exact", "one of the two"));
            None
        }
        (Field::Given(_), Field::Given(_)) => {
            r.report(&at.place, Problem::new("prefix and exact", "one of the two"));
            None
        }
        _ => None,
    }
}
