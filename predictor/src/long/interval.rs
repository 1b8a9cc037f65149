//! Quantiles from the errors that rolling origins made, by horizon and by moment of the season.

use serde::{Deserialize, Serialize};

use super::clean::Series;
use super::curve::Ahead;
use super::mix::{Origin, Weights};

/// Errors of one slot count as many as this of all slots together.
const PRIOR: f64 = 6.0;
/// Errors of one range of horizons count as many as this of all ranges together.
const POOLED: f64 = 300.0;
/// How far a slot's scale may follow the level forecast for it, and by which power it does:
/// between counts, whose spread grows with the root of their mean, and shares.
const LEVEL: (f64, f64) = (0.25, 4.0);
/// Least share of the experts' weight that had a shape when an error was made.
const LEAST_SHARE: f64 = 0.6;
/// How much the origins, which overlap, count for less beyond a season: the power of the distance.
const OVERLAP: f64 = 0.3;
/// A normal distribution's standard deviation in units of its mean absolute value.
const SD_PER_MEAN_ERROR: f64 = 1.2533;

/// How far truth lies from the point forecast.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Spread {
    /// Usual size of the error by slot of the short season, from the first step ahead on.
    size: Vec<f64>,
    /// Usual forecast by slot.
    usual: Vec<f64>,
    /// Upper ends of the ranges of steps ahead.
    edges: Vec<usize>,
    /// Quantiles of errors in units of `size`, by range and level.
    quantiles: Vec<Vec<f64>>,
}

/// One error made from a rolling origin.
struct Miss {
    /// Steps ahead; 0 is the next.
    ahead: usize,
    slot: usize,
    forecast: f64,
    error: f64,
    weight: f64,
}

/// Errors in units of their usual size, with their weights.
#[derive(Clone, Default)]
struct Sample(Vec<(f64, f64)>);

impl Spread {
    pub(super) fn learn(
        series: &Series,
        (origins, weights): (&[Origin], &Weights),
        (short, ahead): (usize, &Ahead),
        horizon: usize,
        levels: &[f64],
    ) -> Self {
        let misses = misses(series, origins, weights, short, ahead);
        let (size, usual) = sizes(series, &misses, short);
        let doubling = std::iter::successors(Some(1), |edge: &usize| Some(edge * 2));
        let edges: Vec<usize> = doubling.take_while(|edge| *edge < horizon).collect();
        let mut spread = Self { size, usual, edges, quantiles: Vec::new() };
        let mut by_range = vec![Sample::default(); spread.edges.len() + 1];
        for miss in &misses {
            let unit = spread.unit(miss.slot, miss.forecast);
            let range = spread.edges.partition_point(|edge| *edge <= miss.ahead);
            by_range[range].0.push((miss.error / unit, miss.weight));
        }
        let mut pooled = Sample(by_range.iter().flat_map(Sample::unit_size).collect());
        pooled.sort();
        // Errors of one origin resemble each other: what counts as one draw is an origin.
        let draws: f64 = origins.iter().map(|origin| origin.weight).sum();
        for (range, sample) in by_range.iter_mut().enumerate() {
            let farthest = spread.edges.get(range).copied().unwrap_or(horizon);
            let seasons = (farthest as f64 / short.max(8) as f64).max(1.0);
            let draws = (draws / seasons.powf(OVERLAP)).max(1.0);
            let row = sample.quantiles_with(&pooled, levels, draws);
            let normal = |level: &f64| SD_PER_MEAN_ERROR * crate::math::normal_quantile(*level);
            let row = row.or_else(|| spread.quantiles.last().cloned());
            spread.quantiles.push(row.unwrap_or_else(|| levels.iter().map(normal).collect()));
        }
        spread
    }

    /// One value per level for the step ahead (0 is the next) whose point forecast is given. `doubt` is
    /// the standard deviation of what no error could show yet; it adds to the errors as variances do.
    pub(super) fn around(
        &self,
        (ahead, forecast): (usize, f64),
        levels: &[f64],
        doubt: f64,
    ) -> Vec<f64> {
        let range = self.edges.partition_point(|edge| *edge <= ahead);
        let unit = self.unit(ahead % self.size.len().max(1), forecast);
        // Beyond what was tried, doubt grows like that of a random walk, up to a bound.
        let tried = 2 * self.edges.last().copied().unwrap_or(1).max(1);
        let beyond = (ahead as f64 / tried as f64).clamp(1.0, 9.0).sqrt();
        let row = self.quantiles.get(range);
        let error = |at: usize| row.and_then(|row| row.get(at)).copied().unwrap_or(0.0);
        let errors = (0..levels.len()).map(|at| error(at) * unit * beyond);
        let mut least = f64::NEG_INFINITY;
        let wider = |(error, level): (f64, &f64)| {
            if doubt <= 0.0 {
                return forecast + error;
            }
            let more = doubt * crate::math::normal_quantile(*level);
            let both = (error * error + more * more).sqrt() - error.abs();
            least = least.max(forecast + error + more.signum() * both);
            least
        };
        errors.zip(levels).map(wider).collect()
    }

