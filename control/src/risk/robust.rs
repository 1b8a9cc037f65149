//! Medians, and what is made of them.

/// The standard deviation of a normal distribution whose median absolute deviation is one.
pub(crate) const NORMAL_MAD: f64 = 1.4826;

/// The 95th percentile of the standard normal distribution: nine tenths lie nearer to its middle.
pub(crate) const NORMAL_95: f64 = 1.645;

/// The 97.5th percentile: nineteen in twenty lie nearer to its middle.
pub(crate) const NORMAL_975: f64 = 1.96;

/// The median, by selection; none of nothing. Reorders the values.
pub(crate) fn median(values: &mut [f64]) -> Option<f64> {
    let half = values.len() / 2;
    let is_even = values.len().is_multiple_of(2);
    if values.is_empty() {
        return None;
    }
    let (below, upper, _) = values.select_nth_unstable_by(half, f64::total_cmp);
    let upper = *upper;
    let lower = below.iter().copied().max_by(f64::total_cmp).filter(|_| is_even);
    Some(lower.map_or(upper, |lower| f64::midpoint(lower, upper)))
}

/// Median of all values but the one at each position, by position; none where nothing is left.
pub(crate) fn medians_of_others(values: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut order: Vec<usize> = (0..values.len()).filter(|at| values[*at].is_some()).collect();
    let value = |at: usize| values[at].unwrap_or(0.0);
    order.sort_by(|a, b| value(*a).total_cmp(&value(*b)));
    let pick = |others: usize, skipped: usize| {
        let other = |nth: usize| value(order[nth + usize::from(nth >= skipped)]);
        (others > 0).then(|| f64::midpoint(other((others - 1) / 2), other(others / 2)))
    };
    // Those without a value are compared with all.
    let mut medians = vec![pick(order.len(), usize::MAX); values.len()];
    for (rank, at) in order.iter().enumerate() {
        medians[*at] = pick(order.len() - 1, rank);
    }
    medians
}

/// 0 up to `from`, 1 from `to` on, a straight line between; 0 for what is no number.
pub(crate) fn ramp(value: f64, from: f64, to: f64) -> f64 {
    if value.is_nan() { 0.0 } else { ((value - from) / (to - from)).clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_those_of_sorted_values() {
        assert_eq!(median(&mut []), None);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn each_is_compared_with_the_others_only() {
        let medians = medians_of_others(&[Some(1.0), Some(100.0), None, Some(3.0)]);
        assert_eq!(medians, [Some(51.5), Some(2.0), Some(3.0), Some(50.5)]);
        assert_eq!(medians_of_others(&[Some(1.0)]), [None]);
    }

    #[test]
    fn ramps_are_bounded_and_swallow_nonsense() {
        for (value, expected) in [
            (0.0, 0.0),
            (1.5, 0.5),
            (f64::INFINITY, 1.0),
            (f64::NEG_INFINITY, 0.0),
            (f64::NAN, 0.0),
        ] {
            assert_eq!(ramp(value, 1.0, 2.0), expected);
        }
    }
}
