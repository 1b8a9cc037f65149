//! What the backend's command line accepts.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::fault::FaultSpec;
use super::report::LoadReport;
use crate::units;

/// Shape of the service-time distribution; its mean is `--service-time`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Distribution {
    /// Every request takes exactly the mean.
    Constant,
    /// Memoryless: coefficient of variation 1.
    Exponential,
    /// Log-normal with the coefficient of variation `--cv`.
    Lognormal,
}

/// Command line of the backend.
///
/// Capacity is `concurrency / service-time`: 8 slots of 20 ms serve about 400 requests per
/// second, and everything beyond waits in the queue.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Address to listen on; port 0 takes a free one, which the first line of output names.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "IP:PORT")]
    pub listen: SocketAddr,
    /// Port to listen on, in place of the one in --listen.
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Name sent in `x-instance` and in the stats; the process id when absent.
    #[arg(long)]
    pub name: Option<String>,
    /// Requests in service at the same time; the others wait in arrival order.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub concurrency: u32,
    /// Requests that may wait for a slot; beyond it the answer is 503 at once.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub queue: u32,
    /// Connections open at the same time; further ones wait in the kernel's accept queue.
    #[arg(long, default_value_t = 4_096, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub max_connections: u32,
    /// Mean service time of one request when warm.
    #[arg(long, default_value = "20ms", value_parser = units::duration, value_name = "TIME")]
    pub service_time: Duration,
    /// Distribution of the service time.
    #[arg(long, value_enum, default_value_t = Distribution::Constant)]
    pub distribution: Distribution,
    /// Coefficient of variation (standard deviation / mean) of the log-normal distribution.
    #[arg(long, default_value_t = 0.5, value_parser = parse_cv)]
    pub cv: f64,
    /// Burn CPU for the service time instead of waiting on a timer.
    #[arg(long)]
    pub cpu: bool,
    /// Time from process start until the port is opened.
    #[arg(long, default_value = "0", value_parser = units::duration, value_name = "TIME")]
    pub startup: Duration,
    /// Warm-up: the service time falls from --cold-factor to 1 over this time, counted from the
    /// first request served (health checks do not count, time spent frozen does).
    #[arg(long, value_parser = units::duration, value_name = "TIME", conflicts_with = "warmup_requests")]
    pub warmup: Option<Duration>,
    /// Warm-up over this many served requests instead of over time.
    #[arg(long, value_name = "N")]
    pub warmup_requests: Option<u64>,
    /// Service-time factor of a cold instance; only used with a warm-up.
    #[arg(long, default_value_t = 3.0, value_parser = parse_factor)]
    pub cold_factor: f64,
    /// Memory held and touched from start, such as 50MB.
    #[arg(long, default_value = "0", value_parser = units::size, value_name = "SIZE")]
    pub memory: usize,
    /// Size of a response body.
    #[arg(long, default_value = "100", value_parser = units::size, value_name = "SIZE")]
    pub body: usize,
    /// Report the load in the header endpoint-load-metrics of every answer.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub load_report: Option<LoadReport>,
    /// A header of every answer, such as 'x-version: 7'. May be given more than once.
    #[arg(long, value_parser = parse_header, value_name = "NAME: VALUE")]
    pub header: Vec<(HeaderName, HeaderValue)>,
    /// A fault from the start: KIND[:key=value,...] with kind crash, hang, slow, errors or refuse
    /// and keys share, factor, after, for. May be given more than once; the latest active one
    /// wins.
    #[arg(long, value_name = "FAULT")]
    pub fault: Vec<FaultSpec>,
    /// Seed of everything random; the same seed and arrivals give the same service times.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How long requests in flight may take to finish after SIGTERM.
    #[arg(long, default_value = "10s", value_parser = units::duration, value_name = "TIME")]
    pub drain: Duration,
}

const EXAMPLES: &str = "\
Examples:
  backend --port 9001 --concurrency 8 --service-time 20ms
  backend --port 9002 --distribution lognormal --cv 0.8 --startup 500ms --warmup 5s
  backend --port 9003 --fault errors:share=0.1,after=10s,for=5s
  curl -X POST localhost:9001/_testbed/fault -d '{\"kind\":\"slow\",\"factor\":5}'
  curl localhost:9001/_testbed/stats";

impl Args {
    /// The address to bind: `--listen` with the port of `--port` when that is given.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        let mut address = self.listen;
        if let Some(port) = self.port {
            address.set_port(port);
        }
        address
    }
}

impl Default for Args {
    /// The command line without any flag.
    fn default() -> Self {
        #[derive(clap::Parser)]
        struct Bare {
            #[command(flatten)]
            args: Args,
        }
        <Bare as clap::Parser>::parse_from(["backend"]).args
    }
}

fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let wrong = || format!("{text:?} is no header such as 'x-version: 7'");
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
    Ok((name.trim().parse().map_err(|_| wrong())?, value))
}

fn parse_cv(text: &str) -> Result<f64, String> {
    in_range(text, 0.0, 100.0)
}

fn parse_factor(text: &str) -> Result<f64, String> {
    in_range(text, 0.01, 10_000.0)
}

pub(super) fn in_range(text: &str, low: f64, high: f64) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (low..=high).contains(&value) => Ok(value),
        _ => Err(format!("{text:?} is not a number from {low} to {high}")),
    }
}
