//! Routing, picking, counting and checking, through the public API only.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails by panicking, like the test")]

mod checks;
mod outcomes;
mod pick;
mod routes;
mod support;
