//! The arguments of `foreshadow backtest`, and what they come to on a given history.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use foreshadow_backtest::{Between, Policy, Prices, Setup, StartUp};

use super::input::{Format, History, KindArg};

/// Policies that are compared when none are named.
const USUAL_POLICIES: [&str; 12] = [
    "brain",
    "brain:target=0.8,commit=0.5",
    "brain:target=0.9,commit=0.5",
    "brain:target=0.95,commit=0.5",
    "reactive:0.5",
    "reactive:0.6",
    "reactive:0.7",
    "reactive:0.8",
    "reactive:0.9",
    "static:mean",
    "static:peak",
    "oracle",
];
const DAY_MS: u64 = 86_400_000;
/// More than this are no fleet that anybody runs.
const MOST_INSTANCES: u32 = 10_000;
/// Ticks a start-up is divided into, if the tick may be chosen.
const TICKS_PER_START: u64 = 6;
const LONGEST_CHOSEN_TICK_MS: u64 = 10_000;
/// Ticks of a run, if the tick may be chosen: some seconds for each policy.
const MOST_CHOSEN_TICKS: u64 = 400_000;
/// Instances that the highest demand needs when no capacity is given.
const INSTANCES_AT_PEAK: f64 = 20.0;
const TIMELINE_POINTS: usize = 800;
/// How far back a server or a database is read, if nothing is said.
pub(super) const USUAL_FROM: &str = "7d";

