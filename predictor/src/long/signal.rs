//! Series that go with another: how much, and whether they can be believed.

use serde::{Deserialize, Serialize};

use super::Model;
use super::clean::Series;
use super::effects::Grid;
use super::input::Regressor;
use super::interact::{self, BUSY, Row};
use super::season::dot;

/// Regressors looked at.
const MAX_SIGNALS: usize = 16;
/// Weight, in values, of the belief that a regressor has no effect.
const RIDGE: f64 = 4.0;
/// A regressor must lessen the errors of the newest third of the history to this share.
const WORTH: f64 = 0.97;
/// Longest lead, in steps, of a regressor that is not known ahead; and what one must have in common with
/// the series, relative to what it has without a lead.
const MAX_LEAD: usize = 192;
const BETTER: f64 = 1.05;
/// How far from usual a regressor may be, in standard deviations.
const FARTHEST: f64 = 4.0;
/// Bounds of an effect, as a logarithm or in units of the series' typical size.
const EFFECT: f64 = 1.5;
/// Added to values before the logarithm, in units of the typical size.
const FLOOR: f64 = 0.05;

/// One regressor that was found to matter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Signal {
    pub(super) name: String,
    /// Effect of one standard deviation.
    pub(super) coefficient: f64,
    /// Whether effects add to the series rather than multiply it, as they must where it can be
    /// negative.
    additive: bool,
    /// By how many steps it goes ahead of the series.
    #[serde(default)]
    pub(super) lead: usize,
    /// Effects of one standard deviation at the moment of the season at which it is least, and most.
    #[serde(default)]
    pub(super) range: (f64, f64),
    /// Whether it is to have no effect on forecasts.
    #[serde(default)]
    pub(super) muted: bool,
    /// Effect by step ahead.
    effects: Vec<f64>,
}

impl Signal {
    /// The value that a forecast becomes for the step ahead (0 is the next); unchanged where the
    /// regressor is not known.
    pub(super) fn put_on(&self, value: f64, ahead: usize) -> f64 {
        if self.muted {
            return value;
        }
        apply(value, self.effects.get(ahead).copied().unwrap_or(0.0), self.additive)
    }
}

fn apply(value: f64, effect: f64, additive: bool) -> f64 {
    if additive {
        return value + effect;
    }
    ((value + FLOOR) * effect.exp() - FLOOR).max(0.0)
}

/// Those regressors that explain what the seasons do not; their effect is taken out of the series.
///
/// Both sides are compared after taking their seasonal means away (Frisch and Waugh 1933). A
/// regressor is used only if what it taught over the older two thirds of the history held over the
/// newest third: one that never went with the series, or no longer does, has no weight.
pub(super) fn signals(
    series: &mut Series,
    grid: Grid,
    regressors: &[Regressor],
    interactions: bool,
) -> Vec<Signal> {
    if regressors.is_empty() {
        return Vec::new();
    }
    let period = grid.periods[0];
    let used = |at: &usize| series.known[*at];
    let steps: Vec<usize> = (0..grid.length).filter(used).collect();
    let additive = series.values.iter().any(|value| *value < 0.0);
    let linked: Vec<Option<f64>> = (0..grid.length)
        .map(|at| {
            let value = series.values[at];
            series.known[at].then(|| if additive { value } else { (value + FLOOR).ln() })
        })
        .collect();
    let means = slot_means(&linked, period);
    let mut left: Vec<f64> = linked
        .iter()
        .enumerate()
        .map(|(at, value)| value.map_or(0.0, |value| value - means[at % period]))
        .collect();

    let mut kept: Vec<Kept> = Vec::new();
    for regressor in regressors.iter().take(MAX_SIGNALS) {
        let until = steps.get(older(&steps)).map_or(0, |at| *at);
        let Some((lead, moves)) = leading(regressor, grid, period, &left, until) else { continue };
        if worth(&steps, &moves, &left) {
            kept.push((regressor, lead, moves, 0.0));
        }
    }
    // Coordinate descent: a few rounds share the effect among regressors that resemble each other.
    for _ in 0..4 {
        for (_, _, moves, coefficient) in &mut kept {
            let step = slope(&steps, moves, &left, *coefficient);
            steps.iter().for_each(|at| left[*at] -= step * moves[*at]);
            *coefficient += step;
        }
    }
    let busy = busy(&means);
    let mut found = Vec::new();
    for (regressor, lead, moves, coefficient) in kept {
        let moment = |at: usize| {
            let mut moment = interact::moment(grid.at_ms(at), grid.step_ms);
            moment[BUSY] = busy[at % period];
            moment
        };
        let by = if interactions { depends(&steps, &moves, &mut left, moment) } else { None };
        let slope = |at| coefficient + by.as_ref().map_or(0.0, |by| interact::dot(by, &moment(at)));
        let effect = |(at, moves): (usize, &f64)| (slope(at) * moves).clamp(-EFFECT, EFFECT);
        for (at, value) in series.values.iter_mut().enumerate() {
            *value = apply(*value, -effect((at, &moves[at])), additive);
        }
        let season = (0..period).map(|ahead| slope(grid.length + ahead));
        let range = season.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), slope| {
            (f64::min(least, slope), f64::max(most, slope))
        });
        found.push(Signal {
            name: regressor.name.clone(),
            coefficient,
            additive,
            lead,
            range,
            muted: false,
            effects: moves.iter().enumerate().skip(grid.length).map(effect).collect(),
        });
    }
    found
}

