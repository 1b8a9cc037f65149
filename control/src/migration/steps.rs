//! The steps of a migration, as they are taken whatever was written.

use super::MigrationSpec;

/// Steps beyond this are left out.
const MOST_STEPS: usize = 100;

impl MigrationSpec {
    /// How many steps there are, at least one.
    pub(super) fn count(&self) -> usize {
        self.steps.len().clamp(1, MOST_STEPS)
    }

    /// Part of the requests that the target has in a step, from 0; the last one moves all.
    pub(super) fn part(&self, step: usize) -> f64 {
        if step.saturating_add(1) >= self.count() {
            return 1.0;
        }
        let part = self.steps.get(step).copied().unwrap_or(1.0);
        if part.is_finite() { part.clamp(0.01, 1.0) } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_written_ends_with_all() {
        let of =
            |steps: &[f64]| MigrationSpec { steps: steps.to_vec(), ..MigrationSpec::default() };
        for steps in [&[][..], &[0.5], &[f64::NAN, 0.2], &[-1.0, 7.0, 0.1]] {
            let spec = of(steps);
            assert_eq!(spec.part(spec.count() - 1), 1.0, "{steps:?}");
            assert_eq!(spec.part(usize::MAX), 1.0);
            assert!((0..spec.count()).all(|step| (0.01..=1.0).contains(&spec.part(step))));
        }
        assert_eq!(of(&[0.05, 0.5, 1.0]).part(1), 0.5);
        assert_eq!(of(&[0.5; 1_000]).count(), MOST_STEPS);
    }
}