/// Arguments of `foreshadow backtest`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// History: a CSV file or an access log, also compressed with gzip; `-` is standard input.
    #[arg(value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// Prometheus server to read the history from, such as http://localhost:9090.
    #[arg(
        long,
        value_name = "URL",
        requires = "query",
        conflicts_with = "file",
        help_heading = "History"
    )]
    pub(super) prometheus: Option<String>,
    /// PromQL that gives requests per second; several series are summed.
    #[arg(long, value_name = "PROMQL", requires = "prometheus", help_heading = "History")]
    pub(super) query: Option<String>,
    /// First moment to read from a server or a database: a time, or how long ago; 7d if not given.
    #[arg(long, value_name = "TIME", help_heading = "History")]
    pub(super) from: Option<String>,
    /// Last moment to read; now if not given.
    #[arg(long, value_name = "TIME", help_heading = "History")]
    pub(super) to: Option<String>,
    /// History a node has kept: its state_dir, or the file history.db.
    #[arg(long, value_name = "PATH", requires = "service", conflicts_with_all = ["file", "prometheus"], help_heading = "History")]
    pub(super) state_db: Option<PathBuf>,
    /// Service whose demand is meant.
    #[arg(long, requires = "state_db", help_heading = "History")]
    pub(super) service: Option<String>,
    /// How the file is written; found out if not given.
    #[arg(long, value_enum, default_value_t = Format::Auto, help_heading = "History")]
    pub(super) format: Format,
    /// Column of the time, by heading or as #1, #2, ...; in a JSON log the key.
    #[arg(long, value_name = "COLUMN", help_heading = "History")]
    pub(super) time: Option<String>,
    /// Column of the value; several are summed, `*` is all.
    #[arg(long, value_name = "COLUMN", help_heading = "History")]
    pub(super) value: Vec<String>,
    /// Whether the first line holds headings; found out if not given.
    #[arg(long, value_name = "BOOL", help_heading = "History")]
    pub(super) header: Option<bool>,
    /// What values mean: requests per second, requests per step, or one request per row. A log is
    /// always the last.
    #[arg(long, value_enum, default_value_t = KindArg::Rate, help_heading = "History")]
    pub(super) kind: KindArg,
    /// Length of a step; found out if not given. Rows without a time follow each other so far apart.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, help_heading = "History")]
    pub(super) step: Option<Duration>,
    /// Demand is taken this many times.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, help_heading = "History")]
    pub(super) scale: f64,
    /// Leave out so much at the beginning.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration, help_heading = "History")]
    pub(super) skip: Duration,
    /// Take so much.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, help_heading = "History")]
    pub(super) take: Option<Duration>,

    /// Requests per second an instance serves within its objective; a twentieth of the highest
    /// demand if not given.
    #[arg(long, value_name = "RPS", help_heading = "World")]
    pub(super) capacity: Option<f64>,
    /// Instances that are always there.
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "World")]
    pub(super) primaries: u32,
    /// Most instances that may exist; four times what the highest demand needs if not given.
    #[arg(long, value_name = "N", help_heading = "World")]
    pub(super) max_instances: Option<u32>,
    /// From nothing to a paused instance; with several, everything is run for each.
    #[arg(long, value_name = "TIME", default_value = "1m", value_delimiter = ',', value_parser = humantime::parse_duration, help_heading = "World")]
    pub(super) start_up: Vec<Duration>,
    /// From paused to running small.
    #[arg(long, value_name = "TIME", default_value = "200ms", value_parser = humantime::parse_duration, help_heading = "World")]
    pub(super) wake: Duration,
    /// From running small to serving.
    #[arg(long, value_name = "TIME", default_value = "150ms", value_parser = humantime::parse_duration, help_heading = "World")]
    pub(super) serve: Duration,
    /// From its first request a new instance's capacity grows from a half to all in this time.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration, help_heading = "World")]
    pub(super) warm_up: Duration,
    /// How long a request may wait within the objective.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration, help_heading = "World")]
    pub(super) wait: Duration,
    /// Share of the requests that may miss the objective.
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, help_heading = "World")]
    pub(super) allowed: f64,
    /// Requests beyond the objective stay and are worked off later.
    #[arg(long, help_heading = "World")]
    pub(super) carry: bool,
    /// Price of an instance-hour: at full size, running small, paused.
    #[arg(long, value_name = "FULL,WARM,PAUSED", default_value = "1,0.25,0.1", value_parser = prices, help_heading = "World")]
    pub(super) prices: Prices,

    /// What decides: brain, brain:target=0.9,prepare=0.99,..., reactive:0.7, static:12,
    /// static:mean, static:peak, oracle. May be given several times.
    #[arg(long = "policy", value_name = "POLICY", help_heading = "Runs")]
    pub(super) policies: Vec<Policy>,
    /// Known period of demand; a day if not given and the history is long enough.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, help_heading = "Runs")]
    pub(super) season: Vec<Duration>,
    /// Nothing counts before this time; a quarter of the history, a week at most, if not given.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, help_heading = "Runs")]
    pub(super) learn: Option<Duration>,
    /// An activation that nothing asked for within this time was false.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration, help_heading = "Runs")]
    pub(super) false_window: Duration,
    /// Time between two decisions; a sixth of the start-up, 10 s at most, if not given.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, help_heading = "Runs")]
    pub(super) tick: Option<Duration>,
    /// Hold each recorded rate for its step in place of going on straight lines between them.
    #[arg(long, help_heading = "Runs")]
    pub(super) hold: bool,
    /// Seed of chance arrivals (Poisson) at the recorded rate.
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Runs")]
    pub(super) seed: u64,
    /// Requests arrive evenly in place of by chance.
    #[arg(long, help_heading = "Runs")]
    pub(super) even: bool,
    /// Runs at the same time; as many as there are processors if not given.
    #[arg(long, value_name = "N", help_heading = "Runs")]
    pub(super) jobs: Option<usize>,

    /// Print JSON in place of tables.
    #[arg(long, help_heading = "Report")]
    pub(super) json: bool,
    /// Write a report with charts: one file that needs nothing else.
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    pub(super) html: Option<PathBuf>,
}

/// What is run: every policy in every world.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) policies: Vec<Policy>,
    pub(super) worlds: Vec<World>,
    pub(super) between: Between,
    pub(super) seed: Option<u64>,
}

/// A world and the tick it is looked at with.
#[derive(Debug)]
pub(super) struct World {
    pub(super) setup: Setup,
    pub(super) tick_ms: u64,
}

