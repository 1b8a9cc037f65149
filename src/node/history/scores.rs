//! How curves did, kept for the next start.

use std::path::Path;

use foreshadow_control::ServiceName;
use rusqlite::{Connection, OptionalExtension, params};

use super::read;
use super::store::signed;

/// The record of the curves of one service and reach.
pub(crate) struct CurveScores {
    /// Of this service.
    pub(crate) service: ServiceName,
    /// How far they look.
    pub(crate) reach: &'static str,
    /// When it was so, Unix time.
    pub(crate) at_ms: u64,
    /// JSON, for the release that wrote it.
    pub(crate) state: String,
}

impl CurveScores {
    pub(super) fn is_of_the_same(&self, other: &Self) -> bool {
        self.service == other.service && self.reach == other.reach
    }
}

/// Writes records over older ones.
pub(super) fn keep(db: &mut Connection, scores: &[CurveScores]) -> rusqlite::Result<u64> {
    let transaction = db.transaction()?;
    for CurveScores { service, reach, at_ms, state } in scores {
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO curve_scores (service, reach, at_ms, state) \
                 VALUES (?, ?, ?, ?)",
            )?
            .execute(params![service.as_str(), reach, signed(*at_ms), state])?;
    }
    transaction.commit()?;
    Ok(0)
}

/// Removes what is too old to be taken up at a next start.
pub(super) fn forget(db: &Connection, before_ms: u64) -> rusqlite::Result<usize> {
    db.execute("DELETE FROM curve_scores WHERE at_ms < ?", [signed(before_ms)])
}

/// The record that was kept since `since_ms`, if any.
pub(super) fn read(
    path: &Path,
    service: &ServiceName,
    reach: &str,
    since_ms: u64,
) -> anyhow::Result<Option<String>> {
    let Some(db) = read::open(path)? else { return Ok(None) };
    let sql = "SELECT state FROM curve_scores WHERE service = ? AND reach = ? AND at_ms >= ?";
    let of = params![service.as_str(), reach, signed(since_ms)];
    Ok(db.query_row(sql, of, |row| row.get(0)).optional()?)
}
