//! Categories as experts: the level of the series times the shape that its category has.

use serde::{Deserialize, Serialize};

use super::Model;
use super::category::Category;
use super::clean::Series;
use super::curve::Curve;
use super::effects::Grid;
use super::mix::{Origin, Weights};
use super::profile::Tables;

/// Days of its own from which on a series has no use for its categories.
const GROWN_UP_DAYS: f64 = 13.0;
/// Days beyond the first that weigh as much as all that a category says.
const PRIOR_DAYS: f64 = 3.0;
/// What is left to a category, however unlike its members are: so that it may prove itself.
const LEAST_PRIOR: f64 = 0.02;
/// Categories looked at.
const MOST_CATEGORIES: usize = 4;
/// Experts per category: what they take the level from.
const LEVELS: usize = 4;
/// Bounds of a level, and what both sides of it are given.
const LEVEL: (f64, f64) = (1e-3, 1e3);
const LEVEL_FLOOR: f64 = 0.005;
/// How far above what was seen a category may lift the bound of a forecast.
const HIGHEST_LIFT: f64 = 20.0;
const DAY_MS: f64 = 86_400_000.0;

/// A category that takes part in a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Seat {
    pub(super) name: String,
    pub(super) members: usize,
    pub(super) alike: f64,
    /// Its experts.
    first: usize,
    /// Of all weight before anything was seen.
    prior: f64,
    /// How far members are from the common shape, relative to it, by step ahead; it repeats.
    doubt: Vec<f64>,
    /// How much higher than what was seen the category was at other times.
    lift: f64,
}

/// What became of a category in a fit.
#[derive(Clone, Debug, PartialEq)]
pub struct Belonging<'a> {
    /// Name of the category.
    pub name: &'a str,
    /// Members that its shape was made from.
    pub members: usize,
    /// How alike those are, 0 to 1.
    pub alike: f64,
    /// The largest weight that it has at any distance, 0 to 1.
    pub weight: f64,
}

impl Seat {
    pub(super) fn belonging(&self, weights: &Weights) -> Belonging<'_> {
        let weight = weights.most_of(self.first..self.first + LEVELS);
        Belonging { name: &self.name, members: self.members, alike: self.alike, weight }
    }

    /// Doubt about the step ahead (0 is the next), as a share of what is forecast of it.
    pub(super) fn doubt(&self, ahead: usize, weights: &Weights) -> f64 {
        let doubt = self.doubt.get(ahead % self.doubt.len().max(1)).copied().unwrap_or(0.0);
        doubt * weights.share(self.first..self.first + LEVELS, ahead)
    }

    /// Factor on the bound of a forecast.
    pub(super) fn lift(&self, weights: &Weights) -> f64 {
        1.0 + (self.lift - 1.0) * weights.most_of(self.first..self.first + LEVELS)
    }
}

/// Lets `categories` take part after the experts that there are, the first being the closest, while the
/// series is young.
pub(super) fn seat(
    categories: &[Category],
    (series, grid): (&Series, Grid),
    unit: usize,
    (origins, tables, curves): &mut (Vec<Origin>, Tables, Vec<Curve>),
) -> Vec<Seat> {
    let known = series.known.iter().filter(|known| **known).count();
    let days = known as f64 * grid.step_ms as f64 / DAY_MS;
    if days >= GROWN_UP_DAYS {
        return Vec::new();
    }
    let own_days = (days - 1.0).max(0.0);
    let (mut seats, mut left) = (Vec::new(), 1.0);
    for category in categories.iter().take(MOST_CATEGORIES) {
        let by_step = category.by_step(grid.start_ms, grid.step_ms, Model::MAX_STEPS);
        let Some((shape, doubt)) = by_step else { continue };
        let said = category.alike() * PRIOR_DAYS / (PRIOR_DAYS + own_days);
        let prior = left * said.max(LEAST_PRIOR);
        left -= prior;
        let length = series.len();
        let whole: Vec<f64> = shape.iter().copied().cycle().take(length).collect();
        let table = tables.0.len();
        let ahead = |steps: usize| shape.iter().copied().cycle().skip(length).take(steps);
        seats.push(Seat {
            name: category.name().to_owned(),
            members: category.members(),
            alike: category.alike(),
            first: curves.len(),
            prior,
            doubt: relative(&doubt, &shape, length),
            lift: lift(&whole, &series.known, &shape),
        });
        tables.0.push(ahead(shape.len()).collect());
        curves.extend(levels(&series.values, &whole, table, unit));
        for origin in origins.iter_mut() {
            let (at, steps) = (origin.at, origin.shapes.first().map_or(0, Vec::len));
            origin.shapes.push(whole[at..at + steps].to_vec());
            origin.curves.extend(levels(&series.values[..at], &whole[..at], table, unit));
        }
    }
    seats
}

/// The share of weight that each of `experts` starts with; those of no category share what is left. None
/// where there is no category.
pub(super) fn prior(seats: &[Seat], experts: usize) -> Option<Vec<f64>> {
    let of_seats: f64 = seats.iter().map(|seat| seat.prior).sum();
    let others = experts.checked_sub(LEVELS * seats.len()).filter(|_| !seats.is_empty())?;
    let mut prior = vec![(1.0 - of_seats).max(0.0) / others.max(1) as f64; experts];
    for seat in seats {
        prior[seat.first..seat.first + LEVELS].fill(seat.prior / LEVELS as f64);
    }
    Some(prior)
}

/// One expert per span that the level is taken from.
fn levels(past: &[f64], shape: &[f64], table: usize, unit: usize) -> [Curve; LEVELS] {
    [unit.div_ceil(4), unit, 3 * unit, past.len()].map(|back| {
        let from = past.len() - back.min(past.len());
        let (seen, usual): (f64, f64) = (past[from..].iter().sum(), shape[from..].iter().sum());
        let floor = LEVEL_FLOOR * (past.len() - from) as f64;
        let level = if floor > 0.0 { (seen + floor) / (usual + floor) } else { 1.0 };
        Curve::scaled(table, level.clamp(LEVEL.0, LEVEL.1))
    })
}

/// Doubt as a share of the shape, from the step `first` on.
fn relative(doubt: &[f64], shape: &[f64], first: usize) -> Vec<f64> {
    let share = |at: usize| doubt[at % doubt.len()] / shape[at % shape.len()].max(0.05);
    (first..first + shape.len()).map(share).map(|share| share.min(1.0)).collect()
}

/// How much higher the shape is at its height than it was while something was seen.
fn lift(whole: &[f64], known: &[bool], shape: &[f64]) -> f64 {
    let seen = whole.iter().zip(known).filter(|(_, known)| **known).map(|(value, _)| *value);
    let (seen, most) = (seen.fold(0.0, f64::max), shape.iter().copied().fold(0.0, f64::max));
    if seen > 0.0 { (most / seen).clamp(1.0, HIGHEST_LIFT) } else { 1.0 }
}
