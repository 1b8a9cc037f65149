//! Recorded demand on an even grid, and what had to be repaired to get there.

use serde::Serialize;

/// Cells a grid may have at most: 50 million, about 1.6 years of seconds.
const MOST_CELLS: u64 = 50_000_000;
/// No rate beyond this is believed, in requests per second.
pub const MOST_RPS: f64 = 1e9;

/// One recorded value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Unix time in milliseconds.
    pub at_ms: u64,
    /// A rate, a count or a number of requests, as [`Kind`] says.
    pub value: f64,
}

/// What the values of samples mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Requests per second.
    Rate,
    /// Requests in the step that begins at the sample's time.
    Count,
    /// Each sample is so many requests at that moment, as in a log.
    Events,
}

/// Demand on an even grid.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Unix time in milliseconds at which the first step begins.
    pub start_ms: u64,
    /// Length of a step.
    pub step_ms: u64,
    /// Requests per second in each step; none where nothing was recorded.
    pub rps: Vec<Option<f64>>,
}

/// What was wrong with the samples, and how the grid came about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Repairs {
    /// Samples read.
    pub samples: u64,
    /// Left out: no numbers, infinite, negative, or above 1e9 per second.
    pub unusable: u64,
    /// When the first of them was, Unix time in milliseconds.
    pub first_unusable_ms: Option<u64>,
    /// Earlier than the sample before; sorted.
    pub out_of_order: u64,
    /// At the very time of another sample; the last one counts. Never counted in logs.
    pub duplicates: u64,
    /// Runs of steps without a sample.
    pub gaps: u64,
    /// Steps without a sample.
    pub missing_steps: u64,
    /// The longest run of them.
    pub longest_gap_steps: u64,
    /// Length of a step, as given or found.
    pub step_ms: u64,
}

/// Why samples make no series.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeriesError {
    /// Fewer than two usable samples.
    #[error(
        "{usable} of {samples} samples are usable ({negative} are negative, the others no rates up to {MOST_RPS:e}), at least 2 are needed; check what holds time and value"
    )]
    TooFew {
        /// Samples below 0.
        negative: u64,
        /// Samples that could be used.
        usable: u64,
        /// Samples read.
        samples: u64,
    },
    /// All samples have one time.
    #[error("all samples have the same time ({at_ms} ms); check the time column")]
    NoSpan {
        /// That time.
        at_ms: u64,
    },
    /// The grid would be absurdly long.
    #[error(
        "{cells} steps of {step_ms} ms lie between the first and the last sample, {MOST_CELLS} are possible; give a longer step, or look for a wrong time in the data"
    )]
    TooLong {
        /// Steps it would take.
        cells: u64,
        /// Length of a step.
        step_ms: u64,
    },
}

