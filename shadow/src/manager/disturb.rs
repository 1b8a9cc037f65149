//! Shadows hurt on purpose, and put right again.

use std::sync::Arc;
use std::time::Duration;

use foreshadow_control::{InstanceId, ServiceName};

use super::{Inner, Manager};
use crate::error::ProviderError;
use crate::fault::Fault;
use crate::provider::{Handle, Provider};

impl Manager {
    /// Whether the provider of a shadow that exists can do this to it.
    ///
    /// # Errors
    /// [`ProviderError::Unsupported`] where it cannot; [`ProviderError::Handle`] where there is no such
    /// shadow, or it is not made yet.
    pub fn can_disturb(
        &self,
        service: &ServiceName,
        id: InstanceId,
        fault: Fault,
    ) -> Result<(), ProviderError> {
        self.inner.made(service, id)?.1.can_disturb(fault)
    }

    /// Does this to a shadow, without the task that walks it hearing of it. It stays so until
    /// [`Manager::relieve`], a step that brings it elsewhere, or its end; a restart brings what it takes
    /// over to its tier, and so undoes it too.
    ///
    /// # Errors
    /// As [`Manager::can_disturb`], and when the provider failed; some of it may have been done then.
    pub async fn disturb(
        &self,
        service: &ServiceName,
        id: InstanceId,
        fault: Fault,
    ) -> Result<(), ProviderError> {
        let (handle, provider) = self.inner.made(service, id)?;
        provider.can_disturb(fault)?;
        self.inner.disturbed.send_if_modified(|disturbed| disturbed.insert(id));
        // It may have ended since: what is not there is relieved.
        if !self.inner.lock().entries.contains_key(&id) {
            self.inner.relieved(id);
        }
        provider.disturb(&handle, fault).await
    }

    /// Has a shadow brought to where its tier asks for, whatever was done to it.
    pub fn relieve(&self, id: InstanceId) {
        if let Some(entry) = self.inner.lock().entries.get(&id) {
            entry.order.send_modify(|order| order.relieve += 1);
        }
    }

    /// Waits until a shadow that was hurt is as its tier asks for, or gone; false when that takes longer
    /// than `patience`.
    pub async fn is_relieved(&self, id: InstanceId, patience: Duration) -> bool {
        let mut disturbed = self.inner.disturbed.subscribe();
        let relieved = disturbed.wait_for(|disturbed| !disturbed.contains(&id));
        tokio::time::timeout(patience, relieved).await.is_ok()
    }
}

impl Inner {
    /// What a shadow that exists is known by, and its provider.
    fn made(
        &self,
        service: &ServiceName,
        id: InstanceId,
    ) -> Result<(Handle, Arc<dyn Provider>), ProviderError> {
        let state = self.lock();
        let entry = state.entries.get(&id).filter(|e| e.view.service == *service && !e.hidden);
        let found = entry.and_then(|entry| {
            let provider = Arc::clone(&entry.order.borrow().settings.provider);
            Some((entry.handle.clone()?, provider))
        });
        found.ok_or_else(|| ProviderError::Handle {
            instance: id,
            problem: format!("service {service} has no such shadow, or it is still being made"),
        })
    }

    /// A shadow is as its tier asks for, or gone.
    pub(super) fn relieved(&self, id: InstanceId) {
        self.disturbed.send_if_modified(|disturbed| disturbed.remove(&id));
    }
}
