//! `foreshadow drill`: a failover drill on a running node, followed to its verdict.

mod table;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::client::{Admin, Client, said};
use crate::fitness::path_segment;
use crate::node::drill::{Ask, FaultKind, Objection, Outlook, Report, Stage, Verdict};

/// How often it is asked how the drill stands.
const LOOK: Duration = Duration::from_millis(250);
/// A node that does not answer for so long is not waited for.
const SILENCE: Duration = Duration::from_secs(15);
/// Exit codes beside 0 and 1.
const CALLED_OFF: u8 = 3;
const REFUSED: u8 = 4;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Fault {
    /// It ends at once; a primary refuses connections.
    Kill,
    /// It stops and answers nothing.
    Hang,
    /// It gets slow.
    Slow,
}

/// Arguments of `foreshadow drill`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The service.
    service: String,
    /// The instance to hurt; the node chooses where none is named: a shadow before a primary.
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// What is done to it. What the node has not made itself only seems so, at the proxy.
    #[arg(long, value_enum, default_value = "kill")]
    fault: Fault,
    /// How long.
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = duration)]
    lasts: Duration,
    /// How much later a slowed primary is given its requests.
    #[arg(long, value_name = "TIME", default_value = "200ms", value_parser = duration)]
    delay: Duration,
    /// Percent of one core that a slowed shadow keeps.
    #[arg(long, value_name = "PERCENT", default_value_t = 5)]
    cpu: u32,
    /// How long is measured before, to compare with.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    before: Duration,
    /// How long the service has to be as before.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    settle: Duration,
    /// Goal: at most so many requests fail.
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    max_failed: u64,
    /// Goal: it has no weight any more within this; what its health check takes, if not given.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    weight_zero_within: Option<Duration>,
    /// Called off when more requests fail; ten times the goal and at least 20, if not given.
    #[arg(long, value_name = "COUNT")]
    call_off_at: Option<u64>,
    /// Pass over what may be passed over: redundancy that is not known or too low by the forecast, a
    /// mode that does not act, a rollback under way.
    #[arg(long)]
    force: bool,
    /// Only say whether it would be done, to whom, and what speaks against it.
    #[arg(long)]
    dry_run: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: Admin,
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write 200ms, 10s or 2m"))
}

impl Args {
    fn ask(&self) -> Ask {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Ask {
            instance: self.instance.clone(),
            fault: match self.fault {
                Fault::Kill => FaultKind::Kill,
                Fault::Hang => FaultKind::Hang,
                Fault::Slow => FaultKind::Slow,
            },
            for_ms: ms(self.lasts),
            delay_ms: ms(self.delay),
            cpu_percent: self.cpu,
            before_ms: ms(self.before),
            settle_ms: ms(self.settle),
            max_failed: self.max_failed,
            weight_zero_within_ms: self.weight_zero_within.map(ms),
            call_off_at: self.call_off_at,
            force: self.force,
            dry_run: self.dry_run,
        }
    }
}

/// Begins a drill on a running node, follows it and prints what came of it.
///
/// # Errors
/// When the node does not answer or does not understand, and when the output cannot be written.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(drill(args))
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    objections: Vec<Objection>,
}

async fn drill(args: &Args) -> anyhow::Result<ExitCode> {
    let mut client = args.admin.client();
    let path = format!("/api/v1/services/{}/drill", path_segment(&args.service));
    let ask = serde_json::to_value(args.ask())?;
    let (status, body) = client.send(Method::POST, &path, Some(&ask)).await?;
    if status == StatusCode::CONFLICT
        && let Ok(Refusal { objections }) = serde_json::from_slice(&body)
    {
        print(args, &body, &table::refused(&objections))?;
        return Ok(ExitCode::from(REFUSED));
    }
    anyhow::ensure!(status.is_success(), "{status}: {}", said(&body));
    if args.dry_run {
        let outlook: Outlook =
            serde_json::from_slice(&body).context("the answer is not as expected")?;
        print(args, &body, &table::outlook(&outlook))?;
        let code = if outlook.would_be_done { 0 } else { REFUSED };
        return Ok(ExitCode::from(code));
    }
    let report: Report = serde_json::from_slice(&body).context("the answer is not as expected")?;
    let report = follow(&mut client, report, args.json).await?;
    print(args, &serde_json::to_vec(&report)?, &table::report(&report))?;
    Ok(match report.verdict {
        Some(Verdict::Passed) => ExitCode::SUCCESS,
        Some(Verdict::CalledOff | Verdict::CutShort) => ExitCode::from(CALLED_OFF),
        Some(Verdict::Failed) | None => ExitCode::FAILURE,
    })
}

/// Asks again and again until it is over; interrupted, it calls it off and goes on asking.
async fn follow(client: &mut Client, mut report: Report, quiet: bool) -> anyhow::Result<Report> {
    let path = format!("/api/v1/drills/{}", report.id);
    let mut told = None;
    let mut heard = Instant::now();
    while report.stage != Stage::Done {
        if told != Some(report.stage) && !quiet {
            told = Some(report.stage);
            writeln!(crate::out::stdout(), "{}", table::stage(&report))?;
        }
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.context("cannot hear of interrupts")?;
                let (status, body) = client.send(Method::DELETE, &path, None).await?;
                anyhow::ensure!(status.is_success(), "not called off: {status}: {}", said(&body));
            }
            () = sleep(LOOK) => {}
        }
        match client.get(&path).await {
            Ok(newer) => {
                heard = Instant::now();
                report = newer;
            }
            Err(error) if heard.elapsed() > SILENCE => {
                return Err(
                    error.context("the node does not answer any more; it ends the drill itself")
                );
            }
            Err(_) => {}
        }
    }
    Ok(report)
}

fn print(args: &Args, body: &[u8], text: &str) -> anyhow::Result<()> {
    let mut out = crate::out::stdout();
    if args.json {
        let value: Value = serde_json::from_slice(body)?;
        writeln!(out, "{}", serde_json::to_string_pretty(&value)?)?;
    } else {
        write!(out, "{}", crate::out::printable(text))?;
    }
    Ok(())
}
