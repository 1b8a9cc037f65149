//! The largest of what was wanted over the last evaluation window, in bounded memory.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Parts a window is divided into; the maximum is exact to one part.
const PARTS: u64 = 20;

/// Maximum of three counts over a sliding window.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct RollingMax {
    /// Number of the part, and its maxima; oldest first.
    parts: VecDeque<(u64, [u32; 3])>,
    /// When the first value came.
    since_ms: Option<u64>,
    /// Length of a part.
    #[serde(default)]
    part_ms: u64,
}

impl RollingMax {
    pub(crate) fn push(&mut self, now_ms: u64, window_ms: u64, counts: [u32; 3]) {
        self.since_ms.get_or_insert(now_ms);
        self.divide(part_ms(window_ms));
        let part = now_ms / self.part_ms;
        match self.parts.back_mut() {
            Some((last, maxima)) if *last >= part => {
                for (max, count) in maxima.iter_mut().zip(counts) {
                    *max = count.max(*max);
                }
            }
            _ => self.parts.push_back((part, counts)),
        }
        while self.parts.front().is_some_and(|(first, _)| first.saturating_add(PARTS) < part) {
            self.parts.pop_front();
        }
    }

    /// Takes parts of another length: what was seen stays, as exact as the longer of both.
    fn divide(&mut self, part_ms: u64) {
        let former_ms = std::mem::replace(&mut self.part_ms, part_ms);
        if former_ms == part_ms || former_ms == 0 {
            return;
        }
        let former = std::mem::take(&mut self.parts);
        for (part, maxima) in former {
            // The end of a part, so that nothing is forgotten too early.
            let part = ((part + 1).saturating_mul(former_ms) - 1) / part_ms;
            match self.parts.back_mut() {
                Some((last, known)) if *last >= part => {
                    for (max, count) in known.iter_mut().zip(maxima) {
                        *max = count.max(*max);
                    }
                }
                _ => self.parts.push_back((part, maxima)),
            }
        }
    }

    /// The maxima; none before a full window has been seen, since what was wanted before the
    /// start is not known.
    pub(crate) fn maxima(&self, now_ms: u64, window_ms: u64) -> Option<[u32; 3]> {
        if now_ms.saturating_sub(self.since_ms?) < window_ms {
            return None;
        }
        let larger = |a: [u32; 3], b: [u32; 3]| [a[0].max(b[0]), a[1].max(b[1]), a[2].max(b[2])];
        Some(self.parts.iter().fold([0; 3], |max, (_, counts)| larger(max, *counts)))
    }

    /// Forgets everything: the length of the window has changed.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

fn part_ms(window_ms: u64) -> u64 {
    (window_ms / PARTS).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_window_keeps_what_was_seen() {
        let mut rolling = RollingMax::default();
        for now_ms in (0..20_000).step_by(100) {
            rolling.push(now_ms, 10_000, [u32::from(now_ms == 15_000) * 3, 0, 0]);
        }
        let mut gone_at = None;
        for now_ms in (20_000..80_000).step_by(100) {
            rolling.push(now_ms, 30_000, [0; 3]);
            if rolling.maxima(now_ms, 30_000) == Some([0; 3]) {
                gone_at.get_or_insert(now_ms);
            }
        }
        let gone_at = gone_at.expect("the peak is forgotten");
        assert!((45_000..=48_500).contains(&gone_at), "{gone_at}");
    }

    #[test]
    fn a_peak_counts_for_one_window_and_no_longer() {
        let mut rolling = RollingMax::default();
        let mut gone_at = None;
        for now_ms in (0..30_000).step_by(100) {
            let wanted = u32::from(now_ms == 12_000) * 3;
            rolling.push(now_ms, 10_000, [wanted, 0, 1]);
            match rolling.maxima(now_ms, 10_000) {
                None => assert!(now_ms < 10_000),
                Some(max) if max[0] == 0 && now_ms > 12_000 => {
                    gone_at.get_or_insert(now_ms);
                }
                Some(max) => assert_eq!(max[2], 1),
            }
        }
        let gone_at = gone_at.expect("the peak is forgotten");
        assert!((22_000..=22_600).contains(&gone_at), "{gone_at}");
    }
}
