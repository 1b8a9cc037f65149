//! The grammar; `docs/rules.md` has it as EBNF.

mod condition;
mod value;

use std::ops::Range;
use std::str::FromStr;

use winnow::Parser;
use winnow::combinator::opt;
use winnow::error::ErrMode;
use winnow::stream::Location;

use super::ast::{Condition, Lasting, Rule, RuleAction, Until};
use super::error::{Fault, RuleError, nearest};
use super::lex::{
    Input, Parsed, cut, expected, next, number, quoted, service, takes, takes_sign, whole, word,
};
use super::metric::Metric;
use crate::ServiceName;
use condition::condition;
use value::{DAY_MS, comparator, duration, value};

/// Longest text of a rule, in bytes.
pub const MAX_RULE_BYTES: usize = 2_000;
/// Most comparisons in one rule.
const MAX_COMPARISONS: usize = 32;

/// Words that mean something else than a metric.
const RESERVED: [&str; 21] = [
    "activate",
    "after",
    "alert",
    "all",
    "and",
    "any",
    "at",
    "clear",
    "for",
    "hold",
    "instance",
    "instances",
    "metric",
    "not",
    "now",
    "of",
    "or",
    "service",
    "until",
    "within",
    "warm",
];
const ACTIONS: [&str; 5] = ["activate", "warm", "prepare", "hold", "alert"];
impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        if text.len() > MAX_RULE_BYTES {
            let fault = Fault::new(0..0, format!("at most {MAX_RULE_BYTES} bytes"));
            return Err(fault.found(format!("a rule of {} bytes", text.len())).in_text(text));
        }
        let mut input = Input::new(text);
        rule(&mut input).map_err(|error| match error {
            ErrMode::Cut(fault) | ErrMode::Backtrack(fault) => fault.in_text(text),
            ErrMode::Incomplete(_) => Fault::new(text.len()..text.len(), "more").in_text(text),
        })
    }
}

impl TryFrom<String> for Rule {
    type Error = RuleError;

    fn try_from(text: String) -> Result<Self, RuleError> {
        text.parse()
    }
}

/// Whether a metric's name can stand in a rule as it is.
pub(super) fn is_plain_metric(name: &str) -> bool {
    let mut input = Input::new(name);
    let whole = word(&mut input).is_ok_and(|(word, _)| word == name);
    whole && !is_quantile(name) && !is_reserved(name) && !is_slip(name)
}

/// Whether `name` is more likely a metric that is always known, misspelt.
fn is_slip(name: &str) -> bool {
    let names: Vec<_> = Metric::names().collect();
    Metric::known(name).is_some() || nearest(name, &names).is_some()
}

fn is_reserved(word: &str) -> bool {
    RESERVED.contains(&word) || ACTIONS.contains(&word)
}

fn is_quantile(word: &str) -> bool {
    word.strip_prefix('p').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn rule(input: &mut Input<'_>) -> Parsed<Rule> {
    let start = *input;
    let condition = condition(input, 0)?;
    let lasting = if takes(input, &["for"])? { Some(lasting(input)?) } else { None };
    let until = if takes(input, &["until"])? { Some(until(input, &condition)?) } else { None };
    let mut clear_after_ms = 0;
    if takes(input, &["clear"])? {
        if !takes(input, &["after"])? {
            return Err(expected(input, "after, and how long"));
        }
        clear_after_ms = duration(input, 0..=DAY_MS, "a duration such as 1m")?;
    }
    if !takes_sign(input, "->")? {
        let mut fault = Fault::new(next(input), before_arrow(lasting, until.as_ref()));
        if let Some(text) = text_at(input, &fault.at) {
            fault = fault.nearest(text, &["and", "or", "for", "until", "clear", "within", "now"]);
        }
        return Err(cut(fault));
    }
    let mut actions = vec![action(input)?];
    while takes_sign(input, ",")? {
        let at = next(input);
        let more = action(input)?;
        if actions.iter().any(|known| known.repeats(&more)) {
            let at = at.start..input.previous_token_end();
            let fault = Fault::new(at, "another action, or one for another service");
            return Err(cut(fault.help("one of its kind is there already")));
        }
        actions.push(more);
    }
    let (weight, priority) = ranks(input)?;
    let rule = Rule { condition, lasting, until, clear_after_ms, actions, weight, priority };
    let count = rule.comparisons().len();
    if count > MAX_COMPARISONS {
        let at = start.current_token_start()..input.current_token_start();
        let fault = Fault::new(at, format!("at most {MAX_COMPARISONS}"));
        return Err(cut(fault.found(format!("{count} comparisons"))));
    }
    Ok(rule)
}

fn before_arrow(lasting: Option<Lasting>, until: Option<&Until>) -> &'static str {
    match (lasting, until) {
        (_, Some(_)) => "clear after, or -> and what to do",
        (Some(_), None) => "until, clear after, or -> and what to do",
        (None, None) => "and, or, for, until, clear after, or -> and what to do",
    }
}

