//! From recorded demand to requests per tick, the same for every policy.

use serde::Serialize;

use crate::Series;
use crate::noise::poisson;

/// Ticks a run may have at most.
const MOST_TICKS: u64 = 40_000_000;
/// Gaps of up to this many steps are bridged and count like recorded demand.
const BRIDGED_STEPS: usize = 2;

/// How requests are laid between recorded values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Between {
    /// The rate of a step holds from its beginning to its end.
    Hold,
    /// The rate goes on straight lines between the middles of the steps.
    Linear,
}

/// Requests per tick.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// Unix time in milliseconds at which the first tick begins.
    pub start_ms: u64,
    /// Length of a tick.
    pub tick_ms: u64,
    arrivals: Vec<u64>,
    /// Arrivals of all ticks before.
    sums: Vec<u64>,
    /// Spans of ticks, end excluded, that lie in longer gaps.
    gaps: Vec<(usize, usize)>,
}

/// Why a series makes no trace.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// The tick is out of range.
    #[error("a tick of {tick_ms} ms is not possible; give one between 10 ms and 60 s")]
    Tick {
        /// The tick asked for.
        tick_ms: u64,
    },
    /// The run would be absurdly long.
    #[error(
        "{ticks} ticks of {tick_ms} ms are too many, {MOST_TICKS} are possible; give a longer tick or a section of the data"
    )]
    TooLong {
        /// Ticks it would take.
        ticks: u64,
        /// Length of a tick.
        tick_ms: u64,
    },
    /// There is nothing to run on.
    #[error(
        "the series covers {span_ms} ms, less than ten ticks of {tick_ms} ms; give a shorter tick"
    )]
    TooShort {
        /// Time covered.
        span_ms: u64,
        /// Length of a tick.
        tick_ms: u64,
    },
}

impl Trace {
    /// Lays out `series` in ticks. With a `seed` requests arrive by chance (Poisson) at the rate
    /// laid out, without one evenly, fractions being carried to the next tick.
    ///
    /// # Errors
    /// When tick and length of the series do not fit.
    pub fn new(
        series: &Series,
        tick_ms: u64,
        between: Between,
        seed: Option<u64>,
    ) -> Result<Self, TraceError> {
        if !(10..=60_000).contains(&tick_ms) {
            return Err(TraceError::Tick { tick_ms });
        }
        let span_ms = series.span_ms();
        let ticks = span_ms / tick_ms;
        if ticks > MOST_TICKS {
            return Err(TraceError::TooLong { ticks, tick_ms });
        }
        if ticks < 10 {
            return Err(TraceError::TooShort { span_ms, tick_ms });
        }
        let (rps, gaps) = bridged(&series.rps);
        let per_step = |step: usize| step as u64 * series.step_ms / tick_ms;
        let gap_ticks = |&(first, last): &(usize, usize)| {
            (per_step(first) as usize, (per_step(last) as usize).min(ticks as usize))
        };
        let layout = Layout { rps: &rps, step_ms: series.step_ms, tick_ms, between };
        let mut carried = 0.0;
        let arrivals = (0..ticks)
            .map(|tick| {
                let mean = layout.mean_rps(tick) * tick_ms as f64 / 1_000.0;
                match seed {
                    Some(seed) => poisson(seed, tick, mean),
                    None => {
                        let whole = (mean + carried).round().max(0.0);
                        carried += mean - whole;
                        whole as u64
                    }
                }
            })
            .collect();
        let gaps = gaps.iter().map(gap_ticks).collect();
        Ok(Self::of(series.start_ms, tick_ms, arrivals, gaps))
    }

    fn of(start_ms: u64, tick_ms: u64, arrivals: Vec<u64>, gaps: Vec<(usize, usize)>) -> Self {
        let mut sum = 0_u64;
        let before = |n: &u64| {
            sum += n;
            sum
        };
        let sums = std::iter::once(0).chain(arrivals.iter().map(before)).collect();
        Self { start_ms, tick_ms, arrivals, sums, gaps }
    }

    /// Ticks in all.
    #[must_use]
    pub fn ticks(&self) -> usize {
        self.arrivals.len()
    }

    /// Requests in a tick; 0 beyond the end.
    #[must_use]
    pub fn arrivals(&self, tick: usize) -> u64 {
        self.arrivals.get(tick).copied().unwrap_or(0)
    }

    /// Requests per second in a tick.
    #[must_use]
    pub fn rps(&self, tick: usize) -> f64 {
        self.arrivals(tick) as f64 * 1_000.0 / self.tick_ms as f64
    }

    /// Mean requests per second of ticks `first` to `last`, the last excluded; none where they are
    /// not all in the trace.
    #[must_use]
    pub fn mean_rps(&self, first: usize, last: usize) -> Option<f64> {
        let requests = self.sums.get(last)?.checked_sub(*self.sums.get(first)?)?;
        let ticks = last.checked_sub(first).filter(|n| *n > 0)?;
        Some(requests as f64 * 1_000.0 / (ticks as u64 * self.tick_ms) as f64)
    }

    /// Whether a tick lies in a gap that is too long to be bridged: policies see a straight line
    /// there, and nothing in it counts.
    #[must_use]
    pub fn is_gap(&self, tick: usize) -> bool {
        let at = self.gaps.partition_point(|(_, last)| *last <= tick);
        self.gaps.get(at).is_some_and(|(first, _)| *first <= tick)
    }
}

/// Rates between recorded ones.
struct Layout<'a> {
    rps: &'a [f64],
    step_ms: u64,
    tick_ms: u64,
    between: Between,
}

