//! The `foreshadow` command.

mod admin;
mod audit;
mod backtest;
mod check;
mod cli;
mod client;
mod demo;
mod drill;
mod explain;
mod fitness;
mod logging;
mod migrate;
mod node;
mod out;
mod reservations;
mod rules;
mod run;
mod schema;
mod secrets;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
