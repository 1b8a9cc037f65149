//! What is told of what was learned.

use serde::{Deserialize, Serialize};

use super::beta::Tries;
use super::{Learning, Outcomes, Pace, Shift};
use crate::lead_time::LeadTimes;
use crate::providers::Providers;
use crate::warm_up::WarmUp;
use crate::{PlaceName, ServiceSpec, Tier};

/// What was learned of one service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LearningView {
    /// Whether outcomes are remembered and count in the plan.
    pub outcomes: bool,
    /// By place, in the order of their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<PlaceView>,
    /// Whether migrations shift by what became of earlier ones.
    pub steps: bool,
    /// By place the plans that migrations there may shift by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shifts: Vec<PlaceShifts>,
}

/// The plans that migrations to one place may shift by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlaceShifts {
    /// The place.
    pub place: PlaceName,
    /// The next one and each of them.
    #[serde(flatten)]
    pub rung: RungView,
}

/// What is known of the plans for one place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RungView {
    /// The plan that the next migration would have.
    pub next: Shift,
    /// The plans, the most careful first.
    pub arms: Vec<ArmView>,
}

/// One plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmView {
    /// Which.
    pub pace: Pace,
    /// Its steps, as [`crate::MigrationSpec::steps`].
    pub steps: Vec<f64>,
    /// How long each is watched.
    pub verify_ms: u64,
    /// Whether it may be chosen now.
    pub allowed: bool,
    /// Migrations by it.
    pub migrations: u64,
    /// Of those, failures.
    pub failed: u64,
    /// Migrations that still count, the older ones less.
    pub pulls: f64,
    /// The mean of their values, 0 to 1; none where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<f64>,
    /// What its value is at most, by which it is chosen.
    pub bound: f64,
}

/// What is known of one place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlaceView {
    /// Its name; empty for the place of a service that names none.
    pub place: PlaceName,
    /// Creations.
    pub created: OutcomeView,
    /// Steps of shadows that are there: to warm, full and serving.
    pub raised: Vec<OutcomeView>,
    /// Tries of a creation until one works that are reckoned with, 1 to 4.
    pub expected_tries: f64,
    /// From the first request of a new shadow to its usual speed, as it is reckoned with.
    pub warm_up_ms: u64,
    /// Shadows lost per hour while they serve; none where none has served yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_per_hour: Option<f64>,
    /// Hours of serving that still count in that.
    pub served_hours: f64,
}

/// What became of steps to one tier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutcomeView {
    /// The tier that was to be reached.
    pub to: Tier,
    /// Tries that still count, the older ones less.
    pub tries: f64,
    /// Of those, failures.
    pub failed: f64,
    /// The probability that the next one fails.
    pub fails: f64,
    /// It lies between these two with probability 0.8.
    pub fails_at_least: f64,
    /// See above.
    pub fails_at_most: f64,
    /// The median of the times seen, failures taken to need longer than they were waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lead_p50_ms: Option<u64>,
    /// The 90th percentile, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lead_p90_ms: Option<u64>,
}

const CERTAINTY: f64 = 0.9;

fn to_a_thousandth(figure: f64) -> f64 {
    (figure * 1_000.0).round() / 1_000.0
}

fn outcome(to: Tier, tries: &Tries, leads: &LeadTimes) -> OutcomeView {
    let from = match to {
        Tier::Cold | Tier::Shadow => Tier::Cold,
        Tier::Warm => Tier::Shadow,
        Tier::Full => Tier::Warm,
        Tier::Serving | Tier::Draining => Tier::Full,
    };
    OutcomeView {
        to,
        tries: to_a_thousandth(tries.count()),
        failed: to_a_thousandth(tries.failures()),
        fails: to_a_thousandth(tries.fails()),
        fails_at_least: to_a_thousandth(tries.fails_at_least(CERTAINTY)),
        fails_at_most: to_a_thousandth(tries.fails_at_most(CERTAINTY)),
        lead_p50_ms: leads.percentile(from, to, 5),
        lead_p90_ms: leads.percentile(from, to, 9),
    }
}

impl Learning {
    /// What is known, as it is told.
    pub(crate) fn view(
        &self,
        spec: &ServiceSpec,
        providers: &Providers,
        warm_up: &WarmUp,
    ) -> LearningView {
        let place = |(name, outcomes): (&PlaceName, &Outcomes)| {
            let leads = providers.leads(name);
            let raised = [Tier::Warm, Tier::Full, Tier::Serving];
            let served_hours = outcomes.served_ms / 3_600_000.0;
            PlaceView {
                place: name.clone(),
                created: outcome(Tier::Shadow, &outcomes.made, leads),
                raised: raised
                    .into_iter()
                    .zip(&outcomes.raised)
                    .filter(|(_, tries)| tries.count() > 0.0)
                    .map(|(to, tries)| outcome(to, tries, leads))
                    .collect(),
                expected_tries: to_a_thousandth(outcomes.made.expected()),
                warm_up_ms: warm_up.ms_in(name, spec.warm_up_ms),
                lost_per_hour: (served_hours > 0.0)
                    .then(|| to_a_thousandth(outcomes.lost / served_hours)),
                served_hours: to_a_thousandth(served_hours),
            }
        };
        let fresh = super::Shifts::default();
        let shifts = |name: PlaceName| {
            let rung =
                self.shifts.get(&name).unwrap_or(&fresh).view(spec.learning, &spec.migration);
            PlaceShifts { place: name, rung }
        };
        let mut to: Vec<PlaceName> = spec.places.iter().map(|place| place.name.clone()).collect();
        if to.is_empty() {
            to.push(PlaceName::default());
        }
        to.retain(|_| spec.learning.steps);
        LearningView {
            outcomes: spec.learning.outcomes,
            places: self.places.iter().map(place).collect(),
            steps: spec.learning.steps,
            shifts: to.into_iter().map(shifts).collect(),
        }
    }
}
