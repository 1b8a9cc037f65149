//! The latency a request to a backend can expect.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Time constant for good news.
const FALL_MS: f64 = 5_000.0;
/// Time constant for bad news: a slow-down shows five times as fast as it is forgiven.
const RISE_MS: f64 = 1_000.0;
/// An estimate without answers for this long says nothing any more.
const STALE_MS: u32 = 10_000;

/// An exponentially weighted mean over time, quick to rise and slow to fall, in one word that
/// workers update without a lock.
///
/// With `dt` since the last answer the new answer weighs `dt / (tau + dt)`, the rational form of
/// `1 - exp(-dt / tau)`. It is the peak-sensitive EWMA of Finagle's balancer, softened: there one
/// slow answer becomes the estimate at once, which among equal backends with scattered latencies
/// moves load for no reason.
#[derive(Debug, Default)]
pub(crate) struct LatencyEstimate {
    /// Upper half: `f32` bits of microseconds, 0 while unknown. Lower half: time of the last
    /// answer, milliseconds of the shared clock modulo 2^32.
    word: AtomicU64,
}

impl LatencyEstimate {
    /// Takes note of an answer. A failure may raise the estimate but never lower it, or else a
    /// backend that fails fast would draw all requests to itself.
    pub(crate) fn observe(&self, latency: Duration, good: bool, now_ms: u64) {
        let mut word = self.word.load(Relaxed);
        while let Some(new) = after(word, latency.as_secs_f32() * 1e6, good, now_ms) {
            match self.word.compare_exchange_weak(word, new, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(newer) => word = newer,
            }
        }
    }

    /// The last estimate in microseconds, however old; none before the first.
    pub(crate) fn last_us(&self) -> Option<f64> {
        let (us, _) = unpack(self.word.load(Relaxed));
        (us > 0.0).then_some(f64::from(us))
    }

    /// Expected latency in microseconds; none while nothing is known, or nothing recent.
    pub(crate) fn predict_us(&self, now_ms: u64) -> Option<f64> {
        let (us, at_ms) = unpack(self.word.load(Relaxed));
        (us > 0.0 && since(at_ms, now_ms) <= STALE_MS).then_some(f64::from(us))
    }
}

/// The estimate after one more answer; none when that does not change it.
fn after(word: u64, sample_us: f32, good: bool, now_ms: u64) -> Option<u64> {
    let (old_us, at_ms) = unpack(word);
    let elapsed_ms = since(at_ms, now_ms);
    if old_us <= 0.0 || elapsed_ms > STALE_MS {
        return good.then(|| pack(sample_us.max(1.0), now_ms));
    }
    if !good && sample_us <= old_us {
        return None;
    }
    let tau = if sample_us > old_us { RISE_MS } else { FALL_MS };
    // Answers within the same millisecond stand for a part of it.
    let dt = f64::from(elapsed_ms).max(0.2);
    let share = (dt / (tau + dt)) as f32;
    Some(pack((old_us + share * (sample_us - old_us)).max(1.0), now_ms))
}

fn pack(us: f32, now_ms: u64) -> u64 {
    u64::from(us.to_bits()) << 32 | now_ms & u64::from(u32::MAX)
}

fn unpack(word: u64) -> (f32, u32) {
    (f32::from_bits((word >> 32) as u32), word as u32)
}

/// Milliseconds between two readings; 0 when another worker's reading is a little ahead.
fn since(at_ms: u32, now_ms: u64) -> u32 {
    let elapsed = (now_ms as u32).wrapping_sub(at_ms);
    if elapsed > u32::MAX / 2 { 0 } else { elapsed }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn nothing_is_predicted_before_the_first_answer_or_long_after_the_last() {
        let estimate = LatencyEstimate::default();
        assert_eq!(estimate.predict_us(0), None);
        estimate.observe(ms(3), false, 0);
        assert_eq!(estimate.predict_us(0), None, "a failure tells no latency");
        estimate.observe(ms(3), true, 10);
        assert_eq!(estimate.predict_us(10), Some(3000.0));
        assert!(estimate.predict_us(10_010).is_some());
        assert_eq!(estimate.predict_us(10_011), None);
    }

    #[test]
    fn it_rises_faster_than_it_falls() {
        let estimate = LatencyEstimate::default();
        estimate.observe(ms(10), true, 0);
        (1..=100).for_each(|i| estimate.observe(ms(100), true, i * 10));
        let risen = estimate.predict_us(1000).unwrap();
        assert!((60_000.0..70_000.0).contains(&risen), "{risen}");
        (101..=200).for_each(|i| estimate.observe(ms(10), true, i * 10));
        let fallen = estimate.predict_us(2000).unwrap();
        assert!((50_000.0..60_000.0).contains(&fallen), "{fallen}");
    }

    #[test]
    fn failing_fast_does_not_look_fast() {
        let estimate = LatencyEstimate::default();
        estimate.observe(ms(10), true, 0);
        (1..1000).for_each(|i| estimate.observe(ms(0), false, i * 10));
        assert_eq!(estimate.predict_us(9_000), Some(10_000.0));
        estimate.observe(ms(500), false, 9_000);
        assert!(estimate.predict_us(9_000).unwrap() > 100_000.0);
    }

    #[test]
    fn a_clock_past_49_days_and_a_reading_out_of_order_do_no_harm() {
        let estimate = LatencyEstimate::default();
        let late = u64::from(u32::MAX) - 5;
        estimate.observe(ms(10), true, late);
        assert!(estimate.predict_us(late + 100).is_some());
        estimate.observe(ms(20), true, late - 3);
        assert!(estimate.predict_us(late - 3).unwrap() < 11_000.0);
    }
}
