//! Routing as data: a table of routes, a table of requests.

use std::sync::Arc;

use foreshadow_proxy::{
    HostMatch, ListenerRoutes, PathMatch, RouteSpec, RouteTable, TableError, TableSpec,
    UpstreamPolicy, UpstreamSpec,
};
use proptest::prelude::*;

use crate::support::{backend, registry};

/// `HOST PATH SERVICE` per line; `*` is any host, `*.x` a wildcard, `=/x` an exact path.
fn table(listener: &str, text: &str) -> TableSpec {
    let mut spec = TableSpec::default();
    let mut routes = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let [host, path, service] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let host = match (host, host.strip_prefix("*.")) {
            ("*", _) => HostMatch::Any,
            (_, Some(suffix)) => HostMatch::Suffix(suffix.into()),
            (exact, None) => HostMatch::Exact(exact.into()),
        };
        let path = match path.strip_prefix('=') {
            Some(path) => PathMatch::Exact(path.into()),
            None => PathMatch::Prefix(path.into()),
        };
        routes.push(RouteSpec { host, path, service: service.into() });
        if !spec.services.iter().any(|known| known.name.as_str() == service) {
            let id = spec.services.len() as u64;
            spec.services.push(UpstreamSpec {
                name: service.into(),
                backends: vec![backend(id, 1)],
                policy: Arc::new(UpstreamPolicy::default()),
            });
        }
    }
    spec.listeners.push(ListenerRoutes { listener: listener.into(), routes });
    spec
}

const SHOP: &str = "
    shop.example.com   /            shop
    shop.example.com   /api         api
    shop.example.com   /api/v2/     api2
    shop.example.com   =/api        api-root
    Cart.Example.com   /cart        cart
    *.example.com      /            wild
    *.eu.example.com   /            eu
    *.eu.example.com   =/about      about
    *                  /static      files
    *                  =/           home
";

#[test]
fn the_most_specific_route_wins() {
    let requests = "
        shop.example.com       /                 shop
        SHOP.Example.COM       /x                shop
        shop.example.com.      /x                shop
        shop.example.com       /api              api-root
        shop.example.com       /api/             api
        shop.example.com       /api/x            api
        shop.example.com       /apix             shop
        shop.example.com       /api/v2           api2
        shop.example.com       /api/v2/          api2
        shop.example.com       /api/v2/x/y       api2
        shop.example.com       /api/v20          api
        shop.example.com       *                 shop
        cart.example.com       /cart/1           cart
        cart.example.com       /other            wild
        a.example.com          /                 wild
        a.b.example.com        /                 wild
        a.eu.example.com       /                 eu
        a.eu.example.com       /about            about
        eu.example.com         /                 wild
        example.com            /                 home
        example.com            /nothing          -
        xexample.com           /nothing          -
        .example.com           /static/a         wild
        -                      /static           files
        -                      /staticx          -
        -                      ////              -
        -                      -                 -
    ";
    let registry = registry();
    let table = RouteTable::build(&table("main", SHOP), &registry).unwrap();
    for line in requests.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> =
            line.split_whitespace().map(|word| if word == "-" { "" } else { word }).collect();
        let found = table.route(&"main".into(), words[0], words[1]);
        assert_eq!(found.map_or("", |service| service.name().as_str()), words[2], "{line}");
    }
    assert!(table.route(&"other".into(), "shop.example.com", "/").is_none());
}

proptest! {
    #[test]
    fn no_request_is_too_odd(host in ".{0,300}", path in ".{0,50}", slashes in 0usize..9000) {
        let registry = registry();
        let table = RouteTable::build(&table("main", SHOP), &registry).unwrap();
        let long = "/".repeat(slashes);
        let unknown = table.route(&"main".into(), &host, &long);
        prop_assert!(unknown.is_none_or(|service| service.name().as_str() != "shop"));
        let odd = table.route(&"main".into(), &host, &path);
        prop_assert!(odd.is_none_or(|service| service.name().as_str() != "api"));
        let found = table.route(&"main".into(), "shop.example.com", &format!("/api/é{path}"));
        prop_assert_eq!(found.unwrap().name().as_str(), "api");
    }
}

#[test]
fn a_path_matches_as_it_was_sent() {
    let spec = table("main", "* / public\n* /adm guarded");
    let table = RouteTable::build(&spec, &registry()).unwrap();
    let service = |path| table.route(&"main".into(), "a", path).unwrap().name().clone();
    for path in ["/adm", "/adm/", "/adm/x"] {
        assert_eq!(service(path), "guarded".into(), "{path}");
    }
    for path in ["//adm", "/x/../adm", "/./adm", "/%61dm", "/adm;x", "/ADM"] {
        assert_eq!(service(path), "public".into(), "{path}");
    }
}

#[test]
fn specs_that_contradict_themselves_are_refused() {
    let registry = registry();
    let build = |spec: &TableSpec| RouteTable::build(spec, &registry).map(|_| ()).unwrap_err();

    let twice = build(&table("main", "a.b /x one\n A.B. /x/ two"));
    assert!(matches!(twice, TableError::DuplicateRoute { .. }), "{twice}");
    let path = build(&table("main", "a.b x one"));
    assert!(matches!(path, TableError::BadPath { .. }), "{path}");
    for host in ["a*.b", ".b", &"a.".repeat(200)] {
        let host = build(&table("main", &format!("{host} / one")));
        assert!(matches!(host, TableError::BadHost { .. }), "{host}");
    }

    let mut spec = table("main", "a.b / one");
    spec.listeners.push(spec.listeners[0].clone());
    assert_eq!(build(&spec), TableError::DuplicateListener { listener: "main".into() });

    let mut spec = table("main", "a.b / one");
    spec.services[0].name = "other".into();
    let unknown = TableError::UnknownService { listener: "main".into(), service: "one".into() };
    assert_eq!(build(&spec), unknown);

    let mut spec = table("main", "a.b / one");
    spec.services.push(spec.services[0].clone());
    assert_eq!(build(&spec), TableError::DuplicateService { service: "one".into() });

    let mut spec = table("main", "a.b / one\n a.c / two");
    spec.services[1].backends = spec.services[0].backends.clone();
    let twice = TableError::DuplicateInstance { instance: spec.services[0].backends[0].id };
    assert_eq!(build(&spec), twice);
    assert!(registry.totals().is_empty(), "a refused table leaves no trace");

    let kept = RouteTable::build(&table("main", "a.b / one"), &registry).unwrap();
    let mut spec = table("main", "a.b / one");
    spec.services[0].backends[0].address.set_port(1);
    let moved = build(&spec);
    assert!(matches!(moved, TableError::InstanceChanged { .. }), "{moved}");
    drop(kept);
}
