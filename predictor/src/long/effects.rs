//! What is known to move a series beside its seasons: events, and series that go with it.
//!
//! Their effect is taken out of the history before the experts see it and put on their forecast.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::clean::Series;
use super::input::{Event, Regressor};
use super::interact::{self, FEATURES, Row};
use super::signal::{Signal, signals};

/// Events looked at on each side of the end of the history, nearest first.
const MAX_EVENTS: usize = 1_024;
/// Bounds of a lift.
const LIFT: (f64, f64) = (0.05, 20.0);
/// A lift that depends on the moment must lessen the errors of the newest third of events to this share,
/// of so many events at least.
const WORTH: f64 = 0.9;
const LEAST_EVENTS: usize = 4;
/// What is expected of a kind of event counts as many repeats as this.
const PRIOR_REPEATS: f64 = 0.5;

/// What was learned of one kind of event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lift {
    /// Name of the kind.
    pub kind: String,
    /// Factor on what would have been without the event; 1 is no effect.
    pub ratio: f64,
    /// Events of this kind seen in the history.
    pub repeats: usize,
    /// By what the logarithm of the factor depends on time of day and weekend; zero where it does not.
    #[serde(default)]
    by: Row,
}

impl Lift {
    /// The factor at a moment, over `step_ms`: the [`ratio`](Self::ratio), or what the history showed of
    /// events at such times of day and days of the week.
    pub fn at(&self, at_ms: u64, step_ms: u64) -> f64 {
        self.ratio * moved(&self.by, at_ms, step_ms)
    }

    /// The least and the most of [`at`](Self::at) over the hours of a week.
    pub fn range(&self) -> (f64, f64) {
        let hours = (0..168).map(|hour| self.at(hour * 3_600_000, 3_600_000));
        hours.fold((f64::INFINITY, 0.0), |(least, most), lift| {
            (f64::min(least, lift), f64::max(most, lift))
        })
    }
}

/// Factor on a lift at a moment.
fn moved(by: &Row, at_ms: u64, step_ms: u64) -> f64 {
    if by.iter().all(|coefficient| *coefficient == 0.0) {
        return 1.0;
    }
    interact::dot(by, &interact::moment(at_ms, step_ms)).exp().clamp(LIFT.0, LIFT.1)
}

/// An event to come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Planned {
    from_ms: u64,
    to_ms: u64,
    ratio: f64,
    by: Row,
}

/// Where the steps of a series are in time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub(super) start_ms: u64,
    pub(super) step_ms: u64,
    pub(super) length: usize,
    /// Periods at whose distance a value resembles another, best first.
    pub(super) periods: [usize; 2],
}

/// Everything known beside the seasons.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Effects {
    pub(super) lifts: Vec<Lift>,
    planned: Vec<Planned>,
    pub(super) signals: Vec<Signal>,
}

impl Effects {
    /// Learns the effects and takes them out of the series: steps of short events become gaps,
    /// longer ones are divided by their lift.
    pub(super) fn take_out(
        series: &mut Series,
        grid: Grid,
        unit: usize,
        (regressors, events, interactions): (&[Regressor], &[Event], bool),
    ) -> Self {
        let end_ms = grid.at_ms(grid.length);
        let (past, future) = nearest(events, grid.start_ms, end_ms);
        let mut effects =
            Self { lifts: lifts(series, grid, &past, interactions), ..Self::default() };
        let steps: usize = past.iter().map(|event| grid.steps(event).len()).sum();
        for event in past {
            let (ratio, by) = effects.ratio(event);
            let during = grid.steps(event);
            if during.len() <= 2 * unit && 2 * steps <= grid.length {
                series.known[during].fill(false);
            } else {
                for at in during {
                    series.values[at] /= ratio * moved(&by, grid.at_ms(at), grid.step_ms);
                }
            }
        }
        // An event may still last when the history ends.
        for event in future {
            effects.announce(event);
        }
        effects.signals = signals(series, grid, regressors, interactions);
        effects
    }

