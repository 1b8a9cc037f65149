//! The data plane on real sockets, against real backends that answer, hang, reset and lie.

mod failures;
mod forwarding;
mod listeners;
mod malformed;
mod streams;
mod support;
