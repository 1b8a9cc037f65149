//! One fit after the other, each followed by a rest of nineteen times as long or ten seconds, so
//! that fits of up to half a second take no more than a twentieth of a core.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use foreshadow_config::Config;
use foreshadow_control::{QuantileSpec, ServiceName};
use foreshadow_predictor::long::{Event, History, LongSpec, Model};

use super::Reach;
use super::calendar::{as_event, coming, upcoming};
use super::curve::{self, Curve, LearnedLift};
use super::score::Scores;
use crate::node::Shared;
use crate::node::history::{Query, Span};

/// Rest after a fit, as a multiple of the time it took.
const REST: u32 = 19;
const LONGEST_REST: Duration = Duration::from_secs(10);
/// Rest where nothing is due.
const IDLE: Duration = Duration::from_millis(500);
/// Time until what could not be fitted is tried again at the latest.
const RETRY_MS: u64 = 60_000;
/// Spans that a curve describes beyond its reach, in parts of it: it is used until the next one.
const SPARE_PART: u64 = 8;
/// Events looked at of one service: the newest.
pub(super) const MOST_EVENTS: usize = 1_000;

/// Time between two looks.
const CALENDAR_EVERY_MS: u64 = 60_000;

/// What is fitted when, and how it did so far.
#[derive(Default)]
pub(super) struct Fitter {
    /// Of the clock that everything is due by.
    offset_ms: i64,
    calendar_due_ms: u64,
    /// The configuration that the calendar was last looked up in.
    config: Option<Arc<Config>>,
    due_ms: BTreeMap<(ServiceName, Reach), u64>,
    scores: BTreeMap<(ServiceName, Reach), Scores>,
    /// What failed last, so that it is said once.
    failed: BTreeMap<(ServiceName, Reach), String>,
}

/// What a curve is made from.
pub(super) struct Past<'a> {
    /// Spans of one length, oldest first.
    pub(super) spans: &'a [Span],
    /// Announced events that have started.
    pub(super) started: &'a [Event],
    /// Announced events that have not.
    pub(super) upcoming: &'a [Event],
}

impl Fitter {
    /// Fits what has been due longest, if anything is, and says how long to rest.
    pub(super) fn step(&mut self, shared: &Shared) -> Duration {
        let config = shared.config.load_full();
        self.heed_leap(shared.clock.offset_ms());
        let now_ms = shared.clock.now_ms();
        let is_known = self.config.as_ref().is_some_and(|known| Arc::ptr_eq(known, &config));
        if now_ms >= self.calendar_due_ms || !is_known {
            self.config = Some(Arc::clone(&config));
            self.calendar_due_ms = now_ms + CALENDAR_EVERY_MS;
            shared.long.calendar.store(Arc::new(coming(&config, now_ms)));
        }
        if !shared.history.is_kept() {
            return IDLE;
        }
        let Some((service, reach)) = self.next(&config, now_ms) else { return IDLE };
        let begun = Instant::now();
        let key = (service.clone(), reach);
        let (retry_ms, failure) = match self.fit(shared, &config, &service, reach, now_ms) {
            Ok(true) => (reach.every_ms(), None),
            Ok(false) => (RETRY_MS.min(reach.every_ms()), None),
            Err(error) => (reach.every_ms(), Some(format!("{error:#}"))),
        };
        self.due_ms.insert(key.clone(), now_ms.saturating_add(retry_ms));
        self.note(shared, key, failure);
        (begun.elapsed() * REST).clamp(Duration::from_millis(1), LONGEST_REST)
    }

    /// Says a failure that is new, and keeps it for whoever asks.
    fn note(&mut self, shared: &Shared, key: (ServiceName, Reach), failure: Option<String>) {
        if self.failed.get(&key) == failure.as_ref() {
            return;
        }
        let (service, reach) = (&key.0, key.1.as_str());
        match failure {
            Some(error) => {
                tracing::warn!(%service, reach, "no forecast was fitted: {error}");
                self.failed.insert(key, error);
            }
            None => drop(self.failed.remove(&key)),
        }
        shared.long.failures.store(Arc::new(self.failed.clone()));
    }

    /// By a clock that was set, everything is due: it was made for another time.
    fn heed_leap(&mut self, offset_ms: i64) {
        if offset_ms != self.offset_ms {
            self.offset_ms = offset_ms;
            self.calendar_due_ms = 0;
            self.due_ms.clear();
        }
    }

