//! The command line: what can be asked, and the help for it.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{
    audit, backtest, check, demo, drill, explain, fitness, migrate, out, reservations, rules, run,
    schema,
};

/// Foreshadow: a load balancer that sees trouble coming.
///
/// Every 100 ms it forecasts each service's demand and moves traffic to pre-warmed shadow
/// instances before anything is overloaded.
#[derive(Debug, Parser)]
#[command(name = "foreshadow", version, propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  foreshadow check foreshadow.yaml         is this configuration good?
  foreshadow run -c foreshadow.yaml        serve
  foreshadow explain --last 20             what was decided lately, and why
  foreshadow audit verify -c foreshadow.yaml   is the record of every action whole?
  foreshadow backtest access.log           what it would have made of recorded demand
  foreshadow demo                          see it act on a real load

Signals of `run`: SIGHUP reads the configuration again, SIGTERM drains and ends.
Environment: FORESHADOW_LOG sets the log filter, for example info,foreshadow_proxy=debug.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve: run the proxy, the loop and the admin interface.
    #[command(after_help = "\
Examples:
  foreshadow run -c config/examples/quickstart.yaml
  foreshadow run -c edge.toml --log-format json")]
    Run(run::Args),
    /// Check a configuration file; all its errors are shown at once.
    #[command(after_help = "\
Examples:
  foreshadow check foreshadow.yaml
  foreshadow check --print edge.toml       show every setting, defaults included

Exit code: 0 when the file is good, 1 when it is not.")]
    Check(check::Args),
    /// Print the schema of the configuration: JSON Schema, or a reference in Markdown.
    #[command(after_help = "\
Example:
  foreshadow schema > foreshadow.schema.json
  then begin a YAML file with: # yaml-language-server: $schema=foreshadow.schema.json")]
    Schema(schema::Args),
    /// Watch it act on a real load: a ramp, a killed primary, a spike; at most 3 minutes.
    #[command(after_help = "\
Examples:
  foreshadow demo
  foreshadow demo --json demo.json         figures, verdict and raw event stamps
  foreshadow demo --keep                   leave everything running for a look at the API

Exit code: 0 only when every act really happened as promised.")]
    Demo(demo::Args),
    /// Say what was decided and why, from the state database or a recording.
    #[command(after_help = "\
Examples:
  foreshadow explain --last 20
  foreshadow explain --service shop --law failover
  foreshadow explain --replay recording.ndjson   run a recording again and compare every plan")]
    Explain(explain::Args),
    /// Hurt an instance of a running node on purpose, see what becomes of it, and put it right again.
    #[command(after_help = "\
Examples:
  foreshadow drill shop --dry-run          would it be done, to whom, and what speaks against it?
  foreshadow drill shop                    kill one instance of shop
  foreshadow drill shop --fault hang --for 20s --max-failed 5 --weight-zero-within 3s
  foreshadow drill shop --instance i3 --fault slow --delay 500ms --json

Exit code: 0 when every goal was met, 1 when one was not, 3 when it was called off, 4 when it was
refused. Interrupted (Ctrl-C), it calls the drill off and waits for its end. See docs/drills.md.")]
    Drill(Box<drill::Args>),
    /// Move an instance to a shadow in another place, a part of its requests at a time.
    #[command(after_help = "\
Examples:
  foreshadow migrate shop --dry-run        who could move, where to, and what speaks against it?
  foreshadow migrate shop                  move the one that most needs it to the best place
  foreshadow migrate shop i3 --to rack-2 --at 2026-11-23T02:00:00Z
  foreshadow migrate shop i3 --now         begin outside of the windows too
  foreshadow migrate --list                what waits, is under way, and is over
  foreshadow migrate --cancel 7            call it off: what was moved goes back

Exit code: 0 when it is done, 1 when it was rolled back, 3 when it was called off, 4 when it was
refused. Interrupted (Ctrl-C, 130), it goes on in the node: --cancel calls it off. See
docs/migration.md.")]
    Migrate(Box<migrate::Args>),
    /// Check or print the record of every action: by whom or which law, before and after.
    #[command(subcommand)]
    Audit(audit::Args),
    /// Say how safely services can be mirrored, by their traffic, and what speaks against it.
    #[command(after_help = "\
