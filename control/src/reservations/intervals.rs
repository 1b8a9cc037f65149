//! A need that goes up and down, as a handful of intervals that add up to it.

/// Edges are put on this grid, outwards: curves move by less with each fit, and nobody books by the minute.
const GRAIN_MS: u64 = 900_000;
/// Dips shorter than this are bridged, and intervals whose edges lie closer together are one. It doubles until
/// there are few enough.
const CLOSE_MS: u64 = 2 * GRAIN_MS;

/// How many are needed in a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) from_ms: u64,
    pub(super) until_ms: u64,
    pub(super) count: u32,
}

/// So many are needed throughout; those that overlap add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) from_ms: u64,
    pub(super) until_ms: u64,
    pub(super) count: u32,
}

/// At most `most` intervals, at least 1, that add up to `needs` or more at any time; `needs` are ordered
/// and do not overlap. Ordered by start, the longest of several first.
pub(super) fn intervals(needs: &[Need], most: usize) -> Vec<Interval> {
    let mut levels: Vec<u32> = needs.iter().map(|need| need.count).filter(|n| *n > 0).collect();
    levels.sort_unstable();
    levels.dedup();
    let mut close_ms = CLOSE_MS;
    loop {
        let mut found = layered(needs, &levels, close_ms);
        // Past this all is one: the loop ends.
        if found.len() <= most.max(1) || close_ms >= u64::MAX / 4 {
            found.sort_by_key(|it| (it.from_ms, std::cmp::Reverse(it.until_ms)));
            return found;
        }
        close_ms *= 2;
    }
}

/// Level by level: when so many are needed; a level that stands as long as the one below is one with it.
fn layered(needs: &[Need], levels: &[u32], close_ms: u64) -> Vec<Interval> {
    let mut found: Vec<(Interval, u32)> = Vec::new();
    let mut below = 0;
    for level in levels.iter().copied() {
        for (from_ms, until_ms) in runs(needs, level, close_ms) {
            let is_one = |(it, top): &&mut (Interval, u32)| {
                *top == below
                    && it.from_ms.abs_diff(from_ms) <= close_ms
                    && it.until_ms.abs_diff(until_ms) <= close_ms
            };
            match found.iter_mut().find(is_one) {
                Some((it, top)) => (it.count, *top) = (it.count + (level - below), level),
                None => {
                    found.push((Interval { from_ms, until_ms, count: level - below }, level));
                }
            }
        }
        below = level;
    }
    found.into_iter().map(|(it, _)| it).collect()
}

/// When at least `level` are needed, shorter dips bridged.
fn runs(needs: &[Need], level: u32, close_ms: u64) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for need in needs.iter().filter(|need| need.count >= level) {
        let from_ms = need.from_ms / GRAIN_MS * GRAIN_MS;
        let until_ms = need.until_ms.div_ceil(GRAIN_MS).saturating_mul(GRAIN_MS);
        match runs.last_mut() {
            Some((_, end_ms)) if from_ms <= end_ms.saturating_add(close_ms) => {
                *end_ms = until_ms.max(*end_ms);
            }
            _ => runs.push((from_ms, until_ms)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn needs(counts: &[u32]) -> Vec<Need> {
        let need = |(nth, count): (u64, &u32)| Need {
            from_ms: nth * GRAIN_MS,
            until_ms: (nth + 1) * GRAIN_MS,
            count: *count,
        };
        (0..).zip(counts).map(need).collect()
    }

    fn found(counts: &[u32], most: usize) -> Vec<(u64, u64, u32)> {
        let of = |it: Interval| (it.from_ms / GRAIN_MS, it.until_ms / GRAIN_MS, it.count);
        intervals(&needs(counts), most).into_iter().map(of).collect()
    }

    #[test]
    fn a_slow_rise_is_a_pile_of_layers_and_a_quick_one_is_one() {
        let slow = [0, 1, 1, 1, 1, 2, 2, 2, 2, 1, 1, 1, 1, 0];
        assert_eq!(found(&slow, 9), [(1, 13, 1), (5, 9, 1)]);
        assert_eq!(found(&[0, 1, 2, 3, 3, 3, 3, 3, 2, 1, 0], 9), [(1, 10, 3)]);
    }

    #[test]
    fn short_dips_are_bridged_and_long_ones_are_not() {
        assert_eq!(found(&[2, 2, 0, 0, 2, 2], 9), [(0, 6, 2)]);
        assert_eq!(found(&[2, 2, 0, 0, 0, 2, 2], 9), [(0, 2, 2), (5, 7, 2)]);
        assert!(found(&[0, 0], 9).is_empty() && found(&[], 9).is_empty());
    }

    proptest! {
        #[test]
        fn they_are_few_and_always_enough(
            counts in proptest::collection::vec(0_u32..9, 0..200), most in 1_usize..20,
        ) {
            let found = intervals(&needs(&counts), most);
            prop_assert!(found.len() <= most);
            for need in needs(&counts) {
                let covers = |it: &&Interval| it.from_ms <= need.from_ms && it.until_ms >= need.until_ms;
                let sum: u32 = found.iter().filter(covers).map(|it| it.count).sum();
                prop_assert!(sum >= need.count);
                prop_assert!(sum <= counts.iter().copied().max().unwrap_or(0));
            }
        }
    }
}
