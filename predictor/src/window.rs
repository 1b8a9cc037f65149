//! The last steps of a series, with means over any window of them in constant time.

use std::hint::black_box;

use serde::{Deserialize, Serialize};

use crate::check::{self, Checked};

/// Values above this are not measurements; keeps every sum below far from overflow.
pub(crate) const MAX_VALUE: f64 = 1e9;
/// Longest window, in steps.
pub(crate) const MAX_WINDOW: usize = 4096;

/// Fixed-point units per unit of the series. `MAX_VALUE * UNITS * MAX_WINDOW` fits a `u64`.
const UNITS: f64 = 1_048_576.0;

/// A ring of prefix sums: the mean over the last `n` steps is one subtraction.
///
/// Sums are wrapping integers in fixed point, so a window that a huge value has left is exact
/// again; floating-point prefix sums would keep its rounding error for ever.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Window {
    /// Prefix sums of the values; slot `head` is the newest.
    sums: Vec<u64>,
    /// Which slots' steps went unseen, one bit each; all zero once `whole` has passed the slots.
    unseen: Vec<u64>,
    head: usize,
    /// Steps held, at most one less than the slots.
    filled: usize,
    /// Steps since the last one that went unseen.
    whole: usize,
}

impl Window {
    /// Holds the last `steps` steps, at most [`MAX_WINDOW`].
    pub(crate) fn new(steps: usize) -> Self {
        let slots = steps.clamp(1, MAX_WINDOW) + 1;
        let unseen = vec![0; slots.div_ceil(u64::BITS as usize)];
        Self { sums: vec![0; slots], unseen, head: 0, filled: 0, whole: slots }
    }

    /// Adds one step. `value` is in 0..=[`MAX_VALUE`]; a missing one is a stand-in.
    pub(crate) fn push(&mut self, value: f64, missing: bool) {
        let sum = self.sums[self.head].wrapping_add((value * UNITS) as u64);
        self.head = if self.head + 1 < self.sums.len() { self.head + 1 } else { 0 };
        self.sums[self.head] = sum;
        self.filled = (self.filled + 1).min(self.sums.len() - 1);
        if missing || self.whole <= self.sums.len() {
            let (word, bit) = place(self.head);
            self.unseen[word] = self.unseen[word] & !bit | if missing { bit } else { 0 };
            self.whole = if missing { 0 } else { self.whole + 1 };
        }
    }

    /// Most steps held.
    pub(crate) fn capacity(&self) -> usize {
        self.sums.len() - 1
    }

    /// Heap memory, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.sums) + size_of_val(&*self.unseen)
    }

    /// Reads where the step before the newest `steps` is; see [`touch`](crate::touch).
    pub(crate) fn touch(&self, steps: usize) {
        black_box(self.sums[self.back(steps.min(self.filled))]);
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.filled = 0;
    }

    /// Mean over the last `steps` steps, or over all held when they are fewer; 0 when none are.
    pub(crate) fn mean(&self, steps: usize) -> f64 {
        self.mean_before(0, steps)
    }

    /// Mean over the `steps` steps that precede the newest `skip`.
    pub(crate) fn mean_before(&self, skip: usize, steps: usize) -> f64 {
        let skip = skip.min(self.filled);
        let steps = steps.min(self.filled - skip);
        if steps == 0 {
            return 0.0;
        }
        let units = self.sums[self.back(skip)].wrapping_sub(self.sums[self.back(skip + steps)]);
        units as f64 * (1.0 / UNITS) / steps as f64
    }

    /// Of the `steps` steps that precede the newest `skip`, how many had a value.
    pub(crate) fn present_before(&self, skip: usize, steps: usize) -> usize {
        let skip = skip.min(self.filled);
        let steps = steps.min(self.filled - skip);
        if self.whole >= skip + steps {
            return steps;
        }
        let seen = |back: &usize| {
            let (word, bit) = place(self.back(*back));
            self.unseen[word] & bit == 0
        };
        (skip..skip + steps).filter(seen).count()
    }

    fn back(&self, steps: usize) -> usize {
        if steps <= self.head { self.head - steps } else { self.head + self.sums.len() - steps }
    }
}

/// Where the bit of a slot is.
fn place(slot: usize) -> (usize, u64) {
    (slot / u64::BITS as usize, 1 << (slot % u64::BITS as usize))
}

impl Window {
    pub(crate) fn check(&self) -> Checked {
        let slots = self.sums.len();
        check::count("sums.len", slots as u64, 2, MAX_WINDOW as u64 + 1)?;
        check::same("unseen.len", &self.unseen.len(), &slots.div_ceil(u64::BITS as usize))?;
        check::count("head", self.head as u64, 0, slots as u64 - 1)?;
        check::count("filled", self.filled as u64, 0, slots as u64 - 1)?;
        check::count("whole", self.whole as u64, 0, slots as u64 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_exact_again_after_a_huge_value_has_left() {
        let mut window = Window::new(4);
        assert_eq!(window.mean(4), 0.0);
        window.push(MAX_VALUE, false);
        for value in [1.0, 2.0, 3.0, 6.0] {
            window.push(value, false);
        }
        assert_eq!(window.mean(4), 3.0);
        assert_eq!(window.mean(usize::MAX), 3.0);
        assert_eq!(window.mean_before(1, 2), 2.5);
        assert_eq!(window.mean_before(9, 2), 0.0);
    }

    #[test]
    fn missing_steps_are_counted() {
        let mut window = Window::new(3);
        for missing in [false, true, false, true, true] {
            window.push(5.0, missing);
        }
        assert_eq!(window.present_before(0, 3), 1);
        assert_eq!(window.present_before(0, 1), 0);
        assert_eq!(window.present_before(2, 1), 1);
        (0..9).for_each(|_| window.push(5.0, false));
        assert_eq!(window.present_before(0, 3), 3);
        assert_eq!(window.mean(3), 5.0);
    }
}
