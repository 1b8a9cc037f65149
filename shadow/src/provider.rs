//! The one trait every provider of instances fits: processes here, containers and machines later.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use foreshadow_control::{InstanceId, ResourceSample, ServiceName, Tier};
use serde::{Deserialize, Serialize};

use crate::error::ProviderError;
use crate::fault::Fault;

/// What to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateRequest {
    /// The new instance; never used before.
    pub id: InstanceId,
    /// The service it belongs to.
    pub service: ServiceName,
    /// The tier it is made for: a hint for placement; it is created at full size in any case, so
    /// that start-up is not slowed, and brought to its tier by the other calls.
    pub tier: Tier,
    /// The snapshot it begins from; absent for a fresh one.
    pub from: Option<Snapshot>,
}

/// The name of a saved state of an instance, which others can begin from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot(pub String);

/// Which steps a provider can carry out beyond making, finding and ending instances. The manager
/// leaves out what a provider cannot do, and says so; asked all the same, the provider answers
/// [`ProviderError::Unsupported`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// [`Provider::freeze`] and [`Provider::thaw`]; without it a parked shadow keeps running.
    pub freeze: bool,
    /// [`Provider::set_share`]; without it every running shadow has its full size.
    pub resize: bool,
    /// [`Provider::snapshot`] and [`CreateRequest::from`].
    pub snapshot: bool,
}

/// A created instance: plain data, kept in the registry, enough to find the instance again after
/// a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handle {
    /// The instance.
    pub id: InstanceId,
    /// The service it belongs to.
    pub service: ServiceName,
    /// Where it will answer.
    pub address: SocketAddr,
    /// The process behind it, where the provider has one on this machine.
    pub pid: Option<u32>,
    /// What the provider needs to find it again, in the provider's own JSON.
    pub state: String,
}

/// How much processor an instance may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CpuShare {
    /// Percent of one core; 100 is one whole core.
    Percent(u32),
    /// No limit.
    Unlimited,
}

/// What became of an instance that was made before a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Adoption {
    /// It still runs and this provider watches it again.
    Running,
    /// It has ended; nothing of it is left that could be taken over. The text says what was found.
    Gone(String),
    /// It was made in another place than this provider now looks at, as after a changed command or
    /// endpoint: whether it runs cannot be told, and it must not be forgotten. The text says more.
    OutOfReach(String),
}

/// What a start leaves to be cleaned up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Taken over; not to be touched.
    pub keep: Vec<InstanceId>,
    /// Intended or made by earlier runs and not taken over: ended even if nothing of them is seen
    /// yet, since an order to make them may still be under way.
    pub lost: Vec<InstanceId>,
}

/// How an instance ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitDetail(pub String);

/// What a provider can say of an instance that did not become ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// The last lines of its output, oldest first, bounded in number and length.
    pub last_lines: Vec<String>,
    /// Whether something of the outside (such as a port taken meanwhile) was in its way, so that
    /// creating it again at once is likely to work.
    pub collision: bool,
}

/// What an instance uses of its machine.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// What is known; `cpu_cores` is worked out from `cpu_us` by the caller.
    pub sample: ResourceSample,
    /// Processor time used since it was made, in microseconds.
    pub cpu_us: Option<u64>,
}

