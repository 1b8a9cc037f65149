//! The data plane on real sockets, against real backends that answer, hang, reset and lie.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test that uses them")]

mod answers;
mod failures;
mod forwarding;
mod gone;
mod injected;
mod listeners;
mod malformed;
mod recall;
mod slowness;
mod streams;
mod support;
mod tunnels;
