//! Looks up figures of services elsewhere: in tables, and on Prometheus servers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use foreshadow_config::{Signal, SignalSource};
use foreshadow_control::{MAX_METRIC, ServiceName, is_metric_value};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::table::{Rows, Table};
use super::trouble::Trouble;
use super::{Report, Subject, Tables, fetch};
use crate::backtest::prometheus::{Server, understood};
use crate::node::Shared;
use crate::node::file::Aside;

/// How often it is looked what is configured.
const LOOK: Duration = Duration::from_millis(250);

/// Looks up what is configured for as long as the node runs.
pub(in crate::node) fn start(shared: &Arc<Shared>) {
    tokio::spawn(follow(Arc::clone(shared)));
}

/// A task and what it was started for.
struct Looking(Signal, JoinHandle<()>);

impl Drop for Looking {
    fn drop(&mut self) {
        self.1.abort();
    }
}

async fn follow(shared: Arc<Shared>) {
    let mut looking: BTreeMap<(ServiceName, String), Looking> = BTreeMap::new();
    loop {
        let config = shared.config.load_full();
        let find = |(service, name): &(ServiceName, String)| {
            config.services.get(service).and_then(|service| service.signals.get(name))
        };
        looking.retain(|key, task| find(key) == Some(&task.0));
        forget(&shared, |key| looking.contains_key(key));
        for (service, configured) in &config.services {
            for (name, signal) in &configured.signals {
                let key = (service.clone(), name.clone());
                looking.entry(key.clone()).or_insert_with(|| {
                    let lookup = look_up(Arc::clone(&shared), key, signal.clone());
                    Looking(signal.clone(), tokio::spawn(lookup))
                });
            }
        }
        drop(config);
        sleep(LOOK).await;
    }
}

/// Looks one signal up, time and again.
async fn look_up(shared: Arc<Shared>, key: (ServiceName, String), signal: Signal) {
    let (service, name) = key;
    let source = format!("signal {name} of {service}");
    let mut trouble = Trouble::default();
    let mut failing: Option<Instant> = None;
    let mut tables = Aside::new(signal.timeout);
    let table = Arc::default();
    loop {
        let begun = Instant::now();
        let now_ms = shared.clock.now_ms();
        let found = match &signal.source {
            SignalSource::File { file } => match in_table(&mut tables, &table, file).await {
                Ok(rows) => {
                    let value = rows.at(now_ms);
                    publish(&shared, (service.clone(), name.clone()), rows);
                    failing = None;
                    Ok(value.map(|value| (value, 0)))
                }
                Err(error) => {
                    let since = *failing.get_or_insert(begun);
                    if since.elapsed() >= max_age(&shared, &service) {
                        let key = (service.clone(), name.clone());
                        forget(&shared, |published| *published != key);
                    }
                    Err(error)
                }
            },
            SignalSource::Prometheus { prometheus, query } => {
                on_server(prometheus, query, signal.timeout, now_ms).await
            }
        };
        match found {
            Ok(Some((value, age_ms))) => {
                trouble.over(&source);
                let values = BTreeMap::from([(name.clone(), value)]);
                let report = Report { of: Subject::Service(service.clone()), age_ms, values };
                if let Err(refused) = shared.metrics.report(report) {
                    tracing::debug!(?refused, source, "a signal is left out");
                }
            }
            // A table may well say that there is nothing now.
            Ok(None) => trouble.over(&source),
            Err(error) => trouble.tell(&source, &error),
        }
        sleep_until(begun + signal.interval).await;
    }
}

/// How long metrics of a service count.
fn max_age(shared: &Shared, service: &ServiceName) -> Duration {
    let config = shared.config.load();
    config.services.get(service).map_or(Duration::ZERO, |service| service.metrics.max_age)
}

/// What the table says. The value in force has no age: it counts until the next. A read that hangs with
/// the file system is one that fails, and no other begins beside it.
async fn in_table(
    aside: &mut Aside<anyhow::Result<Rows>>,
    table: &Arc<Mutex<Option<Table>>>,
    file: &Path,
) -> anyhow::Result<Rows> {
    let (table, file) = (Arc::clone(table), file.to_owned());
    let read = move || {
        let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
        table.get_or_insert_with(|| Table::new(file)).rows()
    };
    aside.run(read).await?
}

/// Lets the loop and the fits read what a table says, where that is new.
fn publish(shared: &Shared, key: (ServiceName, String), rows: Rows) {
    if shared.metrics.tables.load().get(&key) != Some(&rows) {
        shared.metrics.tables.rcu(|tables| {
            let mut tables = Tables::clone(tables);
            tables.insert(key.clone(), rows.clone());
            tables
        });
    }
}

/// Takes back tables that are not looked up any more, or could not be read for too long.
fn forget(shared: &Shared, is_kept: impl Fn(&(ServiceName, String)) -> bool) {
    if !shared.metrics.tables.load().keys().all(&is_kept) {
        shared.metrics.tables.rcu(|tables| {
            let mut tables = Tables::clone(tables);
            tables.retain(|key, _| is_kept(key));
            tables
        });
    }
}

/// The newest value that a server has, summed over series, and its age.
async fn on_server(
    url: &str,
    query: &str,
    patience: Duration,
    now_ms: u64,
) -> anyhow::Result<Option<(f64, u64)>> {
    /// Points asked for: the last one is of now.
    const STEPS: u64 = 4;
    const STEP_MS: u64 = 15_000;
    let server = Server::parse(url)?;
    let target = server.target(query, now_ms.saturating_sub(STEPS * STEP_MS), now_ms, STEP_MS);
    let host = server.authority.as_str();
    let answer = fetch::get(host, host, &target, "application/json", patience).await;
    let answer = answer.with_context(|| format!("cannot read from {url}"))?;
    let series = understood(answer.as_bytes(), query)?;
    let mut sums: BTreeMap<u64, f64> = BTreeMap::new();
    for (at_s, text) in series.iter().flat_map(|series| &series.values) {
        if let Some(value) = text.parse::<f64>().ok().filter(|value| value.is_finite()) {
            *sums.entry((at_s.max(0.0) * 1e3).round() as u64).or_default() += value;
        }
    }
    let newest =
        sums.last_key_value().with_context(|| format!("{url} has no value of {query:?}"))?;
    anyhow::ensure!(
        is_metric_value(*newest.1),
        "{url} says {:e} for {query:?}; values are from 0 to {MAX_METRIC:e}",
        newest.1
    );
    Ok(Some((*newest.1, now_ms.saturating_sub(*newest.0))))
}