impl Args {
    /// What the arguments come to on this history.
    ///
    /// # Errors
    /// When an argument is out of range.
    pub(super) fn plan(&self, history: &History) -> anyhow::Result<Plan> {
        let peak_rps = history.series.rps.iter().flatten().fold(0.0, |a: f64, b| a.max(*b));
        ensure!(
            peak_rps > 0.0 || self.capacity.is_some(),
            "demand is zero all the time; check which column holds the value, or give --capacity"
        );
        let capacity_rps = self.capacity.unwrap_or(peak_rps / INSTANCES_AT_PEAK);
        ensure!(
            capacity_rps > 0.0 && capacity_rps.is_finite(),
            "--capacity is {capacity_rps}, it must be above 0 requests per second"
        );
        ensure!(
            (0.0..1.0).contains(&self.allowed),
            "--allowed is {}, it must be a share from 0 to below 1",
            self.allowed
        );
        let needed = (peak_rps / capacity_rps).ceil().max(1.0);
        ensure!(
            needed <= f64::from(MOST_INSTANCES),
            "the highest demand ({peak_rps:.0} rps) needs {needed} instances of {capacity_rps} rps, \
             {MOST_INSTANCES} are possible; give a larger --capacity"
        );
        ensure!(
            self.primaries <= MOST_INSTANCES && self.max_instances <= Some(MOST_INSTANCES),
            "there may be {MOST_INSTANCES} instances at most; give a smaller --primaries or \
             --max-instances"
        );
        let max_instances = self.max_instances.unwrap_or(4 * needed as u32).max(self.primaries);
        ensure!(max_instances > 0, "no instance may exist; give --primaries or --max-instances");
        let between = if self.hold { Between::Hold } else { Between::Linear };
        let worlds = self.start_up.iter().map(|start_up| {
            let setup = self.setup(history, *start_up, capacity_rps, max_instances);
            World { tick_ms: self.tick_ms(history, &setup), setup }
        });
        Ok(Plan {
            policies: self.policies()?,
            worlds: worlds.collect(),
            between,
            seed: (!self.even).then_some(self.seed),
        })
    }

    fn policies(&self) -> anyhow::Result<Vec<Policy>> {
        if self.policies.is_empty() {
            return Ok(USUAL_POLICIES.iter().map(|text| text.parse()).collect::<Result<_, _>>()?);
        }
        Ok(self.policies.clone())
    }

    fn setup(
        &self,
        history: &History,
        start_up: Duration,
        capacity_rps: f64,
        max_instances: u32,
    ) -> Setup {
        let span_ms = history.series.span_ms();
        let usual_season = if span_ms >= 2 * DAY_MS { vec![DAY_MS] } else { Vec::new() };
        let seasons_ms: Vec<u64> = self.season.iter().map(|s| ms(*s)).collect();
        Setup {
            capacity_rps,
            primaries: self.primaries,
            max_instances,
            start_up: StartUp {
                create_ms: ms(start_up),
                wake_ms: ms(self.wake),
                serve_ms: ms(self.serve),
            },
            warm_up_ms: ms(self.warm_up),
            wait_ms: ms(self.wait),
            allowed_share: self.allowed,
            carry: self.carry,
            prices: self.prices,
            false_window_ms: ms(self.false_window),
            seasons_ms: if seasons_ms.is_empty() { usual_season } else { seasons_ms },
            learn_ms: self.learn.map_or((span_ms / 4).min(7 * DAY_MS), ms),
            timeline_points: TIMELINE_POINTS,
        }
    }

    fn tick_ms(&self, history: &History, setup: &Setup) -> u64 {
        if let Some(tick) = self.tick {
            return ms(tick);
        }
        let by_start = setup.start_up.total_ms() / TICKS_PER_START;
        let by_length = history.series.span_ms() / MOST_CHOSEN_TICKS;
        let chosen_ms = by_start.min(LONGEST_CHOSEN_TICK_MS).max(by_length).max(100);
        // An even number is easier to read.
        (chosen_ms / 100 * 100).min(60_000)
    }
}

/// A duration in whole milliseconds.
pub(super) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `FULL,WARM,PAUSED`, none of which may be negative.
fn prices(text: &str) -> Result<Prices, String> {
    let price = |text: &str| text.trim().parse().ok().filter(|price| (0.0..=1e12).contains(price));
    let all: Option<Vec<f64>> = text.split(',').map(price).collect();
    match all.as_deref() {
        Some(&[full, warm, paused]) => Ok(Prices { full, warm, paused }),
        _ => Err("three prices are wanted, none below 0, such as 1,0.25,0.1".to_owned()),
    }
}
