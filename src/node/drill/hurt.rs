//! Doing the fault, and taking it back whatever happens.

use std::sync::Arc;
use std::time::Duration;

use foreshadow_control::{InstanceId, Role, ServiceName};
use foreshadow_proxy::{DataPlane, InjectedFault};
use foreshadow_shadow::{Fault, Manager};

use super::ask::{Ask, FaultKind};

/// How long an instance may take to be put right before that is said.
const RIGHT_AGAIN: Duration = Duration::from_secs(15);

/// One fault of one instance; taken back at the latest when it is dropped.
pub(super) struct Hurt {
    plane: Arc<DataPlane>,
    manager: Arc<Manager>,
    service: ServiceName,
    instance: InstanceId,
    role: Role,
    asked: (FaultKind, Duration),
    ask: Ask,
    is_done: bool,
}

impl Hurt {
    pub(super) fn new(
        (plane, manager): (&Arc<DataPlane>, &Arc<Manager>),
        (service, instance, role): (&ServiceName, InstanceId, Role),
        ask: &Ask,
    ) -> Self {
        Self {
            plane: Arc::clone(plane),
            manager: Arc::clone(manager),
            service: service.clone(),
            instance,
            role,
            asked: (ask.fault, Duration::from_millis(ask.for_ms)),
            ask: ask.clone(),
            is_done: false,
        }
    }

    fn of_shadow(&self) -> Fault {
        match self.asked.0 {
            FaultKind::Kill => Fault::Kill,
            FaultKind::Hang => Fault::Hang,
            FaultKind::Slow => Fault::Slow { cpu_percent: self.ask.cpu_percent },
        }
    }

    fn of_primary(&self) -> InjectedFault {
        match self.asked.0 {
            FaultKind::Kill => InjectedFault::Refuse,
            FaultKind::Hang => InjectedFault::Hang,
            FaultKind::Slow => InjectedFault::Delay(Duration::from_millis(self.ask.delay_ms)),
        }
    }

    /// Whether there are means for it; what is missing otherwise.
    pub(super) fn check(&self) -> Result<(), String> {
        match self.role {
            Role::Primary => Ok(()),
            Role::Shadow => self
                .manager
                .can_disturb(&self.service, self.instance, self.of_shadow())
                .map_err(|error| error.to_string()),
        }
    }

    /// How it is done, in words.
    pub(super) fn how(&self) -> String {
        if self.role == Role::Shadow {
            let all = self.manager.snapshot();
            let provider =
                all.iter().find(|s| s.id == self.instance).map_or("none", |s| s.provider);
            return match self.of_shadow() {
                Fault::Kill => format!("killed by provider {provider}"),
                Fault::Hang => format!("paused by provider {provider}"),
                Fault::Slow { cpu_percent } => {
                    format!("held to {cpu_percent} % of a core by provider {provider}")
                }
            };
        }
        match self.of_primary() {
            InjectedFault::Refuse => "injected at the proxy: connections are refused".to_owned(),
            InjectedFault::Hang => "injected at the proxy: nothing is answered".to_owned(),
            InjectedFault::Delay(wait) => {
                format!("injected at the proxy: requests wait {} ms", wait.as_millis())
            }
        }
    }

    /// Does it.
    pub(super) async fn inflict(&mut self) -> Result<(), String> {
        // What fails may have been done in part.
        self.is_done = true;
        match self.role {
            Role::Primary => {
                let injected = self.plane.inject(self.instance, self.of_primary(), self.asked.1);
                injected.map_err(|error| error.to_string())
            }
            Role::Shadow => {
                let hurt = self.manager.disturb(&self.service, self.instance, self.of_shadow());
                hurt.await.map_err(|error| error.to_string())
            }
        }
    }

    /// Takes it back. What cannot be done at once is tried again until it is.
    fn relieve(&mut self) {
        if !std::mem::take(&mut self.is_done) {
            return;
        }
        match self.role {
            Role::Primary => {
                if let Err(error) = self.plane.lift(self.instance) {
                    tracing::error!(instance = %self.instance, %error, "the fault ends at its time only");
                }
            }
            Role::Shadow => self.manager.relieve(self.instance),
        }
    }

    /// The same, and waits until it is so; false when that takes too long.
    pub(super) async fn put_right(&mut self) -> bool {
        self.relieve();
        match self.role {
            Role::Primary => true,
            Role::Shadow => self.manager.is_relieved(self.instance, RIGHT_AGAIN).await,
        }
    }
}

impl Hurt {
    /// Once more, of what may have been done after it was taken back.
    pub(super) async fn put_right_again(&mut self) -> bool {
        self.is_done = true;
        self.put_right().await
    }
}

impl Drop for Hurt {
    fn drop(&mut self) {
        self.relieve();
    }
}
