//! The thread that writes decision records and keeps the database bounded.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};

use super::{Decision, signed};

/// Rows kept; the oldest go first.
const KEEP_ROWS: i64 = 200_000;
/// Bytes the database may fill with them: a record of many instances is tens of kilobytes long.
const KEEP_BYTES: i64 = 512 * 1024 * 1024;
/// Records between two looks at both.
const PRUNE_EVERY: u32 = 1000;
/// A disk that takes no records is mentioned this often at most.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// One transaction per batch: whatever is queued when the first record arrives.
pub(super) fn write_all(db: &Connection, records: &Receiver<Decision>, lost: &AtomicU64) {
    let mut since_prune = 0_u32;
    let mut complained: Option<Instant> = None;
    loop {
        let first = match records.recv_timeout(Duration::from_secs(60)) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let batch: Vec<Decision> = std::iter::once(first).chain(records.try_iter()).collect();
        since_prune = since_prune.saturating_add(u32::try_from(batch.len()).unwrap_or(u32::MAX));
        if let Err(error) = write_batch(db, &batch) {
            let before = lost.fetch_add(batch.len() as u64, Ordering::Relaxed);
            if complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
                complained = Some(Instant::now());
                let lost = before + batch.len() as u64;
                tracing::error!(%error, lost, "decision records cannot be written");
            }
        }
        if since_prune >= PRUNE_EVERY {
            since_prune = 0;
            if let Err(error) = prune(db, KEEP_ROWS, KEEP_BYTES) {
                tracing::warn!(%error, "old decision records cannot be removed");
            }
        }
    }
}

fn write_batch(db: &Connection, batch: &[Decision]) -> anyhow::Result<()> {
    let transaction = db.unchecked_transaction()?;
    {
        let mut insert = transaction.prepare_cached(
            "INSERT INTO decisions (at_ms, tick, service, kind, laws, summary, record) \
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )?;
        for decision in batch {
            insert.execute(params![
                signed(decision.at_ms),
                signed(decision.tick),
                decision.service,
                decision.kind.as_str(),
                serde_json::to_string(&decision.laws)?,
                decision.summary.join("\n"),
                serde_json::to_string(decision)?,
            ])?;
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Removes the oldest records beyond `rows`, and a tenth of those left where the database holds
/// more than `bytes`. What is removed is room for new records; the file does not shrink.
fn prune(db: &Connection, rows: i64, bytes: i64) -> rusqlite::Result<usize> {
    const BEYOND: &str = "DELETE FROM decisions WHERE id <= (SELECT max(id) FROM decisions) - ?";
    let mut removed = db.execute(BEYOND, [rows])?;
    let pragma = |name| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let used = (pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")?;
    if used > bytes {
        let left: i64 = db.query_row("SELECT count(*) FROM decisions", [], |row| row.get(0))?;
        removed += db.execute(BEYOND, [left * 9 / 10])?;
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::super::tests::decision;
    use super::super::{Query, read_page};
    use super::*;
    use foreshadow_control::Law;

    fn ticks(db: &Connection) -> Vec<u64> {
        let all = Query { limit: Some(1000), ..Query::default() };
        let page = read_page(db, &all).unwrap();
        page.iter().map(|d| d.record["tick"].as_u64().unwrap()).collect()
    }

    #[test]
    fn the_oldest_records_go_when_there_are_too_many_or_they_fill_too_much() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(super::super::SCHEMA).unwrap();
        let batch: Vec<Decision> = (1..=100).map(|t| decision(t, "shop", Law::Weights)).collect();
        write_batch(&db, &batch).unwrap();
        assert_eq!(prune(&db, 100, i64::MAX).unwrap(), 0);
        assert_eq!(prune(&db, 40, i64::MAX).unwrap(), 60);
        assert_eq!(ticks(&db).len(), 40);
        assert_eq!(prune(&db, 40, 1).unwrap(), 4, "a tenth goes at a time");
        assert_eq!(ticks(&db).last(), Some(&65));
        assert_eq!(ticks(&db).first(), Some(&100), "the newest stay");
    }
}
