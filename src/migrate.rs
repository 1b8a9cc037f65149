//! `foreshadow migrate`: an instance of a running node is moved elsewhere, followed to its end.

mod table;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use foreshadow_control::MigrationChoice;
use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::client::{Admin, Client, said};
use crate::fitness::path_segment;
use crate::node::migrations::{Ask, Record, State};

/// How often it is asked how the migration stands.
const LOOK: Duration = Duration::from_millis(250);
/// A node that does not answer for so long is not waited for.
const SILENCE: Duration = Duration::from_secs(15);
/// Exit codes beside 0 and 1.
const CALLED_OFF: u8 = 3;
const REFUSED: u8 = 4;
/// As a shell has it for a command that was interrupted.
const INTERRUPTED: u8 = 130;

/// Arguments of `foreshadow migrate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The service.
    #[arg(required_unless_present_any = ["list", "cancel"], conflicts_with_all = ["list", "cancel"])]
    service: Option<String>,
    /// The instance that moves; the node chooses where none is named.
    #[arg(conflicts_with_all = ["list", "cancel"])]
    instance: Option<String>,
    /// The place it moves to; the node chooses where none is named.
    #[arg(long, value_name = "PLACE", conflicts_with_all = ["list", "cancel"])]
    to: Option<String>,
    /// Not before this, such as 2026-11-23T02:00:00Z; in a window, where there are such.
    #[arg(long, value_name = "TIME", conflicts_with_all = ["list", "cancel", "now"])]
    at: Option<String>,
    /// Begin outside of the windows too.
    #[arg(long, conflicts_with_all = ["list", "cancel"])]
    now: bool,
    /// Only say who could move, where to, and what speaks against it.
    #[arg(long, conflicts_with_all = ["list", "cancel"])]
    dry_run: bool,
    /// Show those that wait, are under way, and are over.
    #[arg(long, conflicts_with = "cancel")]
    list: bool,
    /// Call one off: what was moved goes back.
    #[arg(long, value_name = "NUMBER")]
    cancel: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: Admin,
}

/// Who could move, as a dry run says it.
#[derive(Debug, Deserialize)]
struct Outlook {
    would_begin: bool,
    begins_ms: u64,
    choices: Vec<MigrationChoice>,
}

#[derive(Debug, Deserialize)]
struct Listing {
    now_ms: u64,
    migrations: Vec<Record>,
}

/// Asks a running node for a migration, and follows it.
///
/// # Errors
/// When the node does not answer or does not understand, and when the output cannot be written.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut client = args.admin.client();
        match (args.list, args.cancel, &args.service) {
            (true, ..) => list(&mut client, args).await,
            (_, Some(id), _) => cancel(&mut client, id, args).await,
            (_, _, Some(service)) => migrate(&mut client, service, args).await,
            _ => anyhow::bail!("name a service"),
        }
    })
}

async fn list(client: &mut Client, args: &Args) -> anyhow::Result<ExitCode> {
    let body: Value = client.get("/api/v1/migrations").await?;
    let listing: Listing =
        serde_json::from_value(body.clone()).context("the answer is not as expected")?;
    print(args, &body, &table::list(&listing.migrations, listing.now_ms))?;
    Ok(ExitCode::SUCCESS)
}

async fn cancel(client: &mut Client, id: u64, args: &Args) -> anyhow::Result<ExitCode> {
    let path = format!("/api/v1/migrations/{id}");
    let (status, body) = client.send(Method::DELETE, &path, None).await?;
    anyhow::ensure!(status.is_success(), "not called off: {status}: {}", said(&body));
    let record: Record = serde_json::from_slice(&body).context("the answer is not as expected")?;
    if status == StatusCode::OK {
        let text = format!("migration {id} was over already\n{}", table::end(&record));
        print(args, &serde_json::to_value(&record)?, &text)?;
        return Ok(code(&record));
    }
    let Some(record) = follow(client, record, id, args).await? else {
        return Ok(ExitCode::from(INTERRUPTED));
    };
    print(args, &serde_json::to_value(&record)?, &table::end(&record))?;
    // What was asked for here is that it is called off.
    Ok(if record.state == State::CalledOff { ExitCode::SUCCESS } else { code(&record) })
}

