//! The plan that one migration shifts by, where that is learned, and what it told of the plan.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::tally::Tally;
use crate::learning::Shift;
use crate::scene::Scene;
use crate::{Meters, MigrationSpec, PlaceName, ShiftOutcome};

/// The plan of one migration; empty: as configured, and nothing is learned from it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Paced {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plan: Option<Shift>,
    /// What target and others counted while requests moved.
    #[serde(default)]
    target: Tally,
    #[serde(default)]
    others: Tally,
}

impl Paced {
    /// The plan for a migration to a place that begins now.
    pub(super) fn of(scene: &Scene<'_>, to: &PlaceName) -> Self {
        let learned = scene.places.learning().filter(|_| scene.spec.learning.steps);
        let plan = learned.map(|learning| learning.choose(to, scene.spec));
        Self { plan, ..Self::default() }
    }

    /// What is configured, with the steps of the plan.
    pub(super) fn spec<'a>(&self, configured: &'a MigrationSpec) -> Cow<'a, MigrationSpec> {
        let Some(plan) = &self.plan else { return Cow::Borrowed(configured) };
        let (steps, verify_ms) = (plan.steps.clone(), plan.verify_ms);
        Cow::Owned(MigrationSpec { steps, verify_ms, ..configured.clone() })
    }

    /// Why this plan, to follow what else is said of the begin.
    pub(super) fn text(&self) -> String {
        self.plan.as_ref().map_or_else(String::new, |plan| format!("; it shifts by {}", plan.text))
    }

    /// Takes one tick in which requests moved.
    pub(super) fn observe(&mut self, target: &Meters, others: Tally) {
        if self.plan.is_some() {
            self.target.add(target);
            self.others = self.others.and(&others);
        }
    }

    /// What became of it; none where nothing is learned.
    pub(super) fn outcome(&self, completed: bool) -> Option<ShiftOutcome> {
        let pace = self.plan.as_ref()?.pace;
        let bad = |tally: &Tally| {
            let bad = tally.failed.saturating_add(tally.late);
            bad as f64 / tally.ended().max(1) as f64
        };
        let harmed = (bad(&self.target) - bad(&self.others)).clamp(0.0, 1.0);
        Some(ShiftOutcome { pace, completed, harmed })
    }
}
