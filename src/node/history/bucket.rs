//! One span of one series, and the spans that the past is kept in.

use foreshadow_control::{
    InstanceObservation, Meters, ServiceName, ServiceObservation, ServicePlan,
};
use serde::{Deserialize, Serialize};

/// A length of time that rows are kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Resolution {
    /// One second.
    #[serde(rename = "1s")]
    Second,
    /// One minute.
    #[serde(rename = "1m")]
    Minute,
    /// 15 minutes.
    #[serde(rename = "15m")]
    Quarter,
    /// One hour.
    #[serde(rename = "1h")]
    Hour,
}

impl Resolution {
    /// From the finest to the coarsest.
    pub(crate) const ALL: [Self; 4] = [Self::Second, Self::Minute, Self::Quarter, Self::Hour];

    /// Its length.
    pub(crate) fn step_ms(self) -> u64 {
        match self {
            Self::Second => 1_000,
            Self::Minute => 60_000,
            Self::Quarter => 900_000,
            Self::Hour => 3_600_000,
        }
    }

    /// How it is written; also the end of its table's name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Second => "1s",
            Self::Minute => "1m",
            Self::Quarter => "15m",
            Self::Hour => "1h",
        }
    }

    /// Start of the span that holds `at_ms`.
    pub(crate) fn start_ms(self, at_ms: u64) -> u64 {
        at_ms / self.step_ms() * self.step_ms()
    }
}

/// What a row is about: a service as a whole, or one of its instances.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SeriesKey {
    pub(super) service: ServiceName,
    /// The instance's id; 0 for the service, since ids begin at 1.
    pub(super) instance: u64,
}

/// What one span holds. Counts add up over spans; so do sums of gauges, which are divided by
/// `ticks` to be read; least and most survive.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Bucket {
    /// Time that was observed: less than the span where Foreshadow was not running, or began.
    pub(super) covered_ms: u64,
    pub(super) ticks: u64,
    /// Arrivals of a service; requests sent to an instance.
    pub(super) requests: u64,
    /// Least and most of them per second, second by second.
    pub(super) least_rps: f64,
    pub(super) most_rps: f64,
    pub(super) unserved: u64,
    /// Answers of 5xx, timeouts, failed connections and broken answers.
    pub(super) errors: u64,
    pub(super) latency: Latency,
    pub(super) in_flight: Gauge,
    pub(super) weight: Gauge,
    /// Requests per second that are believed to be served within the objective.
    pub(super) capacity_rps: Gauge,
}

/// Latencies of answers. Quantiles are means of each tick's, by its answers: of a span they are an
/// approximation, of its slowest answer not.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Latency {
    pub(super) count: u64,
    pub(super) sum_ms: f64,
    pub(super) p50_sum_ms: f64,
    pub(super) p99_sum_ms: f64,
    pub(super) max_ms: f64,
}

/// A value that was looked at once per tick.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Gauge {
    pub(super) sum: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

impl Gauge {
    fn once(value: f64) -> Self {
        let value = if value.is_finite() { value } else { 0.0 };
        Self { sum: value, least: value, most: value }
    }

    fn merge(&mut self, other: &Self) {
        self.sum += other.sum;
        self.least = self.least.min(other.least);
        self.most = self.most.max(other.most);
    }
}

impl Latency {
    fn add(&mut self, meters: &Meters) {
        let seen = &meters.latency;
        let usable =
            [seen.sum_ms, seen.p50_ms, seen.p99_ms, seen.max_ms].iter().all(|ms| ms.is_finite());
        if seen.count == 0 || !usable {
            return;
        }
        let count = float(seen.count);
        self.count = self.count.saturating_add(seen.count);
        self.sum_ms += seen.sum_ms;
        self.p50_sum_ms += count * seen.p50_ms;
        self.p99_sum_ms += count * seen.p99_ms;
        self.max_ms = self.max_ms.max(seen.max_ms);
    }

    fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.sum_ms += other.sum_ms;
        self.p50_sum_ms += other.p50_sum_ms;
        self.p99_sum_ms += other.p99_sum_ms;
        self.max_ms = self.max_ms.max(other.max_ms);
    }
}