    /// What has been due longest; the shorter reach of two. New services are due at once.
    fn next(&mut self, config: &Config, now_ms: u64) -> Option<(ServiceName, Reach)> {
        self.due_ms.retain(|(service, _), _| config.services.contains_key(service));
        self.scores.retain(|(service, _), _| config.services.contains_key(service));
        self.failed.retain(|(service, _), _| config.services.contains_key(service));
        for service in config.services.keys() {
            for reach in Reach::ALL {
                self.due_ms.entry((service.clone(), reach)).or_insert(0);
            }
        }
        let due = self.due_ms.iter().filter(|(_, due_ms)| **due_ms <= now_ms);
        let (key, _) = due.min_by_key(|((_, reach), due_ms)| (**due_ms, *reach))?;
        Some(key.clone())
    }

    /// Fits and publishes one curve; false where there is too little history yet.
    fn fit(
        &mut self,
        shared: &Shared,
        config: &Config,
        service: &ServiceName,
        reach: Reach,
        now_ms: u64,
    ) -> anyhow::Result<bool> {
        let Some(configured) = config.services.get(service) else { return Ok(false) };
        let resolution = reach.resolution();
        let spans = shared.history.spans(&Query {
            service: service.clone(),
            instance: 0,
            resolution,
            from_ms: now_ms.saturating_sub(reach.history_ms()),
            // What is being observed is not complete, and what lies ahead was written by a clock
            // that was wrong.
            until_ms: resolution.start_ms(now_ms),
            limit: u32::MAX,
        })?;
        if spans.len() < reach.least_spans() {
            return Ok(false);
        }
        let upcoming = upcoming(shared, service, now_ms)?;
        let mut started = shared.history.events(service)?;
        // What calendars say of times before they were configured explains the history of then.
        let from_ms = spans.first().map_or(now_ms, |span| span.at_ms);
        let before =
            configured.forecast.last_occurrences(from_ms, now_ms).into_iter().map(as_event);
        started.extend(before.filter(|event| event.start_ms <= now_ms));
        started.sort_by(|a, b| (b.start_ms, &a.kind).cmp(&(a.start_ms, &b.kind)));
        started.dedup_by(|a, b| a.start_ms == b.start_ms && a.kind == b.kind);
        started.truncate(MOST_EVENTS);
        let past = Past { spans: &spans, started: &started, upcoming: &upcoming };
        let quantiles = configured.forecast.quantiles;
        let fitted = catch_unwind(AssertUnwindSafe(|| curve(&past, reach, &quantiles, now_ms)));
        let mut curve =
            fitted.unwrap_or_else(|_| anyhow::bail!("the model panicked; please report this"))?;
        let key = (service.clone(), reach);
        let scores = self.scores.entry(key).or_insert_with(|| Scores::new(reach));
        let truth = |start_ms| {
            let at = spans.binary_search_by_key(&start_ms, |span| span.at_ms).ok()?;
            observed(&spans[at], resolution.step_ms())
        };
        scores.settle(resolution.start_ms(now_ms), resolution.step_ms(), truth);
        scores.note(&curve, spans.last().map_or(0.0, |span| span.rps));
        curve.score = scores.read();
        shared.long.publish(service, reach, curve, config);
        Ok(true)
    }
}

/// The rate of a span that was observed for at least half of its time.
fn observed(span: &Span, step_ms: u64) -> Option<f64> {
    (span.covered_ms.saturating_mul(2) >= step_ms).then_some(span.rps)
}

/// Spans as a grid without holes: what was not observed is not known.
fn grid(spans: &[Span], step_ms: u64) -> History {
    let start_ms = spans.first().map_or(0, |span| span.at_ms);
    let end_ms = spans.last().map_or(0, |span| span.at_ms.saturating_add(step_ms));
    let steps = usize::try_from(end_ms.saturating_sub(start_ms) / step_ms.max(1)).unwrap_or(0);
    let mut values = vec![None; steps];
    for span in spans {
        let nth = usize::try_from((span.at_ms - start_ms) / step_ms.max(1)).unwrap_or(usize::MAX);
        if let Some(value) = values.get_mut(nth) {
            *value = observed(span, step_ms);
        }
    }
    History { start_ms, step_ms, values }
}

/// What of started events is over by `from_ms`, and what is left of those that run.
fn parted(started: &[Event], from_ms: u64) -> (Vec<Event>, Vec<Event>) {
    let over = started.iter().filter(|event| event.start_ms < from_ms);
    let over = over.map(|event| Event { end_ms: event.end_ms.min(from_ms), ..event.clone() });
    let running = started.iter().filter(|event| event.end_ms > from_ms);
    let running =
        running.map(|event| Event { start_ms: event.start_ms.max(from_ms), ..event.clone() });
    (over.collect(), running.collect())
}

