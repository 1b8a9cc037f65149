//! The Shadow Instance Manager: providers, lifecycle, pools, registry.
//!
//! [`Manager`] takes [`foreshadow_control::Action`]s and hands [`foreshadow_control::Fact`]s back.
//! Each shadow is walked through its tiers ([`Lifecycle`]) by a task of its own, on a [`Provider`];
//! [`ProcessProvider`] is the default. Everything that may be running is in the registry, so a
//! restart, even after a crash, takes over what runs and ends what should not.

mod backoff;
mod clerk;
mod docker;
mod end;
mod error;
mod facts;
mod fault;
mod ground;
mod hash;
mod ids;
mod kubernetes;
mod lifecycle;
mod manager;
mod mine;
mod process;
mod provider;
mod registry;
mod remains;
mod remote;
mod scaling;
mod settings;
mod state_dir;
mod vm;

pub use backoff::{Backoff, BackoffPolicy};
pub use docker::{
    ContainerLimits, DockerProvider, DockerSpec, EngineEndpoint, LogSpec, MountSpec, NetworkSpec,
    Pull, TlsFiles,
};
pub use error::{Cause, ProviderError, ShadowError};
pub use fault::Fault;
pub use kubernetes::{
    ClusterAccess, KubernetesProvider, KubernetesSpec, PodImage, PodSource, Workload,
    WorkloadScaler, WorkloadSpec,
};
pub use lifecycle::{Failure, Lifecycle};
pub use manager::{Leaving, Manager};
pub use process::{
    Confinement, Facility, HostSettings, OutputBounds, ProcessHost, ProcessProvider, ProcessSpec,
};
pub use provider::{
    Adoption, Capabilities, CpuShare, CreateRequest, Diagnosis, ExitDetail, Handle, Provider,
    Snapshot, Sweep, Usage,
};
pub use remote::{
    BearerToken, Concurrency, Endpoint, ExecProvider, ExecSpec, RemoteScaler, Traits,
    WebhookProvider, WebhookSpec,
};
pub use scaling::{
    Barred, Primaries, ScaleEvent, ScaleWish, ScaledPrimary, ScaledService, Scaler, Scaling,
    ServiceScaling,
};
pub use settings::{ManagerSettings, OnExit, Readiness, ServiceShadows, ShadowInstance};
pub use vm::{Accel, VmProvider, VmSpec};
