//! Where clients connect.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use super::{Cidr, Route};
use crate::units;

/// An address that clients connect to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listener {
    /// Unique name for logs and metrics; the address where the file gives none.
    pub name: String,
    /// Where it listens; unique among listeners.
    pub address: SocketAddr,
    /// What is spoken there.
    pub protocol: Protocol,
    /// Routes in the order of the file; each can be reached. [`Route::rank`] says which wins.
    pub routes: Vec<Route>,
    /// Bounds on what clients may use.
    pub limits: Limits,
    /// How long clients may take.
    pub timeouts: ListenerTimeouts,
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<Cidr>,
    /// Whether a client that closes its sending side is taken to have given up.
    pub abort_on_close: bool,
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP over plain TCP.
    Http,
}

/// Bounds on what the clients of a listener may use; a request's head may have 64 KiB, which is
/// fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Connections open at once, over all workers, at least 1.
    pub max_connections: usize,
}

/// How long the clients of a listener may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ListenerTimeouts {
    /// From the first byte of a request to the end of its head.
    #[serde(serialize_with = "units::duration::serialize")]
    pub client_header: Duration,
    /// Between two reads of a request's body, or two writes of an answer.
    #[serde(serialize_with = "units::duration::serialize")]
    pub client_body: Duration,
    /// Between two requests on one connection.
    #[serde(serialize_with = "units::duration::serialize")]
    pub idle: Duration,
}
