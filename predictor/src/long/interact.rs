//! Effects that depend on the moment: a campaign that lifts the evening more than the night.
//!
//! What an effect does is multiplied by the time of day, the weekend and how busy it usually is then
//! (interaction terms, Gelman and Hill 2007, section 3.3), drawn towards no such dependence (ridge
//! regression, Hoerl and Kennard 1970), and used only if what the older part of the history taught held
//! over the newest part.

use std::f64::consts::{SQRT_2, TAU};

/// What an effect may depend on: two waves of the day, the weekend, and how busy it usually is.
pub(super) const FEATURES: usize = 6;
/// Place of the last of them, which the caller fills in.
pub(super) const BUSY: usize = 5;
/// Weight of the belief that there is no such dependence, in values.
const RIDGE: f64 = 16.0;
/// Rounds of coordinate descent.
const ROUNDS: usize = 12;
/// Values that judge what older ones taught, at least.
const LEAST_JUDGES: usize = 8;
const DAY_MS: u64 = 86_400_000;
/// Mean and deviation of the weekend, among days.
const WEEKEND: (f64, f64) = (2.0 / 7.0, 0.4518);

/// What depends on each feature.
pub(super) type Row = [f64; FEATURES];

/// The features of a step, each about 0 with a deviation of 1; none of the time of day for steps of a day.
/// The weekend is Saturday and Sunday of UTC.
pub(super) fn moment(at_ms: u64, step_ms: u64) -> Row {
    let middle_ms = at_ms.saturating_add(step_ms / 2);
    // The first day of unix time was a Thursday.
    let weekend = f64::from(u8::from((middle_ms / DAY_MS + 3) % 7 >= 5));
    let weekend = (weekend - WEEKEND.0) / WEEKEND.1;
    if step_ms >= DAY_MS {
        return [0.0, 0.0, 0.0, 0.0, weekend, 0.0];
    }
    let angle = TAU * (middle_ms % DAY_MS) as f64 / DAY_MS as f64;
    let ((sine, cosine), (second, other)) = (angle.sin_cos(), (2.0 * angle).sin_cos());
    [SQRT_2 * sine, SQRT_2 * cosine, SQRT_2 * second, SQRT_2 * other, weekend, 0.0]
}

pub(super) fn dot(left: &Row, right: &Row) -> f64 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

/// What `rows` lead to their targets by, if the first `older` of them foretold the others so well that
/// their error falls to the share `worth`.
pub(super) fn learn(rows: &[(Row, f64)], older: usize, worth: f64) -> Option<Row> {
    let (older, newer) = rows.split_at(older.min(rows.len()));
    if newer.len() < LEAST_JUDGES || older.len() < LEAST_JUDGES {
        return None;
    }
    let tried = ridge(older);
    let error = |by: &Row| newer.iter().map(|(row, target)| (target - dot(by, row)).abs()).sum();
    let (with, without): (f64, f64) = (error(&tried), error(&[0.0; FEATURES]));
    (with < worth * without).then(|| ridge(rows))
}

/// Ridge regression by coordinate descent.
fn ridge(rows: &[(Row, f64)]) -> Row {
    let mut left: Vec<f64> = rows.iter().map(|(_, target)| *target).collect();
    let mut found = [0.0; FEATURES];
    for _ in 0..ROUNDS {
        for (at, coefficient) in found.iter_mut().enumerate() {
            let (shared, squares) =
                rows.iter().zip(&left).fold((0.0, 0.0), |(shared, squares), ((row, _), left)| {
                    (shared + row[at] * left, squares + row[at] * row[at])
                });
            let step = (shared - RIDGE * *coefficient) / (squares + RIDGE);
            left.iter_mut().zip(rows).for_each(|(left, (row, _))| *left -= step * row[at]);
            *coefficient += step;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_and_the_weekend_are_told_apart() {
        let hour_ms = 3_600_000;
        // A Monday.
        let monday_ms = 20_661 * DAY_MS;
        let all: Vec<Row> = (0..168).map(|at| moment(monday_ms + at * hour_ms, hour_ms)).collect();
        for at in 0..BUSY {
            let mean = all.iter().map(|row| row[at]).sum::<f64>() / 168.0;
            let square = all.iter().map(|row| row[at] * row[at]).sum::<f64>() / 168.0;
            assert!(mean.abs() < 1e-3 && (square - 1.0).abs() < 1e-2, "{at}: {mean} {square}");
        }
        assert!(all[5 * 24][4] > 0.0 && all[4 * 24][4] < 0.0);
        assert_eq!(moment(0, DAY_MS)[0], 0.0);
        assert!(moment(u64::MAX, u64::MAX).iter().all(|value| value.is_finite()));
    }

    #[test]
    fn what_held_is_learned_and_chance_is_not() {
        let row = |at: u64| moment(at * 3_600_000, 3_600_000);
        let law = [0.0, 0.4, 0.0, 0.0, 0.2, 0.0];
        let told: Vec<(Row, f64)> = (0..400).map(|at| (row(at), dot(&row(at), &law))).collect();
        let found = learn(&told, 260, 0.97).unwrap();
        assert!(found.iter().zip(law).all(|(found, law)| (found - law).abs() < 0.03), "{found:?}");
        let chance = |at: u64| (at * at * 7_919 % 101) as f64 / 50.0 - 1.0;
        let noise: Vec<(Row, f64)> = (0..400).map(|at| (row(at), chance(at))).collect();
        assert_eq!(learn(&noise, 260, 0.97), None);
        assert_eq!(learn(&told[..12], 8, 0.97), None);
        assert_eq!(learn(&[], 0, 0.97), None);
    }
}
