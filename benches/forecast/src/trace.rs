//! One recorded series on an even grid of time.

/// A series of equally long steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// The file it came from, without endings, and what tells series of one file apart.
    pub name: String,
    /// Start of the first step, in milliseconds since 1970 in the clock of the recording.
    pub start_ms: i64,
    /// Length of a step.
    pub step_ms: u64,
    /// One value per step in the unit of the recording; none where nothing was recorded.
    pub values: Vec<Option<f64>>,
}

impl Trace {
    /// Values at moments, put on a grid of the commonest distance between two of them; a later
    /// value of the same step replaces the earlier one.
    ///
    /// None of fewer than two distinct moments.
    pub fn from_moments(name: &str, moments: &[(i64, f64)]) -> Option<Self> {
        let mut sorted = moments.to_vec();
        sorted.sort_by_key(|(at_ms, _)| *at_ms);
        let mut gaps: Vec<i64> =
            sorted.windows(2).map(|pair| pair[1].0 - pair[0].0).filter(|gap| *gap > 0).collect();
        gaps.sort_unstable();
        let step_ms = *gaps.get(gaps.len() / 2)?;
        let (start_ms, end_ms) = (sorted.first()?.0, sorted.last()?.0);
        let index = |at_ms: i64| ((at_ms - start_ms + step_ms / 2) / step_ms) as usize;
        let mut values = vec![None; index(end_ms) + 1];
        for (at_ms, value) in sorted {
            values[index(at_ms)] = Some(value);
        }
        Some(Self { name: name.to_owned(), start_ms, step_ms: step_ms as u64, values })
    }

    /// Events at moments, counted per step, as a rate per second; the last, partial step is left
    /// out. None without events.
    pub fn from_events(name: &str, moments_ms: &[i64], step_ms: u64) -> Option<Self> {
        let (start_ms, end_ms) = (*moments_ms.iter().min()?, *moments_ms.iter().max()?);
        let steps = ((end_ms - start_ms) as u64 / step_ms) as usize;
        let mut counts = vec![0_u64; steps];
        for at_ms in moments_ms {
            if let Some(count) = counts.get_mut(((at_ms - start_ms) as u64 / step_ms) as usize) {
                *count += 1;
            }
        }
        let rate = |count: u64| Some(count as f64 * 1_000.0 / step_ms as f64);
        let values = counts.into_iter().map(rate).collect();
        Some(Self { name: name.to_owned(), start_ms, step_ms, values })
    }

    /// The same with `factor` steps as one: the mean of those recorded, none if fewer than half are.
    /// A partial last step is left out.
    pub fn coarser(&self, factor: usize) -> Self {
        let factor = factor.max(1);
        let merge = |steps: &[Option<f64>]| {
            let known: Vec<f64> = steps.iter().copied().flatten().collect();
            (2 * known.len() >= factor).then(|| known.iter().sum::<f64>() / known.len() as f64)
        };
        Self {
            step_ms: self.step_ms * factor as u64,
            values: self.values.chunks_exact(factor).map(merge).collect(),
            ..self.clone()
        }
    }

    /// Hour of the day, in 0..24, in which the step at `index` begins.
    pub fn hour(&self, index: usize) -> usize {
        let at_ms = self.start_ms + (index as u64 * self.step_ms) as i64;
        (at_ms.div_euclid(3_600_000)).rem_euclid(24) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_become_a_grid_with_holes() {
        let trace =
            Trace::from_moments("t", &[(60, 6.0), (0, 0.0), (30, 3.0), (10, 1.0), (21, 2.0)])
                .unwrap();
        assert_eq!((trace.start_ms, trace.step_ms), (0, 11));
        assert_eq!(
            trace.values,
            [0.0, 1.0, 2.0, 3.0].map(Some).into_iter().chain([None, Some(6.0)]).collect::<Vec<_>>()
        );
        assert_eq!(Trace::from_moments("t", &[(5, 1.0), (5, 2.0)]), None);
    }

    #[test]
    fn events_become_rates() {
        let trace = Trace::from_events("t", &[1_000, 1_010, 1_150, 1_399, 1_405], 100).unwrap();
        assert_eq!(trace.values, [20.0, 10.0, 0.0, 10.0].map(Some));
    }

    #[test]
    fn coarser_steps_are_means_of_what_is_known() {
        let trace = Trace {
            name: "t".to_owned(),
            start_ms: 0,
            step_ms: 10,
            values: vec![Some(1.0), Some(3.0), None, Some(5.0), None, None, Some(9.0)],
        };
        let coarse = trace.coarser(2);
        assert_eq!(coarse.step_ms, 20);
        assert_eq!(coarse.values, [Some(2.0), Some(5.0), None]);
    }
}