/// By what the effect of a regressor depends on the moment, if it does; that is then taken out of what is
/// left.
fn depends(
    steps: &[usize],
    moves: &[f64],
    left: &mut [f64],
    moment: impl Fn(usize) -> Row,
) -> Option<Row> {
    let row = |at: &usize| (moment(*at).map(|feature| feature * moves[*at]), left[*at]);
    let rows: Vec<(Row, f64)> = steps.iter().map(row).collect();
    let by = interact::learn(&rows, older(steps), WORTH)?;
    steps.iter().zip(rows).for_each(|(at, (row, _))| left[*at] -= interact::dot(&by, &row));
    Some(by)
}

/// How busy it usually is by slot, about 0 with a deviation of 1.
fn busy(means: &[f64]) -> Vec<f64> {
    let count = means.len().max(1) as f64;
    let mean = means.iter().sum::<f64>() / count;
    let square = means.iter().map(|slot| (slot - mean) * (slot - mean)).sum::<f64>() / count;
    let deviation = square.sqrt();
    let scaled = |slot: &f64| if deviation > 1e-9 { (slot - mean) / deviation } else { 0.0 };
    means.iter().map(scaled).collect()
}

/// A regressor, by how many steps it goes ahead, its moves so much later, and its effect.
type Kept<'a> = (&'a Regressor, usize, Vec<f64>, f64);

/// The regressor as [`standardised`]. One that is known ahead goes with the series as it is; of any
/// other only that is of use by which it goes ahead of the series, so that it is moved by the lead at
/// which the two have most in common before `until`, and left out where they have most at none: what comes
/// after that judges it.
fn leading(
    regressor: &Regressor,
    grid: Grid,
    period: usize,
    left: &[f64],
    until: usize,
) -> Option<(usize, Vec<f64>)> {
    let end_ms = grid.at_ms(grid.length);
    let ahead_ms =
        |at: usize| regressor.start_ms.saturating_add(grid.step_ms.saturating_mul(at as u64));
    let known = regressor.values.iter().rposition(Option::is_some)?;
    let moves = standardised(regressor, grid, period)?;
    if ahead_ms(known) >= end_ms {
        return Some((0, moves));
    }
    let past = &moves[..grid.length];
    let most = MAX_LEAD.min(until / 4);
    let shared = |lead: usize| dot(&past[..until - lead], &left[lead..until]).abs();
    let (mut best, mut height) = (0, BETTER * shared(0));
    for lead in 1..=most {
        let here = shared(lead);
        if here > height {
            (best, height) = (lead, here);
        }
    }
    if best == 0 {
        return None;
    }
    let start_ms = ahead_ms(best);
    let later = Regressor { start_ms, ..regressor.clone() };
    Some((best, standardised(&later, grid, period)?))
}

