//! The small set of plans by which the requests of an instance move elsewhere.

use serde::{Deserialize, Serialize};

use crate::MigrationSpec;

/// Steps and time of the careful plan, where the configured one is not more careful still.
const CAREFUL_STEPS: [f64; 6] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0];
const CAREFUL_VERIFY_MS: u64 = 15_000;
const BRISK_STEPS: [f64; 3] = [0.1, 0.5, 1.0];
const BRISK_VERIFY_MS: u64 = 5_000;

/// How fast requests move, from the most careful to the fastest.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// 1, 5, 10, 25, 50, 100 %, each watched for 15 s; and every configured step, each for as long as is
    /// configured, where that is longer.
    Careful,
    /// As configured.
    #[default]
    Normal,
    /// 10, 50, 100 %, each watched for 5 s; none where the configured plan is no slower.
    Brisk,
}

impl Pace {
    /// Every pace, the most careful first.
    pub const ALL: [Self; 3] = [Self::Careful, Self::Normal, Self::Brisk];

    /// Its name in configuration, answers and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Careful => "careful",
            Self::Normal => "normal",
            Self::Brisk => "brisk",
        }
    }

    /// The next more careful one; the most careful stays.
    pub(super) fn slower(self) -> Self {
        match self {
            Self::Careful | Self::Normal => Self::Careful,
            Self::Brisk => Self::Normal,
        }
    }

    /// The next faster one.
    pub(super) fn faster(self) -> Option<Self> {
        match self {
            Self::Careful => Some(Self::Normal),
            Self::Normal => Some(Self::Brisk),
            Self::Brisk => None,
        }
    }

    /// The plan of this pace; none where it would be no faster than the configured one.
    #[must_use]
    pub fn plan(self, spec: &MigrationSpec) -> Option<(Vec<f64>, u64)> {
        match self {
            Self::Careful => {
                let mut steps = spec.steps.clone();
                steps.extend(CAREFUL_STEPS);
                steps.retain(|step| *step > 0.0 && *step <= 1.0);
                steps.sort_unstable_by(f64::total_cmp);
                steps.dedup();
                Some((steps, spec.verify_ms.max(CAREFUL_VERIFY_MS)))
            }
            Self::Normal => Some((spec.steps.clone(), spec.verify_ms)),
            Self::Brisk => {
                let verify_ms = spec.verify_ms.min(BRISK_VERIFY_MS);
                let takes_ms =
                    |steps: usize, verify_ms: u64| verify_ms.saturating_mul(steps as u64);
                let faster = takes_ms(BRISK_STEPS.len(), verify_ms)
                    < takes_ms(spec.steps.len(), spec.verify_ms);
                faster.then(|| (BRISK_STEPS.to_vec(), verify_ms))
            }
        }
    }
}

impl std::fmt::Display for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How one migration shifts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shift {
    /// Which plan it is, to be told with the outcome.
    pub pace: Pace,
    /// Part of the requests that has moved after each step, as [`MigrationSpec::steps`].
    pub steps: Vec<f64>,
    /// Each step is watched for this long.
    pub verify_ms: u64,
    /// Why this one, with figures.
    pub text: String,
}

/// What became of one migration.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShiftOutcome {
    /// The plan it was shifted by.
    pub pace: Pace,
    /// Whether all requests moved; false where a check failed. One that was called off for another reason says
    /// nothing and is not told.
    pub completed: bool,
    /// Of the requests that the target took meanwhile the share that failed or were later than the objective
    /// beyond what the source's did, 0 to 1.
    pub harmed: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_careful_plan_is_never_less_careful_than_the_configured_one() {
        let specs = [
            MigrationSpec::default(),
            MigrationSpec { steps: vec![0.003, 0.7, 1.0], verify_ms: 90_000, ..Default::default() },
            MigrationSpec { steps: vec![1.0], verify_ms: 10, ..Default::default() },
        ];
        for spec in specs {
            let (steps, verify_ms) = Pace::Careful.plan(&spec).expect("there is always one");
            assert!(verify_ms >= spec.verify_ms);
            assert!(spec.steps.iter().all(|step| steps.contains(step)), "{steps:?}");
            assert!(steps.windows(2).all(|pair| pair[0] < pair[1]) && steps.last() == Some(&1.0));
            assert_eq!(Pace::Normal.plan(&spec), Some((spec.steps, spec.verify_ms)));
        }
    }

    #[test]
    fn there_is_no_brisk_plan_where_the_configured_one_is_as_fast() {
        let plain = Pace::Brisk.plan(&MigrationSpec::default());
        assert_eq!(plain, Some((vec![0.1, 0.5, 1.0], 5_000)));
        let fast = MigrationSpec { steps: vec![0.5, 1.0], verify_ms: 3_000, ..Default::default() };
        assert_eq!(Pace::Brisk.plan(&fast), None);
    }
}
