//! Standing orders and what is over, on the disk.

use std::sync::Arc;
use std::time::Duration;

use super::Record;
use crate::node::Shared;
use crate::node::operator::Orders;

/// Pause after a disk that took nothing.
pub(super) const AGAIN: Duration = Duration::from_secs(5);

/// Keeps what has changed, off the async workers; false where the disk did not take it.
pub(super) async fn keep_now(shared: &Arc<Shared>) -> bool {
    let shared = Arc::clone(shared);
    let kept = tokio::task::spawn_blocking(move || shared.keep_migrations()).await;
    match kept {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::error!("migrations are not kept yet, it is tried again: {error:#}");
            false
        }
        Err(error) => {
            tracing::error!(%error, "migrations are not kept; please report this");
            true
        }
    }
}

impl Shared {
    /// Keeps what is over, then the standing orders: in between, an order is known to be over. Blocks
    /// on the disk.
    ///
    /// # Errors
    /// When the database cannot be written; nothing is lost then.
    pub(crate) fn keep_migrations(&self) -> anyhow::Result<()> {
        loop {
            let Some(record) = self.migrations.lock().unkept.front().cloned() else { break };
            let id = self.decisions.keep_migration(&record)?;
            self.migrations.lock().was_kept(&record, id);
        }
        self.decisions.keep_orders(|| self.orders.load_full())
    }
}

impl super::Past {
    /// One that nobody asked for has its number from then on.
    fn was_kept(&mut self, record: &Record, id: u64) {
        if self.unkept.front() == Some(record) {
            self.unkept.pop_front();
        }
        if let Some(over) = self.over.iter_mut().find(|over| *over == record) {
            over.id = Some(id);
        }
    }
}

/// Takes out of the orders what was over when an earlier run ended.
pub(in crate::node) fn without_ended(mut orders: Orders, over: &[Record]) -> Orders {
    orders.migrations.retain(|id, _| over.iter().all(|record| record.id != Some(*id)));
    orders
}
