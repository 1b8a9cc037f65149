//! A recorded run, and running it again to see whether it comes out the same.

use serde::{Deserialize, Serialize};

use crate::{Controller, Observation, Plan, ServiceSpec};

/// One line of a recording.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "entry")]
pub enum Entry {
    /// The specs were set: the first starts a controller, later ones reconfigure it.
    Configure {
        /// All services from here on.
        specs: Vec<ServiceSpec>,
    },
    /// The whole controller, so that a recording can start, and be cut, anywhere.
    Checkpoint {
        /// Its state before the next tick.
        controller: Box<Controller>,
    },
    /// What was seen, and what was decided on it.
    Tick {
        /// What the controller was given.
        observation: Box<Observation>,
        /// What it answered.
        plan: Box<Plan>,
    },
}

/// What a replay found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReplayReport {
    /// Ticks that were run again.
    pub ticks: u64,
    /// Ticks passed over, because neither specs nor a checkpoint came before them.
    pub unreplayable: u64,
    /// The first tick that came out differently; the replay ends there.
    pub divergence: Option<Box<Divergence>>,
}

/// A tick whose recorded plan is not what the controller says now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    /// Position of the entry in the recording, from 0.
    pub entry: u64,
    /// The plan as recorded.
    pub recorded: Plan,
    /// The plan as made now.
    pub replayed: Plan,
}

/// Runs a recording again and compares every plan; stops at the first that differs.
#[must_use]
pub fn replay(entries: impl Iterator<Item = Entry>) -> ReplayReport {
    let mut report = ReplayReport::default();
    let mut running: Option<Controller> = None;
    for (position, entry) in (0u64..).zip(entries) {
        match entry {
            Entry::Configure { specs } => match &mut running {
                Some(controller) => controller.configure(specs),
                None => running = Some(Controller::new(specs)),
            },
            Entry::Checkpoint { controller } => running = Some(*controller),
            Entry::Tick { observation, plan } => {
                let Some(controller) = &mut running else {
                    report.unreplayable += 1;
                    continue;
                };
                let replayed = controller.tick(&observation);
                report.ticks += 1;
                if replayed != *plan {
                    report.divergence =
                        Some(Box::new(Divergence { entry: position, recorded: *plan, replayed }));
                    break;
                }
            }
        }
    }
    report
}
