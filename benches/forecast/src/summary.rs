//! What all cells together say, and which targets that meets.

use serde::Serialize;

use crate::Cell;

const MOST_RELATIVE_MAE: f64 = 0.80;
const MOST_OVER_BEST: f64 = 1.02;
const COVERAGE: (f64, f64) = (0.88, 0.92);
const MOST_RELATIVE_WIDTH: f64 = 1.0;

/// One aim, what came out, and whether it was met.
#[derive(Clone, Debug, Serialize)]
pub struct Target {
    /// What is measured.
    pub what: &'static str,
    /// What it should be.
    pub wanted: String,
    /// What it is.
    pub is: f64,
    /// Share of the cells (or hours) that meet it on their own.
    pub share_of_cells: f64,
    /// Whether it is met.
    pub met: bool,
}

/// Means over all cells, each counted once.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Traces times horizons.
    pub cells: usize,
    /// Mean error relative to the last value held.
    pub relative_to_last: f64,
    /// Mean error relative to the smoothed level held.
    pub relative_to_level: f64,
    /// Mean and largest error over that of each cell's best expert in hindsight.
    pub over_best: (f64, f64),
    /// Mean, least and largest coverage of the 90 % interval.
    pub coverage: (f64, f64, f64),
    /// Mean coverage per hour of day, over the cells that have it.
    pub coverage_by_hour: Vec<Option<f64>>,
    /// Mean, and largest, width relative to the static interval of equal coverage.
    pub relative_width: (f64, f64),
    /// The aims.
    pub targets: Vec<Target>,
}

impl Summary {
    /// Of cells with at least one point.
    pub fn new(cells: &[Cell]) -> Self {
        let of = |figure: fn(&Cell) -> f64| cells.iter().map(figure).collect::<Vec<f64>>();
        let last = of(|cell| cell.relative_to_last);
        let level = of(|cell| cell.relative_to_level);
        let best = of(|cell| cell.over_best);
        let covered = of(|cell| cell.coverage);
        let width = of(|cell| cell.relative_width);
        let by_hour: Vec<Option<f64>> = (0..24).map(|hour| hour_mean(cells, hour)).collect();
        let hours: Vec<f64> = by_hour.iter().copied().flatten().collect();
        let inside = |covered: f64| (COVERAGE.0..=COVERAGE.1).contains(&covered);
        let coverage_text = format!("{} to {}", COVERAGE.0, COVERAGE.1);
        let farthest = hours.iter().copied().fold(0.9, |worst: f64, hour| {
            if (hour - 0.9).abs() > (worst - 0.9).abs() { hour } else { worst }
        });
        let at_most = |what, most: f64, is: f64, cells: &[f64]| Target {
            what,
            wanted: format!("at most {most}"),
            is,
            share_of_cells: share(cells, |figure| figure <= most),
            met: is <= most,
        };
        let covers = |what, is: f64, cells: &[f64]| Target {
            what,
            wanted: coverage_text.clone(),
            is,
            share_of_cells: share(cells, inside),
            met: inside(is),
        };
        let targets = vec![
            at_most("mean error relative to the last value", MOST_RELATIVE_MAE, mean(&last), &last),
            at_most(
                "mean error relative to the smoothed level",
                MOST_RELATIVE_MAE,
                mean(&level),
                &level,
            ),
            at_most(
                "largest error over a cell's best expert",
                MOST_OVER_BEST,
                largest(&best),
                &best,
            ),
            covers("coverage of 90 % intervals", mean(&covered), &covered),
            covers("coverage in the hour of day farthest off", farthest, &hours),
            at_most("mean width relative to static", MOST_RELATIVE_WIDTH, mean(&width), &width),
        ];
        Self {
            cells: cells.len(),
            relative_to_last: mean(&last),
            relative_to_level: mean(&level),
            over_best: (mean(&best), largest(&best)),
            coverage: (
                mean(&covered),
                -largest(&covered.iter().map(|c| -c).collect::<Vec<_>>()),
                largest(&covered),
            ),
            coverage_by_hour: by_hour,
            relative_width: (mean(&width), largest(&width)),
            targets,
        }
    }
}

fn hour_mean(cells: &[Cell], hour: usize) -> Option<f64> {
    let known: Vec<f64> = cells
        .iter()
        .filter_map(|cell| cell.coverage_by_hour.get(hour).copied().flatten())
        .collect();
    (!known.is_empty()).then(|| mean(&known))
}

fn mean(figures: &[f64]) -> f64 {
    figures.iter().sum::<f64>() / figures.len().max(1) as f64
}

fn largest(figures: &[f64]) -> f64 {
    figures.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

fn share(figures: &[f64], good: impl Fn(f64) -> bool) -> f64 {
    figures.iter().filter(|figure| good(**figure)).count() as f64 / figures.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_target_is_called_missed() {
        let cell = |relative: f64| {
            let mut cell = Cell::default();
            cell.relative_to_last = relative;
            cell.relative_to_level = relative;
            cell.over_best = 1.1;
            cell.coverage = 0.9;
            cell.coverage_by_hour = vec![Some(0.9); 24];
            cell.relative_width = 0.7;
            cell
        };
        let summary = Summary::new(&[cell(0.6), cell(0.9)]);
        let met: Vec<bool> = summary.targets.iter().map(|target| target.met).collect();
        assert_eq!(met, [true, true, false, true, true, true]);
        assert_eq!(summary.targets[0].share_of_cells, 0.5);
    }
}
