//! Predictions that wait for their truth.

use serde::{Deserialize, Serialize};

use crate::check::{self, Checked};

/// A bounded queue of predictions, oldest first, each a row of numbers.
///
/// Rows are single precision: six digits are more than any loss needs, at half the memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Pending {
    rows: Vec<f32>,
    row_len: usize,
    /// When each row's truth is complete, as a step number.
    due: Vec<u64>,
    head: usize,
    len: usize,
}

impl Pending {
    pub(crate) fn new(capacity: usize, row_len: usize) -> Self {
        let rows = vec![0.0; capacity * row_len];
        Self { rows, row_len, due: vec![0; capacity], head: 0, len: 0 }
    }

    /// Step at which the oldest prediction's truth is complete.
    pub(crate) fn next_due(&self) -> Option<u64> {
        (self.len > 0).then(|| self.due[self.head])
    }

    /// The oldest prediction.
    pub(crate) fn oldest(&self) -> &[f32] {
        &self.rows[self.head * self.row_len..][..self.row_len]
    }

    pub(crate) fn drop_oldest(&mut self) {
        if self.len > 0 {
            self.head = (self.head + 1) % self.due.len();
            self.len -= 1;
        }
    }

    /// A row to fill in for a prediction due at `due`; the oldest gives way when all are taken.
    pub(crate) fn push(&mut self, due: u64) -> &mut [f32] {
        if self.len == self.due.len() {
            self.drop_oldest();
        }
        let slot = (self.head + self.len) % self.due.len();
        self.len += 1;
        self.due[slot] = due;
        &mut self.rows[slot * self.row_len..][..self.row_len]
    }

    /// Heap memory, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.rows) + size_of_val(&*self.due)
    }

    pub(crate) fn clear(&mut self) {
        (self.head, self.len) = (0, 0);
    }
}

impl Pending {
    pub(crate) fn check(&self, row_len: usize) -> Checked {
        let slots = self.due.len() as u64;
        check::count("due.len", slots, 1, 1 << 16)?;
        check::same("row_len", &self.row_len, &row_len)?;
        check::same("rows.len", &self.rows.len(), &(self.due.len() * row_len))?;
        check::count("head", self.head as u64, 0, slots - 1)?;
        check::count("len", self.len as u64, 0, slots)
    }

    /// The predictions that wait, oldest first.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &[f32]> {
        let slots = (self.head..self.head + self.len).map(|slot| slot % self.due.len());
        slots.map(|slot| &self.rows[slot * self.row_len..][..self.row_len])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_newest_when_full() {
        let mut pending = Pending::new(2, 1);
        assert_eq!(pending.next_due(), None);
        for due in [5, 6, 7] {
            pending.push(due)[0] = due as f32;
        }
        assert_eq!((pending.next_due(), pending.oldest()), (Some(6), &[6.0][..]));
        pending.drop_oldest();
        assert_eq!((pending.next_due(), pending.oldest()), (Some(7), &[7.0][..]));
        pending.clear();
        assert_eq!(pending.next_due(), None);
    }
}