    /// Adds an event to come, unless there are too many.
    pub(super) fn announce(&mut self, event: &Event) {
        let (ratio, by) = self.ratio(event);
        if self.planned.len() < MAX_EVENTS && event.end_ms > event.start_ms {
            let (from_ms, to_ms) = (event.start_ms, event.end_ms);
            self.planned.push(Planned { from_ms, to_ms, ratio, by });
        }
    }

    /// The value that a forecast becomes for the step of `step_ms` at `at_ms`, the `ahead`-th from
    /// the end of the history (0 is the next).
    pub(super) fn put_on(&self, value: f64, ahead: usize, at_ms: u64, step_ms: u64) -> f64 {
        let end_ms = at_ms.saturating_add(step_ms);
        let value = self.signals.iter().fold(value, |value, signal| signal.put_on(value, ahead));
        // Of events at one time the largest counts: often they are one, announced and in a calendar.
        let lift = |event: &Planned| {
            let shared_ms = end_ms.min(event.to_ms).saturating_sub(at_ms.max(event.from_ms));
            (shared_ms > 0).then(|| {
                let ratio = event.ratio * moved(&event.by, at_ms, step_ms);
                1.0 + (ratio - 1.0) * shared_ms as f64 / step_ms.max(1) as f64
            })
        };
        value * self.planned.iter().filter_map(lift).reduce(f64::max).unwrap_or(1.0)
    }

    fn ratio(&self, event: &Event) -> (f64, Row) {
        let known = self.lifts.iter().find(|lift| lift.kind == event.kind);
        known.map_or_else(|| (expected(event), Row::default()), |lift| (lift.ratio, lift.by))
    }
}

impl Grid {
    pub(super) fn at_ms(&self, step: usize) -> u64 {
        self.start_ms.saturating_add(self.step_ms.saturating_mul(step as u64))
    }

    /// The steps of the series that an event touches.
    fn steps(&self, event: &Event) -> std::ops::Range<usize> {
        let before = |ms: u64, up: u64| {
            let steps = (ms.saturating_sub(self.start_ms).saturating_add(up)) / self.step_ms;
            usize::try_from(steps).unwrap_or(usize::MAX).min(self.length)
        };
        let from = before(event.start_ms, 0);
        from..before(event.end_ms, self.step_ms - 1).max(from)
    }

    /// Mean of the values that resemble the one at `at` and are no part of an event.
    fn usual(&self, series: &Series, busy: &[bool], at: usize) -> Option<f64> {
        self.periods.iter().find_map(|period| {
            let earlier = (1..=4).filter_map(|times| at.checked_sub(times * period));
            let around = earlier.chain((1..=4).map(|times| at + times * period));
            let usable = |at: &usize| *at < self.length && series.known[*at] && !busy[*at];
            let (sum, count) = around
                .filter(usable)
                .fold((0.0, 0.0), |(sum, count), at| (sum + series.values[at], count + 1.0));
            (count > 0.0).then(|| sum / count)
        })
    }
}

fn expected(event: &Event) -> f64 {
    let sane = |lift: &f64| lift.is_finite() && *lift > 0.0;
    event.expected_lift.filter(sane).map_or(1.0, |lift| lift.clamp(LIFT.0, LIFT.1))
}

/// Events of the history, and those not over at its end; those nearest to its end if many.
fn nearest(events: &[Event], start_ms: u64, end_ms: u64) -> (Vec<&Event>, Vec<&Event>) {
    let lasting = |event: &&Event| event.end_ms > event.start_ms.max(start_ms);
    let mut all: Vec<&Event> = events.iter().filter(lasting).collect();
    all.sort_by(|one, other| (one.start_ms, &one.kind).cmp(&(other.start_ms, &other.kind)));
    let past: Vec<&Event> = all.iter().copied().filter(|e| e.start_ms < end_ms).collect();
    let future = all.into_iter().filter(|e| e.end_ms > end_ms).take(MAX_EVENTS).collect();
    (past[past.len().saturating_sub(MAX_EVENTS)..].to_vec(), future)
}

