//! Which periods a series repeats in.

const DAY_MS: u64 = 24 * 3_600_000;
const WEEK_MS: u64 = 7 * DAY_MS;
/// Longest period looked for without being told, in steps; a day and a week are always tried.
const SCANNED: usize = 200;
/// Least correlation with itself one period ago that makes a season.
const LEAST_CORRELATION: f64 = 0.25;
/// A day that strong leaves no other season to look for.
const STRONG: f64 = 0.6;
/// A season shorter than this many steps has no shape.
const SHORTEST: usize = 4;

/// Periods in steps. The long one is a multiple of the short one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seasons {
    /// The shorter period, such as the steps of a day; 1 without any season.
    pub(super) short: usize,
    /// The longer period, such as the steps of a week.
    pub(super) long: Option<usize>,
}

impl Seasons {
    /// Those given, or else those found.
    pub(super) fn of(values: &[f64], step_ms: u64, given_ms: &[u64]) -> Self {
        let fits = |period: &usize| *period >= SHORTEST && *period <= values.len() * 4 / 5;
        let steps =
            |ms: u64| usize::try_from(ms / step_ms).ok().filter(|_| ms.is_multiple_of(step_ms));
        let mut given: Vec<usize> = given_ms.iter().filter_map(|ms| steps(*ms)).collect();
        given.retain(fits);
        given.sort_unstable();
        if !given_ms.is_empty() {
            let short = given.first().copied().unwrap_or(1);
            return Self { short, long: multiple(short, &given) };
        }
        let centred = Centred::of(values);
        let day = steps(DAY_MS).filter(fits);
        let week = steps(WEEK_MS).filter(fits);
        let by_day = day.map_or(0.0, |day| centred.correlation(day));
        let other = if by_day < STRONG { scan(&centred) } else { None };
        let short = match (day, other) {
            // Whatever divides a day is part of its shape.
            (Some(day), Some((period, _))) if day % period == 0 => day,
            (Some(day), Some((period, strength))) if period < day && strength > by_day + 0.1 => {
                period
            }
            (Some(day), _) => day,
            (None, Some((period, strength))) if strength > LEAST_CORRELATION => period,
            (None, _) => 1,
        };
        let longer: Vec<usize> = day.into_iter().chain(week).collect();
        Self { short, long: multiple(short, &longer) }
    }
}

/// The longest of the periods that is a multiple of the short one and longer.
fn multiple(short: usize, periods: &[usize]) -> Option<usize> {
    let longer =
        |period: &&usize| short > 1 && **period > short && (**period).is_multiple_of(short);
    periods.iter().rev().find(longer).copied()
}

/// Values about their mean, and the sum of their squares.
struct Centred(Vec<f64>, f64);

impl Centred {
    fn of(values: &[f64]) -> Self {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let centred: Vec<f64> = values.iter().map(|value| value - mean).collect();
        let squares = centred.iter().map(|value| value * value).sum();
        Self(centred, squares)
    }

    /// Correlation of the series with itself `lag` steps ago.
    fn correlation(&self, lag: usize) -> f64 {
        let Self(values, squares) = self;
        if lag >= values.len() || *squares <= 1e-12 {
            return 0.0;
        }
        let pairs = values.len() - lag;
        // Fewer pairs than values: compared as means, not as sums.
        dot(&values[lag..], &values[..pairs]) / squares * values.len() as f64 / pairs as f64
    }
}

/// Sum of products, in lanes that the compiler can put side by side.
pub(super) fn dot(left: &[f64], right: &[f64]) -> f64 {
    const LANES: usize = 8;
    let (left, left_rest) = left.as_chunks::<LANES>();
    let (right, right_rest) = right.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (left, right) in left.iter().zip(right) {
        for lane in 0..LANES {
            sums[lane] += left[lane] * right[lane];
        }
    }
    let rest: f64 = left_rest.iter().zip(right_rest).map(|(left, right)| left * right).sum();
    sums.iter().sum::<f64>() + rest
}

/// The highest peak of the correlation after it first fell below zero, with its height.
fn scan(values: &Centred) -> Option<(usize, f64)> {
    let lags: Vec<f64> =
        (0..=SCANNED.min(values.0.len() / 3)).map(|lag| values.correlation(lag)).collect();
    let fallen = lags.iter().position(|height| *height < 0.0)?;
    let peak = |at: &usize| lags[*at] >= lags[*at - 1] && lags[*at] > lags[*at + 1];
    let peaks = (fallen.max(SHORTEST)..lags.len().saturating_sub(1)).filter(peak);
    let highest = peaks.clone().map(|at| lags[at]).fold(0.0, f64::max);
    // The first of nearly equal peaks is the period, the others are its multiples.
    let first = peaks.clone().find(|at| lags[*at] > 0.9 * highest)?;
    (highest > LEAST_CORRELATION).then_some((first, lags[first]))
}
