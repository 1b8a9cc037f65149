//! What the controller has learned, kept for the next start and taken up again there.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use foreshadow_control::{Controller, Memory, Observation, Recalled, ServiceName, ServiceSpec};
use rusqlite::{Connection, params};
use serde_json::Value;

use super::schema::{Fault, open_to_read};
use super::store::{signed, unsigned};

/// How a memory is written; raised when the same layout comes to mean something else.
const FORMAT: i64 = 1;
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A memory with the time it was taken.
pub(super) struct Dated {
    pub(super) at_ms: u64,
    pub(super) memory: Memory,
}

impl Dated {
    pub(super) fn is_of_the_same(&self, other: &Self) -> bool {
        self.memory.service() == other.memory.service()
    }
}

/// Writes memories over older ones of the same services.
pub(super) fn keep(db: &mut Connection, memories: &[Dated]) -> rusqlite::Result<u64> {
    let transaction = db.transaction()?;
    for Dated { at_ms, memory } in memories {
        let state = serde_json::to_vec(memory)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO learned (service, at_ms, format, version, checksum, state) \
                 VALUES (?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                memory.service().as_str(),
                signed(*at_ms),
                FORMAT,
                written_by(),
                checksum(&state),
                state
            ])?;
    }
    transaction.commit()?;
    Ok(0)
}

/// Time between two services at least, however many there are: each is some hundred kilobytes.
const LEAST_SPACING_MS: u64 = 1_000;

/// Whose turn it is to be kept: one service at a time, all of them within the interval as far as
/// the least spacing allows.
#[derive(Debug)]
pub(crate) struct LearnedTurns {
    every_ms: Option<u64>,
    nth: usize,
    due_ms: u64,
}

impl LearnedTurns {
    /// Each service every `every_ms`; never where there is none.
    pub(crate) fn new(every_ms: Option<u64>) -> Self {
        Self { every_ms, nth: 0, due_ms: 0 }
    }

    /// The service whose turn it is at `at_ms`, of `count` that `at` names.
    pub(crate) fn next<'a>(
        &mut self,
        at_ms: u64,
        count: usize,
        at: impl FnOnce(usize) -> Option<&'a ServiceName>,
    ) -> Option<&'a ServiceName> {
        let every_ms = self.every_ms?;
        let spacing_ms =
            (every_ms / u64::try_from(count.max(1)).unwrap_or(1)).max(LEAST_SPACING_MS);
        if self.due_ms == 0 {
            self.due_ms = at_ms.saturating_add(spacing_ms);
        }
        if at_ms < self.due_ms || count == 0 {
            return None;
        }
        self.due_ms = at_ms.saturating_add(spacing_ms);
        self.nth = (self.nth + 1) % count;
        at(self.nth)
    }
}

/// Removes what is too old to be taken up at a next start.
pub(super) fn forget(db: &Connection, before_ms: u64) -> rusqlite::Result<usize> {
    db.execute("DELETE FROM learned WHERE at_ms < ?", [signed(before_ms)])
}

/// What became of one kept memory at start.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Restored {
    /// The service.
    pub(crate) service: String,
    /// When it had been taken.
    pub(crate) at_ms: u64,
    /// Whether it is in use, and what of it is not or why none of it is.
    pub(crate) taken_up: bool,
    /// One sentence.
    pub(crate) detail: String,
}

/// Takes up what was kept of the services that `controller` is configured for. Whatever is damaged,
/// foreign or too old is left out, and said.
pub(crate) fn recall(
    path: &Path,
    controller: &mut Controller,
    now_ms: u64,
    max_age_ms: u64,
) -> Vec<Restored> {
    let rows = match read(path) {
        Ok(rows) => rows,
        Err(fault) => {
            tracing::warn!("what was learned before cannot be read: {fault}");
            return Vec::new();
        }
    };
    let mut restored = Vec::new();
    for (service, row) in rows {
        let at_ms = row.at_ms;
        let outcome = take_up(controller, row, now_ms, max_age_ms);
        let (taken_up, detail) = match outcome {
            Ok(detail) => (true, detail),
            Err(detail) => (false, detail),
        };
        if taken_up {
            tracing::info!(service, "what was learned before is taken up: {detail}");
        } else {
            tracing::warn!(service, "what was learned before is left out: {detail}");
        }
        restored.push(Restored { service, at_ms, taken_up, detail });
    }
    restored
}

struct Row {
    at_ms: u64,
    format: i64,
    version: String,
    checksum: i64,
    state: Vec<u8>,
}

