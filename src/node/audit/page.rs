//! Pages of the record, for people and programs.

use rusqlite::{Connection, params};
use serde::Deserialize;
use serde_json::{Value, json};

use super::chain::Link;
use super::store::{COLUMNS, link};

/// Entries on a page where nothing is said, and at most.
pub(crate) const PAGE: u32 = 100;
pub(crate) const LONGEST_PAGE: u32 = 1_000;

/// Which entries.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Query {
    /// Only of this service.
    pub(crate) service: Option<String>,
    /// Only of this action, or of all that begin with it and a dot.
    pub(crate) action: Option<String>,
    /// Only by this actor: the name of a token, or a law.
    pub(crate) actor: Option<String>,
    /// Only with this outcome.
    pub(crate) outcome: Option<String>,
    /// Only at or after this Unix time.
    pub(crate) since_ms: Option<u64>,
    /// Only before this Unix time.
    pub(crate) until_ms: Option<u64>,
    /// Only numbers below this one: the last of the page before.
    pub(crate) before: Option<u64>,
    /// Page size.
    pub(crate) limit: Option<u32>,
}

const WHERE: &str = "(?1 IS NULL OR service = ?1) \
     AND (?2 IS NULL OR action = ?2 OR substr(action, 1, length(?2) + 1) = ?2 || '.') \
     AND (?3 IS NULL OR actor = ?3) AND (?4 IS NULL OR outcome = ?4) \
     AND (?5 IS NULL OR at_ms >= ?5) AND (?6 IS NULL OR at_ms < ?6) AND (?7 IS NULL OR seq < ?7)";

/// The newest entries that match, the newest first.
///
/// # Errors
/// When the record cannot be read.
pub(super) fn newest(db: &Connection, query: &Query) -> rusqlite::Result<Vec<Link>> {
    let sql = format!("SELECT {COLUMNS} FROM audit WHERE {WHERE} ORDER BY seq DESC LIMIT ?8");
    let mut rows = db.prepare_cached(&sql)?;
    let limit = query.limit.unwrap_or(PAGE).clamp(1, LONGEST_PAGE);
    let page = rows.query_map(
        params![
            query.service,
            query.action,
            query.actor,
            query.outcome,
            query.since_ms.map(signed),
            query.until_ms.map(signed),
            query.before.map(signed),
            limit,
        ],
        link,
    )?;
    page.collect()
}

/// Gives every entry that matches to `each`, the oldest first.
///
/// # Errors
/// When the record cannot be read, and those of `each`.
pub(crate) fn every(
    db: &Connection,
    query: &Query,
    mut each: impl FnMut(&Link) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let sql = format!("SELECT {COLUMNS} FROM audit WHERE {WHERE} ORDER BY seq");
    let mut rows = db.prepare(&sql)?;
    let mut found = rows.query(params![
        query.service,
        query.action,
        query.actor,
        query.outcome,
        query.since_ms.map(signed),
        query.until_ms.map(signed),
        query.before.map(signed),
    ])?;
    while let Some(row) = found.next()? {
        each(&link(row)?)?;
    }
    Ok(())
}

/// SQLite integers are signed.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// An entry as JSON: what is empty is left out.
pub(crate) fn shown(link: &Link) -> Value {
    let texts = &link.texts;
    let mut shown = json!({ "seq": link.seq, "at_ms": link.at_ms, "action": texts.action });
    if link.tick > 0 {
        shown["tick"] = json!(link.tick);
    }
    let mut actor = json!({ "kind": texts.kind });
    for (key, text) in [("name", &texts.actor), ("role", &texts.role), ("peer", &texts.peer)] {
        if !text.is_empty() {
            actor[key] = json!(text);
        }
    }
    shown["actor"] = actor;
    for (key, text) in [("before", &texts.before), ("after", &texts.after)] {
        if !text.is_empty() {
            shown[key] = serde_json::from_str(text).unwrap_or_else(|_| json!(text));
        }
    }
    let plain = [
        ("service", &texts.service),
        ("instance", &texts.instance),
        ("outcome", &texts.outcome),
        ("cause", &texts.cause),
        ("key", &link.key),
    ];
    for (key, text) in plain {
        if !text.is_empty() {
            shown[key] = json!(text);
        }
    }
    shown["prev"] = json!(link.prev);
    shown["hash"] = json!(link.hash);
    shown
}
