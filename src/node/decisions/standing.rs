//! What outlives a restart besides decisions: standing orders and announced events.

use std::sync::{Arc, PoisonError};

use anyhow::Context;
use rusqlite::{OptionalExtension, params};

use super::{DecisionLog, Event, signed, unsigned};
use crate::node::operator::Orders;

/// Announced events that may be waiting or running at once.
pub(crate) const MOST_EVENTS: u32 = 10_000;

impl DecisionLog {
    /// The standing orders as last kept; none on a new database.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(crate) fn orders(&self) -> anyhow::Result<Orders> {
        let db = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let text: Option<String> =
            db.query_row("SELECT orders FROM orders", [], |row| row.get(0)).optional()?;
        text.map_or_else(
            || Ok(Orders::default()),
            |text| serde_json::from_str(&text).context("the standing orders are damaged"),
        )
    }

    /// Keeps the standing orders for the next start. They are asked for only once it is their turn
    /// to be written: of two callers at a time, the last to write must not write the older ones.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub(crate) fn keep_orders(&self, now: impl FnOnce() -> Arc<Orders>) -> anyhow::Result<()> {
        let db = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let orders = now();
        db.execute(
            "INSERT INTO orders (one, orders) VALUES (1, ?) \
             ON CONFLICT (one) DO UPDATE SET orders = excluded.orders",
            [serde_json::to_string(&*orders)?],
        )?;
        Ok(())
    }

    /// Stores an announced event and returns its id; those that ended before `now_ms` go. Nothing
    /// is stored when there are [`MOST_EVENTS`] already.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub(crate) fn announce(&self, event: &Event, now_ms: u64) -> anyhow::Result<Option<i64>> {
        let db = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        db.execute("DELETE FROM events WHERE end_ms <= ?", [signed(now_ms)])?;
        let stored: u32 = db.query_row("SELECT COUNT(*) FROM events", [], |row| row.get(0))?;
        if stored >= MOST_EVENTS {
            return Ok(None);
        }
        db.execute(
            "INSERT INTO events (service, name, start_ms, end_ms, lift) VALUES (?, ?, ?, ?, ?)",
            params![
                event.service,
                event.name,
                signed(event.start_ms),
                signed(event.end_ms),
                event.lift
            ],
        )?;
        Ok(Some(db.last_insert_rowid()))
    }

    /// Takes an announced event back; false when there is none of that id.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub(crate) fn withdraw(&self, id: i64) -> anyhow::Result<bool> {
        let db = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(db.execute("DELETE FROM events WHERE id = ?", [id])? > 0)
    }

    /// Announced events that have not ended at `now_ms`, soonest first; at most [`MOST_EVENTS`].
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(crate) fn events(&self, now_ms: u64) -> anyhow::Result<Vec<(i64, Event)>> {
        let db = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows = db.prepare_cached(
            "SELECT id, service, name, start_ms, end_ms, lift FROM events \
             WHERE end_ms > ? ORDER BY start_ms, id LIMIT ?",
        )?;
        let events = rows.query_map([signed(now_ms), MOST_EVENTS.into()], |row| {
            Ok((
                row.get(0)?,
                Event {
                    service: row.get(1)?,
                    name: row.get(2)?,
                    start_ms: unsigned(row.get(3)?),
                    end_ms: unsigned(row.get(4)?),
                    lift: row.get(5)?,
                },
            ))
        })?;
        Ok(events.collect::<Result<_, _>>()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::operator::Order;

    #[test]
    fn of_two_orders_at_a_time_the_newer_state_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let log = DecisionLog::open(&dir.path().join("state.db")).unwrap();
        let now = std::sync::Mutex::new(Orders::default());
        let give = |order: &Order| now.lock().unwrap().apply(order);
        give(&Order::KillSwitch(true));
        log.keep_orders(|| {
            // The second order is carried out while the first waits for the disk.
            give(&Order::Mode("shop".into(), Some(foreshadow_control::Mode::Observe)));
            Arc::new(now.lock().unwrap().clone())
        })
        .unwrap();
        assert_eq!(log.orders().unwrap(), *now.lock().unwrap());
    }

    #[test]
    fn announced_events_end_and_can_be_withdrawn() {
        let dir = tempfile::tempdir().unwrap();
        let log = DecisionLog::open(&dir.path().join("state.db")).unwrap();
        let event = Event {
            service: "shop".into(),
            name: "sale".into(),
            start_ms: 1_000,
            end_ms: 2_000,
            lift: 3.0,
        };
        let id = log.announce(&event, 500).unwrap().unwrap();
        assert_eq!(log.events(1_500).unwrap(), [(id, event.clone())]);
        assert!(log.events(2_000).unwrap().is_empty());
        assert!(log.withdraw(id).unwrap());
        assert!(!log.withdraw(id).unwrap());
        log.announce(&event, 500).unwrap();
        log.announce(&Event { end_ms: 9_000, ..event }, 2_000).unwrap();
        assert_eq!(log.events(0).unwrap().len(), 1, "what has ended does not pile up");
    }

    #[test]
    fn an_event_beyond_the_most_is_refused_and_not_stored_in_vain() {
        let dir = tempfile::tempdir().unwrap();
        let log = DecisionLog::open(&dir.path().join("state.db")).unwrap();
        let fill = format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {MOST_EVENTS}) \
             INSERT INTO events (service, name, start_ms, end_ms, lift) \
             SELECT 'shop', 'sale', 1000, 1000 + i, 2 FROM n"
        );
        log.reader.lock().unwrap().execute_batch(&fill).unwrap();
        let event = Event {
            service: "shop".into(),
            name: "one more".into(),
            start_ms: 1_000,
            end_ms: 90_000,
            lift: 3.0,
        };
        assert_eq!(log.announce(&event, 500).unwrap(), None);
        assert_eq!(log.events(500).unwrap().len(), MOST_EVENTS as usize);
        assert!(log.events(500).unwrap().iter().all(|(_, event)| event.name == "sale"));
        // The first of them has ended by then.
        assert!(log.announce(&event, 1_001).unwrap().is_some());
    }
}