fn read(path: &Path) -> Result<BTreeMap<String, Row>, Fault> {
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    let db = open_to_read(path)?;
    let mut select =
        db.prepare("SELECT service, at_ms, format, version, checksum, state FROM learned")?;
    let rows = select.query_map([], |row| {
        let found = Row {
            at_ms: unsigned(row.get(1)?),
            format: row.get(2)?,
            version: row.get(3)?,
            checksum: row.get(4)?,
            state: row.get(5)?,
        };
        Ok((row.get(0)?, found))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn take_up(
    controller: &mut Controller,
    row: Row,
    now_ms: u64,
    max_age_ms: u64,
) -> Result<String, String> {
    if row.format != FORMAT || row.version != written_by() {
        return Err(format!("release {} wrote it in another form", row.version));
    }
    if checksum(&row.state) != row.checksum {
        return Err("it is damaged: its checksum is wrong".to_owned());
    }
    // A clock that was set back makes it come from the future; then it is as good as new.
    let age_ms = now_ms.saturating_sub(row.at_ms);
    let age_s = age_ms / 1_000;
    if age_ms > max_age_ms {
        return Err(format!("it is {age_s} s old, more than history.snapshot_max_age"));
    }
    let memory: Memory = serde_json::from_slice(&row.state)
        .map_err(|error| format!("it cannot be read: {error}"))?;
    match controller.recall(memory, age_ms) {
        Ok(Recalled::Whole) => Ok(format!("{age_s} s old")),
        Ok(Recalled::WithoutForecast) => Ok(format!(
            "{age_s} s old; its forecaster begins anew, since horizon, seasons, quantiles or signals changed"
        )),
        Err(error) => Err(error.to_string()),
    }
}

/// The release and a fingerprint of the layout of what it learns, so that a memory of another
/// layout is never read, even between builds of one release.
fn written_by() -> &'static str {
    static LAYOUT: OnceLock<String> = OnceLock::new();
    LAYOUT.get_or_init(|| format!("{VERSION}-{:016x}", layout_fingerprint()))
}

/// The names and sizes of everything in a fresh memory of a plain service. What is learned from outcomes is
/// left out: all of it has defaults, so that a memory of before it is read.
fn layout_fingerprint() -> u64 {
    let text = "listeners: [{ address: '127.0.0.1:1', routes: [{ service: s }] }]\n\
                services: { s: { primaries: ['127.0.0.1:2'], forecast: { signals: [a] }, learning: { \
                enabled: off } } }";
    let parsed =
        foreshadow_config::parse(text, foreshadow_config::Format::Yaml, "layout", &|_| None);
    let specs: Vec<ServiceSpec> = parsed.map_or_else(|_| Vec::new(), |c| c.service_specs());
    let mut controller = Controller::new(specs);
    controller.tick(&observation());
    let memory = controller.memory(&ServiceName::from("s"));
    let value = serde_json::to_value(memory).unwrap_or_default();
    let mut shape = String::new();
    describe(&value, &mut shape);
    fnv(shape.as_bytes())
}

/// One tick that sees an instance, so that what is remembered of one is part of the layout.
fn observation() -> Observation {
    let seen = serde_json::json!({
        "tick": 1, "at_ms": 100, "interval_ms": 100, "kill_switch": false,
        "services": [{
            "service": "s", "mode": "act", "arrivals": 10, "unserved": 0, "facts": [],
            "instances": [{
                "instance": 1, "role": "primary", "tier": "serving", "moving_to": null,
                "tier_age_ms": 0, "health": "up",
                "meters": {
                    "requests": 10, "in_flight": 1, "ok": 10, "client_errors": 0,
                    "server_errors": 0, "connect_errors": 0, "read_errors": 0, "timeouts": 0,
                    "retries": 0, "bytes_out": 0, "bytes_in": 0,
                    "latency": {
                        "count": 10, "sum_ms": 50.0, "over_objective": 0, "p50_ms": 5.0,
                        "p90_ms": 5.0, "p99_ms": 5.0, "max_ms": 5.0,
                    },
                },
            }],
        }],
    });
    serde_json::from_value(seen).unwrap_or(Observation {
        tick: 1,
        at_ms: 100,
        interval_ms: 100,
        kill_switch: false,
        services: Vec::new(),
    })
}

/// Keys in order, lengths of lists, kinds of values; no values.
fn describe(value: &Value, shape: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut names: Vec<_> = fields.keys().collect();
            names.sort_unstable();
            for name in names {
                shape.push_str(name);
                shape.push(':');
                describe(&fields[name], shape);
            }
        }
        Value::Array(items) => {
            shape.push_str(&format!("[{}]", items.len()));
            items.iter().for_each(|item| describe(item, shape));
        }
        Value::Null => shape.push('0'),
        Value::Bool(_) => shape.push('b'),
        Value::Number(_) => shape.push('n'),
        Value::String(_) => shape.push('s'),
    }
    shape.push(',');
}

fn checksum(state: &[u8]) -> i64 {
    i64::from_ne_bytes(fnv(state).to_ne_bytes())
}

/// FNV-1a, 64 bits: the same on every machine and in every release.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