    fn unit(&self, slot: usize, forecast: f64) -> f64 {
        let size = self.size.get(slot).copied().unwrap_or(1.0);
        let usual = self.usual.get(slot).copied().unwrap_or(1.0);
        size * (forecast.abs() / usual.max(1e-9)).clamp(LEVEL.0, LEVEL.1).sqrt()
    }
}

impl Sample {
    fn sort(&mut self) {
        self.0.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
    }

    /// Mean absolute error; none without errors or if all are zero.
    fn size(&self) -> Option<f64> {
        let weight: f64 = self.0.iter().map(|(_, weight)| weight).sum();
        let sum: f64 = self.0.iter().map(|(error, weight)| error.abs() * weight).sum();
        (weight > 0.0 && sum > 0.0).then(|| sum / weight)
    }

    /// The same errors, as multiples of their mean size.
    fn unit_size(&self) -> Vec<(f64, f64)> {
        let size = self.size();
        self.0.iter().filter_map(|(error, weight)| Some((error / size?, *weight))).collect()
    }

    /// Quantiles of these errors, drawn towards the form of all of them; `None` without errors.
    fn quantiles_with(&mut self, all: &Self, levels: &[f64], draws: f64) -> Option<Vec<f64>> {
        self.sort();
        let own = self.quantiles(levels, draws)?;
        let Some((size, form)) = self.size().zip(all.quantiles(levels, draws)) else {
            return Some(own);
        };
        let count: f64 = self.0.iter().map(|(_, weight)| weight).sum();
        let share = POOLED / (POOLED + count);
        let drawn = own.iter().zip(form).map(|(own, form)| own + share * (size * form - own));
        Some(drawn.collect())
    }

    /// Weighted quantiles, moved outwards as far as so few draws leave open; sorted before.
    fn quantiles(&self, levels: &[f64], draws: f64) -> Option<Vec<f64>> {
        let total: f64 = self.0.iter().map(|(_, weight)| weight).sum();
        let last = self.0.len().checked_sub(1)?;
        let (mut at, mut below) = (0, 0.0);
        let quantile = |level: &f64| {
            let outward = 0.5 + (level - 0.5) * (1.0 + 1.0 / draws);
            let wanted = outward.clamp(0.0, 1.0) * total;
            while at < last && below + self.0[at].1 < wanted {
                below += self.0[at].1;
                at += 1;
            }
            self.0[at].0
        };
        Some(levels.iter().map(quantile).collect())
    }
}

fn misses(
    series: &Series,
    origins: &[Origin],
    weights: &Weights,
    short: usize,
    ahead: &Ahead,
) -> Vec<Miss> {
    let mut misses = Vec::new();
    for origin in origins {
        let mut row = vec![0.0; origin.shapes.first().map_or(0, Vec::len)];
        if weights.mix(&origin.shapes, &origin.curves, ahead, &mut row) < LEAST_SHARE {
            continue;
        }
        // Slots are counted from the end of the history, where the forecast begins.
        let shift = short - (series.len() - origin.at) % short;
        for (ahead, (forecast, actual)) in row.iter().zip(&series.values[origin.at..]).enumerate() {
            if series.known[origin.at + ahead] {
                misses.push(Miss {
                    ahead,
                    slot: (ahead + shift) % short,
                    forecast: *forecast,
                    error: actual - forecast,
                    weight: origin.weight,
                });
            }
        }
    }
    misses
}

/// Mean absolute error and mean absolute forecast by slot, drawn towards those of all slots.
fn sizes(series: &Series, misses: &[Miss], short: usize) -> (Vec<f64>, Vec<f64>) {
    let mut by_slot = vec![(0.0, 0.0, 0.0); short];
    let (mut error, mut forecast, mut count) = (0.0, 0.0, 0.0);
    for miss in misses {
        let slot = &mut by_slot[miss.slot];
        let (size, usual) = (miss.weight * miss.error.abs(), miss.weight * miss.forecast.abs());
        *slot = (slot.0 + size, slot.1 + usual, slot.2 + miss.weight);
        (error, forecast, count) = (error + size, forecast + usual, count + miss.weight);
    }
    if count <= 0.0 {
        let steps = series.values.windows(2).map(|pair| (pair[1] - pair[0]).abs());
        let step = steps.sum::<f64>() / (series.len().max(2) - 1) as f64;
        return (vec![step.max(0.05); short], vec![1.0; short]);
    }
    let (error, forecast) = ((error / count).max(1e-9), (forecast / count).max(1e-9));
    let drawn = |sum: f64, seen: f64, all: f64| (sum + PRIOR * all) / (seen + PRIOR);
    by_slot
        .iter()
        .map(|(size, usual, seen)| (drawn(*size, *seen, error), drawn(*usual, *seen, forecast)))
        .unzip()
}
