//! How the experts are weighed: by their errors from rolling origins, horizon by horizon.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::clean::Series;
use super::curve::{Ahead, Curve, curves};
use super::extra::{Extra, ask};
use super::profile::{Profile, Tables};
use super::season::Seasons;

/// Origins from which the experts are tried.
const ORIGINS: usize = 24;
/// Origins after which an error counts half.
const HALF_LIFE: f64 = 10.0;
/// Learning rate of the exponential weights, on losses relative to the best expert's; it grows
/// with the root of the origins seen, as the sum of losses does against the tuned rate (Cesa-Bianchi
/// and Lugosi, "Prediction, Learning, and Games", section 2.2).
const RATE: f64 = 6.0;
/// Experts below this weight are left out.
const LEAST_WEIGHT: f64 = 0.004;

/// The experts as they stood at one moment, before they saw what followed.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// Values known then.
    pub(super) at: usize,
    /// The shapes over what followed, as far as it counts.
    pub(super) shapes: Vec<Vec<f64>>,
    pub(super) curves: Vec<Curve>,
    /// Weight of what is learned from here; the newest has the most.
    pub(super) weight: f64,
}

/// Weights by range of horizons.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Weights {
    /// Upper ends of the ranges, in steps ahead; the last range has none.
    edges: Vec<usize>,
    /// One entry per range, one weight per expert.
    by_range: Vec<Vec<f64>>,
}

/// One pass over the series: the experts at every origin, with `horizon` steps of what followed,
/// and the tables and experts at its end.
pub(super) fn roll(
    series: &Series,
    seasons: Seasons,
    unit: usize,
    horizon: usize,
) -> (Vec<Origin>, Tables, Vec<Curve>) {
    let length = series.len();
    let least = (2 * unit).min(length / 2).max(1);
    let room = length.saturating_sub(least);
    let mut spacing = unit;
    while spacing > 1 && room / spacing < ORIGINS / 2 {
        spacing = spacing.div_ceil(2);
    }
    let count = (room / spacing).min(ORIGINS);
    let mut profile = Profile::new(seasons);
    let mut origins = Vec::with_capacity(count);
    let mut foreseen = Vec::with_capacity(length);
    for at in 0..length {
        let left = length - at;
        if left.is_multiple_of(spacing) && left / spacing <= count {
            let past = &series.values[..at];
            let tables = profile.tables(past);
            origins.push(Origin {
                at,
                curves: curves((past, &foreseen), &tables, unit),
                shapes: tables.ahead(0, horizon.min(left)),
                weight: 0.5_f64.powf((left / spacing) as f64 / HALF_LIFE),
            });
        }
        foreseen.push(if series.known[at] {
            profile.learn(at, series.values[at])
        } else {
            series.values[at]
        });
    }
    let tables = profile.tables(&series.values);
    let curves = curves((&series.values, &foreseen), &tables, unit);
    (origins, tables, curves)
}

/// Lets `extra` take part, at the end of the experts: from every origin and now.
///
/// # Errors
///
/// Why it is left out; nothing is changed then.
pub(super) fn join(
    extra: &dyn Extra,
    series: &Series,
    (origins, tables, curves): &mut (Vec<Origin>, Tables, Vec<Curve>),
) -> Result<(), String> {
    let moments: Vec<usize> =
        origins.iter().map(|origin| origin.at).chain([series.len()]).collect();
    let mut said = ask(extra, &series.values, &moments)?;
    let curve = Curve::plain(tables.0.len());
    tables.0.extend(said.pop());
    curves.push(curve);
    for (origin, said) in origins.iter_mut().zip(said) {
        let length = origin.shapes.first().map_or(0, Vec::len);
        origin.shapes.push(said.into_iter().cycle().take(length).collect());
        origin.curves.push(curve);
    }
    Ok(())
}

impl Weights {
    /// Weighs the experts by their mean absolute errors, and by `prior`, the weights before anything
    /// was seen (even ones where there are none); `floor` is the least value there can be.
    pub(super) fn learn(
        series: &Series,
        (origins, prior): (&[Origin], Option<&[f64]>),
        ahead: &Ahead,
        unit: usize,
        floor: f64,
    ) -> Self {
        let edges = vec![unit.div_ceil(4), unit, 3 * unit, 7 * unit];
        let experts = origins.first().map_or(0, |origin| origin.curves.len());
        let mut losses = vec![vec![(0.0, 0.0); experts]; edges.len() + 1];
        let trust: Vec<f64> =
            series.known.iter().map(|known| f64::from(u8::from(*known))).collect();
        for origin in origins {
            let length = origin.shapes.first().map_or(0, Vec::len);
            let truth = (&series.values[origin.at..], &trust[origin.at..]);
            for (range, losses) in losses.iter_mut().enumerate() {
                let (from, to) = ends(&edges, range, length);
                let count: f64 = truth.1[from..to].iter().sum();
                if count <= 0.0 {
                    continue;
                }
                for (curve, loss) in origin.curves.iter().zip(losses) {
                    let shape = &origin.shapes[curve.table];
                    if !shape.is_empty() {
                        let miss = curve.miss((shape, ahead), truth, (from, to), floor);
                        loss.0 += origin.weight * miss / count;
                        loss.1 += origin.weight;
                    }
                }
            }
        }
        let mut by_range: Vec<Vec<f64>> = Vec::with_capacity(losses.len());
        for losses in &losses {
            let weights = weigh(losses, prior).or_else(|| by_range.last().cloned());
            by_range.push(weights.unwrap_or_else(|| prior.unwrap_or_default().to_vec()));
        }
        Self { edges, by_range }
    }

