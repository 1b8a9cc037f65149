//! Faults that are done to an instance on purpose, to see what becomes of it.

use serde::{Deserialize, Serialize};

use crate::error::ProviderError;
use crate::provider::Provider;

/// What is done to an instance, as the outside would do it: nobody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// It ends at once, with everything it started.
    Kill,
    /// It stops where it is: connections stay open and nothing answers.
    Hang,
    /// It has this much of one core left, in percent.
    Slow {
        /// From 1.
        cpu_percent: u32,
    },
}

impl Fault {
    /// Its name in settings, records and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Hang => "hang",
            Self::Slow { .. } => "slow",
        }
    }
}

/// How [`Provider::disturb`] refuses a fault that a provider has no means for.
pub(crate) fn unsupported_by(provider: &'static str, fault: Fault) -> ProviderError {
    let operation = match fault {
        Fault::Kill => "kill an instance on purpose",
        Fault::Hang => "hang an instance on purpose",
        Fault::Slow { .. } => "slow an instance down on purpose",
    };
    ProviderError::unsupported(provider, operation)
}

/// Whether a provider that pauses and limits instances can do this to one: what hurts it is then
/// undone by the steps that bring it to its tier.
pub(crate) fn by_steps(provider: &dyn Provider, fault: Fault) -> Result<(), ProviderError> {
    let can = provider.capabilities();
    let able = match fault {
        Fault::Kill => true,
        Fault::Hang => can.freeze,
        Fault::Slow { .. } => can.resize,
    };
    if able { Ok(()) } else { Err(unsupported_by(provider.name(), fault)) }
}
