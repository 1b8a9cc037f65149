//! Conditions: comparisons, and how they are joined.

use std::ops::Range;

use winnow::Parser;
use winnow::combinator::opt;

use super::value::{comparator, value, when};
use super::{is_quantile, is_reserved};
use crate::rules::ast::{Comparison, Condition, Scope, When};
use crate::rules::error::Fault;
use crate::rules::lex::{Input, Parsed, cut, expected, next, quoted, takes, takes_sign, word};
use crate::rules::metric::Metric;

/// Deepest nesting of parentheses.
const MAX_DEPTH: usize = 16;

pub(super) fn condition(input: &mut Input<'_>, depth: usize) -> Parsed<Condition> {
    let mut parts = vec![conjunction(input, depth)?];
    while takes(input, &["or"])? {
        parts.push(conjunction(input, depth)?);
    }
    Ok(joined(parts, Condition::Or, |part| match part {
        Condition::Or(inner) => Ok(inner),
        other => Err(other),
    }))
}

fn conjunction(input: &mut Input<'_>, depth: usize) -> Parsed<Condition> {
    let mut parts = vec![factor(input, depth)?];
    while takes(input, &["and"])? {
        parts.push(factor(input, depth)?);
    }
    Ok(joined(parts, Condition::And, |part| match part {
        Condition::And(inner) => Ok(inner),
        other => Err(other),
    }))
}

/// One part as it is, several as one condition, with those of its own kind taken in.
fn joined(
    mut parts: Vec<Condition>,
    join: fn(Vec<Condition>) -> Condition,
    open: fn(Condition) -> Result<Vec<Condition>, Condition>,
) -> Condition {
    if parts.len() == 1 {
        return parts.remove(0);
    }
    join(parts.into_iter().flat_map(|part| open(part).unwrap_or_else(|one| vec![one])).collect())
}

fn factor(input: &mut Input<'_>, depth: usize) -> Parsed<Condition> {
    let at = next(input);
    if !takes_sign(input, "(")? {
        return comparison(input).map(Condition::Is);
    }
    if depth >= MAX_DEPTH {
        return Err(cut(Fault::new(at, format!("at most {MAX_DEPTH} parentheses in another"))));
    }
    let inner = condition(input, depth + 1)?;
    if takes_sign(input, ")")? { Ok(inner) } else { Err(expected(input, "and, or, or )")) }
}

fn comparison(input: &mut Input<'_>) -> Parsed<Comparison> {
    let quantile = quantile(input)?;
    let scope = scope(input)?;
    let (metric, metric_at) = metric(input)?;
    let wrong_scope = match (&metric, scope) {
        (_, Scope::Service) => None,
        (Metric::Demand, _) => Some("rps"),
        (Metric::Utilisation, _) => Some("saturation"),
        _ => None,
    };
    if let Some(other) = wrong_scope {
        let fault = Fault::new(metric_at, "a metric that instances have");
        let help = format!("{metric} is of the whole service; write {other} for an instance");
        return Err(cut(fault.help(help)));
    }
    let comparator = comparator(input)?;
    let value = value(input, &metric)?;
    let when = when(input)?;
    if let (Some((_, at)), When::Now) = (&quantile, when) {
        let fault = Fault::new(at.clone(), "within or at, and how far ahead, after the value");
        return Err(cut(fault.help("only what is predicted has quantiles")));
    }
    let quantile = quantile.map(|(quantile, _)| quantile);
    Ok(Comparison { quantile, scope, metric, comparator, value, when })
}

fn quantile(input: &mut Input<'_>) -> Parsed<Option<(u8, Range<usize>)>> {
    let Some((text, at)) =
        opt(word.verify(|(text, _): &(&str, _)| is_quantile(text))).parse_next(input)?
    else {
        return Ok(None);
    };
    let percent = text.get(1..).and_then(|digits| digits.parse().ok());
    let Some(percent) = percent.filter(|percent| (1..=99).contains(percent)) else {
        return Err(cut(Fault::new(at, "a quantile from p1 to p99")));
    };
    if takes(input, &["of"])? {
        Ok(Some((percent, at)))
    } else {
        Err(expected(input, format!("of, as in {text} of demand")))
    }
}

fn scope(input: &mut Input<'_>) -> Parsed<Scope> {
    let scope = if takes(input, &["any"])? {
        Scope::Any
    } else if takes(input, &["all"])? {
        Scope::All
    } else {
        // Said or not, it is the service.
        takes(input, &["service"])?;
        return Ok(Scope::Service);
    };
    if takes(input, &["instance", "instances"])? {
        Ok(scope)
    } else {
        Err(expected(input, if scope == Scope::Any { "instance" } else { "instances" }))
    }
}

fn metric(input: &mut Input<'_>) -> Parsed<(Metric, Range<usize>)> {
    if takes(input, &["metric"])? {
        if !takes_sign(input, "(")? {
            return Err(expected(input, "( and a name in double quotes"));
        }
        let at = next(input);
        let name = quoted(input, "the name of a metric")?;
        return if takes_sign(input, ")")? {
            Ok((Metric::Named(name), at))
        } else {
            Err(expected(input, ")"))
        };
    }
    let Some((name, at)) = opt(word).parse_next(input)? else {
        return Err(expected(input, "a metric such as demand, cpu or latency_p99"));
    };
    if let Some(metric) = Metric::known(name) {
        return Ok((metric, at));
    }
    let names: Vec<_> = Metric::names().collect();
    if is_reserved(name) {
        return Err(cut(Fault::new(at, "a metric such as demand, cpu or latency_p99")));
    }
    let fault = Fault::new(at.clone(), "a metric").nearest(name, &names);
    if fault.nearest.is_some() {
        let help = format!("if instances do report it, write metric(\"{name}\")");
        return Err(cut(fault.help(help)));
    }
    Ok((Metric::Named(name.to_owned()), at))
}