/// The regressor over history and future, without its seasonal means, in standard deviations; zero
/// where it is not known, and after the last known value fading from it as the regressor itself does.
/// `None` if it says too little.
fn standardised(regressor: &Regressor, grid: Grid, period: usize) -> Option<Vec<f64>> {
    let value = |at: usize| {
        let since_ms = grid.at_ms(at).checked_sub(regressor.start_ms)?;
        let index = usize::try_from(since_ms / grid.step_ms).ok()?;
        (*regressor.values.get(index)?).filter(|value| value.is_finite() && value.abs() < 1e100)
    };
    let past: Vec<Option<f64>> = (0..grid.length).map(value).collect();
    let means = slot_means(&past, period);
    let centred = |at: usize| value(at).map_or(0.0, |value| value - means[at % period]);
    let past: Vec<f64> = (0..grid.length).map(centred).collect();
    let deviation = (past.iter().map(|x| x * x).sum::<f64>() / grid.length as f64).sqrt();
    let typical = means.iter().fold(0.0, |most: f64, mean| most.max(mean.abs()));
    if deviation <= 1e-9 * typical || deviation <= f64::MIN_POSITIVE {
        return None;
    }
    let known_until = regressor.values.len().saturating_add(grid.length);
    let future = grid.length..grid.length + Model::MAX_STEPS.min(known_until);
    let last = future.clone().rev().find(|at| value(*at).is_some()).unwrap_or(grid.length - 1);
    let kept = dot(&past[1..], &past[..past.len() - 1]) / past.iter().map(|x| x * x).sum::<f64>();
    let mut fading = if value(last).is_some() { centred(last) } else { 0.0 };
    let ahead = future.map(|at| {
        if at <= last {
            return centred(at);
        }
        fading *= kept.clamp(0.0, 1.0);
        fading
    });
    let scaled = |x: f64| (x / deviation).clamp(-FARTHEST, FARTHEST);
    let ahead: Vec<f64> = ahead.collect();
    Some(past.into_iter().chain(ahead).map(scaled).collect())
}

fn slot_means(values: &[Option<f64>], period: usize) -> Vec<f64> {
    let mut sums = vec![(0.0, 0.0); period];
    let (mut sum, mut count) = (0.0, 0.0);
    for (at, value) in values.iter().enumerate() {
        if let Some(value) = value {
            let slot = &mut sums[at % period];
            *slot = (slot.0 + value, slot.1 + 1.0);
            (sum, count) = (sum + value, count + 1.0);
        }
    }
    let overall = if count > 0.0 { sum / count } else { 0.0 };
    sums.iter().map(|(sum, count)| if *count > 0.0 { sum / count } else { overall }).collect()
}

fn slope(steps: &[usize], moves: &[f64], left: &[f64], already: f64) -> f64 {
    let (shared, squares) = steps.iter().fold((0.0, 0.0), |(shared, squares), at| {
        (shared + moves[*at] * left[*at], squares + moves[*at] * moves[*at])
    });
    (shared - RIDGE * already) / (squares + RIDGE)
}

/// How many of the steps are older: what is found in those is judged by the others.
fn older(steps: &[usize]) -> usize {
    steps.len() / 3 * 2
}

/// Whether the slope of the older two thirds lessens the errors of the newest third.
fn worth(steps: &[usize], moves: &[f64], left: &[f64]) -> bool {
    let (older, newer) = steps.split_at(older(steps));
    if newer.len() < 8 {
        return false;
    }
    let mean = older.iter().map(|at| left[*at]).sum::<f64>() / older.len() as f64;
    let centred: Vec<f64> = left.iter().map(|value| value - mean).collect();
    let slope = slope(older, moves, &centred, 0.0);
    let error =
        |slope: f64| newer.iter().map(|at| (centred[*at] - slope * moves[*at]).abs()).sum::<f64>();
    error(slope) < WORTH * error(0.0)
}
