//! How many retries a service may add to its load.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// Retries are counted in thousandths, so that a share of a request is a whole number.
const MILLI: f64 = 1000.0;
/// How long an unused retry stays available.
const MEMORY_MS: f64 = 10_000.0;
/// How often unused retries are aged.
const AGE_EVERY_MS: u64 = 100;

/// A token bucket shared by all workers, without a lock: every request adds a share of a token,
/// time adds a minimum per second, a retry takes one token, and unused tokens decay with a time
/// constant of ten seconds.
///
/// So retries stay below `share` of the requests of the last ten seconds plus `min_per_s`, at any
/// request rate and without a size to configure. Finagle's `RetryBudget` has the same law with a
/// sharp ten-second window.
#[derive(Debug)]
pub struct RetryBudget {
    tokens: AtomicI64,
    aged_ms: AtomicU64,
    per_request: AtomicI64,
    /// `f64` bits, tokens per second.
    min_per_s: AtomicU64,
}

impl RetryBudget {
    /// A budget filled with the minimum for ten seconds.
    #[must_use]
    pub fn new(share: f64, min_per_s: f64, now_ms: u64) -> Self {
        let budget = Self {
            tokens: AtomicI64::new(0),
            aged_ms: AtomicU64::new(now_ms),
            per_request: AtomicI64::new(0),
            min_per_s: AtomicU64::new(0),
        };
        budget.configure(share, min_per_s);
        budget.tokens.store((budget.min_per_s() * MEMORY_MS) as i64, Relaxed);
        budget
    }

    /// Changes the law; what has been saved up stays. Values that are not finite count as zero.
    pub fn configure(&self, share: f64, min_per_s: f64) {
        let sane = |x: f64| if x.is_finite() { x.max(0.0) } else { 0.0 };
        self.per_request.store((sane(share) * MILLI).round() as i64, Relaxed);
        self.min_per_s.store(sane(min_per_s).min(1e6).to_bits(), Relaxed);
    }

    /// Counts one request that is not a retry.
    pub fn deposit(&self, now_ms: u64) {
        self.age(now_ms);
        self.tokens.fetch_add(self.per_request.load(Relaxed), Relaxed);
    }

    /// Takes a retry out of the budget, if one is left.
    pub fn try_withdraw(&self, now_ms: u64) -> bool {
        self.age(now_ms);
        let cost = MILLI as i64;
        self.tokens
            .fetch_update(Relaxed, Relaxed, |tokens| (tokens >= cost).then(|| tokens - cost))
            .is_ok()
    }

    /// Whole retries left now.
    #[must_use]
    pub fn available(&self) -> u64 {
        (self.tokens.load(Relaxed).max(0) / MILLI as i64) as u64
    }

    fn min_per_s(&self) -> f64 {
        f64::from_bits(self.min_per_s.load(Relaxed))
    }

    /// Solves `tokens' = min_per_s - tokens / MEMORY` over the time since it was last done. One
    /// caller wins the right to; what others add or take meanwhile is kept, since the change is
    /// added and not stored.
    fn age(&self, now_ms: u64) {
        let aged_ms = self.aged_ms.load(Relaxed);
        let elapsed_ms = now_ms.saturating_sub(aged_ms);
        if elapsed_ms < AGE_EVERY_MS
            || self.aged_ms.compare_exchange(aged_ms, now_ms, Relaxed, Relaxed).is_err()
        {
            return;
        }
        let tokens = self.tokens.load(Relaxed);
        let settled = self.min_per_s() * MEMORY_MS;
        let kept = (-(elapsed_ms as f64) / MEMORY_MS).exp();
        let change = (settled - tokens as f64) * (1.0 - kept);
        self.tokens.fetch_add(change.round() as i64, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn an_idle_service_may_retry_its_minimum() {
        let budget = RetryBudget::new(0.2, 3.0, 0);
        let mut allowed = 0;
        for now_ms in (0..100_000).step_by(10) {
            allowed += u32::from(budget.try_withdraw(now_ms));
        }
        // Ten seconds' worth saved up at the start, then three per second.
        assert!((300..=335).contains(&allowed), "{allowed}");
    }

    #[test]
    fn retries_are_a_share_of_the_requests() {
        let budget = RetryBudget::new(0.2, 0.0, 0);
        let (mut requests, mut retries) = (0, 0);
        for now_ms in 0..60_000 {
            budget.deposit(now_ms);
            requests += 1;
            retries += u32::from(budget.try_withdraw(now_ms));
        }
        let share = f64::from(retries) / f64::from(requests);
        assert!((0.19..=0.2).contains(&share), "{share}");
    }

    #[test]
    fn what_is_saved_up_is_bounded_and_fades() {
        let budget = RetryBudget::new(0.1, 0.0, 0);
        for now_ms in 0..600_000 {
            budget.deposit(now_ms);
        }
        // A tenth of 1000 requests per second over ten seconds.
        let full = budget.available();
        assert!((950..=1050).contains(&full), "{full}");
        assert!(budget.try_withdraw(630_000));
        assert!(budget.available() < full / 10);
        assert!(!budget.try_withdraw(3_600_000));
    }

    #[test]
    fn a_share_or_minimum_that_is_not_a_number_allows_nothing() {
        let budget = RetryBudget::new(f64::NAN, f64::INFINITY, 0);
        budget.deposit(1);
        assert!(!budget.try_withdraw(10_000));
    }

    #[test]
    fn workers_together_never_take_more_than_there_is() {
        let budget = RetryBudget::new(0.0, 100.0, 0);
        let taken: u32 = thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| {
                    scope
                        .spawn(|| (0..1000).map(|_| u32::from(budget.try_withdraw(0))).sum::<u32>())
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum::<u32>()
        });
        assert_eq!(taken, 1000);
    }
}
