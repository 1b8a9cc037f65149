//! Keeps the books of a run: per second, in total, failures by time.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::report::{
    FailureEvent, FailureKind, InstanceSeen, Latency, LoadReport, SecondStats, Totals,
};
use super::spec::LoadSpec;

const MAX_FAILURES_KEPT: usize = 100_000;
const MAX_INSTANCES_KEPT: usize = 1_024;

/// The end of one request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Answered with a status below 400.
    Completed,
    /// Everything else; with the status if there was one.
    Failed(FailureKind, Option<u16>),
}

/// The recorder and its clock, shared by the load thread and the handle.
///
/// A plain mutex: the load thread takes it for well under a microsecond per event and the readers
/// a few times per second, so it is almost never contended, and never held across an await.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) started: Instant,
    pub(super) started_unix_ms: u64,
    recorder: Mutex<Recorder>,
}

impl Shared {
    pub(super) fn new(spec: &LoadSpec, started: Instant, started_unix_ms: u64) -> Self {
        Self {
            started,
            started_unix_ms,
            recorder: Mutex::new(Recorder::new(spec, started_unix_ms)),
        }
    }

    /// Runs `work` on the recorder.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Recorder) -> T) -> T {
        // Counters stay usable after a panic elsewhere; the panic itself is reported by join.
        work(&mut self.recorder.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// All results of a run so far. Times come in as offsets from the start.
#[derive(Debug)]
pub(super) struct Recorder {
    base: LoadReport,
    objective: Duration,
    seconds: Vec<Second>,
    overall: Histogram<u64>,
    lag: Histogram<u64>,
}

#[derive(Debug)]
enum Second {
    Open { stats: SecondStats, latency: Box<Histogram<u32>>, sum_us: u64 },
    Settled(SecondStats),
}

impl Recorder {
    fn new(spec: &LoadSpec, started_unix_ms: u64) -> Self {
        let base = LoadReport {
            target: spec.target.clone(),
            method: spec.method.to_string(),
            spread: spec.spread,
            seed: spec.seed,
            started_unix_ms,
            ended_unix_ms: started_unix_ms,
            objective_ms: millis(spec.objective),
            asked_rps: spec.profile.expected_requests() / spec.profile.duration().as_secs_f64(),
            totals: Totals::default(),
            latency: Latency::default(),
            generator_lag: Latency::default(),
            seconds: Vec::new(),
            failures: Vec::new(),
            failures_not_kept: 0,
        };
        Self {
            base,
            objective: spec.objective,
            seconds: Vec::new(),
            overall: histogram(3),
            lag: histogram(2),
        }
    }

    fn unix_ms(&self, offset: Duration) -> u64 {
        self.base.started_unix_ms + offset.as_millis() as u64
    }

    /// A request that was due at `due` is handled at `now`. Due times never go back.
    pub(super) fn issued(&mut self, due: Duration, now: Duration) {
        self.open_until(due.as_secs() as usize);
        self.base.totals.offered += 1;
        self.base.totals.in_flight += 1;
        self.lag.saturating_record(micros(now.saturating_sub(due)));
        if let Some(Second::Open { stats, .. }) = self.seconds.get_mut(due.as_secs() as usize) {
            stats.offered += 1;
        }
    }

    /// It is `now`, and every request due before was issued.
    pub(super) fn advance(&mut self, now: Duration) {
        self.open_until(now.as_secs() as usize);
    }

    /// The request that was due at `due` ended at `now`.
    pub(super) fn ended(&mut self, due: Duration, now: Duration, outcome: &Outcome) {
        let took = now.saturating_sub(due);
        let failure = match *outcome {
            Outcome::Completed => None,
            Outcome::Failed(kind, status) => Some((kind, status)),
        };
        let counts = matches!(failure, None | Some((FailureKind::Timeout, _)));
        let over = failure.is_some() || took > self.objective;
        let index = due.as_secs() as usize;
        let totals = &mut self.base.totals;
        totals.in_flight -= 1;
        totals.over_objective += u64::from(over);
        totals.completed += u64::from(failure.is_none());
        if counts {
            self.overall.saturating_record(micros(took));
        }
        if let Some(Second::Open { stats, latency, sum_us }) = self.seconds.get_mut(index) {
            stats.over_objective += u64::from(over);
            stats.completed += u64::from(failure.is_none());
            if counts {
                latency.saturating_record(micros(took));
                *sum_us += micros(took);
            }
            if let Some((kind, _)) = failure {
                stats.failed.add(kind);
            }
        }
        let unix_ms = self.unix_ms(now);
        self.base.ended_unix_ms = self.base.ended_unix_ms.max(unix_ms);
        if let Some((kind, status)) = failure {
            self.failed(FailureEvent {
                scheduled_unix_ms: self.unix_ms(due),
                failed_unix_ms: unix_ms,
                kind,
                status,
            });
        }
        if index + 1 < self.seconds.len() {
            self.settle(index);
        }
    }

    fn failed(&mut self, event: FailureEvent) {
        self.base.totals.failed.add(event.kind);
        if self.base.failures.len() < MAX_FAILURES_KEPT {
            self.base.failures.push(event);
        } else {
            self.base.failures_not_kept += 1;
        }
    }

    /// An answer carried the name of the instance that made it.
    pub(super) fn answered_by(&mut self, name: &str, now: Duration) {
        let unix_ms = self.unix_ms(now);
        let instances = &mut self.base.totals.instances;
        if let Some(seen) = instances.get_mut(name) {
            seen.answered += 1;
            seen.last_unix_ms = unix_ms;
        } else if instances.len() < MAX_INSTANCES_KEPT {
            let seen = InstanceSeen { answered: 1, first_unix_ms: unix_ms, last_unix_ms: unix_ms };
            instances.insert(name.to_owned(), seen);
        }
    }

    pub(super) fn connection_opened(&mut self) {
        self.base.totals.connections_opened += 1;
    }

    pub(super) fn reconnected(&mut self) {
        self.base.totals.reconnects += 1;
    }

    /// The run ended at `now`, its profile at `end`.
    pub(super) fn close(&mut self, end: Duration, now: Duration) {
        self.open_until((end.as_secs_f64().ceil() as usize).saturating_sub(1));
        self.base.ended_unix_ms = self.base.ended_unix_ms.max(self.unix_ms(now));
        for index in 0..self.seconds.len() {
            self.settle(index);
        }
    }

    /// Makes every second up to `index` exist, and settles those before it that can be.
    fn open_until(&mut self, index: usize) {
        while self.seconds.len() <= index {
            let second = self.seconds.len() as u32;
            self.seconds.push(Second::Open {
                stats: SecondStats {
                    second,
                    unix_ms: self.unix_ms(Duration::from_secs(u64::from(second))),
                    offered: 0,
                    completed: 0,
                    failed: Default::default(),
                    over_objective: 0,
                    latency: Latency::default(),
                    settled: false,
                },
                latency: Box::new(histogram(2)),
                sum_us: 0,
            });
            if let Some(previous) = (second as usize).checked_sub(1) {
                self.settle(previous);
            }
        }
    }

    /// Replaces a finished second by its numbers, which frees its histogram.
    fn settle(&mut self, index: usize) {
        if let Some(second @ Second::Open { .. }) = self.seconds.get_mut(index) {
            let stats = second.stats();
            if stats.completed + stats.failed.total() == stats.offered {
                *second = Second::Settled(SecondStats { settled: true, ..stats });
            }
        }
    }

    pub(super) fn seconds(&self, first: u32) -> Vec<SecondStats> {
        self.seconds.iter().skip(first as usize).map(Second::stats).collect()
    }

    pub(super) fn totals(&self) -> Totals {
        self.base.totals.clone()
    }

    pub(super) fn latency(&self) -> Latency {
        summary(&self.overall)
    }

    pub(super) fn failures(&self, first: usize) -> Vec<FailureEvent> {
        self.base.failures.get(first..).unwrap_or_default().to_vec()
    }

    pub(super) fn report(&self) -> LoadReport {
        LoadReport {
            latency: self.latency(),
            generator_lag: summary(&self.lag),
            seconds: self.seconds(0),
            ..self.base.clone()
        }
    }
}

impl Second {
    fn stats(&self) -> SecondStats {
        match self {
            Self::Settled(stats) => *stats,
            Self::Open { stats, latency, sum_us } => {
                let count = latency.len();
                let mean_us = if count == 0 { 0.0 } else { *sum_us as f64 / count as f64 };
                let latency = Latency { mean_ms: mean_us / 1e3, ..quantiles(latency) };
                SecondStats { latency, ..*stats }
            }
        }
    }
}

/// A histogram of microseconds up to a day, the longest timeout there is.
fn histogram<C: hdrhistogram::Counter>(digits: u8) -> Histogram<C> {
    Histogram::new_with_bounds(1, 86_400_000_000, digits)
        .expect("the bounds are ordered and at most 5 digits are asked for")
}

fn summary(histogram: &Histogram<u64>) -> Latency {
    let mean_ms = if histogram.is_empty() { 0.0 } else { histogram.mean() / 1e3 };
    Latency { mean_ms, ..quantiles(histogram) }
}

/// Everything but the mean, which would cost a walk over all buckets per live read.
fn quantiles<C: hdrhistogram::Counter>(histogram: &Histogram<C>) -> Latency {
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
    Latency {
        count: histogram.len(),
        mean_ms: 0.0,
        p50_ms: at(0.5),
        p90_ms: at(0.9),
        p99_ms: at(0.99),
        p999_ms: at(0.999),
        max_ms: histogram.max() as f64 / 1e3,
    }
}

fn micros(time: Duration) -> u64 {
    time.as_micros() as u64
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::super::profile::Profile;
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn recorder() -> Recorder {
        let profile = Profile::parse("hold:10rps:3s").unwrap();
        Recorder::new(&LoadSpec::new("http://127.0.0.1/", profile), 1_000_000)
    }

    #[test]
    fn a_late_answer_counts_in_the_second_in_which_it_was_due() {
        let mut recorder = recorder();
        recorder.issued(ms(900), ms(901));
        recorder.issued(ms(2_100), ms(2_100));
        let seconds = recorder.seconds(0);
        assert_eq!(seconds.len(), 3);
        assert!(!seconds[0].settled && seconds[1].settled && !seconds[2].settled);
        recorder.ended(ms(900), ms(2_900), &Outcome::Completed);
        recorder.ended(ms(2_100), ms(2_101), &Outcome::Failed(FailureKind::Status, Some(503)));
        recorder.close(ms(3_000), ms(3_001));
        let seconds = recorder.seconds(0);
        assert!(seconds.iter().all(|second| second.settled));
        assert_eq!((seconds[0].completed, seconds[0].over_objective), (1, 1));
        assert!((seconds[0].latency.max_ms - 2_000.0).abs() < 20.0, "{:?}", seconds[0]);
        assert_eq!((seconds[2].failed.status, seconds[2].over_objective), (1, 1));
        assert_eq!(seconds[2].latency.count, 0, "a quick failure is no quick service");
        assert_eq!(seconds[2].unix_ms, 1_002_000);
        let report = recorder.report();
        assert_eq!((report.totals.offered, report.totals.in_flight), (2, 0));
        assert_eq!(report.ended_unix_ms, 1_003_001);
        assert_eq!(
            recorder.failures(0),
            [FailureEvent {
                scheduled_unix_ms: 1_002_100,
                failed_unix_ms: 1_002_101,
                kind: FailureKind::Status,
                status: Some(503),
            }]
        );
        assert!(recorder.failures(7).is_empty());
    }

    #[test]
    fn failures_and_names_are_bounded() {
        let mut recorder = recorder();
        for _ in 0..MAX_FAILURES_KEPT + 5 {
            recorder.issued(ms(1), ms(1));
            recorder.ended(ms(1), ms(2), &Outcome::Failed(FailureKind::Connect, None));
        }
        for name in 0..MAX_INSTANCES_KEPT + 5 {
            recorder.answered_by(&name.to_string(), ms(3));
        }
        let report = recorder.report();
        assert_eq!(report.failures.len(), MAX_FAILURES_KEPT);
        assert_eq!(report.failures_not_kept, 5);
        assert_eq!(report.totals.failed.connect as usize, MAX_FAILURES_KEPT + 5);
        assert_eq!(report.totals.instances.len(), MAX_INSTANCES_KEPT);
    }
}
