//! Rules against a recorded run: when they would have fired, with nothing carried out.

use serde::Serialize;

use super::view::{RuleState, RuleView};
use super::{MAX_RULES, RuleSpec};
use crate::{Action, Controller, Entry, Law, Observation, Plan, ServiceName, Tier};

/// Firings kept of one rule; later ones are only counted.
const MAX_FIRINGS: usize = 1_000;

/// What the recorded run ordered longer after a firing has nothing to do with it.
const AFTER_MS: u64 = 600_000;

/// What became of rules in a recorded run.
///
/// The run is gone through by the controller itself, with the rules added to the service. Its plans
/// are thrown away: what was observed then is what it sees, whatever the rules ask for.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DryRun {
    /// Ticks in which the service was seen.
    pub ticks: u64,
    /// Ticks passed over, because neither specs nor a checkpoint came before them.
    pub left_out: u64,
    /// Time of the first and the last of these ticks.
    pub from_ms: u64,
    /// See `from_ms`.
    pub to_ms: u64,
    /// One for each rule, in the order given.
    pub rules: Vec<DryRule>,
}

/// What became of one rule.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DryRule {
    /// Its name.
    pub name: String,
    /// Its text.
    pub rule: String,
    /// Ticks in which it could not be evaluated.
    pub no_data_ticks: u64,
    /// How often it fired.
    pub fired: u64,
    /// When, the first thousand times.
    pub firings: Vec<Firing>,
    /// How it stood at the end.
    pub last: Option<RuleView>,
}

/// A time in which a rule fired.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Firing {
    /// When it began.
    pub from_ms: u64,
    /// When it ended; absent when it lasted to the end.
    pub to_ms: Option<u64>,
    /// The figures when it began.
    pub figures: Vec<String>,
    /// When the recorded run first ordered a shadow to serve, at or after this firing's begin, and
    /// the law that did: what the rule would have been ahead of.
    pub first_recorded: Option<(u64, Law)>,
}

/// Goes through a recording with `rules` on `service`; they replace those of the same names.
#[must_use]
pub fn dry_run(
    entries: impl Iterator<Item = Entry>,
    service: &ServiceName,
    rules: &[RuleSpec],
) -> DryRun {
    let mut run = DryRun { rules: rules.iter().map(DryRule::new).collect(), ..DryRun::default() };
    let mut running: Option<Controller> = None;
    for entry in entries {
        match entry {
            Entry::Configure { specs } => match &mut running {
                Some(controller) => controller.configure(with_rules(specs, service, rules)),
                None => running = Some(Controller::new(with_rules(specs, service, rules))),
            },
            // A later checkpoint would make the rules forget what they have seen.
            Entry::Checkpoint { controller } if running.is_none() => {
                let mut controller = *controller;
                controller.configure(with_rules(controller.specs(), service, rules));
                running = Some(controller);
            }
            Entry::Checkpoint { .. } => {}
            Entry::Tick { observation, plan } => match &mut running {
                Some(controller) => run.tick(controller, &observation, &plan, service),
                None => run.left_out += 1,
            },
        }
    }
    run
}

fn with_rules(
    mut specs: Vec<crate::ServiceSpec>,
    service: &ServiceName,
    rules: &[RuleSpec],
) -> Vec<crate::ServiceSpec> {
    for spec in specs.iter_mut().filter(|spec| spec.name == *service) {
        spec.rules.retain(|old| rules.iter().all(|new| new.name != old.name));
        // Those to be tried come first: none of them must be cut off.
        spec.rules.splice(0..0, rules.iter().cloned());
        spec.rules.truncate(MAX_RULES);
    }
    specs
}

impl DryRun {
    fn tick(
        &mut self,
        controller: &mut Controller,
        observation: &Observation,
        recorded: &Plan,
        service: &ServiceName,
    ) {
        let plan = controller.tick(observation);
        let Some(planned) = plan.services.iter().find(|planned| planned.service == *service) else {
            return;
        };
        if self.ticks == 0 {
            self.from_ms = observation.at_ms;
        }
        self.ticks += 1;
        self.to_ms = observation.at_ms;
        let committed = recorded
            .services
            .iter()
            .filter(|recorded| recorded.service == *service)
            .flat_map(|recorded| &recorded.actions)
            .find(|a| matches!(a.action, Action::Move { tier: Tier::Serving, .. }))
            .map(|a| a.reason.law);
        for rule in &mut self.rules {
            if let Some(view) = planned.rules.iter().find(|view| view.name == rule.name) {
                rule.see(view, observation.at_ms, committed);
            }
        }
    }
}

impl DryRule {
    fn new(spec: &RuleSpec) -> Self {
        Self {
            name: spec.name.clone(),
            rule: spec.rule.to_string(),
            no_data_ticks: 0,
            fired: 0,
            firings: Vec::new(),
            last: None,
        }
    }

    fn see(&mut self, view: &RuleView, at_ms: u64, committed: Option<Law>) {
        let fired = self.last.as_ref().is_some_and(|last| last.state == RuleState::Firing);
        let fires = view.state == RuleState::Firing;
        self.no_data_ticks += u64::from(view.state == RuleState::NoData);
        if fires && !fired {
            self.fired += 1;
            if self.firings.len() < MAX_FIRINGS {
                self.firings.push(Firing {
                    from_ms: at_ms,
                    to_ms: None,
                    figures: view.readings.iter().map(|reading| reading.text.clone()).collect(),
                    first_recorded: None,
                });
            }
        }
        if self.fired as usize <= self.firings.len()
            && let Some(firing) = self.firings.last_mut()
        {
            if fired && !fires {
                firing.to_ms = Some(at_ms);
            }
            let is_near = firing.to_ms.is_none_or(|to_ms| at_ms.saturating_sub(to_ms) <= AFTER_MS);
            if let Some(law) = committed.filter(|_| is_near) {
                firing.first_recorded.get_or_insert((at_ms, law));
            }
        }
        self.last = Some(view.clone());
    }
}
