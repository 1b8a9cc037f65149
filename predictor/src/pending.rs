//! Predictions that wait for their truth.

use serde::{Deserialize, Serialize};

use crate::check::{self, Checked};
use crate::touch::touch;

/// Predictions made at even distances in time, each a row of numbers, in a ring: by when it has gone
/// round, the oldest one has met its truth and gives its place to the next. So what is learned from
/// and what is written lie at one place in memory.
///
/// Rows are single precision: six digits are more than any loss needs, at half the memory. One that
/// begins with zero is empty.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Pending {
    rows: Vec<f32>,
    row_len: usize,
    /// The first number of the row whose turn it is.
    at: usize,
}

impl Pending {
    pub(crate) fn new(capacity: usize, row_len: usize) -> Self {
        Self { rows: vec![0.0; capacity.max(1) * row_len], row_len, at: 0 }
    }

    /// Goes on to the oldest row.
    pub(crate) fn turn(&mut self) {
        self.at += self.row_len;
        if self.at >= self.rows.len() {
            self.at = 0;
        }
    }

    /// Reads what [`turn`](Self::turn) will go on to; see [`touch`].
    pub(crate) fn touch(&self) {
        let after = self.at + self.row_len;
        let next = if after < self.rows.len() { after } else { 0 };
        touch(&self.rows[next..][..self.row_len], |number| *number);
    }

    /// The row whose turn it is; none when nothing was predicted then.
    pub(crate) fn row(&self) -> Option<&[f32]> {
        let row = &self.rows[self.at..][..self.row_len];
        (row[0] != 0.0).then_some(row)
    }

    /// The same to write to.
    pub(crate) fn row_mut(&mut self) -> &mut [f32] {
        &mut self.rows[self.at..][..self.row_len]
    }

    /// Heap memory, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.rows)
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.rows.chunks_exact_mut(self.row_len).for_each(|row| row[0] = 0.0);
    }
}

impl Pending {
    pub(crate) fn check(&self, slots: u64, row_len: usize) -> Checked {
        check::same("row_len", &self.row_len, &row_len)?;
        check::same("rows.len", &self.rows.len(), &(slots as usize * row_len))?;
        check::count("at", self.at as u64, 0, (self.rows.len() - row_len) as u64)?;
        check::same("at, within a row", &(self.at % row_len), &0)
    }

    /// The predictions that wait.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &[f32]> {
        self.rows.chunks_exact(self.row_len).filter(|row| row[0] != 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_comes_back_when_the_ring_has_gone_round() {
        let mut pending = Pending::new(3, 2);
        for step in 1..=5_u8 {
            pending.turn();
            let oldest = pending.row().map(|row| row[0]);
            assert_eq!(oldest, step.checked_sub(3).filter(|due| *due > 0).map(f32::from));
            pending.row_mut()[0] = f32::from(step);
        }
        pending.clear();
        (0..3).for_each(|_| {
            pending.turn();
            assert_eq!(pending.row(), None);
        });
    }
}
