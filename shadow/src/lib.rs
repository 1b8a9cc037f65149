//! The Shadow Instance Manager: providers, lifecycle, pools, registry.

mod backoff;
mod error;
mod lifecycle;
mod provider;
mod settings;

pub use backoff::{Backoff, BackoffPolicy};
pub use error::{ProviderError, ShadowError};
pub use lifecycle::{Failure, Lifecycle};
pub use provider::{Adoption, CpuShare, CreateRequest, Diagnosis, ExitDetail, Handle, Provider};
pub use settings::{ManagerSettings, OnExit, Readiness, ServiceShadows, ShadowInstance};