/// `weight` and `priority`, each at most once, then the end.
fn ranks(input: &mut Input<'_>) -> Parsed<(u32, u32)> {
    let (mut weight, mut priority) = (None, None);
    loop {
        if weight.is_none() && takes(input, &["weight"])? {
            weight = Some(whole(input, 1..1_001, "a weight")?);
        } else if priority.is_none() && takes(input, &["priority"])? {
            priority = Some(whole(input, 0..1_001, "a priority")?);
        } else {
            break;
        }
    }
    let at = next(input);
    if !at.is_empty() {
        let what = match (weight, priority) {
            (None, None) => "weight, priority, a comma and another action, or the end",
            (None, Some(_)) => "weight, or the end",
            (Some(_), None) => "priority, or the end",
            (Some(_), Some(_)) => "the end",
        };
        let text = text_at(input, &at).unwrap_or_default();
        let left = [("weight", weight), ("priority", priority)];
        let left = left.into_iter().filter(|(_, given)| given.is_none()).map(|(name, _)| name);
        let mut fault = Fault::new(at, what).nearest(text, &left.collect::<Vec<_>>());
        if matches!(text, "weight" | "priority") {
            fault = fault.help(format!("the {text} is there already"));
        }
        return Err(cut(fault));
    }
    Ok((weight.unwrap_or(1), priority.unwrap_or(0)))
}

/// What stands at `at`, which lies ahead.
fn text_at<'a>(input: &Input<'a>, at: &Range<usize>) -> Option<&'a str> {
    let here = input.current_token_start();
    let rest: &'a str = input.as_ref();
    rest.get(at.start.checked_sub(here)?..at.end.checked_sub(here)?)
}

fn lasting(input: &mut Input<'_>) -> Parsed<Lasting> {
    let what = "ticks such as 3 ticks, or a duration such as 5s";
    let mut ahead = *input;
    if let Ok((_, at)) = number(&mut ahead)
        && takes(&mut ahead, &["tick", "ticks"])?
    {
        let ticks = whole(input, 1..100_001, "a number of ticks");
        takes(input, &["tick", "ticks"])?;
        return ticks
            .map(Lasting::Ticks)
            .map_err(|_| cut(Fault::new(at, "a whole number of ticks from 1 to 100000")));
    }
    duration(input, 1..=DAY_MS, what).map(Lasting::Time)
}

fn until(input: &mut Input<'_>, on: &Condition) -> Parsed<Until> {
    let at = next(input);
    if !text_at(input, &at).is_some_and(|text| text.starts_with(['<', '>', '=', '!'])) {
        return condition(input, 0).map(Until::Condition);
    }
    let Condition::Is(on) = on else {
        let fault = Fault::new(at, "a whole condition");
        return Err(cut(fault.help("several metrics are compared: say which one ends it")));
    };
    let comparator = comparator(input)?;
    if comparator.wants_more() == on.comparator.wants_more() {
        let expected = if on.comparator.wants_more() { "< or <=" } else { "> or >=" };
        return Err(cut(Fault::new(at, expected).help("it would end while it begins")));
    }
    let at = next(input);
    let value = value(input, &on.metric)?;
    let overlaps = on.comparator.holds(value.base(), on.value.base())
        && comparator.holds(on.value.base(), value.base());
    if overlaps || value.unit.kind() != on.value.unit.kind() {
        let side = if on.comparator.wants_more() { "at most" } else { "at least" };
        let at = at.start..input.current_token_start();
        let fault = Fault::new(at, format!("{side} {}", on.value));
        return Err(cut(fault.help("it would end while its condition holds")));
    }
    Ok(Until::Value(comparator, value))
}

fn action(input: &mut Input<'_>) -> Parsed<RuleAction> {
    let what = "what to do: activate, warm, prepare, hold or alert";
    let fault = expected(input, what);
    let Some((name, at)) = opt(word).parse_next(input)? else { return Err(fault) };
    match name {
        "activate" | "warm" | "prepare" => {
            let count = whole(input, 1..1_001, "a number of shadows")?;
            let of = of(input)?;
            Ok(match name {
                "activate" => RuleAction::Activate(count, of),
                "warm" => RuleAction::Warm(count, of),
                _ => RuleAction::Prepare(count, of),
            })
        }
        "hold" => Ok(RuleAction::Hold(of(input)?)),
        "alert" => Ok(RuleAction::Alert(quoted(input, "what to tell")?)),
        other => {
            let fault = Fault::new(at, what).nearest(other, &ACTIONS);
            Err(cut(match other {
                "deactivate" | "remove" | "stop" | "drain" | "destroy" => {
                    fault.help("rules add capacity or hold it, and never take it away")
                }
                _ => fault,
            }))
        }
    }
}

fn of(input: &mut Input<'_>) -> Parsed<Option<ServiceName>> {
    if !takes(input, &["of"])? {
        return Ok(None);
    }
    let fault = expected(input, "the name of a service");
    let name = service(input).map_err(|_: ErrMode<Fault>| fault)?;
    Ok(Some(ServiceName::from(name)))
}
