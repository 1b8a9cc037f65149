//! What one backend says of itself to one worker between two drains.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use foreshadow_control::MAX_METRICS;

use crate::orca::Name;

/// Metrics that have a place of their own, whatever else a backend reports.
const KNOWN: [&str; 5] = ["cpu", "memory", "application_utilization", "rps_fractional", "eps"];

/// Means of metrics by name; those of the first names count until all are forgotten.
///
/// 1 kB, and what the names take.
#[derive(Debug, Default)]
pub(super) struct Reports {
    known: [Mean; KNOWN.len()],
    named: [(OnceLock<Box<str>>, Mean); MAX_METRICS - KNOWN.len()],
}

/// A mean and the number of its values in one word, so that neither is ever read without the other:
/// a 32-bit float in the upper half, a count in the lower. None is the count 0.
#[derive(Debug, Default)]
struct Mean(AtomicU64);

impl Reports {
    /// Adds one value. Beyond the number of names that are kept, further names are left out.
    pub(super) fn add(&self, name: Name<'_>, value: f64) {
        if let Some(at) = KNOWN.iter().position(|known| name.is(known)) {
            self.known[at].add(value);
            return;
        }
        let place = self.named.iter().find(|(own, _)| name.is(own.get_or_init(|| name.to_text())));
        if let Some((_, mean)) = place {
            mean.add(value);
        }
    }

    /// Takes out every mean since the last time, with the number of its values.
    pub(super) fn drain(&self) -> impl Iterator<Item = (&str, f64, u32)> {
        let known = KNOWN.into_iter().zip(&self.known);
        let named = self.named.iter().map_while(|(name, mean)| Some((&**name.get()?, mean)));
        known.chain(named).filter_map(|(name, mean)| {
            let (value, count) = mean.take()?;
            Some((name, value, count))
        })
    }
}

impl Mean {
    fn add(&self, value: f64) {
        let added = |word: u64| {
            let (mean, count) = unpacked(word);
            let count = count.saturating_add(1);
            Some(packed(mean + (value - mean) / f64::from(count), count))
        };
        // Only two workers of one number ever make it try again.
        if self.0.fetch_update(Relaxed, Relaxed, added).is_err() {
            debug_assert!(false, "a value can always be added");
        }
    }

    fn take(&self) -> Option<(f64, u32)> {
        if self.0.load(Relaxed) == 0 {
            return None;
        }
        let word = self.0.swap(0, Relaxed);
        let (mean, count) = unpacked(word);
        // As short as it was written: 0.7, not what 32 bits make of it.
        let short = (mean as f32).to_string().parse().unwrap_or(mean);
        (count > 0).then_some((short, count))
    }
}

fn packed(mean: f64, count: u32) -> u64 {
    u64::from((mean as f32).to_bits()) << 32 | u64::from(count)
}

fn unpacked(word: u64) -> (f64, u32) {
    (f64::from(f32::from_bits((word >> 32) as u32)), word as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(reports: &Reports) -> Vec<(String, f64, u32)> {
        reports.drain().map(|(name, value, count)| (name.to_owned(), value, count)).collect()
    }

    #[test]
    fn values_come_out_as_means_and_once() {
        let reports = Reports::default();
        assert_eq!(drained(&reports), []);
        for value in [0.25, 0.75] {
            reports.add(Name("cpu", ""), value);
        }
        reports.add(Name("", "queue"), 12.7);
        reports.add(Name("request_cost.", "db"), 0.0);
        let told = |name: &str, value, count| (name.to_owned(), value, count);
        assert_eq!(
            drained(&reports),
            [told("cpu", 0.5, 2), told("queue", 12.7, 1), told("request_cost.db", 0.0, 1)]
        );
        assert_eq!(drained(&reports), []);
    }

    #[test]
    fn however_many_names_there_are_the_known_ones_have_their_place() {
        let reports = Reports::default();
        for n in 0..10_000 {
            reports.add(Name("", &format!("name{n}")), 1e15);
        }
        reports.add(Name("memory", ""), 0.5);
        let all = drained(&reports);
        assert_eq!(all.len(), MAX_METRICS - KNOWN.len() + 1);
        assert_eq!(all[0], ("memory".to_owned(), 0.5, 1));
        assert!(all.iter().all(|(_, value, _)| value.is_finite()), "{all:?}");
    }

    #[test]
    fn no_value_is_lost_or_torn_by_drains_beside_it() {
        let reports = Reports::default();
        let counted = std::thread::scope(|scope| {
            let adding = [(), ()].map(|()| {
                scope.spawn(|| (0..50_000).for_each(|_| reports.add(Name("", "a"), 0.5)))
            });
            let mut counted = 0;
            let mut drain = || {
                for (_, value, count) in reports.drain() {
                    assert!((value - 0.5).abs() < 1e-6, "{value}");
                    counted += u64::from(count);
                }
            };
            while adding.iter().any(|thread| !thread.is_finished()) {
                drain();
            }
            drain();
            counted
        });
        assert_eq!(counted, 100_000);
    }
}