Examples:
  foreshadow fitness                       every service of the node on this machine
  foreshadow fitness shop --json
  foreshadow fitness --admin http://10.0.0.7:9900

docs/fitness.md says what the score means.")]
    Fitness(fitness::Args),
    /// Say how many shadows will be needed where, from when to when, and when they must be ordered.
    #[command(after_help = "\
Examples:
  foreshadow reservations                  every service of the node on this machine, a day ahead
  foreshadow reservations shop --within 7d --json

docs/pools.md says what it is reckoned from.")]
    Reservations(reservations::Args),
    /// Try predictive rules: are they well written, and when would they have fired?
    #[command(
        subcommand,
        after_help = "\
Examples:
  foreshadow rules check foreshadow.yaml --replay recording.ndjson
  foreshadow rules check --service shop --replay recording.ndjson \\
    --rule 'demand > 500rps within 5m for 3 ticks -> activate 2'"
    )]
    Rules(rules::Args),
    /// Say what it would have made of recorded demand, beside reactive scaling and an oracle.
    #[command(after_help = "\
Examples:
  foreshadow backtest demand.csv --time at --value rps --capacity 50 --start-up 10s,1m,10m
  foreshadow backtest access.log.gz --html report.html
  foreshadow backtest --prometheus http://localhost:9090 --query 'sum(rate(http_requests_total[1m]))'

docs/backtest.md says what is simulated and what the figures mean.")]
    Backtest(Box<backtest::Args>),
    /// Print the version.
    Version,
    /// Parts of the demo: a backend and a load generator.
    #[command(hide = true)]
    Testbed {
        #[command(subcommand)]
        part: Part,
    },
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Serve HTTP with limited concurrency, tunable service times and faults.
    Backend(Box<foreshadow_testbed::backend::Args>),
    /// Offer load at fixed times and measure from those times.
    Load(Box<foreshadow_testbed::load::Args>),
}

/// Where the state database is, for commands that read it without a running node.
#[derive(Debug, clap::Args)]
pub(crate) struct StateDir {
    /// Directory of the state database, `state_dir` of the configuration.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Configuration that names it.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// Reads the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    let command = Cli::parse().command;
    let done = demo::end_with_demo().and_then(|()| carry_out(command));
    done.unwrap_or_else(|error| {
        out::without_reader(&error).unwrap_or_else(|| {
            complain(&error);
            ExitCode::FAILURE
        })
    })
}

fn carry_out(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Drill(args) => drill::run(&args),
        Command::Migrate(args) => migrate::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Fitness(args) => fitness::run(&args),
        Command::Reservations(args) => reservations::run(&args),
        Command::Rules(args) => rules::run(&args),
        Command::Backtest(args) => backtest::run(&args),
        Command::Version => version(),
        Command::Testbed { part: Part::Backend(args) } => {
            success(foreshadow_testbed::backend::run(*args))
        }
        Command::Testbed { part: Part::Load(args) } => {
            success(foreshadow_testbed::load::run(*args))
        }
    }
}

fn success(done: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    done.map(|()| ExitCode::SUCCESS)
}

#[expect(clippy::print_stderr, reason = "the command line speaks to a person here")]
fn complain(error: &anyhow::Error) {
    eprintln!("foreshadow: {}", out::printable(&sentence(error)));
}

/// The error and its causes, each said once: many an error quotes its cause already.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

fn version() -> anyhow::Result<ExitCode> {
    writeln!(out::stdout(), "foreshadow {}", env!("CARGO_PKG_VERSION"))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::sentence;

    #[test]
    fn causes_are_said_once() {
        let quoted = anyhow!("in use").context("cannot listen: in use; stop it");
        assert_eq!(sentence(&quoted), "cannot listen: in use; stop it");
        let silent = anyhow!("in use").context("cannot listen").context("not started");
        assert_eq!(sentence(&silent), "not started: cannot listen: in use");
    }
}
