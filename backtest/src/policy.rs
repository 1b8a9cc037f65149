//! What decides over the fleet.

use std::fmt;
use std::str::FromStr;

use foreshadow_control::{Action, Fact, HorizonView, InstanceWeight};
use serde::{Serialize, Serializer};

use crate::brain::Brain;
use crate::fleet::Fleet;
use crate::oracle::Oracle;
use crate::reactive::Reactive;
use crate::{BrainSpec, ReactiveSpec, Setup, Trace};

/// What decides how many instances there are.
///
/// As text: `brain`, `brain:target=0.9,prepare=0.99,warm=0.5,commit=0.1,shadow=1,ready=1`
/// (and `long=0` without forecasts from history, `refit` and `hold` in seconds),
/// `reactive:0.7` (or `reactive:target=0.7,window=300,sync=15,tolerance=0.1`, times in seconds),
/// `static:12`, `static:mean`, `static:peak`, `oracle`.
#[derive(Clone, Debug, PartialEq)]
pub enum Policy {
    /// The controller of a live node.
    Brain(BrainSpec),
    /// Target tracking of measured demand.
    Reactive(ReactiveSpec),
    /// A fixed number of instances.
    Static(Fixed),
    /// Knows all demand; the least instance-time without a violation.
    Oracle,
}

/// How many instances a static policy has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fixed {
    /// So many.
    Count(u32),
    /// As many as mean demand needs.
    Mean,
    /// As many as the highest demand needs.
    Peak,
}

/// Why a text names no policy.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no policy: {why}; write brain, brain:target=0.9,prepare=0.99, reactive:0.7, static:12, static:mean, static:peak or oracle"
)]
pub struct PolicyError {
    text: String,
    why: String,
}

/// What a policy is told after a tick.
pub(crate) struct Seen<'a> {
    /// Ticks that have passed.
    pub(crate) ticks: usize,
    pub(crate) now_ms: u64,
    pub(crate) arrivals: u64,
    pub(crate) unserved: u64,
    pub(crate) facts: Vec<Fact>,
    pub(crate) fleet: &'a Fleet,
    pub(crate) trace: &'a Trace,
    pub(crate) setup: &'a Setup,
}

/// What a policy wants done.
#[derive(Default)]
pub(crate) struct Orders {
    pub(crate) actions: Vec<Action>,
    /// None: all that serve share alike.
    pub(crate) weights: Option<Vec<InstanceWeight>>,
    /// What the decision was taken on, where there is a forecast.
    pub(crate) forecast: Vec<HorizonView>,
}

/// A policy at work.
pub(crate) enum Mind {
    Brain(Box<Brain>),
    Reactive(Reactive),
    Scheduled(Oracle),
}

impl Mind {
    pub(crate) fn new(policy: &Policy, trace: &Trace, setup: &Setup) -> Self {
        match policy {
            Policy::Brain(spec) => Self::Brain(Box::new(Brain::new(spec, trace, setup))),
            Policy::Reactive(spec) => Self::Reactive(Reactive::new(*spec)),
            Policy::Static(fixed) => {
                Self::Scheduled(Oracle::constant(fixed.instances(trace, setup), trace, setup))
            }
            Policy::Oracle => Self::Scheduled(Oracle::new(trace, setup)),
        }
    }

    pub(crate) fn decide(&mut self, seen: Seen<'_>) -> Orders {
        match self {
            Self::Brain(brain) => brain.decide(seen),
            Self::Reactive(reactive) => reactive.decide(&seen),
            Self::Scheduled(oracle) => oracle.decide(&seen),
        }
    }
}

impl Policy {
    /// Utilisation at which the policy itself takes an instance to be full.
    #[must_use]
    pub fn target(&self) -> f64 {
        match self {
            Self::Brain(spec) => spec.target,
            Self::Reactive(spec) => spec.target,
            Self::Static(_) | Self::Oracle => 1.0,
        }
    }
}

