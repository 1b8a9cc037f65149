//! The table in force, and faults made of its backends on purpose.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use foreshadow_control::InstanceId;

use super::DataPlane;
use crate::injected::{InjectError, Injected, InjectedFault, Injection};
use crate::{RouteTable, TableError, TableSpec, UpstreamSpec};

/// What the table in force is made of.
#[derive(Default)]
pub(super) struct Made {
    pub(super) spec: TableSpec,
    pub(super) injected: Vec<Injection>,
}

impl DataPlane {
    pub(super) fn make(&self, spec: &TableSpec, injected: &[Injection]) -> Result<(), TableError> {
        let table = RouteTable::with_faults(spec, &self.registry, injected)?;
        self.checks.send_replace(table.check_targets());
        self.shared.table.store(Arc::new(table));
        Ok(())
    }

    /// Makes a backend seem to fail for requests and checks that begin from now on, for as long as
    /// `lasts` and no longer, whatever becomes of the caller; in place of any such fault it has.
    ///
    /// # Errors
    ///
    /// [`InjectError`]; nothing is changed then.
    pub fn inject(
        &self,
        instance: InstanceId,
        fault: InjectedFault,
        lasts: Duration,
    ) -> Result<(), InjectError> {
        let mut made = self.made();
        if !made.spec.services.iter().flat_map(|s| &s.backends).any(|b| b.id == instance) {
            return Err(InjectError::Unknown { instance });
        }
        let now_ms = self.shared.clock.now_ms();
        let mut injected = vec![Injection::new(instance, fault, now_ms, lasts)?];
        let others = made.injected.iter().filter(|f| f.instance != instance && !f.is_over(now_ms));
        injected.extend(others.cloned());
        self.make(&made.spec, &injected)?;
        made.injected = injected;
        Ok(())
    }

    /// Ends a fault made of a backend on purpose; one that has none is left as it is.
    ///
    /// # Errors
    ///
    /// [`TableError`]; the fault ends by itself at its time then.
    pub fn lift(&self, instance: InstanceId) -> Result<(), TableError> {
        let mut made = self.made();
        let now_ms = self.shared.clock.now_ms();
        let stays = |fault: &&Injection| fault.instance != instance && !fault.is_over(now_ms);
        let injected: Vec<Injection> = made.injected.iter().filter(stays).cloned().collect();
        if injected.len() != made.injected.len() {
            self.make(&made.spec, &injected)?;
            made.injected = injected;
        }
        Ok(())
    }

    /// Faults made of backends on purpose that are in force now.
    #[must_use]
    pub fn injected(&self) -> Vec<Injected> {
        let made = self.made();
        let now_ms = self.shared.clock.now_ms();
        let in_force = made.injected.iter().filter(|fault| !fault.is_over(now_ms));
        let of = |fault: &Injection| {
            let has = |s: &&UpstreamSpec| s.backends.iter().any(|b| b.id == fault.instance);
            let service = made.spec.services.iter().find(has)?;
            Some(Injected::of(fault, service.name.clone(), now_ms))
        };
        in_force.filter_map(of).collect()
    }

    /// A panic while it was held left the table before in force.
    pub(super) fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