/// What the events of one kind did, step by step.
#[derive(Default)]
struct Kind {
    /// Sum of the logarithms of lifts, and of how many.
    logs: f64,
    repeats: f64,
    expected: f64,
    /// Moment and logarithm of the lift by step, and the steps after each event.
    rows: Vec<(Row, f64)>,
    ends: Vec<usize>,
}

/// Geometric means of what the events of a kind did, drawn towards what was expected of it.
fn lifts(series: &Series, grid: Grid, events: &[&Event], interactions: bool) -> Vec<Lift> {
    let mut busy = vec![false; grid.length];
    for event in events {
        busy[grid.steps(event)].fill(true);
    }
    let mut kinds: BTreeMap<&str, Kind> = BTreeMap::new();
    for event in events {
        let kind = kinds.entry(&event.kind).or_default();
        if event.expected_lift.is_some() || kind.expected == 0.0 {
            kind.expected = expected(event);
        }
        let (mut seen, mut usual) = (0.0, 0.0);
        for at in grid.steps(event).filter(|at| series.known[*at]) {
            if let Some(value) = grid.usual(series, &busy, at) {
                (seen, usual) = (seen + series.values[at], usual + value);
                if interactions && value > 1e-6 && kind.rows.len() < grid.length {
                    let lift = (series.values[at] / value).clamp(LIFT.0, LIFT.1).ln();
                    kind.rows.push((interact::moment(grid.at_ms(at), grid.step_ms), lift));
                }
            }
        }
        kind.ends.push(kind.rows.len());
        if usual > 1e-6 && seen >= 0.0 {
            kind.logs += (seen / usual).clamp(LIFT.0, LIFT.1).ln();
            kind.repeats += 1.0;
        }
    }
    kinds.into_iter().map(|(kind, seen)| seen.lift(kind)).collect()
}

impl Kind {
    fn lift(mut self, kind: &str) -> Lift {
        let log = (self.logs + PRIOR_REPEATS * self.expected.ln()) / (self.repeats + PRIOR_REPEATS);
        let by = self.depends().unwrap_or([0.0; FEATURES]);
        // Where it depends on the moment, the ratio is that of an average one.
        let log = if by == [0.0; FEATURES] || self.rows.is_empty() {
            log
        } else {
            let moments = self.rows.iter().map(|(row, _)| interact::dot(&by, row)).sum::<f64>();
            log - moments / self.rows.len() as f64
        };
        Lift { kind: kind.to_owned(), ratio: log.exp(), repeats: self.repeats as usize, by }
    }

    /// By what the lift depends on the moment, if it does: learned from the older two thirds of events and
    /// judged by the others.
    fn depends(&mut self) -> Option<Row> {
        let older = *self.ends.get((self.ends.len() * 2 / 3).checked_sub(1)?)?;
        if self.ends.len() < LEAST_EVENTS || older == 0 {
            return None;
        }
        let mean = self.rows[..older].iter().map(|(_, lift)| lift).sum::<f64>() / older as f64;
        self.rows.iter_mut().for_each(|(_, lift)| *lift -= mean);
        interact::learn(&self.rows, older, WORTH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_events_at_one_time_the_largest_lift_counts() {
        let event = |start_ms, end_ms, lift| Event {
            kind: format!("{start_ms} {lift}"),
            start_ms,
            end_ms,
            expected_lift: Some(lift),
        };
        let mut effects = Effects::default();
        for (start_ms, end_ms, lift) in [(0, 50, 2.0), (0, 50, 2.0), (0, 20, 1.5), (90, 100, 0.5)] {
            effects.announce(&event(start_ms, end_ms, lift));
        }
        let put_on = |at_ms| effects.put_on(100.0, 0, at_ms, 10);
        assert_eq!([0, 30, 45, 50, 90, 95].map(put_on), [200.0, 200.0, 150.0, 100.0, 50.0, 75.0]);
    }
}
