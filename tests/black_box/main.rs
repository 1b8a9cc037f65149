//! Black-box tests of the built command on real sockets, processes and peers.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed step of a test is its failure"
)]

mod admin;
mod audit;
mod audit_held;
mod backtest;
mod config;
mod data_plane;
mod drills;
mod drills_ended;
mod ending;
mod feedback;
mod fitness;
mod hanging;
mod history;
mod limits;
mod load;
mod metrics;
mod migrations;
mod peers;
mod places;
mod providers;
mod recording;
mod reload;
mod reported;
mod reservations;
mod roles;
mod rules;
mod scaling;
mod secrets;
mod shadows;
mod signals;
mod starting;
mod state;
mod support;