impl Layout<'_> {
    /// Mean rate in a tick; of several steps when the tick is longer.
    fn mean_rps(&self, tick: u64) -> f64 {
        let (from_ms, to_ms) = (tick * self.tick_ms, (tick + 1) * self.tick_ms);
        if self.tick_ms >= self.step_ms {
            return self.over(from_ms, to_ms);
        }
        match self.between {
            Between::Hold => self.over(from_ms, to_ms),
            Between::Linear => self.on_line(from_ms + self.tick_ms / 2),
        }
    }

    fn over(&self, from_ms: u64, to_ms: u64) -> f64 {
        let (first, last) = (from_ms / self.step_ms, to_ms.div_ceil(self.step_ms));
        let part = |step: u64| {
            let begins = from_ms.max(step * self.step_ms);
            let ends = to_ms.min((step + 1) * self.step_ms);
            self.at(step) * ends.saturating_sub(begins) as f64
        };
        (first..last).map(part).sum::<f64>() / (to_ms - from_ms) as f64
    }

    fn on_line(&self, at_ms: u64) -> f64 {
        let half_ms = self.step_ms / 2;
        let Some(past_ms) = at_ms.checked_sub(half_ms) else { return self.at(0) };
        let (step, share) = (past_ms / self.step_ms, (past_ms % self.step_ms) as f64);
        let (left, right) = (self.at(step), self.at(step + 1));
        left + (right - left) * share / self.step_ms as f64
    }

    fn at(&self, step: u64) -> f64 {
        let last = self.rps.len().saturating_sub(1);
        let at = usize::try_from(step).unwrap_or(last).min(last);
        self.rps.get(at).copied().unwrap_or(0.0)
    }
}

/// Straight lines over all gaps, and the spans of those too long to count.
fn bridged(rps: &[Option<f64>]) -> (Vec<f64>, Vec<(usize, usize)>) {
    let mut filled = Vec::with_capacity(rps.len());
    let mut gaps = Vec::new();
    let mut at = 0;
    for run in rps.chunk_by(|a, b| a.is_some() == b.is_some()) {
        let end = at + run.len();
        if run[0].is_some() {
            filled.extend(run.iter().flatten());
        } else {
            let before = filled.last().copied();
            let after = rps.get(end).copied().flatten();
            let left = before.or(after).unwrap_or(0.0);
            let right = after.or(before).unwrap_or(0.0);
            let share = |nth: usize| (nth + 1) as f64 / (run.len() + 1) as f64;
            filled.extend((0..run.len()).map(|nth| left + (right - left) * share(nth)));
            if run.len() > BRIDGED_STEPS {
                gaps.push((at, end));
            }
        }
        at = end;
    }
    (filled, gaps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(step_ms: u64, rps: &[Option<f64>]) -> Series {
        Series { start_ms: 5_000, step_ms, rps: rps.to_vec() }
    }

    #[test]
    fn lines_run_between_the_middles_of_steps() {
        let series = series(60_000, &[Some(10.0), Some(70.0), Some(70.0)]);
        let trace = Trace::new(&series, 10_000, Between::Linear, None).expect("a trace");
        let rates: Vec<f64> = (0..18).map(|tick| trace.rps(tick)).collect();
        assert_eq!(rates[..9], [10.0, 10.0, 10.0, 15.0, 25.0, 35.0, 45.0, 55.0, 65.0]);
        assert!(rates[9..].iter().all(|rps| *rps == 70.0), "{rates:?}");
        let held = Trace::new(&series, 10_000, Between::Hold, None).expect("a trace");
        assert_eq!(held.mean_rps(0, 6), Some(10.0));
        assert_eq!((held.mean_rps(6, 18), held.mean_rps(6, 19)), (Some(70.0), None));
    }

    #[test]
    fn fractions_of_requests_are_not_lost() {
        let series = series(1_000, &[Some(0.3); 100]);
        let trace = Trace::new(&series, 1_000, Between::Hold, None).expect("a trace");
        assert_eq!(trace.mean_rps(0, 100), Some(0.3));
    }

    #[test]
    fn ticks_longer_than_steps_take_their_mean() {
        let rps: Vec<Option<f64>> = (0..30).map(|n| Some(f64::from(n % 3))).collect();
        let trace =
            Trace::new(&series(1_000, &rps), 3_000, Between::Linear, None).expect("a trace");
        assert!((0..10).all(|tick| trace.arrivals(tick) == 3));
    }

    #[test]
    fn short_gaps_are_bridged_and_long_ones_do_not_count() {
        let mut rps = vec![Some(10.0); 20];
        rps[5] = None;
        rps[10..15].fill(None);
        let trace = Trace::new(&series(1_000, &rps), 500, Between::Hold, None).expect("a trace");
        let gaps: Vec<usize> = (0..40).filter(|tick| trace.is_gap(*tick)).collect();
        assert_eq!(gaps, (20..30).collect::<Vec<_>>());
        assert!((0..40).all(|tick| trace.arrivals(tick) == 5));
    }

    #[test]
    fn chance_is_the_same_for_the_same_seed() {
        let series = series(60_000, &[Some(50.0); 30]);
        let trace =
            |seed| Trace::new(&series, 1_000, Between::Linear, Some(seed)).expect("a trace");
        assert_eq!(trace(3), trace(3));
        assert_ne!(trace(3), trace(4));
    }

    #[test]
    fn impossible_ticks_are_refused() {
        let series = series(1_000, &[Some(1.0); 20]);
        let made = |tick_ms| Trace::new(&series, tick_ms, Between::Hold, None).map(|_| ());
        assert_eq!(made(1), Err(TraceError::Tick { tick_ms: 1 }));
        assert_eq!(made(10_000), Err(TraceError::TooShort { span_ms: 20_000, tick_ms: 10_000 }));
    }
}