    /// The largest weight in any range of some experts together.
    pub(super) fn most_of(&self, experts: Range<usize>) -> f64 {
        let together = |weights: &Vec<f64>| sum_of(weights, &experts);
        self.by_range.iter().map(together).fold(0.0, f64::max)
    }

    /// Weight of some experts together at the step ahead (0 is the next).
    pub(super) fn share(&self, experts: Range<usize>, ahead: usize) -> f64 {
        let range = self.edges.partition_point(|edge| *edge <= ahead);
        self.by_range.get(range).map_or(0.0, |weights| sum_of(weights, &experts))
    }

    /// Writes the weighted mean of the experts over the steps of `ahead`; experts without a shape
    /// give their weight to the others. Returns the least share of weight that had a shape.
    pub(super) fn mix(
        &self,
        shapes: &[Vec<f64>],
        curves: &[Curve],
        ahead: &Ahead,
        out: &mut [f64],
    ) -> f64 {
        let mut share: f64 = 1.0;
        out.fill(0.0);
        for (range, weights) in self.by_range.iter().enumerate() {
            let (from, to) = ends(&self.edges, range, ahead.first + out.len());
            let (from, to) =
                (from.max(ahead.first) - ahead.first, to.max(ahead.first) - ahead.first);
            if from >= to {
                continue;
            }
            let mut total = 0.0;
            // Without anything to weigh by, all that have a shape count the same.
            let even = if weights.is_empty() { Some(1.0) } else { None };
            let weights = weights.iter().copied().chain(even.into_iter().cycle());
            for (curve, weight) in curves.iter().zip(weights) {
                let shape = shapes.get(curve.table).filter(|shape| shape.len() >= to);
                if let Some(shape) = shape.filter(|_| weight >= LEAST_WEIGHT) {
                    total += weight;
                    curve.add((shape, ahead), from, weight, &mut out[from..to]);
                }
            }
            share = share.min(total);
            if total > 0.0 {
                out[from..to].iter_mut().for_each(|sum| *sum /= total);
            }
        }
        share
    }
}

fn sum_of(weights: &[f64], experts: &Range<usize>) -> f64 {
    weights.get(experts.clone()).map_or(0.0, |weights| weights.iter().sum())
}

/// The steps ahead that a range covers, from 0, up to `length`.
fn ends(edges: &[usize], range: usize, length: usize) -> (usize, usize) {
    let from = range.checked_sub(1).and_then(|before| edges.get(before)).copied().unwrap_or(0);
    let to = edges.get(range).copied().unwrap_or(length);
    (from.min(length), to.min(length).max(from.min(length)))
}

/// Exponential weights of mean losses; an expert that was tried less often than others is taken
/// for an average one where it was not. `None` without any loss.
fn weigh(losses: &[(f64, f64)], prior: Option<&[f64]>) -> Option<Vec<f64>> {
    let most = losses.iter().map(|(_, count)| *count).fold(0.0, f64::max);
    if most <= 0.0 {
        return None;
    }
    let tried = losses.iter().filter(|(_, count)| *count > 0.0);
    let mut means: Vec<f64> = tried.map(|(sum, count)| sum / count).collect();
    means.sort_unstable_by(f64::total_cmp);
    let usual = means[means.len() / 2];
    let blended = |(sum, count): &(f64, f64)| (sum + usual * (most - count)) / most;
    let means: Vec<f64> = losses.iter().map(blended).collect();
    let best = means.iter().copied().fold(f64::INFINITY, f64::min);
    let rate = RATE * most.sqrt();
    let weight = |mean: &f64| (-rate * ((mean - best) / best.max(1e-9)).clamp(0.0, 1e3)).exp();
    let mut weights: Vec<f64> = means.iter().map(weight).collect();
    if let Some(prior) = prior {
        weights.iter_mut().zip(prior).for_each(|(weight, prior)| *weight *= prior);
    }
    let total: f64 = weights.iter().sum();
    if total <= 0.0 {
        return prior.map(<[f64]>::to_vec);
    }
    Some(weights.iter().map(|weight| weight / total).collect())
}
