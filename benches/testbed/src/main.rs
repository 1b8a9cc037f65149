//! The `foreshadow-testbed` command: one process is a backend or a load generator.

use clap::Parser;
use foreshadow_testbed::{backend, load};

/// A real HTTP backend with tunable behaviour, and an open-loop load generator.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
enum Command {
    /// Serve HTTP with limited concurrency, tunable service times and faults.
    Backend(Box<backend::Args>),
    /// Offer load at fixed times and measure from those times.
    Load(Box<load::Args>),
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Backend(args) => backend::run(*args),
        Command::Load(args) => load::run(*args),
    }
}
