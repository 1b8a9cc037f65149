//! The last so many values, by age and by size, so that medians and deviations from them cost next
//! to nothing to ask for.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// A bounded number of finite values. A value costs a move of what is larger than it and than the
/// one it replaces; a rank costs a binary search.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "VecDeque<f64>", into = "VecDeque<f64>")]
pub(super) struct History {
    /// Oldest first.
    by_age: VecDeque<f64>,
    /// The same, smallest first.
    by_size: Vec<f64>,
}

impl From<VecDeque<f64>> for History {
    fn from(mut by_age: VecDeque<f64>) -> Self {
        by_age.retain(|value| value.is_finite());
        let mut by_size: Vec<f64> = by_age.iter().copied().collect();
        by_size.sort_unstable_by(f64::total_cmp);
        Self { by_age, by_size }
    }
}

impl From<History> for VecDeque<f64> {
    fn from(history: History) -> Self {
        history.by_age
    }
}

impl History {
    /// Takes a finite value; the oldest leave where there would be more than `most`. The last of them.
    pub(super) fn push(&mut self, value: f64, most: usize) -> Option<f64> {
        debug_assert!(value.is_finite(), "the caller leaves out what is no number");
        let mut left = None;
        while self.by_age.len() >= most.max(1) {
            let Some(oldest) = self.by_age.pop_front() else { break };
            left = Some(oldest);
            let at = self.by_size.partition_point(|known| known.total_cmp(&oldest).is_lt());
            self.by_size.remove(at);
        }
        self.by_age.push_back(value);
        let at = self.by_size.partition_point(|known| known.total_cmp(&value).is_lt());
        self.by_size.insert(at, value);
        left
    }

    pub(super) fn len(&self) -> usize {
        self.by_size.len()
    }

    pub(super) fn median(&self) -> Option<f64> {
        let (lower, upper) = (self.len().checked_sub(1)? / 2, self.len() / 2);
        Some(f64::midpoint(self.by_size[lower], self.by_size[upper]))
    }

    /// The distance from `middle` within which `part` of the values lie, 0 to 1.
    pub(super) fn distance(&self, middle: f64, part: f64) -> Option<f64> {
        let last = self.len().checked_sub(1)?;
        let rank = ((last as f64 * part.clamp(0.0, 1.0)) as usize).min(last);
        // Distances grow away from the middle on either side: two sorted lists, merged by halving.
        let split = self.by_size.partition_point(|value| *value < middle);
        let (below, above) = self.by_size.split_at(split);
        let left = |nth: usize| middle - below[below.len() - 1 - nth];
        let right = |nth: usize| above[nth] - middle;
        let taken = rank + 1;
        let (mut least, mut most) = (taken.saturating_sub(above.len()), taken.min(below.len()));
        while least < most {
            let half = usize::midpoint(least, most);
            // Of the nearest so many, at least one more is below when its distance comes first.
            if left(half) < right(taken - half - 1) { least = half + 1 } else { most = half }
        }
        let of_below = (least > 0).then(|| left(least - 1));
        let of_above = (taken > least).then(|| right(taken - least - 1));
        of_below.into_iter().chain(of_above).max_by(f64::total_cmp)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranks_are_those_of_sorted_values(
            values in prop::collection::vec(prop_oneof![-5i32..5, any::<i32>()], 1..80),
            most in 1usize..30,
            middle in -10i32..10,
            part in 0.0..=1.0_f64,
        ) {
            let mut history = History::default();
            for value in &values {
                let before = history.by_age.front().copied();
                let left = history.push(f64::from(*value), most);
                prop_assert!(left.is_none() || left == before);
            }
            let kept: Vec<f64> =
                values.iter().rev().take(most).map(|value| f64::from(*value)).collect();
            let n = kept.len();
            let sorted = |mut values: Vec<f64>| { values.sort_by(f64::total_cmp); values };
            let ordered = sorted(kept.clone());
            let median = f64::midpoint(ordered[(n - 1) / 2], ordered[n / 2]);
            prop_assert_eq!(history.median(), Some(median));
            let middle = f64::from(middle);
            let distances = sorted(kept.iter().map(|value| (value - middle).abs()).collect());
            let rank = ((n - 1) as f64 * part) as usize;
            prop_assert_eq!(history.distance(middle, part), Some(distances[rank]));
        }
    }

    #[test]
    fn what_is_stored_comes_back() {
        let mut history = History::default();
        let left = (0..50).filter_map(|n| history.push(f64::from(n * 17 % 23), 20)).count();
        assert_eq!((left, history.len()), (30, 20));
        let text = serde_json::to_string(&history).unwrap();
        assert_eq!(serde_json::from_str::<History>(&text).unwrap(), history);
        let nothing = History::default();
        assert_eq!((nothing.median(), nothing.distance(0.0, 0.5)), (None, None));
    }
}
