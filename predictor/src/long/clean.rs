//! From recorded values to a whole series: gaps filled, outages and lone spikes kept from teaching.

use super::input::History;

/// Most values of a history that are looked at, newest first; what is older says little.
pub(super) const MAX_VALUES: usize = 16_384;

/// Larger values are taken for this, so that what is forecast of them is still a number.
pub(super) const HUGEST: f64 = 1e300;

/// A series without gaps, scaled so that its typical size is one.
#[derive(Clone, Debug)]
pub(super) struct Series {
    /// Scaled values, oldest first; filled in where nothing was measured.
    pub(super) values: Vec<f64>,
    /// Whether the value was measured and counts as usual.
    pub(super) known: Vec<bool>,
    /// What one unit of `values` is in the history.
    pub(super) scale: f64,
}

impl Series {
    /// `None` without any finite value.
    pub(super) fn of(history: &History, non_negative: bool) -> Option<Self> {
        let first = history.values.len().saturating_sub(MAX_VALUES);
        let finite = |value: &Option<f64>| value.filter(|value| value.is_finite());
        let floor = if non_negative { 0.0 } else { -HUGEST };
        let raw: Vec<Option<f64>> = history.values[first..]
            .iter()
            .map(|v| finite(v).map(|v| v.clamp(floor, HUGEST)))
            .collect();
        let largest = raw.iter().flatten().fold(None, |most: Option<f64>, value| {
            Some(most.map_or(value.abs(), |most| most.max(value.abs())))
        })?;
        // Dividing by the largest first keeps the sum of huge values finite.
        let (mut sum, mut count) = (0.0, 0.0);
        for value in raw.iter().flatten() {
            sum += value.abs() / largest.max(f64::MIN_POSITIVE);
            count += 1.0;
        }
        let scale = largest * (sum / count);
        let scale = if scale > f64::MIN_POSITIVE * 1e20 { scale } else { 1.0 };
        let known = raw.iter().map(Option::is_some).collect();
        let values = raw.iter().map(|value| value.unwrap_or(0.0) / scale).collect();
        Some(Self { values, known, scale })
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// Fills what is not known: with the mean of the same moment in the seasons around it, else
    /// with the nearest known value.
    pub(super) fn fill(&mut self, season: usize) {
        let length = self.values.len();
        let first = self.known.iter().position(|known| *known).map(|at| self.values[at]);
        let mut newest = first;
        for at in 0..length {
            if self.known[at] {
                newest = Some(self.values[at]);
                continue;
            }
            let before = at.checked_sub(season).map(|at| self.values[at]);
            let after = (at + 1..=at + 4 * season).skip(season - 1).step_by(season);
            let mut after = after.take_while(|at| *at < length).filter(|at| self.known[*at]);
            let after = after.next().map(|at| self.values[at]);
            self.values[at] = match (before, after) {
                (Some(before), Some(after)) => 0.5 * (before + after),
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) => newest.unwrap_or(0.0),
            };
        }
    }

    /// Marks what should not teach: outages that ended, and lone spikes.
    ///
    /// An outage is a run of less than a season at less than a twentieth of the same moments a
    /// season before and after; a spike is one value above five times the largest of its
    /// neighbours and of its moments a season before and after. What lasts to the end is news,
    /// not an outage.
    pub(super) fn distrust(&mut self, season: usize) {
        if season < 4 {
            return;
        }
        let length = self.values.len();
        let distrusted: Vec<usize> = (season..length.saturating_sub(season))
            .filter(|&at| {
                let (value, before) = (self.values[at], self.values[at - season]);
                let after = self.values[at + season];
                let near = self.values[at - 1].max(self.values[at + 1]);
                let low = 20.0 * value.max(0.0) < before.min(after);
                let high = value > 5.0 * before.max(after).max(near).max(0.05);
                self.known[at] && (low || high)
            })
            .collect();
        for at in distrusted {
            self.known[at] = false;
        }
    }
}