impl Series {
    /// Puts samples on a grid of `step_ms`, or of the commonest distance between them (one second
    /// for [`Kind::Events`]). Several samples in one step are averaged as rates and summed as
    /// counts.
    ///
    /// # Errors
    /// When fewer than two samples are usable, or their span does not fit the grid.
    pub fn from_samples(
        mut samples: Vec<Sample>,
        kind: Kind,
        step_ms: Option<u64>,
    ) -> Result<(Self, Repairs), SeriesError> {
        let mut repairs = Repairs { samples: samples.len() as u64, ..Repairs::default() };
        let is_usable = |s: &Sample| (0.0..=MOST_RPS).contains(&s.value);
        let negative = samples.iter().filter(|s| s.value < 0.0).count() as u64;
        repairs.first_unusable_ms = samples.iter().find(|s| !is_usable(s)).map(|s| s.at_ms);
        samples.retain(is_usable);
        repairs.unusable = repairs.samples - samples.len() as u64;
        repairs.out_of_order =
            samples.windows(2).filter(|pair| pair[1].at_ms < pair[0].at_ms).count() as u64;
        samples.sort_by_key(|s| s.at_ms);
        if kind != Kind::Events {
            repairs.duplicates = keep_last(&mut samples);
        }
        let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
            return Err(SeriesError::TooFew { negative, usable: 0, samples: repairs.samples });
        };
        if samples.len() < 2 {
            return Err(SeriesError::TooFew { negative, usable: 1, samples: repairs.samples });
        }
        if first.at_ms == last.at_ms {
            return Err(SeriesError::NoSpan { at_ms: first.at_ms });
        }
        let step_ms = match (step_ms, kind) {
            (Some(ms), _) => ms.max(1),
            (None, Kind::Events) => 1_000,
            (None, _) => commonest_distance_ms(&samples),
        };
        let start_ms = first.at_ms / step_ms * step_ms;
        let start_ms = if kind == Kind::Events { start_ms } else { first.at_ms };
        let cells = (last.at_ms - start_ms) / step_ms + 1;
        if cells > MOST_CELLS {
            return Err(SeriesError::TooLong { cells, step_ms });
        }
        let rps = fill(&samples, kind, start_ms, step_ms, cells);
        repairs.step_ms = step_ms;
        repairs.count_gaps(&rps);
        Ok((Self { start_ms, step_ms, rps }, repairs))
    }

    /// The same demand, multiplied.
    #[must_use]
    pub fn scaled(mut self, factor: f64) -> Self {
        self.rps.iter_mut().flatten().for_each(|rps| *rps = (*rps * factor).clamp(0.0, MOST_RPS));
        self
    }

    /// The part from `from_ms` on, at most `length_ms` long, both counted from the start.
    #[must_use]
    pub fn section(&self, from_ms: u64, length_ms: u64) -> Self {
        let cells = |ms: u64| usize::try_from(ms / self.step_ms).unwrap_or(usize::MAX);
        let first = cells(from_ms).min(self.rps.len());
        let last = first.saturating_add(cells(length_ms)).min(self.rps.len());
        let start_ms = self.start_ms + first as u64 * self.step_ms;
        Self { start_ms, step_ms: self.step_ms, rps: self.rps[first..last].to_vec() }
    }

    /// Time it covers.
    #[must_use]
    pub fn span_ms(&self) -> u64 {
        self.rps.len() as u64 * self.step_ms
    }
}

impl Repairs {
    fn count_gaps(&mut self, rps: &[Option<f64>]) {
        let mut run = 0;
        for cell in rps {
            if cell.is_some() {
                run = 0;
                continue;
            }
            run += 1;
            self.gaps += u64::from(run == 1);
            self.missing_steps += 1;
            self.longest_gap_steps = self.longest_gap_steps.max(run);
        }
    }
}

/// Of sorted samples with one time keeps the last; returns how many were dropped.
fn keep_last(samples: &mut Vec<Sample>) -> u64 {
    let before = samples.len();
    samples.reverse();
    samples.dedup_by_key(|s| s.at_ms);
    samples.reverse();
    (before - samples.len()) as u64
}

/// The most frequent distance of neighbours, the shorter of two as frequent.
fn commonest_distance_ms(samples: &[Sample]) -> u64 {
    let mut distances: Vec<u64> = samples.windows(2).map(|p| p[1].at_ms - p[0].at_ms).collect();
    distances.sort_unstable();
    let mut best = (0, 1);
    for run in distances.chunk_by(|a, b| a == b) {
        if run.len() > best.0 {
            best = (run.len(), run[0]);
        }
    }
    best.1.max(1)
}

