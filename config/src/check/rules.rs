//! Rules: their names, and what they ask of which service.

use std::collections::BTreeMap;

use foreshadow_control::{
    MAX_RULES, MAX_SIGHTS, Rule, RuleAction, RuleSpec, ServiceName, is_rule_name, sights,
};

use crate::Service;
use crate::raw::{Map, RuleText};
use crate::reader::{At, Field, Problem, Reader, quote};

/// Checks the rules of the service `own`, ordered by name.
pub(super) fn rules(
    field: Field<Map<RuleText>>,
    own: &ServiceName,
    services: &BTreeMap<ServiceName, Service>,
    r: &mut Reader<'_>,
) -> Vec<RuleSpec> {
    let Some(At { value: written, place }) = field.given() else { return Vec::new() };
    if written.0.len() > MAX_RULES {
        let found = format!("{} rules", written.0.len());
        r.report(&place, Problem::new(found, format!("at most {MAX_RULES}")));
    }
    let mut rules = Vec::with_capacity(written.0.len());
    for (name, rule) in written.0 {
        if !is_rule_name(&name.value) {
            let problem = Problem::new(
                format!("the name {}", quote(&name.value)),
                "1 to 63 letters, digits, -, _ or ., beginning with a letter or digit",
            );
            r.report(&name.place, problem);
        }
        let Some(At { value: RuleText(rule), place }) = rule.given() else { continue };
        let spec = RuleSpec { name: name.value, rule };
        for problem in impossible(&spec.rule, own, services) {
            r.report(&place, problem);
        }
        rules.push(spec);
    }
    let sights = sights(rules.iter().map(|spec| &spec.rule)).len();
    if sights > MAX_SIGHTS {
        let found = format!("{sights} different times and quantiles beyond 10 minutes ahead");
        let problem = Problem::new(found, format!("at most {MAX_SIGHTS}"));
        r.report(&place, problem.help("let rules ask about the same times"));
    }
    rules.sort_by(|a, b| a.name.cmp(&b.name));
    rules
}

/// What the rule asks for and can never be had.
pub(crate) fn impossible(
    rule: &Rule,
    own: &ServiceName,
    services: &BTreeMap<ServiceName, Service>,
) -> Vec<Problem> {
    let problem = |action: &RuleAction| {
        let of = action.service().unwrap_or(own);
        let Some(service) = services.get(of) else {
            let known: Vec<&str> = services.keys().take(20).map(ServiceName::as_str).collect();
            let expected = format!("a configured service: {}", known.join(", "));
            let problem = Problem::new(action.to_string(), expected);
            return Some(problem.nearest(of.as_str(), services.keys().map(ServiceName::as_str)));
        };
        let count = action.count()?;
        match service.shadows.as_ref().map(|shadows| shadows.pool.max) {
            None => Some(
                Problem::new(action.to_string(), format!("shadows of {of}"))
                    .help(format!("give {of} `shadows.provider`: there is nothing to bring in")),
            ),
            Some(max) if count > max => Some(
                Problem::new(action.to_string(), format!("at most {max}, the pool's max"))
                    .help(format!("raise `shadows.pool.max` of {of}, or ask for fewer")),
            ),
            Some(_) => None,
        }
    };
    rule.actions.iter().filter_map(problem).collect()
}
