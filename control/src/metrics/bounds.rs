//! What of reported values is believed: one source that errs or lies must not decide for a service.

use super::{MAX_METRIC, is_metric_value};

/// Most that `cpu` is believed to be: ten times what an instance is meant to have. Load reports may
/// exceed 1 where an instance may use more than that.
const MOST_CPU: f64 = 10.0;
/// Most that `memory` and `disk` are: all of it, and what rounding adds.
const MOST_OF_WHOLE: f64 = 1.01;

/// Whether a metric of this name is a share of what an instance has.
#[must_use]
pub fn is_share(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "disk")
}

/// The largest value that is believed of a metric of this name.
#[must_use]
pub fn most_believed(name: &str) -> f64 {
    match name {
        "cpu" => MOST_CPU,
        "memory" | "disk" => MOST_OF_WHOLE,
        _ => MAX_METRIC,
    }
}

/// Whether `value` can be that of the metric `name`.
#[must_use]
pub fn is_believed(name: &str, value: f64) -> bool {
    is_metric_value(value) && value <= most_believed(name)
}

/// The mean of what instances say of a share, each counting at most as all of it, or as the median
/// where most are above that: what one of `n` says moves it by `1 / n` at most.
pub(crate) fn mean_share(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let median = *values.get(values.len().checked_sub(1)? / 2)?;
    let most = median.max(1.0);
    let total: f64 = values.iter().map(|value| value.min(most)).sum();
    Some(total / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_share_is_not_believed() {
        for (name, value, expected) in [
            ("cpu", 1.7, true),
            ("cpu", 50.0, false),
            ("cpu", 9e14, false),
            ("memory", 1.0, true),
            ("memory", 80.0, false),
            ("disk", 1.5, false),
            ("queue_depth", 9e14, true),
            ("queue_depth", -1.0, false),
            ("cpu", f64::NAN, false),
        ] {
            assert_eq!(is_believed(name, value), expected, "{name} {value}");
        }
    }

    #[test]
    fn one_of_many_moves_a_mean_by_its_part_alone() {
        assert_eq!(mean_share(Vec::new()), None);
        assert_eq!(mean_share(vec![0.25, 0.75]), Some(0.5));
        let mut told = vec![0.4; 11];
        told.push(10.0);
        let mean = mean_share(told).unwrap();
        assert!((mean - (11.0 * 0.4 + 1.0) / 12.0).abs() < 1e-12, "{mean}");
        assert_eq!(mean_share(vec![1.5, 1.5, 9.0]), Some(1.5), "all may use more than they have");
    }
}