fn fill(
    samples: &[Sample],
    kind: Kind,
    start_ms: u64,
    step_ms: u64,
    cells: u64,
) -> Vec<Option<f64>> {
    let cells = usize::try_from(cells).unwrap_or(0);
    let mut sums = vec![(0.0, 0_u32); cells];
    for sample in samples {
        let at = usize::try_from((sample.at_ms - start_ms) / step_ms).unwrap_or(usize::MAX);
        if let Some((sum, count)) = sums.get_mut(at) {
            *sum += sample.value;
            *count += 1;
        }
    }
    let per_s = 1_000.0 / step_ms as f64;
    let cell = |(sum, count): (f64, u32)| match kind {
        Kind::Rate => (count > 0).then(|| sum / f64::from(count)),
        Kind::Count => (count > 0).then_some(sum * per_s),
        // A log that says nothing says that nobody came.
        Kind::Events => Some(sum * per_s),
    };
    sums.into_iter().map(cell).map(|rps| rps.map(|rps| rps.min(MOST_RPS))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(points: &[(u64, f64)]) -> Vec<Sample> {
        points.iter().map(|&(at_ms, value)| Sample { at_ms, value }).collect()
    }

    #[test]
    fn disorder_duplicates_and_gaps_are_mended_and_told() {
        let points =
            [(60, 3.0), (0, 1.0), (20, 9.0), (20, 2.0), (40, f64::NAN), (120, 6.0), (80, -1.0)];
        let (series, repairs) =
            Series::from_samples(samples(&points), Kind::Rate, Some(20)).expect("a series");
        let expected = [Some(1.0), Some(2.0), None, Some(3.0), None, None, Some(6.0)];
        assert_eq!((series.start_ms, series.rps.as_slice()), (0, &expected[..]));
        let told = Repairs {
            samples: 7,
            unusable: 2,
            first_unusable_ms: Some(40),
            out_of_order: 1,
            duplicates: 1,
            gaps: 2,
            missing_steps: 3,
            longest_gap_steps: 2,
            step_ms: 20,
        };
        assert_eq!(repairs, told);
    }

    #[test]
    fn the_step_is_found_and_counts_become_rates() {
        let points = [(0, 60.0), (60_000, 120.0), (120_000, 30.0), (300_000, 6.0)];
        let (series, repairs) =
            Series::from_samples(samples(&points), Kind::Count, None).expect("a series");
        assert_eq!(repairs.step_ms, 60_000);
        assert_eq!(series.rps[..3], [Some(1.0), Some(2.0), Some(0.5)]);
        assert_eq!(series.rps[3..], [None, None, Some(0.1)]);
    }

    #[test]
    fn a_log_counts_requests_and_its_silence_is_no_gap() {
        let points = [(1_900, 1.0), (1_100, 1.0), (1_100, 1.0), (4_000, 1.0)];
        let (series, repairs) =
            Series::from_samples(samples(&points), Kind::Events, None).expect("a series");
        assert_eq!((series.start_ms, series.step_ms), (1_000, 1_000));
        assert_eq!(series.rps, [Some(3.0), Some(0.0), Some(0.0), Some(1.0)]);
        assert_eq!((repairs.gaps, repairs.duplicates), (0, 0));
    }

    #[test]
    fn a_section_is_cut_at_steps() {
        let points: Vec<(u64, f64)> =
            (0..10_u32).map(|n| (u64::from(n) * 10, f64::from(n))).collect();
        let (series, _) =
            Series::from_samples(samples(&points), Kind::Rate, None).expect("a series");
        let section = series.section(30, 25);
        assert_eq!((section.start_ms, section.rps), (30, vec![Some(3.0), Some(4.0)]));
        assert_eq!(series.section(1_000, u64::MAX).rps, []);
    }

    #[test]
    fn what_makes_no_series_is_refused() {
        let too_few = Series::from_samples(samples(&[(0, 1.0)]), Kind::Rate, None);
        assert_eq!(too_few, Err(SeriesError::TooFew { negative: 0, usable: 1, samples: 1 }));
        let no_span = Series::from_samples(samples(&[(5, 1.0), (5, 1.0)]), Kind::Events, None);
        assert_eq!(no_span, Err(SeriesError::NoSpan { at_ms: 5 }));
        let far = [(0, 1.0), (1_000, 1.0), (4_000_000_000_000, 1.0)];
        let too_long = Series::from_samples(samples(&far), Kind::Rate, None);
        assert!(matches!(too_long, Err(SeriesError::TooLong { .. })), "{too_long:?}");
    }
}
