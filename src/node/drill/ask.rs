//! What a drill is asked to do, within bounds.

use std::time::Duration;

use foreshadow_control::InstanceId;
use foreshadow_proxy::LONGEST_INJECTED;
use serde::{Deserialize, Serialize};

/// What is done to the instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FaultKind {
    /// It ends at once.
    #[default]
    Kill,
    /// It stops and says nothing.
    Hang,
    /// It gets slow.
    Slow,
}

impl FaultKind {
    /// Its name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Hang => "hang",
            Self::Slow => "slow",
        }
    }
}

/// A drill as it is asked for; what is left out has a default. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Ask {
    /// The instance to hurt, `i12` or `12`; the node chooses where none is named.
    pub(crate) instance: Option<String>,
    /// What is done to it.
    pub(crate) fault: FaultKind,
    /// How long the fault lasts.
    pub(crate) for_ms: u64,
    /// How much later a slowed primary is given its requests.
    pub(crate) delay_ms: u64,
    /// How much of one core a slowed shadow keeps, in percent.
    pub(crate) cpu_percent: u32,
    /// How long is watched before the fault, to compare with.
    pub(crate) before_ms: u64,
    /// How long the service has to be as before once the fault is over.
    pub(crate) settle_ms: u64,
    /// Goal: at most so many failed requests.
    pub(crate) max_failed: u64,
    /// Goal: the weight is zero within this; what the health check allows where nothing is said.
    pub(crate) weight_zero_within_ms: Option<u64>,
    /// Called off when more requests than this have failed; ten times the goal and at least 20 where
    /// nothing is said.
    pub(crate) call_off_at: Option<u64>,
    /// Passes over objections that may be passed over.
    pub(crate) force: bool,
    /// Only says whether it would be done, and to which instance.
    pub(crate) dry_run: bool,
}

impl Default for Ask {
    fn default() -> Self {
        Self {
            instance: None,
            fault: FaultKind::Kill,
            for_ms: 10_000,
            delay_ms: 200,
            cpu_percent: 5,
            before_ms: 5_000,
            settle_ms: 60_000,
            max_failed: 0,
            weight_zero_within_ms: None,
            call_off_at: None,
            force: false,
            dry_run: false,
        }
    }
}

/// Shortest fault: a few ticks, or nothing can be seen of it.
const SHORTEST_MS: u64 = 500;
const LONGEST_BEFORE_MS: u64 = 60_000;
const LONGEST_SETTLE_MS: u64 = 600_000;
/// Longest delay: nobody watches a client that goes away meanwhile.
const LONGEST_DELAY_MS: u64 = 10_000;
/// Fewer failed requests than this call nothing off by default.
const LEAST_CALL_OFF: u64 = 20;

impl Ask {
    /// Whether every setting is within its bounds; what is wrong otherwise. `first_byte` is the
    /// service's timeout.
    pub(super) fn check(&self, first_byte: Duration) -> Result<(), String> {
        let longest = u64::try_from(LONGEST_INJECTED.as_millis()).unwrap_or(u64::MAX);
        let within = |name: &str, value: u64, least: u64, most: u64| match value {
            value if (least..=most).contains(&value) => Ok(()),
            value => Err(format!("{name} is {value}; it must be {least} to {most}")),
        };
        within("for_ms", self.for_ms, SHORTEST_MS, longest)?;
        within("before_ms", self.before_ms, 0, LONGEST_BEFORE_MS)?;
        within("settle_ms", self.settle_ms, 1_000, LONGEST_SETTLE_MS)?;
        within("delay_ms", self.delay_ms, 1, LONGEST_DELAY_MS)?;
        within("cpu_percent", u64::from(self.cpu_percent), 1, 100)?;
        if self.fault == FaultKind::Slow && Duration::from_millis(self.delay_ms) >= first_byte {
            return Err(format!(
                "delay_ms is {}, no less than the first-byte timeout of the service ({first_byte:?}): \
                 ask for the fault `hang` instead",
                self.delay_ms
            ));
        }
        let bound = self.call_off_at();
        if bound < self.max_failed {
            let goal = self.max_failed;
            return Err(format!("call_off_at is {bound}, less than max_failed, {goal}"));
        }
        Ok(())
    }

    /// More failed requests than this call it off.
    pub(crate) fn call_off_at(&self) -> u64 {
        let default = self.max_failed.saturating_mul(10).max(LEAST_CALL_OFF);
        self.call_off_at.unwrap_or(default)
    }

    /// The instance that is named, if it can be one.
    pub(super) fn named(&self) -> Option<Result<InstanceId, String>> {
        let text = self.instance.as_deref()?;
        let id = text.strip_prefix('i').unwrap_or(text).parse().map(InstanceId);
        Some(id.map_err(|_| format!("instance is {text:?}; write it as i12 or 12")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST_BYTE: Duration = Duration::from_secs(5);

    #[test]
    fn settings_have_bounds_that_are_named() {
        Ask::default().check(FIRST_BYTE).unwrap();
        let wrong = |ask: Ask| ask.check(FIRST_BYTE).unwrap_err();
        let long = wrong(Ask { for_ms: 600_001, ..Ask::default() });
        assert_eq!(long, "for_ms is 600001; it must be 500 to 600000");
        assert!(wrong(Ask { cpu_percent: 0, ..Ask::default() }).starts_with("cpu_percent is 0;"));
        let slow = Ask { fault: FaultKind::Slow, delay_ms: 5_000, ..Ask::default() };
        assert!(wrong(slow).ends_with("ask for the fault `hang` instead"));
        let odd = Ask { max_failed: 30, call_off_at: Some(29), ..Ask::default() };
        assert!(wrong(odd).contains("call_off_at is 29"));
        assert_eq!(Ask::default().call_off_at(), 20);
        assert_eq!(Ask { max_failed: 30, ..Ask::default() }.call_off_at(), 300);
    }

    #[test]
    fn instances_are_named_as_elsewhere() {
        let named = |text: &str| Ask { instance: Some(text.to_owned()), ..Ask::default() }.named();
        assert_eq!(named("i7"), Some(Ok(InstanceId(7))));
        assert_eq!(named("7"), Some(Ok(InstanceId(7))));
        assert!(named("seven").unwrap().is_err());
        assert_eq!(Ask::default().named(), None);
    }
}
