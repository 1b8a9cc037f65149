//! Chance arrivals that are the same on every machine.

/// A rate above which a normal approximation, corrected for skewness, replaces exact draws.
const EXACT_BELOW: f64 = 30.0;

/// A number between 0 and 1 for the `draw`-th draw of the `tick`-th tick (splitmix64, Steele, Lea
/// and Flood 2014).
fn unit(seed: u64, tick: u64, draw: u64) -> f64 {
    let mut z = seed
        .wrapping_add(tick.wrapping_mul(0x9E37_79B9_7F4A_7C15))
        .wrapping_add(draw.wrapping_mul(0xD1B5_4A32_D192_ED03));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (((z ^ (z >> 31)) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

/// A Poisson number with the given mean: by products of uniform numbers (Knuth, The Art of
/// Computer Programming, 3.4.1) where it is small, else the sum of twelve uniform numbers as a
/// normal one with the Cornish-Fisher correction for skewness.
pub(crate) fn poisson(seed: u64, tick: u64, mean: f64) -> u64 {
    if mean.is_nan() || mean <= 0.0 {
        return 0;
    }
    if mean < EXACT_BELOW {
        let limit = (-mean).exp();
        let mut product = unit(seed, tick, 0);
        let mut drawn = 0;
        while product > limit {
            drawn += 1;
            product *= unit(seed, tick, drawn);
        }
        return drawn;
    }
    let z: f64 = (0..12).map(|draw| unit(seed, tick, draw)).sum::<f64>() - 6.0;
    (mean + mean.sqrt() * z + (z * z - 1.0) / 6.0).round().max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_variance_are_those_asked_for() {
        for mean in [0.3, 4.0, 29.0, 31.0, 900.0] {
            let draws: Vec<f64> = (0..20_000).map(|tick| poisson(7, tick, mean) as f64).collect();
            let average = draws.iter().sum::<f64>() / 20_000.0;
            let variance = draws.iter().map(|d| (d - average).powi(2)).sum::<f64>() / 20_000.0;
            assert!((average / mean - 1.0).abs() < 0.03, "{mean}: {average}");
            assert!((variance / mean - 1.0).abs() < 0.05, "{mean}: {variance}");
        }
        assert_eq!((poisson(1, 1, 0.0), poisson(1, 1, f64::NAN)), (0, 0));
    }
}