/// Makes, pauses, resizes, finds again and ends instances.
///
/// Calls for one instance are never concurrent with each other, except [`Provider::exited`] and
/// [`Provider::usage`], which are asked beside the others and may be broken off.
/// Calls for different instances are.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// The kind of provider, as written in configuration: `process`, `docker`, ...
    fn name(&self) -> &'static str;

    /// Everything that makes two instances of a service differ, as text. When it changes on
    /// reload, instances made under the old text are replaced. It is kept in the database: what may
    /// hold secrets must be hashed.
    fn fingerprint(&self) -> String;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// The place its instances are in: providers of one name and place see the same instances.
    fn place(&self) -> String {
        String::new()
    }

    /// Whether making an instance is work of this machine, so that few are made at the same time
    /// whatever their services.
    fn is_work_here(&self) -> bool {
        false
    }

    /// Makes an instance, running and unlimited; does not wait until it answers.
    ///
    /// # Errors
    /// When it cannot be made; then nothing of it is left behind.
    async fn create(&self, request: &CreateRequest) -> Result<Handle, ProviderError>;

    /// Whether a creation may be broken off at any time, by dropping it, and undone by
    /// [`Provider::call_off`]. One of which this is not so is waited for.
    fn can_call_off(&self) -> bool {
        false
    }

    /// Undoes a creation that was broken off: ends what it may have made, now or as soon as that is
    /// possible, what appears only after this call included.
    async fn call_off(&self, _request: &CreateRequest) {}

    /// Resolves once nothing of a creation that failed or was called off is left or can come to be. Until
    /// then it stays on record, so that the next start ends it. At once where a start finds such things
    /// by itself whenever they appear.
    async fn undone(&self, _id: InstanceId) {}

    /// Stops it from using processor time, keeping its memory. Freezing twice is no error.
    ///
    /// # Errors
    /// When it could not be stopped; it may still be running.
    async fn freeze(&self, handle: &Handle) -> Result<(), ProviderError>;

    /// Undoes [`Provider::freeze`]. Thawing twice is no error.
    ///
    /// # Errors
    /// When it could not be resumed.
    async fn thaw(&self, handle: &Handle) -> Result<(), ProviderError>;

    /// Limits its processor time.
    ///
    /// # Errors
    /// When the limit could not be set.
    async fn set_share(&self, handle: &Handle, share: CpuShare) -> Result<(), ProviderError>;

    /// Lets it be where a serving instance is, such as in the networks of the primary under its
    /// names, or takes it back to where nobody else meets it. Comes when it has full size, and
    /// before it has less again. Twice is no error; most providers have nothing to do.
    ///
    /// # Errors
    /// When it could not be done, or not all of it.
    async fn set_activated(&self, _handle: &Handle, _activated: bool) -> Result<(), ProviderError> {
        Ok(())
    }

    /// Saves its state, so that others can begin from it; it goes on as before. The manager makes no
    /// use of it yet.
    ///
    /// # Errors
    /// When it could not be saved; then nothing of it is left behind.
    async fn snapshot(&self, _handle: &Handle) -> Result<Snapshot, ProviderError> {
        Err(ProviderError::unsupported(self.name(), "snapshot"))
    }

    /// Removes a snapshot. Removing one that is not there is no error. The manager makes no use of it
    /// yet.
    ///
    /// # Errors
    /// When it may still be there.
    async fn discard(&self, _snapshot: &Snapshot) -> Result<(), ProviderError> {
        Err(ProviderError::unsupported(self.name(), "snapshot"))
    }

    /// Ends it with everything it started, frozen or not: asks first, kills after `grace`, and
    /// removes what was made for it. Destroying what has already ended is no error.
    ///
    /// # Errors
    /// When something of it may still be running.
    async fn destroy(&self, handle: &Handle, grace: Duration) -> Result<(), ProviderError>;

    /// Whether [`Provider::disturb`] has the means for this.
    ///
    /// # Errors
    /// [`ProviderError::Unsupported`] where it has not.
    fn can_disturb(&self, fault: Fault) -> Result<(), ProviderError> {
        Err(crate::fault::unsupported_by(self.name(), fault))
    }

    /// Hurts an instance as the outside would: it may come beside any other call, and none of them
    /// hears of it. The steps that bring an instance to its tier ([`Provider::thaw`],
    /// [`Provider::set_share`]) undo what leaves it alive.
    ///
    /// # Errors
    /// When it could not be done; some of it may have been.
    async fn disturb(&self, _handle: &Handle, fault: Fault) -> Result<(), ProviderError> {
        Err(crate::fault::unsupported_by(self.name(), fault))
    }

    /// Takes an instance over that was made before a restart.
    ///
    /// # Errors
    /// When it cannot be told whether it runs.
    async fn adopt(&self, handle: &Handle) -> Result<Adoption, ProviderError>;

    /// Resolves when the instance ends by itself; at once when it already has.
    async fn exited(&self, handle: &Handle) -> ExitDetail;

    /// Time that an instance of which [`Provider::exited`] has told still has, where its place ends it
    /// in an orderly way: it is given no more requests, and finishes those it has.
    async fn leaves_within(&self, _handle: &Handle) -> Option<Duration> {
        None
    }

    /// Why an instance may have failed to become ready.
    async fn diagnose(&self, handle: &Handle) -> Diagnosis;

    /// What it uses of its machine now; nothing where the provider cannot tell.
    async fn usage(&self, _handle: &Handle) -> Usage {
        Usage::default()
    }

    /// Ends whatever this kind of provider made in this place under this state directory and is
    /// not to be kept: the remains of a crash between making an instance and recording it. Called
    /// once, at start, after everything was adopted and before anything is made. Returns how many
    /// processes, containers or machines were ended. A place that cannot be reached now is swept
    /// before the first instance is made there.
    ///
    /// # Errors
    /// When something found could not be ended.
    async fn sweep(&self, what: &Sweep) -> Result<usize, ProviderError>;

    /// Whether it is of an older version than what would be made now, though the settings are the same:
    /// after a rollout of what it mirrors. Comes from time to time; not where that is not known.
    async fn is_outdated(&self, _handle: &Handle) -> bool {
        false
    }

    /// Foreshadow ends in good order and makes nothing more: gives back what is held only while it runs,
    /// such as a lease on what it owns. What it made stays as it is. What cannot be given back runs out.
    async fn leave(&self) {}

    /// Whether the last [`Provider::sweep`] has been carried out, not put off: until then nothing that
    /// it was to end may be forgotten.
    fn is_swept(&self) -> bool {
        true
    }
}