/// The curve that `past` leads to.
pub(super) fn curve(
    past: &Past<'_>,
    reach: Reach,
    quantiles: &QuantileSpec,
    now_ms: u64,
) -> anyhow::Result<Curve> {
    let resolution = reach.resolution();
    let step_ms = resolution.step_ms();
    let history = grid(past.spans, step_ms);
    let spec = LongSpec {
        levels: curve::levels(quantiles),
        horizon_ms: reach.ms(),
        ..LongSpec::default()
    };
    let from_ms = resolution.start_ms(now_ms);
    let (over, running) = parted(past.started, from_ms);
    let mut model = Model::fit(&history, &spec, &[], &over)?;
    let reach_ms = reach.ms().saturating_add((reach.ms() / SPARE_PART).max(2 * reach.every_ms()));
    let steps = usize::try_from(reach_ms / step_ms).unwrap_or(0);
    let told = curve::told(&model.forecast(from_ms, steps), quantiles);
    running.iter().chain(past.upcoming).for_each(|event| model.announce(event));
    let shown = model.forecast(from_ms, steps);
    let lift = |lift: &foreshadow_predictor::long::Lift| LearnedLift {
        name: lift.kind.clone(),
        lift: lift.ratio,
        repeats: lift.repeats,
    };
    Ok(Curve {
        fitted_at_ms: now_ms,
        history_from_ms: history.start_ms,
        history_spans: history.values.iter().flatten().count(),
        seasons_ms: model.seasons_ms(),
        start_ms: shown.start_ms,
        step_ms,
        levels: shown.levels,
        quantiles: shown.quantiles,
        mean: shown.mean,
        score: Vec::new(),
        lifts: model.lifts().iter().map(lift).collect(),
        told,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;
    /// A Monday.
    const START_MS: u64 = 1_795_392_000_000;
    const QUANTILES: QuantileSpec = QuantileSpec { prepare: 0.95, warm: 0.5, commit: 0.1 };

    /// Spans of `days` with a quiet night and a busy day, and a little of everything else.
    fn spans(reach: Reach, days: u64) -> Vec<Span> {
        let step_ms = reach.resolution().step_ms();
        (0..days * DAY_MS / step_ms).map(|nth| span(START_MS + nth * step_ms, step_ms)).collect()
    }

    fn rps(at_ms: u64) -> f64 {
        let noise = (at_ms / 60_000 * 7_919 % 13) as f64 - 6.0;
        if (8 * 3_600_000..20 * 3_600_000).contains(&(at_ms % DAY_MS)) {
            200.0 + noise
        } else {
            40.0 + noise
        }
    }

    fn span(at_ms: u64, covered_ms: u64) -> Span {
        Span {
            at_ms,
            covered_ms,
            rps: rps(at_ms),
            least_rps: 0.0,
            most_rps: 0.0,
            unserved: 0,
            errors: 0,
            answers: 0,
            latency_mean_ms: 0.0,
            latency_p50_ms: 0.0,
            latency_p99_ms: 0.0,
            latency_max_ms: 0.0,
            in_flight_mean: 0.0,
            in_flight_most: 0.0,
            weight_mean: 0.0,
            capacity_rps: 0.0,
        }
    }

    fn past(spans: &[Span]) -> Past<'_> {
        Past { spans, started: &[], upcoming: &[] }
    }

    #[test]
    fn after_two_days_the_third_morning_is_foreseen() {
        let morning_ms = START_MS + 2 * DAY_MS + 8 * 3_600_000;
        let mut known = spans(Reach::Hour, 3);
        let now_ms = morning_ms - 1_800_000;
        known.retain(|span| span.at_ms < now_ms);
        let curve = curve(&past(&known), Reach::Hour, &QUANTILES, now_ms).unwrap();
        let points = curve.points(now_ms);
        let at = |minutes: u64| points.iter().find(|p| p.horizon_ms == minutes * 60_000).unwrap();
        assert!((30.0..60.0).contains(&at(10).median_rps), "{points:?}");
        assert!((150.0..240.0).contains(&at(45).median_rps), "{points:?}");
        assert!(at(45).lower_rps <= at(45).median_rps && at(45).median_rps <= at(45).upper_rps);
        assert_eq!(points.last().map(|p| p.horizon_ms), Some(3_600_000));
    }

    #[test]
    fn each_reach_describes_all_of_it_from_now_on() {
        for reach in Reach::ALL {
            let known = spans(reach, 15);
            let now_ms = START_MS + 15 * DAY_MS + 60_000;
            let curve = curve(&past(&known), reach, &QUANTILES, now_ms).unwrap();
            let end_ms = curve.start_ms + curve.step_ms * curve.mean.len() as u64;
            assert!(curve.start_ms <= now_ms && end_ms >= now_ms + reach.ms(), "{reach:?}");
            assert_eq!(curve.quantiles.len(), curve.mean.len());
            assert!(curve.quantiles.iter().all(|row| row.len() == curve.levels.len()));
        }
    }

    #[test]
    fn times_without_observation_are_gaps_and_not_silence() {
        let mut known = spans(Reach::Day, 14);
        known.retain(|span| !(START_MS + 5 * DAY_MS..START_MS + 6 * DAY_MS).contains(&span.at_ms));
        known[3].covered_ms = 1_000;
        let history = grid(&known, 900_000);
        assert_eq!(history.values.len(), 14 * 96);
        assert_eq!(history.values.iter().flatten().count(), 13 * 96 - 1);
        assert_eq!(history.values[3], None);
    }

    #[test]
    fn curves_are_scored_when_the_truth_comes() {
        let known = spans(Reach::Hour, 4);
        let mut scores = Scores::new(Reach::Hour);
        for now in (2 * 1_440..4 * 1_440).step_by(5) {
            let seen = &known[..now];
            let now_ms = START_MS + now as u64 * 60_000;
            scores.settle(now_ms, 60_000, |start_ms| Some(rps(start_ms)));
            if now % 60 == 0 {
                let curve = curve(&past(seen), Reach::Hour, &QUANTILES, now_ms).unwrap();
                scores.note(&curve, seen[now - 1].rps);
            }
        }
        let read = scores.read();
        assert_eq!(read.iter().map(|s| s.lead_ms / 60_000).collect::<Vec<_>>(), [5, 15, 30, 60]);
        let hour = &read[3];
        assert!(hour.scored > 40, "{hour:?}");
        assert!(hour.mae_rps < 0.8 * hour.naive_mae_rps, "{hour:?}");
    }

    #[test]
    fn what_an_event_does_is_learned_over_its_repeats_and_told_to_people_only() {
        let sale = |day: u64| Event {
            kind: "sale".to_owned(),
            start_ms: START_MS + day * DAY_MS + 12 * 3_600_000,
            end_ms: START_MS + day * DAY_MS + 15 * 3_600_000,
            expected_lift: Some(5.0),
        };
        let started = [3, 5, 8, 10].map(sale);
        let upcoming = [sale(14)];
        let mut known = spans(Reach::Day, 14);
        for span in &mut known {
            if started.iter().any(|sale| (sale.start_ms..sale.end_ms).contains(&span.at_ms)) {
                span.rps *= 2.0;
            }
        }
        let past = Past { spans: &known, started: &started, upcoming: &upcoming };
        let now_ms = START_MS + 14 * DAY_MS;
        let curve = curve(&past, Reach::Day, &QUANTILES, now_ms).unwrap();
        let lift = &curve.lifts[0];
        assert_eq!((lift.name.as_str(), lift.repeats), ("sale", 4));
        assert!((1.6..2.6).contains(&lift.lift), "{lift:?}");
        assert!((1.6..3.3).contains(&lift.blended(5.0)), "{lift:?}");
        let at = |at_ms: u64| usize::try_from((at_ms - curve.start_ms) / curve.step_ms).unwrap();
        let during = at(upcoming[0].start_ms + 3_600_000);
        assert!(curve.mean[during] > 1.4 * 200.0, "{}", curve.mean[during]);
        assert!(curve.told[during][1] < 1.2 * 200.0, "{:?}", curve.told[during]);

        // Once it runs, what is left of it is told to people only, just the same.
        known.extend((0..52).map(|nth| span(now_ms + nth * 900_000, 900_000)));
        for span in &mut known {
            if (upcoming[0].start_ms..upcoming[0].end_ms).contains(&span.at_ms) {
                span.rps *= 2.0;
            }
        }
        let started = [&started[..], &upcoming].concat();
        let past = Past { spans: &known, started: &started, upcoming: &[] };
        let now_ms = now_ms + 13 * 3_600_000;
        let curve = super::curve(&past, Reach::Day, &QUANTILES, now_ms).unwrap();
        let at = |at_ms: u64| usize::try_from((at_ms - curve.start_ms) / curve.step_ms).unwrap();
        let during = at(now_ms + 3_600_000);
        assert!(curve.mean[during] > 1.4 * 200.0, "{}", curve.mean[during]);
        assert!(curve.told[during][1] < 1.2 * 200.0, "{:?}", curve.told[during]);
    }
}
