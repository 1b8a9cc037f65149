//! Listeners and routes as written.

use super::read::table;
use super::{
    AddressRange, Count, Flag, HostPattern, List, ListenAddress, OneOf, Text, Time, UrlPath,
};
use crate::Protocol;

table! {
    /// An address that clients connect to.
    RawListener {
        /// Unique name for logs and metrics. Default: the address.
        name: Text,
        /// IP address and port; :8080 and *:8080 are every IPv4 address, localhost is 127.0.0.1.
        address: ListenAddress = required,
        /// What is spoken there. Default: http.
        protocol: OneOf<Protocol>,
        /// Which requests go to which service; the most specific route wins, whatever the order.
        routes: List<RawRoute> = required,
        /// Bounds on what clients may use; a request's head may have 64KiB, which is fixed.
        limits: RawLimits,
        /// How long clients may take.
        timeouts: RawListenerTimeouts,
        /// Peers whose X-Forwarded-* and Forwarded headers are believed. Default: none.
        trusted_proxies: List<AddressRange>,
        /// Whether a request ends when its client closes its sending side before the answer, as
        /// one that gave up does, but also one that half-closes and waits. Default: false.
        abort_on_close: Flag,
    }
}

table! {
    /// Requests that match go to the service.
    RawRoute {
        /// Which requests. Default: all.
        r#match: RawMatch,
        /// The name of a service in this file.
        service: Text = required,
    }
}

table! {
    /// What a request must look like; all parts must match.
    RawMatch {
        /// The host: shop.example.com, or *.example.com for all below it. Default: any.
        host: HostPattern,
        /// The path. Default: any.
        path: RawPathMatch,
    }
}

table! {
    /// What the path must look like: one of the two.
    RawPathMatch {
        /// This path and all below it: /a covers /a and /a/b, not /ab.
        prefix: UrlPath,
        /// This path only.
        exact: UrlPath,
    }
}

table! {
    /// Bounds on what clients may use. The head of a request is bounded too, always at 64KiB.
    RawLimits {
        /// Connections open at once, 1 to 10000000. Default: 16384.
        max_connections: Count,
    }
}

table! {
    /// How long clients may take.
    RawListenerTimeouts {
        /// From the first byte of a request to the end of its head, up to 1h. Default: 10s.
        client_header: Time,
        /// Between two reads of a request's body, or two writes of an answer, up to 1h.
        /// Default: 60s.
        client_body: Time,
        /// Between two requests on a connection, up to 1d. Default: 75s.
        idle: Time,
    }
}
