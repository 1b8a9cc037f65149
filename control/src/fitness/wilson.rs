//! What a share may be, given how often something was seen.

/// Two-sided 95 % of the standard normal distribution.
const Z: f64 = 1.96;

/// A share as counted, and the ends of its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Share {
    pub(super) point: f64,
    pub(super) lower: f64,
    pub(super) upper: f64,
}

/// The share of `hits` in `trials`; from nothing at all to everything where there were no trials.
///
/// The score interval of Wilson (1927), "Probable inference, the law of succession, and
/// statistical inference", J. Am. Stat. Assoc. 22, 209-212: unlike the normal approximation it
/// holds for few trials and for shares near 0 and 1. The trials are taken as independent.
pub(super) fn share(hits: f64, trials: f64) -> Share {
    if trials.is_nan() || trials <= 0.0 {
        return Share { point: 0.0, lower: 0.0, upper: 1.0 };
    }
    let point = (hits / trials).clamp(0.0, 1.0);
    let spread = Z * Z / trials;
    let centre = (point + spread / 2.0) / (1.0 + spread);
    let half =
        Z / (1.0 + spread) * (point * (1.0 - point) / trials + spread / (4.0 * trials)).sqrt();
    Share {
        point,
        lower: (centre - half).clamp(0.0, point),
        upper: (centre + half).clamp(point, 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_the_literature() {
        // Newcombe (1998), Statistics in Medicine 17, 857-872, table I, method 3.
        for (hits, trials, lower, upper) in [
            (81.0, 263.0, 0.2553, 0.3662),
            (15.0, 148.0, 0.0624, 0.1605),
            (0.0, 20.0, 0.0, 0.1611),
            (1.0, 29.0, 0.0061, 0.1718),
        ] {
            let share = share(hits, trials);
            assert!((share.lower - lower).abs() < 1e-4, "{hits} of {trials}: {share:?}");
            assert!((share.upper - upper).abs() < 1e-4, "{hits} of {trials}: {share:?}");
        }
    }

    #[test]
    fn nothing_seen_excludes_nothing() {
        for trials in [0.0, -1.0, f64::NAN] {
            assert_eq!(share(0.0, trials), Share { point: 0.0, lower: 0.0, upper: 1.0 });
        }
    }
}
