//! What is another at each run without anybody's doing: chance, the date, and what carries the
//! registry's work. A simulation puts its own in their place, so that a run can be repeated.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::clerk::Clerk;
use crate::error::ShadowError;

/// What a manager stands on beside its providers.
pub(crate) struct Ground {
    /// Uniform from 0 to 1.
    pub(crate) chance: Box<dyn Fn() -> f64 + Send + Sync>,
    /// Milliseconds since 1970.
    pub(crate) unix_ms: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Begins to work off what the registry is asked.
    pub(crate) registrar: Box<Registrar>,
}

type Registrar = dyn Fn(Clerk) -> Result<(), ShadowError> + Send + Sync;

impl Default for Ground {
    /// Those of the machine, and a thread.
    fn default() -> Self {
        Self {
            chance: Box::new(rand::random),
            unix_ms: Box::new(|| {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            }),
            registrar: Box::new(Clerk::on_a_thread),
        }
    }
}
