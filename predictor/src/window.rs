//! The last steps of a series, with means over any window of them in constant time.

use serde::{Deserialize, Serialize};

use crate::check::{self, Checked};

/// Values above this are not measurements; keeps every sum below far from overflow.
pub(crate) const MAX_VALUE: f64 = 1e9;
/// Longest window, in steps.
pub(crate) const MAX_WINDOW: usize = 1024;

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
    /// Prefix counts of the steps with a value.
    seen: Vec<u32>,
    head: usize,
    /// Steps held, at most one less than the slots.
    filled: usize,
}

impl Window {
    /// Holds the last `steps` steps, at most [`MAX_WINDOW`].
    pub(crate) fn new(steps: usize) -> Self {
        let slots = steps.clamp(1, MAX_WINDOW) + 1;
        Self { sums: vec![0; slots], seen: vec![0; slots], head: 0, filled: 0 }
    }

    /// Adds one step. `value` is in 0..=[`MAX_VALUE`]; a missing one is a stand-in.
    pub(crate) fn push(&mut self, value: f64, missing: bool) {
        let units = (value * UNITS) as u64;
        let (sum, seen) = (self.sums[self.head], self.seen[self.head]);
        self.head = (self.head + 1) % self.sums.len();
        self.sums[self.head] = sum.wrapping_add(units);
        self.seen[self.head] = seen.wrapping_add(u32::from(!missing));
        self.filled = (self.filled + 1).min(self.sums.len() - 1);
    }

    /// Most steps held.
    pub(crate) fn capacity(&self) -> usize {
        self.sums.len() - 1
    }

    /// Heap memory, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.sums) + size_of_val(&*self.seen)
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
        units as f64 / UNITS / steps as f64
    }

    /// Of the last `steps` steps, how many had a value.
    pub(crate) fn present(&self, steps: usize) -> usize {
        let steps = steps.min(self.filled);
        self.seen[self.head].wrapping_sub(self.seen[self.back(steps)]) as usize
    }

    fn back(&self, steps: usize) -> usize {
        let slots = self.sums.len();
        (self.head + slots - steps) % slots
    }
}

impl Window {
    pub(crate) fn check(&self) -> Checked {
        let slots = self.sums.len();
        check::count("sums.len", slots as u64, 2, MAX_WINDOW as u64 + 1)?;
        check::same("seen.len", &self.seen.len(), &slots)?;
        check::count("head", self.head as u64, 0, slots as u64 - 1)?;
        check::count("filled", self.filled as u64, 0, slots as u64 - 1)
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
        assert_eq!(window.present(3), 1);
        assert_eq!(window.present(1), 0);
        assert_eq!(window.mean(3), 5.0);
    }
}