impl Fixed {
    fn instances(self, trace: &Trace, setup: &Setup) -> u32 {
        let rps = match self {
            Self::Count(count) => return count.min(setup.max_instances).max(setup.primaries),
            Self::Mean => trace.mean_rps(0, trace.ticks()).unwrap_or(0.0),
            Self::Peak => (0..trace.ticks()).map(|tick| trace.rps(tick)).fold(0.0, f64::max),
        };
        setup.instances_for(rps)
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Brain(spec) => write!(f, "{spec}"),
            Self::Reactive(spec) => write!(f, "{spec}"),
            Self::Static(Fixed::Count(count)) => write!(f, "static:{count}"),
            Self::Static(Fixed::Mean) => write!(f, "static:mean"),
            Self::Static(Fixed::Peak) => write!(f, "static:peak"),
            Self::Oracle => write!(f, "oracle"),
        }
    }
}

impl Serialize for Policy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let fail = |why: String| PolicyError { text: text.to_owned(), why };
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        match name.trim() {
            "brain" => Ok(Self::Brain(
                BrainSpec::default().with(pairs(rest).map_err(&fail)?).map_err(fail)?,
            )),
            "reactive" => {
                let rest = match rest.trim().parse::<f64>() {
                    Ok(target) => format!("target={target}"),
                    Err(_) => rest.to_owned(),
                };
                let spec = ReactiveSpec::default().with(pairs(&rest).map_err(&fail)?);
                Ok(Self::Reactive(spec.map_err(fail)?))
            }
            "static" => match rest.trim() {
                "mean" => Ok(Self::Static(Fixed::Mean)),
                "peak" => Ok(Self::Static(Fixed::Peak)),
                count => count
                    .parse()
                    .map(|count| Self::Static(Fixed::Count(count)))
                    .map_err(|_| fail(format!("{count:?} is no number of instances"))),
            },
            "oracle" if rest.is_empty() => Ok(Self::Oracle),
            other => Err(fail(format!("there is no policy {other:?}"))),
        }
    }
}

/// "a=1,b=2" as pairs.
fn pairs(text: &str) -> Result<Vec<(&str, f64)>, String> {
    let pair = |part: &'_ str| -> Result<(String, f64), String> {
        let (key, value) =
            part.split_once('=').ok_or_else(|| format!("{part:?} lacks an equals sign"))?;
        let number = value.trim().parse::<f64>().ok().filter(|x| x.is_finite());
        let number = number.ok_or_else(|| format!("{value:?} is no number"))?;
        Ok((key.trim().to_owned(), number))
    };
    let mut found = Vec::new();
    for part in text.split(',').filter(|part| !part.trim().is_empty()) {
        let (_, number) = pair(part)?;
        let key = part.split('=').next().unwrap_or_default().trim();
        found.push((key, number));
    }
    Ok(found)
}

/// `value` if it lies in the range, else why not.
pub(crate) fn within(
    key: &str,
    value: f64,
    range: std::ops::RangeInclusive<f64>,
) -> Result<f64, String> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(format!("{key} is {value}, it must be from {} to {}", range.start(), range.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_and_written_alike() {
        for text in ["oracle", "static:12", "static:mean", "static:peak", "reactive:0.7"] {
            let policy: Policy = text.parse().expect(text);
            let again: Policy = policy.to_string().parse().expect("what was written is read");
            assert_eq!(policy, again, "{text}");
        }
        let brain: Policy = "brain:target=0.9, prepare=0.99,ready=2".parse().expect("a brain");
        let Policy::Brain(spec) = &brain else { panic!("{brain}") };
        assert_eq!((spec.target, spec.prepare, spec.ready), (0.9, 0.99, 2));
        assert_eq!(brain.to_string().parse(), Ok(brain));
    }

    #[test]
    fn what_is_no_policy_is_told_with_its_fault() {
        for (text, said) in [
            ("brian", "there is no policy \"brian\""),
            ("brain:target=2", "target is 2, it must be from 0.05 to 1"),
            ("brain:colour=1", "no setting \"colour\""),
            ("reactive:x", "lacks an equals sign"),
            ("static:many", "\"many\" is no number of instances"),
        ] {
            let error = text.parse::<Policy>().expect_err(text).to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