async fn migrate(client: &mut Client, service: &str, args: &Args) -> anyhow::Result<ExitCode> {
    let path = format!("/api/v1/services/{}/migrations", path_segment(service));
    let ask = Ask {
        instance: args.instance.clone(),
        to: args.to.clone(),
        at: args.at.clone(),
        now: args.now,
        dry_run: args.dry_run,
    };
    let ask = serde_json::to_value(ask)?;
    let (status, body) = client.send(Method::POST, &path, Some(&ask)).await?;
    if is_refusal(status) {
        let refusal = serde_json::from_slice(&body).unwrap_or(Value::Null);
        print(args, &refusal, &format!("refused: {}\n", said(&body)))?;
        return Ok(ExitCode::from(REFUSED));
    }
    anyhow::ensure!(status.is_success(), "{status}: {}", said(&body));
    if args.dry_run {
        let outlook: Outlook =
            serde_json::from_slice(&body).context("the answer is not as expected")?;
        print(args, &serde_json::from_slice(&body)?, &table::outlook(service, &outlook))?;
        return Ok(ExitCode::from(if outlook.would_begin { 0 } else { REFUSED }));
    }
    let record: Record = serde_json::from_slice(&body).context("the answer is not as expected")?;
    let id = record.id.context("the answer has no number")?;
    let Some(record) = follow(client, record, id, args).await? else {
        return Ok(ExitCode::from(INTERRUPTED));
    };
    print(args, &serde_json::to_value(&record)?, &table::end(&record))?;
    Ok(code(&record))
}

/// Whether the node says that this cannot be.
fn is_refusal(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::CONFLICT
            | StatusCode::NOT_FOUND
            | StatusCode::UNPROCESSABLE_ENTITY
            | StatusCode::TOO_MANY_REQUESTS
    )
}

fn code(record: &Record) -> ExitCode {
    match record.state {
        State::Done => ExitCode::SUCCESS,
        State::CalledOff => ExitCode::from(CALLED_OFF),
        State::Refused => ExitCode::from(REFUSED),
        State::RolledBack | State::Waiting | State::UnderWay => ExitCode::FAILURE,
    }
}

/// Asks again and again until it is over, a line for each turn; interrupted, it lets it go on and gives
/// nothing.
async fn follow(
    client: &mut Client,
    mut record: Record,
    id: u64,
    args: &Args,
) -> anyhow::Result<Option<Record>> {
    let path = format!("/api/v1/migrations/{id}");
    let mut told = None;
    let mut heard = Instant::now();
    loop {
        let turn = table::turn(&record);
        if !args.json && !record.state.is_over() && told.as_ref() != Some(&turn) {
            let line = table::line(&record);
            writeln!(crate::out::stdout(), "{}", crate::out::printable(&line))?;
            told = Some(turn);
        }
        if record.state.is_over() {
            return Ok(Some(record));
        }
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.context("cannot hear of interrupts")?;
                let goes_on = format!(
                    "migration {id} goes on in the node; `foreshadow migrate --list` shows it, \
                     `foreshadow migrate --cancel {id}` calls it off\n"
                );
                print(args, &serde_json::to_value(&record)?, &goes_on)?;
                return Ok(None);
            }
            () = sleep(LOOK) => {}
        }
        match client.get(&path).await {
            Ok(newer) => {
                heard = Instant::now();
                record = newer;
            }
            Err(error) if heard.elapsed() > SILENCE => {
                return Err(error.context(format!(
                    "the node does not answer any more; migration {id} goes on when it does"
                )));
            }
            Err(_) => {}
        }
    }
}

fn print(args: &Args, body: &Value, text: &str) -> anyhow::Result<()> {
    let mut out = crate::out::stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(body)?)?;
    } else {
        write!(out, "{}", crate::out::printable(text))?;
    }
    Ok(())
}