impl Bucket {
    /// A service in one tick.
    pub(super) fn of_service(
        seen: &ServiceObservation,
        plan: &ServicePlan,
        interval_ms: u64,
    ) -> Self {
        let mut bucket = Self {
            covered_ms: interval_ms,
            ticks: 1,
            requests: seen.arrivals,
            unserved: seen.unserved,
            errors: seen.unserved,
            ..Self::default()
        };
        let mut in_flight = 0;
        for instance in &seen.instances {
            bucket.errors = bucket.errors.saturating_add(instance.meters.failed());
            bucket.latency.add(&instance.meters);
            in_flight += instance.meters.in_flight;
        }
        let serves = |id| plan.weights.iter().any(|w| w.instance == id && w.weight > 0);
        let capacity = plan.capacity.iter().filter(|c| serves(c.instance)).map(|c| c.rps);
        bucket.in_flight = Gauge::once(float(in_flight));
        bucket.capacity_rps = Gauge::once(capacity.sum());
        bucket.rated()
    }

    /// An instance in one tick.
    pub(super) fn of_instance(
        seen: &InstanceObservation,
        plan: &ServicePlan,
        interval_ms: u64,
    ) -> Self {
        let weight = plan.weights.iter().find(|w| w.instance == seen.instance);
        let capacity = plan.capacity.iter().find(|c| c.instance == seen.instance);
        let mut bucket = Self {
            covered_ms: interval_ms,
            ticks: 1,
            requests: seen.meters.requests,
            errors: seen.meters.failed(),
            in_flight: Gauge::once(float(seen.meters.in_flight)),
            weight: Gauge::once(weight.map_or(0.0, |w| f64::from(w.weight))),
            capacity_rps: Gauge::once(capacity.map_or(0.0, |c| c.rps)),
            ..Self::default()
        };
        bucket.latency.add(&seen.meters);
        bucket.rated()
    }

    fn rated(mut self) -> Self {
        let rps = self.rps();
        (self.least_rps, self.most_rps) = (rps, rps);
        self
    }

    /// Requests per second of the time that was observed.
    pub(super) fn rps(&self) -> f64 {
        if self.covered_ms == 0 {
            0.0
        } else {
            float(self.requests) * 1_000.0 / float(self.covered_ms)
        }
    }

    /// Another tick of the same second: the rate is that of all of them.
    pub(super) fn add_tick(&mut self, tick: &Self) {
        self.merge(tick);
        *self = self.rated();
    }

    /// Another span of the same, longer one.
    pub(super) fn merge(&mut self, other: &Self) {
        if self.ticks == 0 {
            *self = *other;
            return;
        }
        self.covered_ms = self.covered_ms.saturating_add(other.covered_ms);
        self.ticks = self.ticks.saturating_add(other.ticks);
        self.requests = self.requests.saturating_add(other.requests);
        self.least_rps = self.least_rps.min(other.least_rps);
        self.most_rps = self.most_rps.max(other.most_rps);
        self.unserved = self.unserved.saturating_add(other.unserved);
        self.errors = self.errors.saturating_add(other.errors);
        self.latency.merge(&other.latency);
        self.in_flight.merge(&other.in_flight);
        self.weight.merge(&other.weight);
        self.capacity_rps.merge(&other.capacity_rps);
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of one span stay far below 2^53")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(requests: u64, in_flight: f64) -> Bucket {
        let bucket = Bucket { covered_ms: 100, ticks: 1, requests, ..Bucket::default() };
        Bucket { in_flight: Gauge::once(in_flight), ..bucket }.rated()
    }

    #[test]
    fn rates_of_a_second_are_of_all_its_ticks_and_extremes_outlast_merging() {
        let second = |per_tick: u64| {
            let mut second = Bucket::default();
            (0..10).for_each(|n| second.add_tick(&tick(per_tick + n % 2, float(n))));
            second
        };
        let mut minute = second(10);
        assert_eq!((minute.rps(), minute.least_rps, minute.most_rps), (105.0, 105.0, 105.0));
        minute.merge(&second(50));
        minute.merge(&second(0));
        assert_eq!((minute.least_rps, minute.most_rps, minute.rps()), (5.0, 505.0, 205.0));
        assert_eq!((minute.in_flight.least, minute.in_flight.most), (0.0, 9.0));
        assert_eq!(minute.in_flight.sum / float(minute.ticks), 4.5);
    }

    #[test]
    fn what_was_not_observed_does_not_lower_the_rate() {
        let mut hour = Bucket::default();
        hour.merge(&Bucket { covered_ms: 600_000, ticks: 1, requests: 6_000, ..Bucket::default() });
        assert_eq!(hour.rps(), 10.0);
    }

    #[test]
    fn spans_start_on_whole_multiples() {
        let at_ms = 1_795_303_805_042;
        for resolution in Resolution::ALL {
            let start_ms = resolution.start_ms(at_ms);
            assert_eq!(start_ms % resolution.step_ms(), 0);
            assert!((start_ms..start_ms + resolution.step_ms()).contains(&at_ms));
        }
    }
}
