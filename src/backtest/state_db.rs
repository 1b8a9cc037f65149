//! History from a node's own history database, read as the node reads it.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use foreshadow_backtest::Sample;
use foreshadow_backtest::read::ReadReport;
use foreshadow_control::ServiceName;

use super::args::{Args, USUAL_FROM, ms};
use super::prometheus::moment;
use crate::node::history::{HISTORY_DB, Query, Resolution, read};

/// Reads the demand of `--service`, from `--from` to `--to`, in steps of `--step`; without that in
/// the shortest that the whole time is kept in. Returns the step with the samples.
///
/// # Errors
/// When the database cannot be read, or holds nothing of the service in that time.
pub(super) fn read(given: &Path, args: &Args) -> anyhow::Result<(u64, Vec<Sample>, ReadReport)> {
    let path = database(given);
    kept(&path, args).with_context(|| {
        format!("cannot read {}, the history.db of a node (--state-db)", path.display())
    })
}

fn kept(path: &Path, args: &Args) -> anyhow::Result<(u64, Vec<Sample>, ReadReport)> {
    ensure!(
        path.exists(),
        "there is no history database {}; give the state_dir of a node that keeps history, or the file",
        path.display()
    );
    let service = args.service.as_deref().unwrap_or_default();
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, ms);
    let to_ms = args.to.as_deref().map_or(Ok(now_ms), |text| moment(text, now_ms, "--to"))?;
    let from_ms = moment(args.from.as_deref().unwrap_or(USUAL_FROM), to_ms, "--from")?;
    let resolution = match args.step.map(ms) {
        Some(step_ms) => resolution_of(step_ms)?,
        None => finest(path, service, from_ms, to_ms)?,
    };
    let samples = spans(path, &query(service, resolution, from_ms, to_ms))?;
    if samples.is_empty() {
        bail!(
            "{} holds nothing of service {service:?} in that time; it knows {}; --from says how far to look back",
            path.display(),
            services(path)?
        );
    }
    let report = ReadReport {
        samples: samples.len() as u64,
        reading: format!("demand of service {service:?}, by {}", resolution.as_str()),
        ..ReadReport::default()
    };
    Ok((resolution.step_ms(), samples, report))
}

fn database(given: &Path) -> PathBuf {
    if given.is_dir() { given.join(HISTORY_DB) } else { given.to_owned() }
}

fn resolution_of(step_ms: u64) -> anyhow::Result<Resolution> {
    Resolution::ALL.into_iter().find(|r| r.step_ms() == step_ms).with_context(|| {
        format!("history is not kept in steps of {step_ms} ms; --step may be 1s, 1m, 15m or 1h")
    })
}

fn query(service: &str, resolution: Resolution, from_ms: u64, until_ms: u64) -> Query {
    let service = ServiceName::from(service);
    Query { service, instance: 0, resolution, from_ms, until_ms, limit: u32::MAX }
}

/// The shortest spans that reach back as far as any, give or take one of the longest.
fn finest(path: &Path, service: &str, from_ms: u64, to_ms: u64) -> anyhow::Result<Resolution> {
    let mut firsts = Vec::new();
    for resolution in Resolution::ALL {
        let first = read::first_ms(path, &query(service, resolution, from_ms, to_ms))?;
        firsts.extend(first.map(|first| (resolution, first)));
    }
    let earliest = firsts.iter().map(|(_, first)| *first).min().unwrap_or(0);
    let near = |(_, first): &&(Resolution, u64)| first - earliest <= 3_600_000;
    Ok(firsts.iter().find(near).map_or(Resolution::Minute, |(resolution, _)| *resolution))
}

/// Demand by span; spans observed for less than half of their time are left out, as gaps.
fn spans(path: &Path, query: &Query) -> anyhow::Result<Vec<Sample>> {
    let step_ms = query.resolution.step_ms();
    let spans = read::spans(path, query)?.into_iter();
    let observed = spans.filter(|span| span.covered_ms.saturating_mul(2) >= step_ms);
    Ok(observed.map(|span| Sample { at_ms: span.at_ms, value: span.rps }).collect())
}

fn services(path: &Path) -> anyhow::Result<String> {
    let names = read::services(path)?;
    Ok(if names.is_empty() { "no service yet".to_owned() } else { names.join(", ") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::history::tests::{START_MS, write};

    #[test]
    fn the_finest_spans_that_reach_back_are_read_and_hardly_observed_ones_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = database(dir.path());
        write(&path, START_MS, 100);
        write(&path, START_MS + 900_000, 600);
        write(&path, START_MS + 5_400_000, 900);
        let end_ms = START_MS + 6_300_000;
        assert_eq!(finest(&path, "shop", 0, end_ms).unwrap().as_str(), "1s");
        let db = rusqlite::Connection::open(&path).unwrap();
        for name in ["1s", "1m"] {
            let sql = format!("DELETE FROM samples_{name} WHERE at_ms < ?");
            db.execute(&sql, [i64::try_from(START_MS + 5_400_000).unwrap()]).unwrap();
        }
        let found = finest(&path, "shop", 0, end_ms).unwrap();
        assert_eq!(found.as_str(), "15m");
        let samples = spans(&path, &query("shop", found, START_MS, end_ms)).unwrap();
        let at = |quarters: u64| Sample { at_ms: START_MS + quarters * 900_000, value: 100.0 };
        assert_eq!(samples, [at(1), at(6)], "the first quarter was observed for 100 s");
        assert_eq!(services(&path).unwrap(), "shop");
    }

    #[test]
    fn a_missing_database_and_an_unkept_step_are_told() {
        assert!(resolution_of(5_000).unwrap_err().to_string().contains("1s, 1m, 15m or 1h"));
        assert_eq!(resolution_of(60_000).unwrap().as_str(), "1m");
    }
}
