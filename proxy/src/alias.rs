//! Weighted draws in constant time.

/// An alias table: draws index `i` with probability `weight[i] / sum`, without lock or allocation.
///
/// Walker 1977 ("An efficient method for generating discrete random variables with general
/// distributions"), built by Vose's linear-time method (1991). All arithmetic is on integers, so a
/// weight of zero has a probability of exactly zero and others are off by less than 2^-31.
#[derive(Clone, Debug)]
pub struct AliasTable {
    slots: Box<[Slot]>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The slot keeps its own index when the lower half of the draw is below this.
    threshold: u32,
    alias: u32,
}

impl AliasTable {
    /// A table for `weights`; none when they are all zero, absent, or more than `u32::MAX` of them.
    #[must_use]
    pub fn new(weights: &[u32]) -> Option<Self> {
        let n = u32::try_from(weights.len()).ok()?;
        let total: u128 = weights.iter().map(|&weight| u128::from(weight)).sum();
        if total == 0 {
            return None;
        }
        // Scaled by n, a weight that equals the mean fills its slot exactly.
        let mut left: Vec<u128> =
            weights.iter().map(|&weight| u128::from(weight) * u128::from(n)).collect();
        let (mut small, mut large): (Vec<u32>, Vec<u32>) =
            (0..n).partition(|&i| left[i as usize] < total);
        let mut slots: Vec<Slot> =
            (0..n).map(|alias| Slot { threshold: u32::MAX, alias }).collect();
        while let (Some(poor), Some(rich)) = (small.pop(), large.last().copied()) {
            let share = (left[poor as usize] << 32) / total;
            slots[poor as usize] =
                Slot { threshold: u32::try_from(share).unwrap_or(u32::MAX), alias: rich };
            left[rich as usize] -= total - left[poor as usize];
            if left[rich as usize] < total {
                large.pop();
                small.push(rich);
            }
        }
        Some(Self { slots: slots.into_boxed_slice() })
    }

    /// The index that `random`, uniform over all of `u64`, falls on.
    #[must_use]
    pub fn draw(&self, random: u64) -> usize {
        let column = ((random >> 32) * self.slots.len() as u64) >> 32;
        let slot = self.slots[column as usize];
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
        let coin = random as u32;
        if coin < slot.threshold { column as usize } else { slot.alias as usize }
    }

    /// Number of weights the table was built for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Always false: a table without weights cannot be built.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// The exact probability of each index, from the table itself.
    fn probabilities(table: &AliasTable) -> Vec<f64> {
        let n = table.len() as f64;
        let mut p = vec![0.0; table.len()];
        for (i, slot) in table.slots.iter().enumerate() {
            let own = if slot.alias as usize == i {
                1.0
            } else {
                f64::from(slot.threshold) / 2f64.powi(32)
            };
            p[i] += own / n;
            p[slot.alias as usize] += (1.0 - own) / n;
        }
        p
    }

    proptest! {
        #[test]
        fn the_table_holds_the_weights_exactly(weights in prop::collection::vec(0u32..20_000, 1..200)) {
            let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
            let Some(table) = AliasTable::new(&weights) else {
                prop_assert_eq!(total, 0.0);
                return Ok(());
            };
            for (p, &weight) in probabilities(&table).iter().zip(&weights) {
                prop_assert!((p - f64::from(weight) / total).abs() < 1e-8);
                prop_assert!(weight > 0 || *p == 0.0);
            }
        }

        #[test]
        fn an_index_of_weight_zero_is_never_drawn(
            weights in prop::collection::vec(prop_oneof![Just(0u32), 1u32..=u32::MAX], 1..40),
            randoms in prop::collection::vec(any::<u64>(), 200),
        ) {
            if let Some(table) = AliasTable::new(&weights) {
                for random in randoms.into_iter().chain([0, u64::MAX, u64::from(u32::MAX)]) {
                    prop_assert!(weights[table.draw(random)] > 0);
                }
            }
        }
    }

    #[test]
    fn draws_pass_a_chi_square_test() {
        let weights = [1, 2, 3, 4, 0, 90];
        let table = AliasTable::new(&weights).unwrap();
        let mut rng = StdRng::seed_from_u64(7);
        let draws = 200_000;
        let mut seen = [0u32; 6];
        for _ in 0..draws {
            seen[table.draw(rng.next_u64())] += 1;
        }
        assert_eq!(seen[4], 0);
        let chi_square: f64 = weights
            .iter()
            .zip(seen)
            .filter(|&(&weight, _)| weight > 0)
            .map(|(&weight, seen)| {
                let expected = f64::from(weight) / 100.0 * f64::from(draws);
                (f64::from(seen) - expected).powi(2) / expected
            })
            .sum();
        // 0.999 quantile of chi-square with 4 degrees of freedom.
        assert!(chi_square < 18.47, "chi-square {chi_square}, counts {seen:?}");
    }

    #[test]
    fn nothing_to_draw_is_no_table() {
        assert!(AliasTable::new(&[]).is_none());
        assert!(AliasTable::new(&[0, 0]).is_none());
    }
}
