//! Which outcomes are not beaten by others, and what a rival does for the same instance-hours.

use serde::Serialize;

/// An outcome as hours against violations.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Instance-hours, or cost.
    pub hours: f64,
    /// Seconds of violation.
    pub violation_s: f64,
}

/// For every point whether no other has both less hours and no more violations, or fewer
/// violations and no more hours.
#[must_use]
pub fn pareto(points: &[Point]) -> Vec<bool> {
    let beats = |a: &Point, b: &Point| {
        a.hours <= b.hours
            && a.violation_s <= b.violation_s
            && (a.hours < b.hours || a.violation_s < b.violation_s)
    };
    points.iter().map(|point| !points.iter().any(|other| beats(other, point))).collect()
}

/// Seconds of violation that a family of policies has at `hours`: between its settings on a
/// straight line, above the dearest as the dearest; none below the cheapest, which it cannot go
/// below.
#[must_use]
pub fn at_equal_hours(family: &[Point], hours: f64) -> Option<f64> {
    let mut sorted = family.to_vec();
    sorted.sort_by(|a, b| a.hours.total_cmp(&b.hours));
    // A setting that is dearer and worse than another is not what one would choose.
    let mut least = f64::INFINITY;
    sorted.retain(|point| {
        let better = point.violation_s <= least;
        least = least.min(point.violation_s);
        better
    });
    let above = sorted.iter().position(|point| point.hours > hours);
    match above {
        Some(0) => None,
        None => sorted.last().map(|point| point.violation_s),
        Some(at) => {
            let (left, right) = (sorted[at - 1], sorted[at]);
            let share = (hours - left.hours) / (right.hours - left.hours);
            Some(left.violation_s + share * (right.violation_s - left.violation_s))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(values: &[(f64, f64)]) -> Vec<Point> {
        values.iter().map(|&(hours, violation_s)| Point { hours, violation_s }).collect()
    }

    #[test]
    fn the_unbeaten_are_found() {
        let all = points(&[(1.0, 10.0), (2.0, 5.0), (2.0, 6.0), (3.0, 5.0), (4.0, 0.0)]);
        assert_eq!(pareto(&all), [true, true, false, false, true]);
    }

    #[test]
    fn a_family_is_read_between_its_settings() {
        let family = points(&[(30.0, 0.0), (10.0, 100.0), (20.0, 40.0), (15.0, 120.0)]);
        assert_eq!(at_equal_hours(&family, 15.0), Some(70.0));
        assert_eq!(at_equal_hours(&family, 25.0), Some(20.0));
        assert_eq!(at_equal_hours(&family, 99.0), Some(0.0));
        assert_eq!(at_equal_hours(&family, 9.0), None);
        assert_eq!(at_equal_hours(&[], 9.0), None);
    }
}
