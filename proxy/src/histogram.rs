//! Latency counts that many may add to while one drains them.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

/// Values below this have a bucket each, in microseconds.
const LINEAR: u64 = 64;
/// Buckets per doubling above that: a bucket is at most 1/32 of its value wide.
const PER_OCTAVE: u64 = 32;
/// Longest latency told apart: 71 minutes.
const MAX_US: u64 = (1 << 32) - 1;
const OCTAVES: u64 = 32 - 6;
/// 896 buckets: 3.6 kB.
const BUCKETS: usize = (LINEAR + OCTAVES * PER_OCTAVE) as usize;

/// Log-linear buckets of microseconds, precise to 1.6 % (half a bucket), without a lock.
///
/// A bit per bucket says which were touched since the last drain, so that draining costs what was
/// recorded and not the number of buckets. The layout is that of HdrHistogram with 5 bits of
/// precision (<https://hdrhistogram.org>).
#[derive(Debug)]
pub(crate) struct AtomicHistogram {
    touched: [AtomicU64; BUCKETS / 64],
    counts: [AtomicU32; BUCKETS],
}

impl AtomicHistogram {
    pub(crate) fn new() -> Self {
        Self {
            touched: [const { AtomicU64::new(0) }; BUCKETS / 64],
            counts: [const { AtomicU32::new(0) }; BUCKETS],
        }
    }

    /// Counts one latency.
    ///
    /// Count first, then look at the bit; the drain clears the bit first, then reads the count. In
    /// one total order (`SeqCst`) at least one of the two sees the other, so that no count is left
    /// behind without its bit.
    pub(crate) fn record(&self, latency_us: u64) {
        let index = bucket(latency_us);
        self.counts[index].fetch_add(1, SeqCst);
        let (word, bit) = (&self.touched[index / 64], 1 << (index % 64));
        if word.load(SeqCst) & bit == 0 {
            word.fetch_or(bit, SeqCst);
        }
    }

    /// Takes out what was recorded since the last drain, adding it to `into`.
    pub(crate) fn drain(&self, into: &mut LatencyCounts) {
        for (i, word) in self.touched.iter().enumerate() {
            if word.load(SeqCst) == 0 {
                continue;
            }
            let mut bits = word.swap(0, SeqCst);
            while bits != 0 {
                let index = i * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                into.add(index, u64::from(self.counts[index].swap(0, SeqCst)));
            }
        }
    }
}

/// Plain counts drained from one or more [`AtomicHistogram`]s; kept by the drain and reused.
#[derive(Debug)]
pub(crate) struct LatencyCounts {
    counts: Vec<u64>,
    used: Vec<usize>,
}

impl LatencyCounts {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; BUCKETS], used: Vec::new() }
    }

    fn add(&mut self, index: usize, count: u64) {
        if count > 0 {
            if self.counts[index] == 0 {
                self.used.push(index);
            }
            self.counts[index] += count;
        }
    }

    /// Gives out what was added, as microseconds and count in rising order, and forgets it.
    pub(crate) fn take(&mut self) -> Vec<(u64, u64)> {
        let mut used = std::mem::take(&mut self.used);
        used.sort_unstable();
        let taken = used
            .iter()
            .map(|&index| (middle_us(index), std::mem::take(&mut self.counts[index])))
            .collect();
        used.clear();
        self.used = used;
        taken
    }
}

/// The value below which `quantile` of the counts lie; 0 without any.
pub(crate) fn quantile_us(rising: &[(u64, u64)], quantile: f64) -> u64 {
    let total: u64 = rising.iter().map(|&(_, count)| count).sum();
    let rank = ((quantile * total as f64).ceil() as u64).max(1);
    let mut seen = 0;
    for &(value_us, count) in rising {
        seen += count;
        if seen >= rank {
            return value_us;
        }
    }
    0
}

fn bucket(latency_us: u64) -> usize {
    let value = latency_us.min(MAX_US);
    if value < LINEAR {
        return value as usize;
    }
    let exponent = u64::from(63 - value.leading_zeros());
    let within = (value >> (exponent - 5)) - PER_OCTAVE;
    (LINEAR + (exponent - 6) * PER_OCTAVE + within) as usize
}

fn middle_us(index: usize) -> u64 {
    let index = index as u64;
    if index < LINEAR {
        return index;
    }
    let exponent = (index - LINEAR) / PER_OCTAVE + 6;
    let within = (index - LINEAR) % PER_OCTAVE;
    let width = 1 << (exponent - 5);
    (PER_OCTAVE + within) * width + width / 2
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::{Acquire, Release};
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bucket_stands_for_its_values(value in 0..=MAX_US) {
            let middle = middle_us(bucket(value)) as f64;
            prop_assert!((middle - value as f64).abs() <= value as f64 / 60.0);
        }

        #[test]
        fn buckets_rise_with_their_values(a in any::<u64>(), b in any::<u64>()) {
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(bucket(low) <= bucket(high));
            prop_assert!(bucket(high) < BUCKETS);
        }

        #[test]
        fn quantiles_are_those_of_the_values(mut values in prop::collection::vec(1u64..10_000_000, 1..300)) {
            let histogram = AtomicHistogram::new();
            values.iter().for_each(|&value| histogram.record(value));
            let mut counts = LatencyCounts::new();
            histogram.drain(&mut counts);
            let rising = counts.take();
            values.sort_unstable();
            for quantile in [0.5, 0.9, 0.99] {
                let rank = ((quantile * values.len() as f64).ceil() as usize).max(1);
                let exact = values[rank - 1] as f64;
                let got = quantile_us(&rising, quantile) as f64;
                prop_assert!((got - exact).abs() <= exact / 60.0 + 1.0);
            }
        }
    }

    #[test]
    fn a_drain_empties() {
        let histogram = AtomicHistogram::new();
        let mut counts = LatencyCounts::new();
        histogram.record(5);
        histogram.record(u64::MAX);
        histogram.drain(&mut counts);
        assert_eq!(counts.take(), vec![(5, 1), (middle_us(BUCKETS - 1), 1)]);
        histogram.drain(&mut counts);
        assert_eq!(counts.take(), vec![]);
        assert_eq!(quantile_us(&[], 0.5), 0);
    }

    #[test]
    fn no_count_is_lost_or_doubled_between_recorders_and_the_drain() {
        const EACH: u64 = 50_000;
        let histogram = AtomicHistogram::new();
        let done = AtomicBool::new(false);
        let drained: u64 = thread::scope(|scope| {
            let drain = scope.spawn(|| {
                let mut counts = LatencyCounts::new();
                let mut sum = 0;
                loop {
                    let last = done.load(Acquire);
                    histogram.drain(&mut counts);
                    sum += counts.take().iter().map(|&(_, count)| count).sum::<u64>();
                    if last {
                        return sum;
                    }
                }
            });
            let recorders: Vec<_> = (0..3)
                .map(|worker| {
                    let histogram = &histogram;
                    scope.spawn(move || {
                        (0..EACH).for_each(|i| histogram.record((i * 7 + worker) % 3000));
                    })
                })
                .collect();
            for recorder in recorders {
                recorder.join().unwrap();
            }
            done.store(true, Release);
            drain.join().unwrap()
        });
        assert_eq!(drained, 3 * EACH);
    }
}
