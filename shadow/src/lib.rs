//! The Shadow Instance Manager: providers, lifecycle, pools, registry.

mod backoff;
mod error;
mod facts;
mod ids;
mod lifecycle;
mod manager;
mod process;
mod provider;
mod registry;
mod settings;
mod state_dir;

pub use backoff::{Backoff, BackoffPolicy};
pub use error::{ProviderError, ShadowError};
pub use lifecycle::{Failure, Lifecycle};
pub use manager::Manager;
pub use process::{Facility, HostSettings, ProcessHost, ProcessProvider, ProcessSpec};
pub use provider::{Adoption, CpuShare, CreateRequest, Diagnosis, ExitDetail, Handle, Provider};
pub use settings::{ManagerSettings, OnExit, Readiness, ServiceShadows, ShadowInstance};
